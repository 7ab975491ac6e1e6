use outrider_shared::api::{
    QuotaAnswer, QuotaRow, ServiceStat, SidecarUpstreams, SidecarView, SidecarsAnswer, StatAnswer,
    UpstreamsAnswer,
};
use outrider_shared::session::{DetectedView, EndpointView, EventView, OverloadView, UpstreamView};
use serde_json::Value;

use super::stat::peers;
use super::{Breadth, Events, Quota, Shown, Sidecars, Stat, Upstreams, stat_table};
use crate::table::Palette;

fn lines<S: Shown>(answer: &S::Answer) -> Vec<String> {
    let mut table = S::table(answer, Palette::Plain);
    table.force_no_tty().set_width(200);
    table.lines().collect()
}

/// The columns of the row that holds `key`, between runs of blanks.
fn row(lines: &[String], key: &str) -> Vec<String> {
    let line = lines.iter().find(|line| line.contains(key)).unwrap_or_else(|| panic!("{key} in {lines:#?}"));
    line.split("  ")
        .map(|cell| cell.trim_matches(['│', ' ']).to_owned())
        .filter(|cell| !cell.is_empty())
        .collect()
}

fn stat() -> StatAnswer {
    let frontend = ServiceStat {
        name: "frontend".to_owned(),
        namespace: "shop".to_owned(),
        success: Some(0.987),
        rps: 49.96,
        p50_ms: Some(4.25),
        p95_ms: Some(38.0),
        p99_ms: Some(310.0),
        peers: vec!["external".to_owned()],
        mtls: Some(0.0),
        sidecars: 2,
        endpoints: 1,
        cert_remaining_s: Some(86_100),
        refusals_per_s: 0.0,
        overload_level: 0,
    };
    let idle = ServiceStat {
        name: "idle".to_owned(),
        success: None,
        rps: 0.0,
        p50_ms: None,
        p95_ms: None,
        p99_ms: None,
        peers: Vec::new(),
        mtls: None,
        cert_remaining_s: None,
        ..frontend.clone()
    };
    StatAnswer { window_s: 10.0, revision: 3, services: vec![frontend, idle] }
}

#[test]
fn stat_has_a_row_for_each_service() {
    let lines = lines::<Stat>(&stat());
    assert_eq!(
        row(&lines, "shop/frontend"),
        [
            "shop/frontend",
            "98.7 %",
            "50.0",
            "4.2",
            "38",
            "310",
            "external",
            "0.0 %",
            "23h 55m",
            "1 of 2",
            "0.0"
        ]
    );
    assert_eq!(
        row(&lines, "shop/idle"),
        ["shop/idle", "-", "0.0", "-", "-", "-", "-", "-", "-", "1 of 2", "0.0"]
    );
}

#[test]
fn the_demos_table_fits_into_80_columns() {
    let mut answer = stat();
    answer.services[0].peers = vec!["spiffe://shop.local/ns/shop/sa/orders".to_owned()];
    let mut table = stat_table(&answer, Palette::Plain, Breadth::Narrow);
    table.force_no_tty();
    for line in table.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
}

#[test]
fn many_peers_are_counted() {
    let named: Vec<String> = (1..=5).map(|n| format!("spiffe://d/ns/n/sa/p{n}")).collect();
    assert_eq!(peers(&named), "p1, p2, p3 and 2 more");
    assert_eq!(peers(&named[..2]), "p1, p2");
    assert_eq!(peers(&[]), "-");
}

fn upstreams() -> UpstreamsAnswer {
    let endpoint = |address: &str, cause: Option<&str>| EndpointView {
        address: address.to_owned(),
        state: if cause.is_some() { "Ejected" } else { "Healthy" }.to_owned(),
        cause: cause.map(str::to_owned),
        retry_in_ms: cause.map(|_| 29_250),
        in_flight: 1,
        ewma_us: 4_200,
        ..EndpointView::default()
    };
    let upstream = UpstreamView {
        name: "shop/orders:8080".to_owned(),
        requests: 1_204_120,
        failures: 7,
        redispatches: 3,
        limit: 1_024,
        in_use: 2,
        leased_idle: vec![511, 511],
        p50_us: 4_000,
        p99_us: 120_000,
        endpoints: vec![
            endpoint("127.14.2.1:14006", None),
            endpoint("127.14.2.222:14006", Some("opening the connection: Connection refused (os error 111)")),
        ],
        detected: vec![DetectedView {
            port: "shop/orders:25".to_owned(),
            verdict: "server_first".to_owned(),
            connections: 4,
        }],
        ..UpstreamView::default()
    };
    let sidecar = SidecarUpstreams {
        events: Vec::new(),
        overload: None,
        sidecar: "0123456789abcdef".parse().unwrap(),
        service: "shop/frontend".parse().unwrap(),
        age_ms: 10,
        upstreams: vec![upstream],
    };
    UpstreamsAnswer { sidecars: vec![sidecar] }
}

