//! What becomes of a request's trace on its way.

use outrider_tests::call::Call;

use crate::data_path::{BOTH, Pair};

/// Of a `traceparent` in version 00: trace id, span id, flags.
fn parts(traceparent: &str) -> (&str, &str, &str) {
    let parts: Vec<_> = traceparent.split('-').collect();
    let [version, trace, span, flags] = parts[..] else { panic!("{traceparent} has four parts") };
    let is_id = |id: &str, digits| {
        id.len() == digits
            && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            && id.bytes().any(|byte| byte != b'0')
    };
    assert!(version == "00" && is_id(trace, 32) && is_id(span, 16), "{traceparent}");
    (trace, span, flags)
}

#[tokio::test]
async fn a_request_reaches_the_app_with_a_trace_id_though_nothing_is_exported() {
    let pair = Pair::start().await;
    for app in BOTH {
        let (pod, host) = pair.app(app);
        for _ in 0..2 {
            pair.send(Call::get(host, "/")).await.unwrap();
        }
        let seen: Vec<_> = pod.app().seen().iter().filter_map(|seen| seen.header("traceparent")).collect();
        let [first, second] = &seen[..] else { panic!("{app:?}: {seen:?}") };
        assert_ne!(parts(first).0, parts(second).0, "each request begins a trace of its own");
        assert_eq!((parts(first).2, parts(second).2), ("00", "00"), "nothing samples it");
    }
}

#[tokio::test]
async fn a_trace_of_the_callers_reaches_the_app_as_it_came_where_nothing_is_exported() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let pair = Pair::start().await;
    for app in BOTH {
        let (pod, host) = pair.app(app);
        let call = Call::get(host, "/").header("traceparent", PARENT).header("tracestate", "a=1 ,b=2");
        pair.send(call).await.unwrap();
        let seen = pod.app().seen_one();
        assert_eq!(seen.header("traceparent").as_deref(), Some(PARENT));
        assert_eq!(seen.header("tracestate").as_deref(), Some("a=1 ,b=2"));
    }
}
