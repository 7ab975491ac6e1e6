//! The names of all metrics: public and permanent, so all in this file, and held by a golden list.

/// `OpenMetrics`' types that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its samples end in `_total`.
    Counter,
    Gauge,
    Histogram,
}

/// One metric family.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Family {
    /// With its unit, without `_total`.
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
    pub labels: &'static [&'static str],
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, help, labels }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help, labels }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Kind::Histogram, help, labels }
}

pub(super) static SERVER_DURATION: Family = histogram(
    "http_server_request_duration_seconds",
    &["service", "port", "peer", "class"],
    "Requests that came in, from their head to the end of the answer",
);
pub(super) static CLIENT_DURATION: Family = histogram(
    "http_client_request_duration_seconds",
    &["upstream", "class"],
    "Requests of the app to other services, with all their attempts",
);
pub(super) static REQUESTS: Family = counter(
    "outrider_inbound_requests",
    &["service", "port", "peer"],
    "Requests that came in, refused ones included",
);
pub(super) static REQUEST_BYTES: Family = counter(
    "outrider_inbound_request_bytes",
    &["service", "port", "peer"],
    "Bytes of bodies received from peers",
);
pub(super) static RESPONSE_BYTES: Family =
    counter("outrider_inbound_response_bytes", &["service", "port", "peer"], "Bytes of bodies sent to peers");
pub(super) static REFUSALS: Family = counter(
    "outrider_refusals",
    &["side", "reason"],
    "Answers that the sidecar made itself, by the rejection's label",
);
pub(super) static MALFORMED: Family = counter(
    "outrider_malformed_messages",
    &["message", "reason"],
    "HTTP/1.1 requests of apps and clients, and answers of apps, that could not be understood",
);
pub(super) static TLS_FAILURES: Family =
    counter("outrider_tls_handshake_failures", &["reason"], "Handshakes that ended without a connection");
pub(super) static EDGE_TLS_FAILURES: Family = counter(
    "outrider_edge_tls_handshake_failures",
    &["reason"],
    "Handshakes of clients from outside that ended without a connection",
);
pub(super) static EDGE_CERTIFICATE_NOT_AFTER: Family = gauge(
    "outrider_edge_certificate_not_after_timestamp_seconds",
    &["certificate"],
    "When a certificate that edges show ends, in seconds since 1970",
);
pub(super) static EDGE_CERTIFICATE_READS: Family = counter(
    "outrider_edge_certificate_reads",
    &["certificate", "outcome"],
    "Changes of its files that were taken over, or refused since they could not be used",
);
pub(super) static ALLOWED_BY_DEFAULT: Family = counter(
    "outrider_authorization_allowed_by_default",
    &[],
    "Requests that the mesh's default let through, since no Allow policy names the service",
);
pub(super) static AUDIT_MATCHES: Family =
    counter("outrider_authorization_audit_matches", &["rule"], "Requests that an Audit rule matched");
pub(super) static DETECTED: Family = counter(
    "outrider_detected_connections",
    &["port", "verdict"],
    "Connections of the app to ports without appProtocol, by what they speak; tunnels to such a port that carried HTTP",
);
pub(super) static TUNNELS_AHEAD: Family = counter(
    "outrider_tunnels_ahead",
    &["side", "outcome"],
    "Tunnels to ports without appProtocol that were dialled before anybody had spoken; counted as requests only where used",
);
pub(super) static CONNECTIONS_OPEN: Family =
    gauge("outrider_connections_open", &["listener"], "Connections that are open");
pub(super) static CONNECTIONS_ACCEPTED: Family =
    counter("outrider_connections_accepted", &["listener"], "Connections that were accepted");
pub(super) static CONNECTIONS_CUT: Family = counter(
    "outrider_connections_cut",
    &["reason"],
    "Connections ended for what their client does: reset_flood, or closed at once: per_address",
);
pub(super) static IN_FLIGHT: Family =
    gauge("outrider_upstream_requests_in_flight", &["side", "upstream"], "Requests under way");
pub(super) static UPSTREAM_FAILURES: Family = counter(
    "outrider_upstream_failures",
    &["side", "upstream"],
    "Requests that failed: 5xx, a failing gRPC status, or an answer that broke off",
);
pub(super) static UPSTREAM_REFUSALS: Family = counter(
    "outrider_upstream_refusals",
    &["side", "upstream"],
    "Requests that were refused instead of sent on",
);
pub(super) static REDISPATCHES: Family = counter(
    "outrider_upstream_redispatches",
    &["side", "upstream"],
    "Requests sent to another endpoint, since they provably never ran at the first",
);
pub(super) static RETRIES: Family =
    counter("outrider_upstream_retries", &["side", "upstream"], "Attempts that were made again");
pub(super) static RETRIES_REFUSED: Family = counter(
    "outrider_upstream_retries_refused",
    &["side", "upstream"],
    "Attempts that were not made again, since the budget was spent",
);
pub(super) static WITHOUT_CONTEXT: Family = counter(
    "outrider_upstream_requests_without_context",
    &["side", "upstream"],
    "Calls of the app that passed on no trace of a request under way, so that no deadline and no class is known of them",
);
pub(super) static TUNNELS_OPEN: Family = gauge(
    "outrider_upstream_tunnels_open",
    &["side", "upstream"],
    "Tunnels to the app: upgraded connections, and TCP of which nothing is looked at",
);
pub(super) static BUDGET_LEFT: Family =
    gauge("outrider_upstream_retry_budget_left", &["side", "upstream"], "Retries that are allowed now");
