//! Sentences about counting: one writer, any reader, and every table within its bound.

use std::time::Duration;

use http::StatusCode;
use outrider_shared::session::{REPORT_ROWS_MAX, latency_bucket, latency_quantile_us};
use proptest::prelude::*;

use super::totals::report_rows;
use super::*;

fn answered(class: AnswerClass) -> Recorded {
    Recorded { class, refused: false, bytes_received: 3, bytes_sent: 5, duration: Duration::from_millis(2) }
}

#[test]
fn the_sum_over_shards_is_what_each_of_them_counted() {
    let registry = StatsRegistry::new();
    let threads: Vec<_> = (0..3_u64)
        .map(|shard| {
            let registry = std::sync::Arc::clone(&registry);
            std::thread::spawn(move || {
                let recorder = ShardRecorder::new(&registry);
                let peer = recorder.peer(8080, "spiffe://shop.test/ns/shop/sa/frontend", true);
                for _ in 0..=shard {
                    peer.record(&answered(AnswerClass::Success));
                }
                peer.record(&Recorded { refused: true, ..answered(AnswerClass::Caller) });
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("counting does not panic");
    }
    let rows = registry.inbound_totals();
    assert_eq!(rows.len(), 1, "one peer at one port is one row, however many shards it met");
    let row = &rows[0];
    assert_eq!((row.port, row.mtls), (8080, true));
    assert_eq!((row.requests, row.refusals, row.failures), (9, 3, 0));
    assert_eq!((row.bytes_received, row.bytes_sent), (27, 45));
    assert_eq!(row.latency, [(latency_bucket(2_000), 9)]);
}

#[test]
fn a_connection_is_open_until_it_is_dropped_and_accepted_for_ever() {
    let registry = StatsRegistry::new();
    let recorder = ShardRecorder::new(&registry);
    let (first, second) = (recorder.connection(Listener::Edge), recorder.connection(Listener::Edge));
    drop(first);
    let edge = registry.shard_totals().listeners.into_iter().find(|l| l.listener == Listener::Edge);
    assert_eq!(edge, Some(ListenerTotals { listener: Listener::Edge, accepted: 2, open: 1 }));
    drop(second);
    assert_eq!(recorder.shard().open(Listener::Edge), 0);
}

#[test]
fn past_its_bound_a_shard_counts_peers_as_other_and_loses_none() {
    let registry = StatsRegistry::new();
    let recorder = ShardRecorder::new(&registry);
    for n in 0..PEERS_MAX + 40 {
        recorder
            .peer(80, &format!("spiffe://shop.test/ns/shop/sa/s{n}"), true)
            .record(&answered(AnswerClass::Success));
    }
    recorder.peer(81, "spiffe://shop.test/ns/shop/sa/late", true).record(&answered(AnswerClass::Success));
    let rows = registry.inbound_totals();
    assert_eq!(rows.len(), PEERS_MAX + 2);
    let others: Vec<_> =
        rows.iter().filter(|row| row.peer == OTHER).map(|row| (row.port, row.mtls, row.requests)).collect();
    assert_eq!(others, [(80, false, 40), (81, false, 1)]);
}

#[test]
fn a_peer_that_is_known_keeps_its_row_after_the_bound_is_reached() {
    let registry = StatsRegistry::new();
    let recorder = ShardRecorder::new(&registry);
    for n in 0..=PEERS_MAX {
        recorder.peer(80, &format!("spiffe://shop.test/ns/shop/sa/s{n}"), true);
    }
    recorder.peer(80, "spiffe://shop.test/ns/shop/sa/s0", true).record(&answered(AnswerClass::Success));
    assert_eq!(registry.inbound_totals()[0].requests, 1);
}

#[test]
fn labels_past_their_bound_are_counted_together() {
    let counters = LabelledCounters::default();
    for n in 0..LABELS_MAX + 5 {
        counters.increment(&format!("label{n}"));
    }
    counters.increment("label0");
    let counts: Vec<_> = counters.counts().collect();
    assert_eq!(counts.len(), LABELS_MAX + 1);
    assert_eq!(counts[0], ("label0", 2));
    assert_eq!(counts[LABELS_MAX], (OTHER, 5));
    assert_eq!(counters.total(), 70);
}

#[test]
fn an_upstream_built_anew_finds_its_numbers_while_the_old_one_is_held() {
    let registry = StatsRegistry::new();
    let recorder = ShardRecorder::new(&registry);
    let old = recorder.upstream(Side::Outbound, "shop/orders:80");
    old.record(AnswerClass::Server, Duration::from_millis(1));
    let new = recorder.upstream(Side::Outbound, "shop/orders:80");
    drop(old);
    let totals = registry.upstream_totals();
    assert_eq!((totals.len(), totals[0].requests, totals[0].failures), (1, 1, 1));
    drop(new);
    assert!(registry.upstream_totals().is_empty(), "what nobody holds is no longer shown");
}

#[test]
fn two_shards_use_one_upstream_and_each_endpoint_through_numbers_of_their_own() {
    let registry = StatsRegistry::new();
    let shards = [ShardRecorder::new(&registry), ShardRecorder::new(&registry)];
    let address = "127.0.0.1:14006".parse().unwrap();
    let held: Vec<_> = shards
        .iter()
        .map(|shard| (shard.upstream(Side::Outbound, "a/b:1"), shard.endpoint("a/b:1", address)))
        .collect();
    for (upstream, endpoint) in &held {
        upstream.record(AnswerClass::GrpcFailed, Duration::from_micros(700));
        upstream.in_flight.increment();
        endpoint.requests.increment();
        endpoint.connections.increment();
    }
    let upstream = &registry.upstream_totals()[0];
    assert_eq!((upstream.requests, upstream.failures, upstream.in_flight), (2, 2, 2));
    assert_eq!(latency_quantile_us(&upstream.latency_of_all().sparse(), 0.5), 768);
    let endpoint = &registry.endpoint_totals()[0];
    assert_eq!((endpoint.requests, endpoint.connections), (2, 2));
}

#[test]
fn a_report_folds_into_one_row_what_is_past_its_bound() {
    let peer = |n: u16| PeerTotals {
        port: n,
        peer: "external".to_owned(),
        mtls: false,
        requests: 2,
        refusals: 1,
        failures: 1,
        bytes_received: 10,
        bytes_sent: 20,
        latency: Vec::new(),
    };
    let rows = report_rows((0..1_003).map(peer).collect(), REPORT_ROWS_MAX);
    assert_eq!(rows.len(), REPORT_ROWS_MAX);
    let rest = rows.last().unwrap();
    assert_eq!((rest.peer.as_str(), rest.requests, rest.bytes_sent), (OTHER, 8, 80));
    assert_eq!(report_rows((0..1_000).map(peer).collect(), REPORT_ROWS_MAX).last().unwrap().port, 999);
}

#[test]
fn classes_follow_the_status_and_then_the_grpc_status() {
    for (status, grpc, class) in [
        (StatusCode::OK, None, AnswerClass::Success),
        (StatusCode::OK, Some(0), AnswerClass::Success),
        (StatusCode::OK, Some(5), AnswerClass::GrpcRefused),
        (StatusCode::OK, Some(7), AnswerClass::GrpcRefused),
        (StatusCode::OK, Some(14), AnswerClass::GrpcFailed),
        (StatusCode::OK, Some(99), AnswerClass::GrpcFailed),
        (StatusCode::SEE_OTHER, None, AnswerClass::Redirect),
        (StatusCode::FORBIDDEN, None, AnswerClass::Caller),
        (StatusCode::BAD_GATEWAY, Some(0), AnswerClass::Server),
    ] {
        assert_eq!(AnswerClass::of(status, grpc), class, "{status} {grpc:?}");
    }
    let failing: Vec<u32> =
        (0..=17).filter(|code| AnswerClass::of(StatusCode::OK, Some(*code)).is_failure()).collect();
    assert_eq!(failing, [2, 4, 8, 12, 13, 14, 15, 17], "16 is UNAUTHENTICATED: refused, not failed");
}

#[test]
fn classes_are_in_the_order_of_their_index() {
    for (at, class) in AnswerClass::ALL.into_iter().enumerate() {
        assert_eq!(class.index(), at);
    }
}

proptest! {
    /// Whatever is recorded, on whichever shard, the totals equal those of a plain sum.
    #[test]
    fn totals_equal_a_naive_sum(requests in prop::collection::vec((0_usize..3, 0_u16..3, 0_usize..7, any::<bool>(), 0_u64..10_000_000), 0..64)) {
        let registry = StatsRegistry::new();
        let shards: Vec<_> = (0..3).map(|_| ShardRecorder::new(&registry)).collect();
        for &(shard, port, class, refused, us) in &requests {
            let duration = Duration::from_micros(us);
            let request = Recorded { class: AnswerClass::ALL[class], refused, bytes_received: us, bytes_sent: 1, duration };
            shards[shard].peer(port, "external", false).record(&request);
        }
        let totals = registry.peer_totals();
        for row in &totals {
            let of_port: Vec<_> = requests.iter().filter(|r| r.1 == row.port).collect();
            prop_assert_eq!(row.requests, of_port.len() as u64);
            prop_assert_eq!(row.refusals, of_port.iter().filter(|r| r.3).count() as u64);
            prop_assert_eq!(row.bytes_received, of_port.iter().map(|r| r.4).sum::<u64>());
            let timed: u64 = row.latency.iter().map(|class| class.latency.count()).sum();
            prop_assert_eq!(timed, row.requests, "each request is in exactly one bucket");
            let sum_us: u64 = row.latency.iter().map(|class| class.latency.sum_us).sum();
            prop_assert_eq!(sum_us, row.bytes_received);
        }
        let ports: std::collections::HashSet<_> = requests.iter().map(|r| r.1).collect();
        prop_assert_eq!(totals.len(), ports.len());
    }
}