#[test]
fn wide_upstreams_have_a_column_for_each_figure_and_say_in_full_why_an_endpoint_is_out() {
    let mut table = Upstreams::wide(&upstreams(), Palette::Plain);
    table.force_no_tty().set_width(300);
    let lines: Vec<String> = table.lines().collect();
    let first = row(&lines, "127.14.2.1:14006");
    assert_eq!(first[..4], ["shop/frontend 01234567", "shop/orders:8080", "1204120", "7"]);
    assert_eq!(first[first.len() - 7..first.len() - 4], ["511 + 511", "25: 4 server_first", "the first"]);
    assert_eq!(first[first.len() - 4..], ["127.14.2.1:14006", "Healthy", "1", "4.2 ms"]);
    let second = row(&lines, "127.14.2.222:14006");
    let why = "Ejected: opening the connection: Connection refused (os error 111), tried again in 29250 ms";
    assert_eq!(second[1], why);
}

#[test]
fn upstreams_fit_into_100_columns_with_every_figure() {
    let lines = lines::<Upstreams>(&upstreams());
    for line in &lines {
        assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
    }
    let first = row(&lines, "127.14.2.1:14006");
    assert_eq!(first, ["shop/frontend", "shop/orders:8080", "127.14.2.1:14006", "Healthy", "1", "4.2 ms"]);
    let second = row(&lines, "127.14.2.222:14006");
    assert_eq!(
        second,
        ["01234567", "1204120 requests", "127.14.2.222:14006", "Ejected 29.2 s", "1", "4.2 ms"]
    );
    assert_eq!(row(&lines, "7 failed"), ["7 failed", "…used (os error 111)"]);
    assert_eq!(row(&lines, "3 moved"), ["3 moved"]);
    assert_eq!(row(&lines, "p99"), ["p50 4.0 ms, p99 120 ms"]);
    assert_eq!(row(&lines, "permits"), ["2 of 1024 permits"]);
    assert_eq!(row(&lines, "idle"), ["idle 511 + 511"]);
    let mut many = upstreams();
    many.sidecars[0].upstreams[0].leased_idle = vec![16; 64];
    assert_eq!(row(&self::lines::<Upstreams>(&many), "idle"), ["idle 1024 of 64 shards"]);
}

#[test]
fn an_upstream_without_endpoints_says_none() {
    let upstream = UpstreamView { name: "shop/orders:8080".to_owned(), ..UpstreamView::default() };
    let sidecar = SidecarUpstreams {
        events: Vec::new(),
        overload: None,
        sidecar: "01".parse().unwrap(),
        service: "shop/frontend".parse().unwrap(),
        age_ms: 10,
        upstreams: vec![upstream],
    };
    let lines = lines::<Upstreams>(&UpstreamsAnswer { sidecars: vec![sidecar] });
    assert_eq!(row(&lines, "shop/orders:8080").last().unwrap(), "none");
}

#[test]
fn quota_names_the_peer_in_full() {
    let quota_row = QuotaRow {
        service: "shop/payments".parse().unwrap(),
        peer: "spiffe://shop.local/ns/shop/sa/orders".to_owned(),
        requests: 1_000,
        refusals: 1,
        failures: 20,
        bytes_received: 2_048,
        bytes_sent: 512,
    };
    let lines = lines::<Quota>(&QuotaAnswer { rows: vec![quota_row] });
    assert_eq!(
        row(&lines, "shop/payments"),
        ["shop/payments", "spiffe://shop.local/ns/shop/sa/orders", "1000", "1", "20", "2.0 KiB", "512 B"]
    );
}

#[test]
fn a_sidecar_that_is_not_published_says_why() {
    let sidecar = SidecarView {
        sidecar: "0123456789abcdef".parse().unwrap(),
        service: "shop/orders".parse().unwrap(),
        address: Some("127.14.2.1:14006".to_owned()),
        connected: true,
        published: false,
        unpublished_because: Some("the app's port refuses".to_owned()),
        acked: None,
        nack: Some(vec!["unknown field".to_owned()]),
        build: "0.1.0".to_owned(),
        leaf: None,
        draining: true,
        bypassable: true,
    };
    let lines = lines::<Sidecars>(&SidecarsAnswer { sidecars: vec![sidecar] });
    assert_eq!(
        row(&lines, "shop/orders"),
        [
            "01234567",
            "shop/orders",
            "127.14.2.1:14006",
            "connected",
            "no: the app's port refuses",
            "refused: unknown field",
            "-",
            "0.1.0",
            "draining, bypassable"
        ]
    );
}

