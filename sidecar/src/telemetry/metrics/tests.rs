//! Sentences about the page: its names, its bound, and that its numbers are those that were counted.

use std::fmt::Write;
use std::time::Duration;

use outrider_shared::session::{ActorView, BreakerView, BudgetView, EndpointView, QueueView, WaitingView};

use super::families::{Family, Kind};
use super::rows::{Row, Value, fold};
use super::*;
use crate::overload::machine::{Resource, View};
use crate::stats::{
    AnswerClass, Found, LatencyHistogram, Listener, OfAhead, Recorded, ShardRecorder, Side, StatsRegistry,
};

/// A sidecar that has seen a little of everything.
fn a_scrape() -> Scrape {
    let registry = StatsRegistry::new();
    let shard = ShardRecorder::new(&registry);
    let _open = shard.connection(Listener::Inbound);
    let peer = shard.peer(8080, "spiffe://shop.test/ns/shop/sa/frontend", true);
    let requests =
        [(90, AnswerClass::Success), (3_000, AnswerClass::Success), (40_000_000, AnswerClass::Server)];
    for (us, class) in requests {
        let duration = Duration::from_micros(us);
        peer.record(&Recorded { class, refused: false, bytes_received: 10, bytes_sent: 20, duration });
    }
    let upstream = shard.upstream(Side::Outbound, "shop/payments:9000");
    upstream.record(AnswerClass::GrpcFailed, Duration::from_millis(7));
    upstream.redispatches.increment();
    shard.shard().refused(Side::Inbound, "authorization_denied");
    shard.shard().tls_handshake_failures.increment("expired");
    shard.shard().edge_handshake_failures.increment("incompatible");
    shard.shard().malformed_requests.increment("obs_fold");
    shard.shard().malformed_answers.increment("status_line");
    shard.shard().plaintext_sources.increment("10.9.8.7");
    shard.shard().audit_matches.increment("AuthorizationPolicy/orders-audit#0");
    shard.shard().found(Found::ServerFirst, "shop/mail:25");
    shard.shard().was_ahead(Side::Outbound, OfAhead::Used);
    registry.process.health_checks.increment("unwell");
    let pressures = [Some(0.93), None, Some(0.002)];
    registry.process.overload.publish(&View { level: 4, pressures, shortest_of: Resource::Memory });
    let messages = LatencyHistogram::default();
    messages.observe(Duration::from_micros(1_500));
    let endpoint = |address: &str, state: &str| EndpointView {
        address: address.to_owned(),
        state: state.to_owned(),
        ..EndpointView::default()
    };
    Scrape {
        service: "shop/orders".to_owned(),
        shards: registry.shard_totals(),
        peers: registry.peer_totals(),
        upstreams: registry.upstream_totals(),
        refused_by_address: 1,
        kept: RoomView { bytes: 700, bytes_max: 64 << 20, no_room: 2, too_long: 5 },
        upstream_views: vec![UpstreamView {
            name: "shop/payments:9000".to_owned(),
            side: "outbound".to_owned(),
            limit: 256,
            in_use: 3,
            incarnation: 1,
            actor: Some(actor()),
            endpoints: vec![endpoint("10.9.8.7:1", "Healthy"), endpoint("10.9.8.7:2", "Ejected")],
            ..UpstreamView::default()
        }],
        actors: vec![ActorCounts { actor: "upstream", restarts: 1, mailbox_full: 2 }],
        mailboxes: vec![MailboxTotals {
            upstream: Some((Side::Outbound, "shop/payments:9000".to_owned())),
            capacity: 4_096,
            depth: 3,
            latency: HistogramTotals::of(&messages),
        }],
        leaf: Some(LeafView {
            identity: "spiffe://shop.test/ns/shop/sa/orders".parse().unwrap(),
            serial: "01".to_owned(),
            not_before_unix_s: 1_700_000_000,
            not_after_unix_s: 1_700_086_400,
        }),
        edge_certificates: vec![CertificateView {
            name: "www".to_owned(),
            not_after_unix_s: 1_800_000_000,
            loaded: 3,
            refused: 1,
        }],
        snapshot: Some(SnapshotInForce {
            version: Version { epoch: 1, sequence: 12 },
            staleness: Duration::from_millis(1_500),
        }),
        session: Session::Connected,
        traces: TraceCounts { exported: 5, dropped_queue_full: 1, dropped_export_failed: 2 },
    }
}

