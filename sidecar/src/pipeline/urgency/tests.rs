//! Deadlines and classes: read, kept, looked up, sent on.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn fields(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::try_from(*value).expect("text")))
        .collect()
}

const TRACE: (&str, &str) = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");

#[test]
fn the_shorter_of_both_times_counts() {
    let now = Instant::now();
    let left = |pairs: &[(&'static str, &str)]| {
        Urgency::received(&fields(pairs), now).deadline.map(|at| at.duration_since(now).as_millis())
    };
    assert_eq!(left(&[]), None);
    assert_eq!(left(&[("outrider-timeout", "250")]), Some(250));
    assert_eq!(left(&[("outrider-timeout", "250"), ("grpc-timeout", "100m")]), Some(100));
    assert_eq!(left(&[("grpc-timeout", "2S")]), Some(2_000));
    for bad in ["", "5", "m", "123456789m", "+5m", "5 m", "5µ"] {
        assert_eq!(left(&[("grpc-timeout", bad)]), None, "{bad:?}");
    }
    assert_eq!(left(&[("outrider-timeout", "99999999999999")]), Some(REMAINING_MAX.as_millis()));
}

#[test]
fn an_app_that_passes_on_its_trace_finds_the_deadline_again() {
    let (contexts, now) = (Arc::new(Contexts::default()), Instant::now());
    let urgency =
        Urgency::received(&fields(&[("outrider-timeout", "250"), ("outrider-class", "batch")]), now);
    let key = trace_key(&fields(&[TRACE])).expect("a trace");
    let _kept = contexts.keep(key, urgency.context(&contexts)).expect("room");
    let context = key.header();
    for passed_on in [fields(&[TRACE]), HeaderMap::from_iter([(CONTEXT.clone(), context)])] {
        let (found, _, how) = Urgency::of_apps_call(&passed_on, &contexts, now);
        let left = found.deadline.expect("kept").duration_since(now).as_millis();
        assert!((249..=252).contains(&left), "{left}");
        assert_eq!((found.class.expect("kept"), how), (HeaderValue::from_static("batch"), Known::Context));
    }
    let shorter = fields(&[TRACE, ("grpc-timeout", "10m")]);
    let (found, ..) = Urgency::of_apps_call(&shorter, &contexts, now);
    assert_eq!(found.deadline, Some(now + Duration::from_millis(10)), "an app may shorten it");
    let longer = fields(&[TRACE, ("grpc-timeout", "10S")]);
    let (found, ..) = Urgency::of_apps_call(&longer, &contexts, now);
    assert!(found.deadline < Some(now + Duration::from_secs(1)), "and not lengthen it");
    let (found, _, how) = Urgency::of_apps_call(&fields(&[]), &contexts, now);
    assert_eq!((found.deadline, how), (None, Known::Nothing));
}

#[test]
fn what_remains_is_sent_on_to_grpc_too() {
    let now = Instant::now();
    let urgency = Urgency { deadline: Some(now + Duration::from_millis(80)), ..Urgency::default() };
    let mut sent = fields(&[("grpc-timeout", "1S")]);
    urgency.send(urgency.deadline, 0, &mut sent, now + Duration::from_millis(30));
    assert_eq!(
        (&sent["outrider-timeout"], &sent["grpc-timeout"]),
        (&HeaderValue::from(50), &HeaderValue::from_static("50m"))
    );
}

#[test]
fn attempts_travel_through_the_app_and_add_up() {
    let (contexts, now) = (Arc::new(Contexts::default()), Instant::now());
    let received =
        |attempt: &str| Urgency::received(&fields(&[("outrider-attempt", attempt)]), now).attempts_before;
    assert_eq!((received("1"), received("3"), received("0"), received("x")), (0, 2, 0, 0));
    assert_eq!(received("99999999999999999999"), 0, "no number");
    assert_eq!(received("9999999999"), ATTEMPTS_BEFORE_MAX);
    let third = Urgency::received(&fields(&[("outrider-attempt", "3")]), now);
    let key = trace_key(&fields(&[TRACE])).expect("a trace");
    let _kept = contexts.keep(key, third.context(&contexts)).expect("room");
    let (found, ..) = Urgency::of_apps_call(&fields(&[TRACE, ("outrider-attempt", "1")]), &contexts, now);
    let sent = |made| {
        let mut sent = HeaderMap::new();
        found.send(None, made, &mut sent, now);
        sent["outrider-attempt"].clone()
    };
    assert_eq!((sent(0), sent(2)), (HeaderValue::from(3), HeaderValue::from(5)));
    let mut first = HeaderMap::new();
    Urgency::default().send(None, 0, &mut first, now);
    assert!(first.is_empty(), "of a first attempt nothing is said");
}

fn classes() -> Classes {
    let class = |name: &str| traffic::PriorityClass { name: name.to_owned(), weight: None };
    Classes::new(&traffic::Priority {
        header: "x-priority".to_owned(),
        classes: vec![class("checkout"), class("default"), class("batch")],
        default: 1,
        trusted_from: vec!["spiffe://shop.local/ns/shop/sa/orders".parse().expect("an identity")],
    })
    .expect("names")
}

#[test]
fn a_trusted_caller_names_the_class_and_others_may_only_lower_it() {
    let principal = |name: &str| {
        Principal::Mesh(Arc::new(
            format!("spiffe://shop.local/ns/shop/sa/{name}").parse().expect("an identity"),
        ))
    };
    let of = |who: &Principal, header: &str, told: &str| {
        let given = fields(&[("x-priority", header)]);
        let told = HeaderValue::try_from(told).expect("text");
        classes().of(who, &given, Some(&told)).0
    };
    let (orders, other) = (principal("orders"), principal("frontend"));
    assert_eq!(of(&orders, "checkout", ""), 0);
    assert_eq!(of(&other, "checkout", ""), 1, "its header is not believed");
    assert_eq!(of(&other, "", "checkout"), 1, "nor what it says of the way before");
    assert_eq!(of(&other, "checkout", "batch"), 2, "less is always taken");
    assert_eq!(of(&other, "batch", "checkout"), 2, "whoever says it");
    assert_eq!(of(&other, "default", "batch"), 2, "and nobody makes it more again");
    assert_eq!(of(&orders, "nonsense", "checkout"), 0);
    assert_eq!(of(&Principal::External, "checkout", "checkout"), 1);
}

proptest! {
    #[test]
    fn no_field_makes_reading_panic(timeout in "\\PC{0,12}", grpc in "\\PC{0,12}", trace in "\\PC{0,60}") {
        let mut given = HeaderMap::new();
        for (name, text) in [(&TIMEOUT, timeout), (&GRPC_TIMEOUT, grpc), (&TRACEPARENT, trace)] {
            if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
                given.insert(name, value);
            }
        }
        let now = Instant::now();
        let _ = Urgency::received(&given, now);
        let _ = trace_key(&given);
    }
}