pub(super) static BREAKER: Family = gauge(
    "outrider_upstream_breakers",
    &["side", "upstream", "state"],
    "Circuit breakers of the service or of its endpoints, by state",
);
pub(super) static PANIC: Family = gauge(
    "outrider_upstream_panic",
    &["side", "upstream"],
    "1 while more endpoints have a reason to be left out than may be, so that all are used",
);
pub(super) static QUEUE_DEPTH: Family =
    gauge("outrider_queue_depth", &["side", "upstream", "class"], "Requests that wait for a permit");
pub(super) static QUEUE_OLDEST: Family =
    gauge("outrider_queue_oldest_seconds", &["side", "upstream"], "How long the oldest has waited");
pub(super) static QUEUE_OUTCOMES: Family = counter(
    "outrider_queue_requests",
    &["side", "upstream", "outcome"],
    "Requests that came to the queue, by what became of them",
);
pub(super) static HEALTH_CHECKS: Family = counter(
    "outrider_health_checks",
    &["result"],
    "Active checks of other services' endpoints, by what they have shown: well, unwell, inconclusive",
);
pub(super) static OVERLOAD_LEVEL: Family = gauge(
    "outrider_overload_level",
    &[],
    "How much is refused since the sidecar itself is overloaded, from 0 to 10",
);
pub(super) static OVERLOAD_PRESSURE: Family = gauge(
    "outrider_overload_pressure",
    &["resource"],
    "Used, of what may be: memory, connections; for event_loop the seconds that a shard is late",
);
pub(super) static KEPT_BYTES: Family = gauge(
    "outrider_kept_body_bytes",
    &[],
    "Bytes of requests' bodies that are kept, so that the request can be sent again",
);
pub(super) static KEPT_BYTES_LIMIT: Family =
    gauge("outrider_kept_body_limit_bytes", &[], "Bytes of requests' bodies that may be kept at once");
pub(super) static BODIES_NOT_KEPT: Family = counter(
    "outrider_bodies_not_kept",
    &["reason"],
    "Bodies that were sent without being kept, so that their request was not sent again: no_room, too_long",
);
pub(super) static ENDPOINTS: Family = gauge(
    "outrider_upstream_endpoints",
    &["side", "upstream", "state"],
    "Endpoints, by whether they are used; `ejected`: not",
);
pub(super) static PERMITS_LIMIT: Family =
    gauge("outrider_upstream_permits_limit", &["side", "upstream"], "Requests that may be under way at once");
pub(super) static PERMITS_IN_USE: Family =
    gauge("outrider_upstream_permits_in_use", &["side", "upstream"], "Permits that requests hold");
pub(super) static INCARNATION: Family = gauge(
    "outrider_upstream_incarnation",
    &["side", "upstream"],
    "How often the upstream's actor was started anew",
);
pub(super) static ACTOR_RESTARTS: Family =
    counter("outrider_actor_restarts", &["actor"], "Actors that were started anew after a panic");
pub(super) static MAILBOX_FULL: Family =
    counter("outrider_actor_mailbox_full", &["actor"], "Messages that found a full mailbox");
pub(super) static MAILBOX_CAPACITY: Family = gauge(
    "outrider_actor_mailbox_capacity",
    &["actor", "side", "upstream"],
    "Messages that may lie in an actor's mailbox: an upstream's, or the supervisor's",
);
pub(super) static MAILBOX_DEPTH: Family = gauge(
    "outrider_actor_mailbox_depth",
    &["actor", "side", "upstream"],
    "Messages on their way to an actor",
);
pub(super) static MESSAGE_LATENCY: Family = histogram(
    "outrider_actor_message_latency_seconds",
    &["actor", "side", "upstream"],
    "From a message's being sent to an actor until it is heard",
);
pub(super) static NOT_BEFORE: Family = gauge(
    "outrider_certificate_not_before_timestamp_seconds",
    &["identity"],
    "When the leaf certificate begins to hold, in seconds since 1970",
);
pub(super) static NOT_AFTER: Family = gauge(
    "outrider_certificate_not_after_timestamp_seconds",
    &["identity"],
    "When the leaf certificate ends, in seconds since 1970",
);
pub(super) static SNAPSHOT_EPOCH: Family =
    gauge("outrider_snapshot_epoch", &[], "Epoch of the snapshot in force; absent without one");
pub(super) static SNAPSHOT_SEQUENCE: Family =
    gauge("outrider_snapshot_sequence", &[], "Sequence, within its epoch, of the snapshot in force");
pub(super) static SNAPSHOT_STALENESS: Family = gauge(
    "outrider_snapshot_staleness_seconds",
    &[],
    "Since the control plane last said that the snapshot is current",
);
pub(super) static SESSION: Family =
    gauge("outrider_session_connected", &[], "1 while the session with the control plane is up");
pub(super) static SPANS_EXPORTED: Family =
    counter("outrider_trace_spans_exported", &[], "Spans that the collector took");
pub(super) static SPANS_DROPPED: Family =
    counter("outrider_trace_spans_dropped", &["reason"], "Spans that did not reach the collector");
pub(super) static FOLDED: Family = gauge(
    "outrider_metrics_folded",
    &["family"],
    "Label sets past the bound of their family, which are shown together as _other",
);
