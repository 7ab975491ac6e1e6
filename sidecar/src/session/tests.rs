//! The machines by themselves, what lies on disk, and whole sessions with a control plane of the tests' own.

mod control_plane;
mod disk;
mod machines;
mod sessions;