/// One that has something in each of its parts.
fn actor() -> ActorView {
    let class = WaitingView { name: "checkout".to_owned(), depth: 2, oldest_ms: Some(40) };
    ActorView {
        queue: QueueView {
            depth: 2,
            oldest_ms: Some(40),
            shed: 3,
            classes: vec![class],
            ..QueueView::default()
        },
        budget: BudgetView { left: 7, ..BudgetView::default() },
        breaker: Some(BreakerView { state: "Open".to_owned(), ..BreakerView::default() }),
        ..ActorView::default()
    }
}

fn value<'p>(page: &'p str, sample: &str) -> Option<&'p str> {
    page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))
}

/// So many peers that every family of theirs folds; each has two histograms.
fn with_peers(count: u64) -> Scrape {
    let mut scrape = a_scrape();
    let template = scrape.peers[0].clone();
    scrape.peers = (0..count)
        .map(|n| {
            let mut peer = template.clone();
            peer.peer = format!("spiffe://shop.test/ns/shop/sa/s{n}");
            for (at, class) in (0..).zip(&mut peer.latency) {
                class.sequence = n * 2 + at;
            }
            peer
        })
        .collect();
    scrape
}

#[test]
fn the_page_shows_the_requests_that_were_counted() {
    let page = encode(&a_scrape());
    let peer = r#"service="shop/orders",port="8080",peer="spiffe://shop.test/ns/shop/sa/frontend""#;
    let server = "http_server_request_duration_seconds";
    for (sample, wanted) in [
        (format!(r#"{server}_count{{{peer},class="2xx"}}"#), "2"),
        (format!(r#"{server}_sum{{{peer},class="2xx"}}"#), "0.00309"),
        (format!(r#"{server}_bucket{{le="0.000128",{peer},class="2xx"}}"#), "1"),
        (format!(r#"{server}_bucket{{le="0.002048",{peer},class="2xx"}}"#), "1"),
        (format!(r#"{server}_bucket{{le="0.004096",{peer},class="2xx"}}"#), "2"),
        (format!(r#"{server}_bucket{{le="16.777216",{peer},class="5xx"}}"#), "0"),
        (format!(r#"{server}_bucket{{le="+Inf",{peer},class="5xx"}}"#), "1"),
        (format!("outrider_inbound_requests_total{{{peer}}}"), "3"),
        (format!("outrider_inbound_request_bytes_total{{{peer}}}"), "30"),
        (format!("outrider_inbound_response_bytes_total{{{peer}}}"), "60"),
    ] {
        assert_eq!(value(&page, &sample), Some(wanted), "{sample} in\n{page}");
    }
}

#[test]
fn the_page_shows_how_the_sidecar_stands() {
    let page = encode(&a_scrape());
    let payments = r#"side="outbound",upstream="shop/payments:9000""#;
    for (sample, wanted) in [
        (
            r#"http_client_request_duration_seconds_count{upstream="shop/payments:9000",class="grpc_failed"}"#,
            "1",
        ),
        (r#"outrider_refusals_total{side="inbound",reason="authorization_denied"}"#, "1"),
        (r#"outrider_malformed_messages_total{message="request",reason="obs_fold"}"#, "1"),
        (r#"outrider_malformed_messages_total{message="answer",reason="status_line"}"#, "1"),
        (r#"outrider_tls_handshake_failures_total{reason="expired"}"#, "1"),
        (r#"outrider_authorization_audit_matches_total{rule="AuthorizationPolicy/orders-audit#0"}"#, "1"),
        (r#"outrider_connections_open{listener="inbound"}"#, "1.0"),
        (r#"outrider_health_checks_total{result="unwell"}"#, "1"),
        ("outrider_overload_level", "4.0"),
        (r#"outrider_overload_pressure{resource="memory"}"#, "0.93"),
        (&format!("outrider_upstream_redispatches_total{{{payments}}}"), "1"),
        (&format!("outrider_upstream_retry_budget_left{{{payments}}}"), "7.0"),
        (&format!("outrider_upstream_breakers{{{payments},state=\"open\"}}"), "1.0"),
        (&format!("outrider_queue_depth{{{payments},class=\"checkout\"}}"), "2.0"),
        (&format!("outrider_queue_oldest_seconds{{{payments}}}"), "0.04"),
        (&format!("outrider_queue_requests_total{{{payments},outcome=\"shed\"}}"), "3"),
        (&format!(r#"outrider_upstream_endpoints{{{payments},state="ejected"}}"#), "1.0"),
        (&format!("outrider_upstream_permits_limit{{{payments}}}"), "256.0"),
        (r#"outrider_actor_mailbox_full_total{actor="upstream"}"#, "2"),
        ("outrider_kept_body_bytes", "700.0"),
        ("outrider_kept_body_limit_bytes", "67108864.0"),
        (r#"outrider_bodies_not_kept_total{reason="no_room"}"#, "2"),
        (&format!("outrider_actor_mailbox_capacity{{actor=\"upstream\",{payments}}}"), "4096.0"),
        (&format!("outrider_actor_mailbox_depth{{actor=\"upstream\",{payments}}}"), "3.0"),
        (&format!("outrider_actor_message_latency_seconds_sum{{actor=\"upstream\",{payments}}}"), "0.0015"),
        (&format!("outrider_actor_message_latency_seconds_count{{actor=\"upstream\",{payments}}}"), "1"),
        (
            r#"outrider_certificate_not_after_timestamp_seconds{identity="spiffe://shop.test/ns/shop/sa/orders"}"#,
            "1700086400.0",
        ),
        ("outrider_snapshot_sequence", "12.0"),
        ("outrider_snapshot_staleness_seconds", "1.5"),
        ("outrider_session_connected", "1.0"),
        ("outrider_trace_spans_exported_total", "5"),
        (r#"outrider_trace_spans_dropped_total{reason="queue_full"}"#, "1"),
    ] {
        assert_eq!(value(&page, sample), Some(wanted), "{sample} in\n{page}");
    }
    assert!(page.ends_with("# EOF\n"));
}

#[test]
fn a_sidecar_that_has_seen_nothing_answers_a_page_too() {
    let page = encode(&Scrape::default());
    assert_eq!(value(&page, "outrider_session_connected"), Some("0.0"));
    assert!(!page.contains("outrider_snapshot_sequence"), "without a snapshot there is no sequence");
    assert!(page.ends_with("# EOF\n"));
}

#[test]
fn a_family_folds_past_its_bound_and_says_how_much() {
    let page = encode(&with_peers(5_000));
    let mut lines = std::collections::HashMap::<&str, usize>::new();
    let mut family = "";
    for line in page.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(typed) => family = typed.split(' ').next().unwrap(),
            None => *lines.entry(family).or_default() += usize::from(!line.starts_with('#')),
        }
    }
    for (family, lines) in lines {
        assert!(lines <= SERIES_MAX, "{family} has {lines} lines");
    }
    let folded = value(&page, r#"outrider_metrics_folded{family="outrider_inbound_requests"}"#);
    assert_eq!(folded, Some("3001.0"), "1,999 are shown, and one row for the rest");
    let other = r#"outrider_inbound_requests_total{service="_other",port="_other",peer="_other"}"#;
    assert_eq!(value(&page, other), Some("9003"), "what is folded is added up, not lost");
    let first = r#"service="shop/orders",port="8080",peer="spiffe://shop.test/ns/shop/sa/s0",class="2xx""#;
    assert_eq!(value(&page, &format!("http_server_request_duration_seconds_count{{{first}}}")), Some("2"));
    let counts =
        page.lines().filter_map(|line| line.strip_prefix("http_server_request_duration_seconds_count{"));
    let sum: u64 = counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum();
    assert_eq!(sum, 15_000, "every request is in one histogram of the page");
}

#[test]
fn what_is_shown_stays_shown_when_a_newer_series_begins() {
    let counted = |label: &str| Row { labels: vec![label.to_owned()], value: Value::Counter(1) };
    let family = Family { name: "x", kind: Kind::Counter, help: "", labels: &["label"] };
    let mut before = vec![counted("a"), counted("b"), counted("c"), counted("d")];
    let mut after = [before.clone(), vec![counted("e")]].concat();
    assert_eq!(fold(&family, &mut before, 3), 2);
    assert_eq!(fold(&family, &mut after, 3), 3);
    assert_eq!(before[..2], after[..2]);
    assert_eq!(after[2], Row { labels: vec!["_other".to_owned()], value: Value::Counter(3) });
    let mut exactly = vec![counted("a"), counted("b")];
    assert_eq!(fold(&family, &mut exactly, 2), 0, "a family at its bound is whole");
}

#[test]
fn no_label_carries_an_address() {
    assert!(!encode(&a_scrape()).contains("10.9.8.7"));
}

/// All families, since this page has something to show in each.
fn every_family() -> Vec<&'static Family> {
    super::rows::of(&with_peers(5_000)).into_iter().map(|(family, _)| family).collect()
}

/// Names are public and permanent: add, never change.
#[test]
fn the_names_are_the_golden_ones() {
    let names: Vec<String> = every_family()
        .iter()
        .map(|family| format!("{}{{{}}}", family.name, family.labels.join(",")))
        .collect();
    let golden = [
        "http_server_request_duration_seconds{service,port,peer,class}",
        "http_client_request_duration_seconds{upstream,class}",
        "outrider_inbound_requests{service,port,peer}",
        "outrider_inbound_request_bytes{service,port,peer}",
        "outrider_inbound_response_bytes{service,port,peer}",
        "outrider_refusals{side,reason}",
        "outrider_malformed_messages{message,reason}",
        "outrider_tls_handshake_failures{reason}",
        "outrider_edge_tls_handshake_failures{reason}",
        "outrider_authorization_allowed_by_default{}",
        "outrider_authorization_audit_matches{rule}",
        "outrider_detected_connections{port,verdict}",
        "outrider_tunnels_ahead{side,outcome}",
        "outrider_connections_open{listener}",
        "outrider_connections_accepted{listener}",
        "outrider_connections_cut{reason}",
        "outrider_health_checks{result}",
        "outrider_overload_level{}",
        "outrider_overload_pressure{resource}",
        "outrider_upstream_requests_in_flight{side,upstream}",
        "outrider_upstream_failures{side,upstream}",
        "outrider_upstream_refusals{side,upstream}",
        "outrider_upstream_redispatches{side,upstream}",
        "outrider_upstream_retries{side,upstream}",
        "outrider_upstream_retries_refused{side,upstream}",
        "outrider_upstream_requests_without_context{side,upstream}",
        "outrider_upstream_tunnels_open{side,upstream}",
        "outrider_upstream_retry_budget_left{side,upstream}",
        "outrider_upstream_breakers{side,upstream,state}",
        "outrider_upstream_panic{side,upstream}",
        "outrider_queue_depth{side,upstream,class}",
        "outrider_queue_oldest_seconds{side,upstream}",
        "outrider_queue_requests{side,upstream,outcome}",
        "outrider_upstream_endpoints{side,upstream,state}",
        "outrider_upstream_permits_limit{side,upstream}",
        "outrider_upstream_permits_in_use{side,upstream}",
        "outrider_upstream_incarnation{side,upstream}",
        "outrider_actor_mailbox_capacity{actor,side,upstream}",
        "outrider_actor_mailbox_depth{actor,side,upstream}",
        "outrider_actor_message_latency_seconds{actor,side,upstream}",
        "outrider_kept_body_bytes{}",
        "outrider_kept_body_limit_bytes{}",
        "outrider_bodies_not_kept{reason}",
        "outrider_actor_restarts{actor}",
        "outrider_actor_mailbox_full{actor}",
        "outrider_certificate_not_before_timestamp_seconds{identity}",
        "outrider_certificate_not_after_timestamp_seconds{identity}",
        "outrider_edge_certificate_not_after_timestamp_seconds{certificate}",
        "outrider_edge_certificate_reads{certificate,outcome}",
        "outrider_snapshot_epoch{}",
        "outrider_snapshot_sequence{}",
        "outrider_snapshot_staleness_seconds{}",
        "outrider_session_connected{}",
        "outrider_trace_spans_exported{}",
        "outrider_trace_spans_dropped{reason}",
        "outrider_metrics_folded{family}",
    ];
    assert_eq!(names, golden);
}

/// The reference is generated: `OUTRIDER_WRITE_REFERENCE=1 cargo test -p outrider-sidecar reference` writes it anew.
#[test]
fn the_reference_of_the_metrics_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/metrics.md");
    let wanted = reference();
    if std::env::var_os("OUTRIDER_WRITE_REFERENCE").is_some() {
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference")).unwrap();
        std::fs::write(path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/reference/metrics.md differs: write it anew with OUTRIDER_WRITE_REFERENCE=1"
    );
}

fn reference() -> String {
    let mut text = String::from(
        "# Metrics of a sidecar\n\n\
         `GET /metrics` on the read-only port (14090 by default) answers in OpenMetrics. This file is generated from \
         the names in `sidecar/src/telemetry/metrics/families.rs`; a test fails when it differs.\n\n\
         Durations are in seconds. Counters carry `_total` on the page. Labels are bounded: never a path, a Host or a \
         user. A family that would have more than 2,000 lines shows the label sets that began first, and the rest as \
         one whose labels are all `_other`; `outrider_metrics_folded` says how many those are. A histogram takes 21 \
         lines for each label set, so it shows 95 of them.\n\n\
         | metric | type | labels | what |\n|---|---|---|---|\n",
    );
    for family in every_family() {
        let (suffix, kind) = match family.kind {
            Kind::Counter => ("_total", "counter"),
            Kind::Gauge => ("", "gauge"),
            Kind::Histogram => ("", "histogram"),
        };
        let labels = quoted(family.labels.iter().copied());
        writeln!(text, "| `{}{suffix}` | {kind} | {labels} | {} |", family.name, family.help).unwrap();
    }
    let listeners = quoted(Listener::ALL.map(Listener::label));
    let verdicts = quoted(Found::ALL.map(Found::label));
    let ahead = quoted(OfAhead::ALL.map(OfAhead::label));
    let sides = quoted(Side::ALL.map(Side::label));
    let classes = quoted(AnswerClass::ALL.map(AnswerClass::label));
    let resources = quoted(Resource::ALL.map(Resource::label));
    write!(
        text,
        "\n## Labels\n\n\
         | label | values |\n|---|---|\n\
         | `service` | the service beside the sidecar, `namespace/name` |\n\
         | `port` | the port that callers asked for; of connections found out about, `namespace/name:port` |\n\
         | `peer` | a SPIFFE ID, `external`, `unauthenticated`, or `_other`: a shard tells 256 apart |\n\
         | `upstream` | `namespace/name` or `egress` outbound, `inbound:port` inbound |\n\
         | `side` | {sides} |\n\
         | `listener` | {listeners} |\n\
         | `class` | how the request ended: {classes} |\n\
         | `certificate` | by which `--edge-certificate` and policy call it |\n\
         | `verdict` | what connections turned out to be: {verdicts} |\n\
         | `outcome` | of files `loaded`, `refused`; of tunnels {ahead} |\n\
         | `resource` | {resources}; absent where it has no bound |\n\n\
         `grpc_failed` are the gRPC statuses `UNKNOWN`, `DEADLINE_EXCEEDED`, `RESOURCE_EXHAUSTED`, `UNIMPLEMENTED`, \
         `INTERNAL`, `UNAVAILABLE` and `DATA_LOSS`; `grpc_refused` are the others but `OK`. `aborted` is an answer that \
         broke off or never came. Failures are `5xx`, `grpc_failed` and `aborted`.\n",
    )
    .unwrap();
    text
}

fn quoted(words: impl IntoIterator<Item = &'static str>) -> String {
    words.into_iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