#[test]
fn what_the_sidecar_itself_is_short_of_stands_beside_its_name_while_it_is() {
    let overload = OverloadView { level: 4, short_of: "memory".to_owned() };
    let mut answer = upstreams();
    assert!(!lines::<Upstreams>(&answer).join("\n").contains("overload"));
    answer.sidecars[0].overload = Some(overload);
    let told = lines::<Upstreams>(&answer);
    assert_eq!(row(&told, "overloaded 4/10")[0], "overloaded 4/10");
    assert_eq!(row(&told, "by memory")[0], "by memory");
    let mut table = Upstreams::wide(&answer, Palette::Plain);
    table.force_no_tty().set_width(300);
    assert!(table.to_string().contains("overloaded 4/10"));
    let mut services = stat();
    assert!(!lines::<Stat>(&services).join("\n").contains("overload"));
    services.services[0].overload_level = 10;
    assert_eq!(row(&lines::<Stat>(&services), "overloaded")[0], "overloaded 10/10");
}

#[test]
fn a_watcher_in_json_is_told_only_of_what_has_changed() {
    let changes = |before: Option<&UpstreamsAnswer>, now: &UpstreamsAnswer| {
        let all = Upstreams::changes(before, now).expect("upstreams are told one by one");
        all.iter()
            .map(|one| (one["upstream"]["name"].clone(), one["upstream"]["gone"] == true))
            .collect::<Vec<_>>()
    };
    let first = upstreams();
    let name = serde_json::json!("shop/orders:8080");
    assert_eq!(changes(None, &first), [(name.clone(), false)]);
    let mut later = first.clone();
    later.sidecars[0].age_ms += 1_000;
    later.sidecars[0].upstreams[0].endpoints[1].retry_in_ms = Some(100);
    assert!(changes(Some(&first), &later).is_empty(), "only time has passed");
    later.sidecars[0].upstreams[0].requests += 1;
    assert_eq!(changes(Some(&first), &later), [(name.clone(), false)]);
    assert_eq!(changes(Some(&later), &UpstreamsAnswer { sidecars: Vec::new() }), [(name, true)]);
    assert!(Stat::changes(None, &stat()).is_none(), "what has no parts is told whole");
}

#[test]
fn each_event_is_one_line_of_json_and_is_told_once() {
    let event = |number, unix_ms: u64| EventView {
        number,
        unix_ms,
        upstream: "shop/orders:8080".to_owned(),
        endpoint: Some("127.14.2.1:14006".to_owned()),
        what: format!("event {unix_ms}"),
    };
    let mut first = upstreams();
    first.sidecars[0].events = vec![event(1, 20), event(2, 30)];
    let whats = |told: &[Value]| told.iter().map(|one| one["what"].clone()).collect::<Vec<_>>();
    let all = Events::json(&first);
    assert_eq!(whats(all["events"].as_array().unwrap()), ["event 20", "event 30"]);
    assert_eq!(all["events"][0]["service"], serde_json::json!(first.sidecars[0].service));
    assert_eq!(whats(&Events::changes(None, &first).unwrap()), ["event 20", "event 30"]);
    let mut later = first.clone();
    later.sidecars[0].events.remove(0);
    later.sidecars[0].events.push(event(3, 40));
    assert_eq!(whats(&Events::changes(Some(&first), &later).unwrap()), ["event 40"]);
    let silent = UpstreamsAnswer { sidecars: Vec::new() };
    let remembered = Events::remembered(Some(later.clone()), silent);
    assert!(
        Events::changes(Some(&remembered), &later).unwrap().is_empty(),
        "it had only not reported for a while"
    );
    let many = UpstreamsAnswer { sidecars: vec![later.sidecars[0].clone(); 2_000] };
    let nobody = UpstreamsAnswer { sidecars: Vec::new() };
    assert_eq!(Events::remembered(Some(many), nobody).sidecars.len(), 1_024, "not all that ever were");
    // The sidecar was started anew, and counts anew.
    let mut anew = later.clone();
    anew.sidecars[0].events = vec![event(1, 50)];
    assert_eq!(whats(&Events::changes(Some(&later), &anew).unwrap()), ["event 50"]);
}

#[test]
fn without_events_a_line_says_so() {
    let mut answer = upstreams();
    let table = Events::table(&answer, Palette::Plain);
    let told = super::text::<Events>(&table, &answer, None);
    assert!(told.starts_with("No events: ") && told.lines().count() == 1, "{told}");
    let service = "shop/orders".parse().unwrap();
    assert!(super::text::<Events>(&table, &answer, Some(&service)).starts_with("No events of shop/orders: "));
    answer.sidecars.clear();
    assert!(super::text::<Events>(&table, &answer, None).contains("outrider token create"));
}

#[test]
fn an_answer_without_rows_says_that_nothing_is_there_and_where_to_look() {
    let nothing = UpstreamsAnswer { sidecars: Vec::new() };
    let table = Upstreams::table(&nothing, Palette::Plain);
    let service = "shop/ordres".parse().unwrap();
    let told = super::text::<Upstreams>(&table, &nothing, Some(&service));
    assert!(told.contains("shop/ordres") && told.contains("outrider sidecars"), "{told}");
    assert!(super::text::<Upstreams>(&table, &nothing, None).contains("outrider token create"));
    let some = Upstreams::table(&upstreams(), Palette::Plain);
    assert!(super::text::<Upstreams>(&some, &nothing, Some(&service)).contains("127.14.2.1:14006"));
}
