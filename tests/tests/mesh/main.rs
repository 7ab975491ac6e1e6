//! Cases on a whole mesh: each says what a caller saw. One binary, since what it links takes longer than what it runs.

mod authorization;
mod balance;
mod bodies;
mod control_plane;
mod data_path;
mod detection;
mod edges;
mod egress;
mod headers;
mod health;
mod identity;
mod lifecycle;
mod limits;
mod migration;
mod outbound;
mod overload;
mod paths;
mod pool;
mod rejections;
mod routes;
mod shop;
mod third_party;
mod traces;
mod traffic;
mod tunnels;
mod way;
