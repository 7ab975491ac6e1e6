//! Protocols that a connection may go over to.

/// What `Upgrade`, and `:protocol` of an extended CONNECT, may name. An allowlist: what a sidecar does not know it cannot
/// see through, and a protocol such as `h2c` would carry requests past every rule.
const ALLOWED: &[&str] = &["websocket"];

pub fn is_allowed(protocol: &str) -> bool {
    ALLOWED.contains(&protocol)
}
