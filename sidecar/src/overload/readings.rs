//! What the kernel says of this process and of its bounds.

use std::fs;
use std::path::{Path, PathBuf};

const CGROUPS: &str = "/sys/fs/cgroup";

/// Bounds, read once at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In bytes; `None`: nobody has set one, and memory plays no part.
    pub memory_bytes: Option<u64>,
    /// Open descriptors.
    pub descriptors: Option<u64>,
}

impl Limits {
    /// `given` (`--memory-limit`) goes before the cgroup's.
    pub fn read(given: Option<u64>) -> Self {
        let cgroup = || memory_max(&fs::read_to_string("/proc/self/cgroup").ok()?, Path::new(CGROUPS));
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        Self { memory_bytes: given.or_else(cgroup), descriptors: open_files(&limits) }
    }

    /// Used, of what may be.
    pub fn memory(&self) -> Option<f64> {
        let status = self.memory_bytes.and_then(|_| fs::read_to_string("/proc/self/status").ok())?;
        Some(ratio(resident_bytes(&status)?, self.memory_bytes?))
    }

    pub fn connections(&self, open: u64) -> Option<f64> {
        self.descriptors.map(|most| ratio(open, most))
    }
}

/// Precise enough below 2^53.
#[allow(clippy::cast_precision_loss)]
fn ratio(used: u64, most: u64) -> f64 {
    used as f64 / most.max(1) as f64
}

/// The least `memory.max` of the process's cgroup (version 2) and of those above it, as far as they can be seen from here.
pub fn memory_max(own: &str, root: &Path) -> Option<u64> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let own: PathBuf = root.join(path.trim_start_matches('/'));
    let bound = |folder: &Path| fs::read_to_string(folder.join("memory.max")).ok()?.trim().parse().ok();
    own.ancestors().take_while(|folder| folder.starts_with(root)).filter_map(bound).min()
}

/// Of `/proc/self/limits`: the soft limit, which is the one that holds.
pub fn open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Of `/proc/self/status`.
pub fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}
