//! Sentences about context: what is read, what is refused, what is passed on, and who samples.

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn headers(given: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn tracing(numerator: u32, denominator: u32) -> Tracing {
    Tracing { sampling: Fraction { numerator, denominator }, ..Tracing::default() }
}

/// Follows its caller's decision, and samples nothing by itself.
fn policy() -> TracePolicy {
    TracePolicy::new(&tracing(0, 100), Exporting::On)
}

fn b3_policy() -> TracePolicy {
    TracePolicy::new(&Tracing { propagation: vec![Propagation::B3], ..tracing(0, 1) }, Exporting::On)
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

#[test]
fn a_sampled_request_gets_a_span_of_ours_under_its_callers() {
    let mut headers = headers(&[("traceparent", &format!("00-{TRACE}-{SPAN}-01")), ("tracestate", "a=1")]);
    let context = policy().begin(&mut headers);
    assert_eq!(context.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
    assert_eq!(context.parent_span_id, Some(0x00f0_67aa_0ba9_02b7));
    assert!(context.sampled);
    policy().inject(&context, &mut headers);
    assert_eq!(text(&headers, "traceparent"), Some(&*format!("00-{TRACE}-{:016x}-01", context.span_id)));
    assert_eq!(text(&headers, "tracestate"), Some("a=1"));
}

#[test]
fn a_request_that_is_not_sampled_keeps_its_context_byte_for_byte() {
    let given = headers(&[("traceparent", &format!("00-{TRACE}-{SPAN}-00")), ("tracestate", "a=1 ,b=2")]);
    let mut passed = given.clone();
    let context = policy().begin(&mut passed);
    policy().inject(&context, &mut passed);
    assert_eq!(passed, given);
    assert!(!context.sampled);
}

#[test]
fn a_sidecar_without_a_collector_passes_on_what_came_byte_for_byte() {
    let off = TracePolicy::new(&tracing(1, 1), Exporting::Off);
    let given = headers(&[("traceparent", &format!("00-{TRACE}-{SPAN}-01")), ("tracestate", "a=1,a=2")]);
    let mut passed = given.clone();
    let context = off.begin(&mut passed);
    off.inject(&context, &mut passed);
    assert_eq!(passed, given);
    assert_eq!(context.span_id, 0x00f0_67aa_0ba9_02b7);
}

#[test]
fn a_sidecar_without_a_collector_begins_a_trace_that_is_not_sampled() {
    let off = TracePolicy::new(&tracing(1, 1), Exporting::Off);
    for mut given in [headers(&[]), headers(&[("traceparent", "nonsense"), ("tracestate", "a=1")])] {
        let context = off.begin(&mut given);
        off.inject(&context, &mut given);
        let wanted = format!("00-{:032x}-{:016x}-00", context.trace_id, context.span_id);
        assert_eq!(text(&given, "traceparent"), Some(&*wanted));
        assert_eq!(given.len(), 1, "a tracestate without its traceparent means nothing");
    }
}

#[test]
fn a_request_without_context_begins_a_trace_and_says_so_to_the_next_hop() {
    let mut headers = headers(&[("tracestate", "orphan=1")]);
    let context = policy().begin(&mut headers);
    assert_eq!(context.parent_span_id, None);
    policy().inject(&context, &mut headers);
    let wanted = format!("00-{:032x}-{:016x}-00", context.trace_id, context.span_id);
    assert_eq!(text(&headers, "traceparent"), Some(&*wanted));
    assert_eq!(text(&headers, "tracestate"), None, "a tracestate alone means nothing");
}

#[test]
fn a_malformed_traceparent_begins_a_new_trace() {
    let zeros = "0".repeat(32);
    for bad in [
        String::new(),
        format!("ff-{TRACE}-{SPAN}-01"),
        format!("00-{zeros}-{SPAN}-01"),
        format!("00-{TRACE}-0000000000000000-01"),
        format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
        format!("00-{TRACE}-{}-01", SPAN.to_uppercase()),
        format!("0X-{TRACE}-{SPAN}-01"),
        format!("00-{TRACE}-{SPAN}-0G"),
        format!("00-{TRACE}-{SPAN}-1"),
        format!("00-{TRACE}-{SPAN}-01-extra"),
        format!("00-{TRACE}-{SPAN}-01-"),
        format!("01-{TRACE}-{SPAN}-01x"),
        format!("00_{TRACE}-{SPAN}-01"),
        format!("00-{TRACE}-{SPAN}"),
        format!("00-{}-{SPAN}-01", &TRACE[1..]),
        format!(" 00-{TRACE}-{SPAN}-0"),
    ] {
        let mut headers = headers(&[("traceparent", &bad), ("tracestate", "a=1")]);
        let context = policy().begin(&mut headers);
        assert_eq!(context.parent_span_id, None, "{bad:?} was read");
        assert_eq!(headers.len(), 0, "{bad:?} was passed on");
    }
}

#[test]
fn two_traceparents_are_none() {
    let one = format!("00-{TRACE}-{SPAN}-01");
    let mut headers = headers(&[("traceparent", &one), ("traceparent", &one)]);
    assert_eq!(policy().begin(&mut headers).parent_span_id, None);
    assert_eq!(headers.len(), 0);
}

#[test]
fn a_later_version_is_read_by_its_prefix_and_written_as_ours() {
    for later in [format!("01-{TRACE}-{SPAN}-01"), format!("fe-{TRACE}-{SPAN}-01-what-comes-later")] {
        let mut headers = headers(&[("traceparent", &later)]);
        let context = policy().begin(&mut headers);
        assert_eq!(context.parent_span_id, Some(0x00f0_67aa_0ba9_02b7), "{later}");
        policy().inject(&context, &mut headers);
        assert!(text(&headers, "traceparent").unwrap().starts_with(&format!("00-{TRACE}-")));
    }
}

#[test]
fn the_flag_of_a_random_id_is_passed_on_and_unknown_flags_are_not() {
    let mut headers = headers(&[("traceparent", &format!("00-{TRACE}-{SPAN}-ff"))]);
    let context = policy().begin(&mut headers);
    policy().inject(&context, &mut headers);
    assert!(text(&headers, "traceparent").unwrap().ends_with("-03"));
}

#[test]
fn a_malformed_tracestate_goes_and_the_trace_stays() {
    let many = (0..33).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
    for bad in ["a", "a=", "=1", "A=1", "a=1,a=2", "a=b=c", "a b=1", &many] {
        let mut headers = headers(&[("traceparent", &format!("00-{TRACE}-{SPAN}-00")), ("tracestate", bad)]);
        let context = policy().begin(&mut headers);
        assert_eq!(context.span_id, 0x00f0_67aa_0ba9_02b7, "{bad}");
        assert_eq!(text(&headers, "tracestate"), None, "{bad} was passed on");
    }
}

#[test]
fn tracestates_in_several_headers_are_one_list() {
    let parent = format!("00-{TRACE}-{SPAN}-00");
    let fine = headers(&[("traceparent", &parent), ("tracestate", "a=1,,b=2"), ("tracestate", "t@v=3")]);
    let mut passed = fine.clone();
    policy().begin(&mut passed);
    assert_eq!(passed, fine);
    let mut repeated = headers(&[("traceparent", &parent), ("tracestate", "a=1"), ("tracestate", "a=2")]);
    policy().begin(&mut repeated);
    assert_eq!(text(&repeated, "tracestate"), None);
}

#[test]
fn a_tracestate_that_is_too_long_loses_its_long_members_first_and_then_its_oldest() {
    let long = format!("long={}", "x".repeat(200));
    let members: Vec<String> = (0..9).map(|n| format!("k{n}={}", "v".repeat(57))).collect();
    let given = format!("{},{long},{}", members[..4].join(","), members[4..].join(","));
    let mut headers = headers(&[("traceparent", &format!("00-{TRACE}-{SPAN}-00")), ("tracestate", &given)]);
    policy().begin(&mut headers);
    assert_eq!(text(&headers, "tracestate"), Some(&*members[..8].join(",")));
}

#[test]
fn baggage_past_its_limits_is_dropped_and_within_them_untouched() {
    let within = (0..64).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
    let members = format!("{within},one=more");
    let bytes = format!("k={}", "v".repeat(8_191));
    for (given, kept) in [(&within, true), (&members, false), (&bytes, false)] {
        let mut headers = headers(&[("baggage", given)]);
        policy().begin(&mut headers);
        assert_eq!(headers.contains_key("baggage"), kept);
    }
}

#[test]
fn b3_in_one_header_is_read_and_answered_in_one_header() {
    let mut headers = headers(&[("b3", &format!("{TRACE}-{SPAN}-1-05e3ac9a4f6e3b90"))]);
    let context = b3_policy().begin(&mut headers);
    assert!(context.sampled);
    assert_eq!(context.parent_span_id, Some(0x00f0_67aa_0ba9_02b7));
    b3_policy().inject(&context, &mut headers);
    assert_eq!(text(&headers, "b3"), Some(&*format!("{TRACE}-{:016x}-1-{SPAN}", context.span_id)));
    assert_eq!(headers.len(), 1);
}

#[test]
fn b3_in_several_headers_is_read_and_answered_in_several() {
    let mut headers = headers(&[
        ("x-b3-traceid", "a3ce929d0e0e4736"),
        ("x-b3-spanid", SPAN),
        ("x-b3-sampled", "true"),
        ("x-b3-parentspanid", "05e3ac9a4f6e3b90"),
    ]);
    let context = b3_policy().begin(&mut headers);
    assert_eq!(context.trace_id, 0xa3ce_929d_0e0e_4736, "a short id is filled up with zeros");
    b3_policy().inject(&context, &mut headers);
    assert_eq!(text(&headers, "x-b3-traceid"), Some("0000000000000000a3ce929d0e0e4736"));
    assert_eq!(text(&headers, "x-b3-spanid"), Some(&*format!("{:016x}", context.span_id)));
    assert_eq!(text(&headers, "x-b3-parentspanid"), Some(SPAN));
    assert_eq!(text(&headers, "x-b3-sampled"), Some("1"));
}

#[test]
fn b3_decides_without_ids_too() {
    let always =
        TracePolicy::new(&Tracing { propagation: vec![Propagation::B3], ..tracing(1, 1) }, Exporting::On);
    for (policy, given, sampled) in [
        (always, ("b3", "0"), false),
        (b3_policy(), ("b3", "1"), true),
        (b3_policy(), ("b3", "d"), true),
        (always, ("x-b3-sampled", "false"), false),
        (b3_policy(), ("x-b3-flags", "1"), true),
        (b3_policy(), ("b3", &format!("{TRACE}-{SPAN}-d")), true),
    ] {
        assert_eq!(policy.begin(&mut headers(&[given])).sampled, sampled, "{given:?}");
    }
}

#[test]
fn b3_that_leaves_the_decision_open_is_sampled_by_our_share() {
    let given = format!("{TRACE}-{SPAN}");
    let always =
        TracePolicy::new(&Tracing { propagation: vec![Propagation::B3], ..tracing(1, 1) }, Exporting::On);
    assert!(always.begin(&mut headers(&[("b3", &given)])).sampled);
    assert!(!b3_policy().begin(&mut headers(&[("b3", &given)])).sampled);
}

#[test]
fn malformed_b3_is_no_context() {
    for bad in [
        format!("{TRACE}-{SPAN}-2"),
        format!("{TRACE}-{SPAN}-1-xyz"),
        format!("{TRACE}-{SPAN}-1-{SPAN}-1"),
        format!("{}-{SPAN}-1", TRACE.to_uppercase()),
        format!("{TRACE}-0000000000000000-1"),
        TRACE.to_owned(),
    ] {
        let context = b3_policy().begin(&mut headers(&[("b3", &bad)]));
        assert_eq!((context.parent_span_id, context.sampled), (None, false), "{bad}");
    }
}

#[test]
fn with_both_formats_the_standard_one_is_read_and_both_are_written() {
    let both = Tracing { propagation: vec![Propagation::B3, Propagation::TraceContext], ..tracing(0, 1) };
    let policy = TracePolicy::new(&both, Exporting::On);
    let other = "a".repeat(32);
    let mut headers =
        headers(&[("traceparent", &format!("00-{TRACE}-{SPAN}-01")), ("b3", &format!("{other}-{SPAN}-0"))]);
    let context = policy.begin(&mut headers);
    policy.inject(&context, &mut headers);
    assert!(text(&headers, "traceparent").unwrap().starts_with(&format!("00-{TRACE}-")));
    assert!(text(&headers, "b3").unwrap().starts_with(TRACE));
}

#[test]
fn without_parent_based_sampling_only_our_share_counts() {
    let own = |numerator| {
        TracePolicy::new(&Tracing { parent_based: false, ..tracing(numerator, 1) }, Exporting::On)
    };
    for (flags, numerator, sampled) in [("00", 1, true), ("01", 0, false)] {
        let mut headers = headers(&[("traceparent", &format!("00-{TRACE}-{SPAN}-{flags}"))]);
        assert_eq!(own(numerator).begin(&mut headers).sampled, sampled);
    }
}

#[test]
fn a_share_of_all_samples_all_and_a_share_of_none_samples_none() {
    for (numerator, denominator, below) in
        [(1, 1, 0), (0, 1, RANDOM_END), (7, 0, RANDOM_END), (9, 3, 0), (1, 2, RANDOM_END / 2)]
    {
        assert_eq!(reject_below(Fraction { numerator, denominator }), below, "{numerator}/{denominator}");
    }
}

#[test]
fn about_the_asked_share_of_new_traces_is_sampled() {
    let tenth = TracePolicy::new(&tracing(1, 10), Exporting::On);
    let sampled = (0..20_000).filter(|_| tenth.begin(&mut HeaderMap::new()).sampled).count();
    // Six standard deviations around 2,000: wrong once in 500 million runs.
    assert!((1_745..=2_255).contains(&sampled), "{sampled} of 20,000");
}

proptest! {
    /// What one sidecar writes, the next one reads: same trace, our span as its parent, same decision.
    #[test]
    fn the_next_hop_reads_what_was_written(b3 in any::<bool>(), share in 0_u32..=1) {
        let format = if b3 { Propagation::B3 } else { Propagation::TraceContext };
        let policy = TracePolicy::new(&Tracing { propagation: vec![format], ..tracing(share, 1) }, Exporting::On);
        let mut headers = HeaderMap::new();
        let ours = policy.begin(&mut headers);
        policy.inject(&ours, &mut headers);
        let theirs = policy.begin(&mut headers);
        prop_assert_eq!((theirs.trace_id, theirs.sampled), (ours.trace_id, ours.sampled));
        let parent = if ours.sampled { theirs.parent_span_id } else { Some(theirs.span_id) };
        prop_assert_eq!(parent, Some(ours.span_id));
    }

    /// No header makes reading panic, and whatever goes on is what a strict reader takes.
    #[test]
    fn whatever_comes_in_only_valid_context_goes_on(
        parent in "[0-9a-fA-F-]{0,60}|00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", state in "[ -~]{0,600}", b3 in "[0-9a-fd-]{0,70}",
    ) {
        let all = Tracing {
            propagation: vec![Propagation::TraceContext, Propagation::Baggage, Propagation::B3],
            ..tracing(1, 2)
        };
        let policy = TracePolicy::new(&all, Exporting::On);
        let mut headers = headers(&[("traceparent", &parent), ("tracestate", &state), ("b3", &b3)]);
        let context = policy.begin(&mut headers);
        policy.inject(&context, &mut headers);
        prop_assert!(w3c::read(&headers).is_some() || context.origin == Origin::Callers);
        let state = headers.get("tracestate").map_or(0, HeaderValue::len);
        prop_assert!(state <= 512);
    }
}
