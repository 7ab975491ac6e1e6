//! How services are called and protected: retries within their budget, breakers, queues, deadlines that travel.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use http::Method;
use outrider_tests::app::Speaks;
use outrider_tests::call::{Answer, Call, Connection};
use outrider_tests::loopback::port;
use outrider_tests::mesh::{Mesh, Pod};
use outrider_tests::raw::recorder::Recorder;
use outrider_tests::raw::script::Step;
use outrider_tests::{policy, wait};

const HOST: &str = "web.test:8080";

/// A mesh of a caller and of a service `web` with this traffic policy and these rules, if any.
struct Case {
    caller: Pod,
    web: Pod,
    mesh: Mesh,
}

impl Case {
    async fn start(traffic: &str, rules: &str) -> Self {
        let mut parts =
            vec![policy::OPEN.to_owned(), policy::http("caller", 8080), policy::http("web", 8080)];
        if !traffic.is_empty() {
            parts.push(policy::traffic("web", traffic));
        }
        if !rules.is_empty() {
            parts.push(policy::route("web", "web", 8080, rules));
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let mesh = Mesh::start(&policy::documents(&parts)).await;
        let caller = mesh.pod("caller").start().await;
        let web = mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
        caller.sidecar.sees("test/web", 1).await;
        Self { caller, web, mesh }
    }

    async fn send(&self, call: Call) -> Answer {
        wait::bounded("an answer", call.send(self.caller.outbound())).await.expect("an answer")
    }

    /// Sends it, and waits until the app has it.
    async fn hold(&self) -> tokio::task::JoinHandle<Answer> {
        let (begun, outbound) = (self.web.app().begun(), self.caller.outbound());
        let held = tokio::spawn(async move {
            Call::get(HOST, "/").plan("hold").send(outbound).await.expect("an answer")
        });
        wait::until("the app has it", async || {
            if self.web.app().begun() > begun { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await;
        held
    }

    /// Until what `web`'s sidecar shows of its app is as `holds` wants it.
    async fn inbound(&self, what: &str, holds: impl Fn(&serde_json::Value) -> bool) {
        wait::until(what, async || {
            let view = self.web.sidecar.upstream_view(&format!("inbound:{}", port::APP)).await?;
            if holds(&view) { Ok(()) } else { Err(view.to_string()) }
        })
        .await;
    }
}

const RETRIED: &str =
    "[{retry: {attempts: 2, codes: [503], backoff: 5ms}, backendRefs: [{name: web, port: 8080}]}]";

#[tokio::test]
async fn what_may_be_repeated_is_tried_again_and_nothing_else_is() {
    let case = Case::start("", RETRIED).await;
    let attempts = async |call: Call| {
        let before = case.web.app().begun();
        let answer = case.send(call.plan("status=503")).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        case.web.app().begun() - before
    };
    assert_eq!(attempts(Call::get(HOST, "/")).await, 3, "an idempotent method");
    assert_eq!(attempts(Call::new(Method::POST, HOST, "/")).await, 1, "it may have run");
    let keyed = Call::post(HOST, "/", "a body").header("idempotency-key", "one");
    assert_eq!(attempts(keyed).await, 3, "its body is sent again");
    let before = case.web.app().begun();
    assert_eq!(case.send(Call::get(HOST, "/").plan("status=500")).await.status, 500);
    assert_eq!(case.web.app().begun() - before, 1, "a code that the rule does not name");
    let view = case.caller.sidecar.upstream_view("test/web").await.expect("in use");
    assert_eq!(view["retries"], 4);
}

#[tokio::test]
async fn a_spent_budget_leaves_the_last_answer() {
    let budget = "client: {retryConstraint: {budget: {percent: 0}, minRetryRate: {count: 2, interval: 1h}}}";
    let case = Case::start(budget, RETRIED).await;
    for _ in 0..8 {
        let answer = case.send(Call::get(HOST, "/").plan("status=503")).await;
        assert_eq!((answer.status.as_u16(), answer.headers.contains_key("proxy-status")), (503, false));
    }
    // What the budget has in an hour is spread over it.
    assert!((8 + 1..=8 + 2).contains(&case.web.app().begun()), "no more retries than the budget has");
    let view = case.caller.sidecar.upstream_view("test/web").await.expect("in use");
    assert!(view["retries_refused"].as_u64() >= Some(6), "{view}");
}

#[tokio::test]
async fn a_retry_waits_as_long_as_the_app_asks_for_unless_nobody_waits_any_more() {
    let rules = "[{timeouts: {request: 3s}, retry: {attempts: 1, codes: [503], backoff: 1ms}, backendRefs: [{name: web, port: 8080}]}]";
    let case = Case::start("", rules).await;
    let began = std::time::Instant::now();
    case.send(Call::get(HOST, "/").plan("status=503,header=retry-after:1")).await;
    assert!(began.elapsed().as_secs() >= 1, "it asked for a second");
    assert_eq!(case.web.app().begun(), 2);
    case.send(Call::get(HOST, "/").plan("status=503,header=retry-after:9")).await;
    assert_eq!(case.web.app().begun(), 3, "nine seconds are beyond the route's patience");
}

#[tokio::test]
async fn a_breaker_opens_refuses_and_closes_again_by_real_requests() {
    let breaker = "client: {circuitBreaker: {scope: Service, consecutiveFailures: 3, \
                   open: {initial: 300ms, max: 1s}, halfOpen: {maxProbes: 2, successThreshold: 2}}}";
    let case = Case::start(breaker, "").await;
    let mut failed = 0;
    let refused = loop {
        let answer = case.send(Call::get(HOST, "/").plan("status=503")).await;
        if answer.headers.contains_key("proxy-status") {
            break answer.refusal();
        }
        failed += 1;
        assert!(failed < 50, "it never opens");
    };
    assert_eq!((refused.label.as_str(), refused.flag.as_str()), ("breaker_open", "UO"));
    assert!(failed >= 3, "not before the third: {failed}");
    assert_eq!(case.web.app().begun(), failed, "what was refused did not reach the app");
    wait::until("it closes", async || {
        let answer = case.send(Call::get(HOST, "/")).await;
        if answer.status != 200 {
            return Err(format!("{answer:?}"));
        }
        let view = case.caller.sidecar.upstream_view("test/web").await?;
        let breaker = &view["actor"]["breaker"];
        if breaker["state"] == "Closed" { Ok(()) } else { Err(breaker.to_string()) }
    })
    .await;
    let events = case.caller.sidecar.get(port::ADMIN, "/events").await.expect("events");
    let events = String::from_utf8(events.body.to_vec()).expect("text");
    for part in ["requests failed in a row", "HalfOpen: it was open for", "Closed: 2 probes in a row"] {
        assert!(events.contains(part), "{part} is not in {events}");
    }
}

#[tokio::test]
async fn new_settings_leave_a_breaker_open_that_is_open_and_a_limit_where_it_is() {
    let traffic = "client: {circuitBreaker: {scope: Service, consecutiveFailures: 3, open: {initial: 1h, max: 1h}}}, \
                   server: {concurrency: {algorithm: Gradient, initial: 40, min: 4}}";
    let case = Case::start(traffic, "").await;
    wait::until("it opens", async || {
        let answer = case.send(Call::get(HOST, "/").plan("status=503")).await;
        if answer.headers.contains_key("proxy-status") { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    let breaker = async || {
        let view = case.caller.sidecar.upstream_view("test/web").await.expect("in use");
        view["actor"]["breaker"].clone()
    };
    wait::until("it is shown", async || {
        let shown = breaker().await;
        if shown["state"] == "Open" { Ok(()) } else { Err(shown.to_string()) }
    })
    .await;
    let (before, began) = (breaker().await, case.web.app().begun());
    let policy = case.mesh.control.policy();
    let changed =
        policy.replace("consecutiveFailures: 3", "consecutiveFailures: 4").replace("min: 4", "min: 5");
    assert_ne!(policy, changed);
    case.mesh.control.write_policy(&changed);
    case.caller.sidecar.has_revision(2).await;
    case.web.sidecar.has_revision(2).await;
    assert_eq!(case.send(Call::get(HOST, "/")).await.refusal().label, "breaker_open");
    assert_eq!(case.web.app().begun(), began);
    let after = breaker().await;
    assert_eq!((&after["state"], &after["cause"]), (&before["state"], &before["cause"]));
    assert!(after["since_ms"].as_u64() >= before["since_ms"].as_u64(), "{after}");
    case.inbound("the limit stays", |view| view["limit"] == 40 && view["actor"]["limit"]["limit"] == 40)
        .await;
}

#[tokio::test]
async fn calls_that_are_never_answered_are_slow_ones() {
    let breaker = "client: {circuitBreaker: {scope: Service, failureRatio: 0, \
                   window: {type: Time, duration: 10s, minRequests: 4}, slowCall: {threshold: 100ms, ratio: 0.5}}}";
    let impatient = "[{timeouts: {request: 200ms}, backendRefs: [{name: web, port: 8080}]}]";
    let case = Case::start(breaker, impatient).await;
    wait::until("it opens", async || {
        let refusal = case.send(Call::get(HOST, "/").plan("hold")).await.refusal();
        if refusal.label == "breaker_open" { Ok(()) } else { Err(refusal.label) }
    })
    .await;
    let events = case.caller.sidecar.get(port::ADMIN, "/events").await.expect("events");
    let events = String::from_utf8(events.body.to_vec()).expect("text");
    assert!(events.contains("took longer than"), "{events}");
}

#[tokio::test]
async fn where_timeouts_are_no_failures_calls_that_are_never_answered_are_slow_all_the_same() {
    let breaker = "client: {circuitBreaker: {scope: Service, consecutiveFailures: 2, \
                   window: {type: Time, duration: 10s, minRequests: 8}, slowCall: {threshold: 100ms, ratio: 0.5}, \
                   failureWhen: {httpCodes: [], grpcCodes: [], timeouts: false}}}";
    let impatient = "[{timeouts: {request: 200ms}, backendRefs: [{name: web, port: 8080}]}]";
    let case = Case::start(breaker, impatient).await;
    let mut timed_out = 0;
    wait::until("it opens", async || {
        let refusal = case.send(Call::get(HOST, "/").plan("hold")).await.refusal();
        if refusal.label == "breaker_open" { Ok(()) } else { Err(refusal.label) }
            .inspect_err(|_| timed_out += 1)
    })
    .await;
    assert!(timed_out >= 7, "{timed_out}: two failures in a row would have opened it");
}

#[tokio::test]
async fn an_endpoint_that_fails_is_left_out_and_others_get_its_requests() {
    let breaker = "client: {circuitBreaker: {consecutiveFailures: 3, open: {initial: 30s, max: 30s}}}";
    let parts = [
        policy::OPEN,
        &policy::http("caller", 8080),
        &policy::http("web", 8080),
        &policy::traffic("web", breaker),
    ];
    let mesh = Mesh::start(&policy::documents(&parts)).await;
    let caller = mesh.pod("caller").start().await;
    let bad = mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
    let good = mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
    caller.sidecar.sees("test/web", 2).await;
    bad.app().plan("status=503");
    wait::until("the bad one is left out", async || {
        for _ in 0..4 {
            Call::get(HOST, "/").send(caller.outbound()).await.map_err(|error| format!("{error:?}"))?;
        }
        let view = caller.sidecar.upstream_view("test/web").await?;
        let open = view["endpoints"].as_array().is_some_and(|all| all.iter().any(|e| e["state"] == "Open"));
        if open { Ok(()) } else { Err(view.to_string()) }
    })
    .await;
    let before = (bad.app().begun(), good.app().begun());
    for _ in 0..20 {
        let answer = Call::get(HOST, "/").send(caller.outbound()).await.expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!((bad.app().begun(), good.app().begun()), (before.0, before.1 + 20));
}

#[tokio::test]
async fn whoever_waits_is_served_in_turn_and_who_goes_away_leaves_no_place_behind() {
    let queue = "server: {concurrency: {algorithm: Fixed, initial: 1}, queue: {maxDepth: 2, maxWait: 1m}}";
    let case = Case::start(queue, "").await;
    let held = case.hold().await;
    let outbound = case.caller.outbound();
    let waiting =
        |_| tokio::spawn(async move { Call::get(HOST, "/").send(outbound).await.expect("an answer") });
    let [first, second] = [0, 1].map(waiting);
    case.inbound("both wait", |view| view["actor"]["queue"]["depth"] == 2).await;
    let refused = case.send(Call::get(HOST, "/")).await.refusal();
    assert_eq!(refused.label, "queue_full");
    first.abort();
    case.inbound("one is gone", |view| view["actor"]["queue"]["depth"] == 1).await;
    let third = waiting(2);
    case.inbound("another has its place", |view| view["actor"]["queue"]["depth"] == 2).await;
    case.web.app().open_gate();
    for call in [held, second, third] {
        assert_eq!(wait::bounded("an answer", call).await.expect("not aborted").status, 200);
    }
    case.inbound("all is given back", |view| {
        let queue = &view["actor"]["queue"];
        let count = |key: &str| queue[key].as_u64().unwrap_or(0);
        let sums = count("admitted") == count("dispatched") + count("shed");
        view["in_use"] == 0 && queue["depth"] == 0 && sums && count("cancelled") == 1
    })
    .await;
}

#[tokio::test]
async fn a_class_that_matters_more_goes_first_and_an_untrusted_caller_cannot_name_it() {
    let queue = "server: {concurrency: {algorithm: Fixed, initial: 1}, queue: {maxDepth: 8, maxWait: 1m, \
                 priority: {header: x-priority, classes: [high, low], default: low, \
                 trustedFrom: [spiffe://test.mesh/ns/test/sa/caller]}}}";
    let case = Case::start(queue, "").await;
    let held = case.hold().await;
    let outbound = case.caller.outbound();
    let ask = |class: &'static str, path: &'static str| {
        tokio::spawn(async move {
            Call::get(HOST, path).header("x-priority", class).send(outbound).await.expect("an answer")
        })
    };
    let low = ask("low", "/low");
    case.inbound("the low one waits", |view| view["actor"]["queue"]["depth"] == 1).await;
    let high = ask("high", "/high");
    case.inbound("both wait", |view| view["actor"]["queue"]["depth"] == 2).await;
    case.web.app().open_gate();
    for call in [held, low, high] {
        assert_eq!(wait::bounded("an answer", call).await.expect("not aborted").status, 200);
    }
    let order: Vec<_> = case.web.app().seen().iter().map(|seen| seen.uri.path().to_owned()).collect();
    assert_eq!(order, ["/", "/high", "/low"]);
}

#[tokio::test]
async fn a_deadline_shrinks_on_its_way_through_apps_that_pass_their_trace_on() {
    let parts = [
        policy::OPEN,
        &policy::http("caller", 8080),
        &policy::http("web", 8080),
        &policy::http("leaf", 8080),
    ];
    let mesh = Mesh::start(&policy::documents(&parts)).await;
    let caller = mesh.pod("caller").start().await;
    let web = mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
    let leaf = mesh.pod("leaf").app(port::APP, Speaks::Http1).start().await;
    caller.sidecar.sees("test/web", 1).await;
    web.sidecar.sees("test/leaf", 1).await;
    let began = std::time::Instant::now();
    leaf.app().plan("hold");
    let onward = format!("call=leaf.test:8080@{}", web.outbound());
    let call = Call::get(HOST, "/").header("grpc-timeout", "400m").plan(&onward);
    let answer = wait::bounded("an answer", call.send(caller.outbound())).await.expect("an answer");
    assert_eq!(answer.refusal().label, "request_timeout", "{answer:?}");
    assert!(began.elapsed().as_millis() >= 400, "not before its time");
    // The leaf's call had no timeout of its own: it ended with the deadline that came by the trace.
    wait::until("nothing is under way at the leaf", async || {
        let view = leaf.sidecar.upstream_view(&format!("inbound:{}", port::APP)).await?;
        if view["in_use"] == 0 { Ok(()) } else { Err(view.to_string()) }
    })
    .await;
    let view = web.sidecar.upstream_view("test/leaf").await.expect("in use");
    assert_eq!(view["without_context"], 0, "{view}");
    let view = caller.sidecar.upstream_view("test/web").await.expect("in use");
    assert_eq!(view["without_context"], 1, "nobody called the caller: {view}");
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_made_again_whatever_answers_policy_lists() {
    let rules = "[{timeouts: {request: 1m, backendRequest: 50ms}, retry: {attempts: 9, codes: [502], backoff: 1ms}, \
                 backendRefs: [{name: web, port: 8080}]}]";
    let case = Case::start("client: {retryConstraint: {budget: {percent: 100, interval: 10s}, minRetryRate: {count: 100, interval: 1s}}}", rules).await;
    let answer = case.send(Call::get(HOST, "/").plan("hold")).await;
    assert_eq!(answer.refusal().label, "backend_timeout", "{answer:?}");
    assert_eq!(case.web.app().begun(), 10, "one attempt, and nine more");
}

#[tokio::test]
async fn the_time_that_a_route_gives_travels_as_a_deadline() {
    for (timeouts, ms) in [("request: 30s", 30_000), ("request: 30s, backendRequest: 2s", 30_000)] {
        let rules = format!("[{{timeouts: {{{timeouts}}}, backendRefs: [{{name: web, port: 8080}}]}}]");
        let case = Case::start("", &rules).await;
        assert_eq!(case.send(Call::get(HOST, "/").header("grpc-timeout", "1M")).await.status, 200);
        let told = case.web.app().seen_one().header("grpc-timeout").expect("a deadline");
        let left: u64 = told.strip_suffix('m').and_then(|ms| ms.parse().ok()).expect("milliseconds");
        assert!(left <= ms && left > ms / 2, "{timeouts}: {told}");
    }
}

const TWO_AT_ONCE: &str = "server: {concurrency: {algorithm: ALGORITHM, initial: 2, min: 2, max: 2}, \
                           queue: {maxDepth: 8, maxWait: 1m}}";

#[tokio::test]
async fn whoever_only_downloads_or_uploads_uses_up_no_limit_that_is_learned() {
    let case = Case::start(&TWO_AT_ONCE.replace("ALGORITHM", "Gradient"), "").await;
    let unread = two_that_do_not_read(&case).await;
    assert_eq!(case.send(Call::get(HOST, "/")).await.status, 200, "beside two downloads that nobody reads");
    let uploads: Vec<_> = (0..2).map(|_| upload_that_stands_still(&case)).collect();
    wait::until("both uploads are at the app", async || {
        let begun = case.web.app().begun();
        if begun == 5 { Ok(()) } else { Err(format!("{begun} are")) }
    })
    .await;
    assert_eq!(
        case.send(Call::get(HOST, "/")).await.status,
        200,
        "beside two uploads of which nothing comes"
    );
    drop(unread);
    uploads.iter().for_each(tokio::task::JoinHandle::abort);
    case.inbound("all is given back", |view| view["in_use"] == 0 && view["actor"]["queue"]["depth"] == 0)
        .await;
}

#[tokio::test]
async fn an_upload_that_the_app_does_not_read_is_the_apps_to_work_on() {
    let case = Case::start(&TWO_AT_ONCE.replace("ALGORITHM", "Gradient"), "").await;
    let outbound = case.caller.outbound();
    // More than the buffers on its way take.
    let upload = || Call::post(HOST, "/", vec![b'x'; 40_000_000]).plan("stall").send(outbound);
    let uploads = [tokio::spawn(upload()), tokio::spawn(upload())];
    wait::until("both uploads are at the app", async || {
        let begun = case.web.app().begun();
        if begun == 2 { Ok(()) } else { Err(format!("{begun} are")) }
    })
    .await;
    let waits = tokio::spawn(Call::get(HOST, "/").send(outbound));
    case.inbound("it waits", |view| view["actor"]["queue"]["depth"] == 1 && view["in_use"] == 2).await;
    // Longer than an upload may take to come.
    tokio::time::sleep(Duration::from_millis(300)).await;
    case.inbound("it still waits", |view| view["actor"]["queue"]["depth"] == 1 && view["in_use"] == 2).await;
    case.web.app().open_gate();
    for call in uploads.into_iter().chain([waits]) {
        assert_eq!(wait::bounded("an answer", call).await.unwrap().unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_fixed_limit_is_of_requests_to_their_end() {
    let case = Case::start(&TWO_AT_ONCE.replace("ALGORITHM", "Fixed"), "").await;
    let unread = two_that_do_not_read(&case).await;
    let outbound = case.caller.outbound();
    let waits = tokio::spawn(async move { Call::get(HOST, "/").send(outbound).await.expect("an answer") });
    case.inbound("it waits", |view| view["actor"]["queue"]["depth"] == 1 && view["in_use"] == 2).await;
    drop(unread);
    assert_eq!(wait::bounded("an answer", waits).await.expect("not aborted").status, 200);
}

#[tokio::test]
async fn an_app_that_stands_still_is_sent_less_and_less() {
    let limit = "server: {concurrency: {algorithm: Gradient, initial: 64, min: 1, max: 64}}";
    let impatient = "[{timeouts: {request: 2s}, backendRefs: [{name: web, port: 8080}]}]";
    let case = Case::start(limit, impatient).await;
    // Connections are open: what a first one takes is of the caller's time.
    for _ in 0..8 {
        assert_eq!(case.send(Call::get(HOST, "/")).await.status, 200);
    }
    for _ in 0..2 {
        // Whoever asks gives up by its own clock, just before the sidecars do.
        let ask = || Call::get(HOST, "/").plan("hold").send(case.caller.outbound());
        let asked: Vec<_> = (0..64)
            .map(|_| tokio::spawn(tokio::time::timeout(Duration::from_millis(1_960), ask())))
            .collect();
        for call in asked {
            assert!(!matches!(call.await.unwrap(), Ok(Ok(answer)) if answer.status == 200));
        }
    }
    case.inbound("the limit has come down", |view| view["limit"].as_u64().is_some_and(|limit| limit < 64))
        .await;
}

/// Two answers of which nobody reads more than the head.
async fn two_that_do_not_read(case: &Case) -> Vec<(Connection, http::Response<hyper::body::Incoming>)> {
    let mut unread = Vec::new();
    for _ in 0..2 {
        let mut connection = Connection::open(case.caller.outbound(), Speaks::Http2).await.expect("opens");
        let call = Call::get(HOST, "/").http2().plan("bytes=80000000");
        let begun = wait::bounded("a head", connection.begin(call)).await.expect("a head");
        unread.push((connection, begun));
    }
    unread
}

fn upload_that_stands_still(case: &Case) -> tokio::task::JoinHandle<()> {
    let outbound = case.caller.outbound();
    tokio::spawn(async move {
        let never = http_body_util::StreamBody::new(futures_util::stream::pending());
        let call = Call::post(HOST, "/", "").http2().body(never);
        // It ends by being aborted.
        let _ = call.send(outbound).await;
    })
}

/// What the caller's app does is of the first class, which is served also where memory is short.
const FIRST_BY_DEFAULT: &str = "apiVersion: outrider.mesh/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: caller, namespace: test}
spec:
  targetRefs: [{group: \"\", kind: Service, name: caller}]
  server: {queue: {maxDepth: 16, maxWait: 100ms, priority: {header: x-class, classes: [first, second], default: first}}}
";

#[tokio::test]
async fn a_body_that_finds_no_room_is_sent_once_and_counted() {
    let parts = [
        policy::OPEN,
        &policy::http("caller", 8080),
        &policy::http("web", 8080),
        &policy::route("web", "web", 8080, RETRIED),
        FIRST_BY_DEFAULT,
    ];
    let mesh = Mesh::start(&policy::documents(&parts)).await;
    // A sixteenth of it is for bodies: 64 bytes.
    let caller = mesh.pod("caller").memory_limit(1 << 10).start().await;
    let web = mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
    caller.sidecar.sees("test/web", 1).await;
    let attempts = async |length: usize| {
        let before = web.app().begun();
        let call = Call::post(HOST, "/", vec![b'x'; length]).header("idempotency-key", "one");
        let answer = wait::bounded("an answer", call.plan("status=503").send(caller.outbound())).await;
        assert_eq!(answer.expect("an answer").status, 503);
        web.app().begun() - before
    };
    assert_eq!(attempts(60).await, 3);
    assert_eq!(attempts(70).await, 1, "it is gone once it is sent");
    assert_eq!(attempts(60).await, 3, "the room is free again");
    let metric = async |name, labels: &[&str]| caller.sidecar.metric(name, labels).await;
    assert_eq!(metric("outrider_bodies_not_kept_total", &["reason=\"no_room\""]).await, Ok(1.0));
    assert_eq!(metric("outrider_kept_body_limit_bytes", &[]).await, Ok(64.0));
    assert_eq!(metric("outrider_kept_body_bytes", &[]).await, Ok(0.0));
}

#[tokio::test]
async fn a_client_that_was_given_a_hint_of_an_answer_gets_that_answer_and_no_other() {
    let documents = [policy::OPEN, &policy::http("caller", 8080), &policy::http("web", 8080)];
    let route = policy::route("web", "web", 8080, RETRIED);
    let mesh = Mesh::start(&policy::documents(&[&documents[..], &[&*route]].concat())).await;
    let caller = mesh.pod("caller").start().await;
    let web = mesh.pod("web").start().await;
    // What is asked for first is answered by 503, and what is asked for again by 200.
    let asked = Mutex::new(HashSet::new());
    let app = Recorder::start(web.sidecar.at(port::APP), move |request| {
        let target = request.target().to_owned();
        let hint = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n";
        let hint = if target.starts_with("/hint") { hint } else { "" };
        let first = asked.lock().expect("no panic").insert(target);
        let status = if first { "503 Service Unavailable" } else { "200 OK" };
        vec![Step::Send(format!("{hint}HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes())]
    });
    caller.sidecar.sees("test/web", 1).await;
    let status = async |call: Call| {
        wait::bounded("an answer", call.send(caller.outbound())).await.expect("an answer").status
    };
    assert_eq!(status(Call::get(HOST, "/plain").http2()).await, 200, "nothing was told");
    assert_eq!(status(Call::get(HOST, "/hint-1")).await, 200, "no client of HTTP/1.1 is given one");
    assert_eq!(status(Call::get(HOST, "/hint-2").http2()).await, 503, "the hint was");
    assert_eq!(app.performed(), 5);
}
