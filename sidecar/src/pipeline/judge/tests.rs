//! Sentences about what an attempt's end means.

use http::HeaderValue;
use outrider_shared::traffic::StatusRange;
use outrider_shared::units::GepDuration;
use proptest::prelude::*;

use super::*;

fn answered(status: u16, grpc: Option<u8>) -> Ended {
    let status = StatusCode::from_u16(status).unwrap();
    Ended::Answered(Answered { status, grpc, by: By::Backend })
}

fn shed() -> Ended {
    Ended::Answered(Answered { status: StatusCode::SERVICE_UNAVAILABLE, grpc: Some(14), by: By::Shed })
}

/// 502 to 504, and UNAVAILABLE.
fn policy() -> Retry {
    Retry {
        attempts: 2,
        http: vec![502, 503, 504],
        grpc: vec![14],
        backoff: GepDuration::from_millis(25),
        idempotency_key_required: false,
    }
}

fn fields(code: &str) -> HeaderMap {
    HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_str(code).unwrap())])
}

#[test]
fn by_default_gateway_errors_timeouts_and_resets_count_and_an_error_of_one_request_does_not() {
    let when = FailureWhen::default();
    for ended in [
        answered(502, None),
        answered(503, None),
        answered(504, None),
        answered(200, Some(14)),
        answered(200, Some(4)),
        Ended::ConnectFailed,
        Ended::ConnectTimedOut,
        Ended::Reset,
        Ended::BrokeOff,
        Ended::AttemptTimedOut,
        Ended::RequestTimedOut,
    ] {
        assert_eq!(outcome(&when, &ended), Outcome::Failure, "{ended:?}");
    }
    for ended in [answered(200, None), answered(404, None), answered(500, None), answered(200, Some(5))] {
        assert_eq!(outcome(&when, &ended), Outcome::Success, "{ended:?}");
    }
}

#[test]
fn policy_says_which_statuses_and_codes_count_both_ends_included() {
    let when = FailureWhen {
        http: vec![StatusRange { from: 500, to: 599 }],
        grpc: vec![13],
        ..FailureWhen::default()
    };
    for (status, expected) in [(499, Outcome::Success), (500, Outcome::Failure), (599, Outcome::Failure)] {
        assert_eq!(outcome(&when, &answered(status, None)), expected);
    }
    assert_eq!(outcome(&when, &answered(200, Some(13))), Outcome::Failure);
    assert_eq!(outcome(&when, &answered(200, Some(14))), Outcome::Success);
}

#[test]
fn timeouts_and_resets_say_nothing_where_policy_takes_them_out() {
    let timeouts = [Ended::AttemptTimedOut, Ended::RequestTimedOut];
    let resets = [Ended::Reset, Ended::BrokeOff];
    let without_timeouts = FailureWhen { timeouts: false, ..FailureWhen::default() };
    let without_resets = FailureWhen { resets: false, ..FailureWhen::default() };
    for (ended, ignores, counts) in timeouts
        .map(|ended| (ended, &without_timeouts, &without_resets))
        .into_iter()
        .chain(resets.map(|ended| (ended, &without_resets, &without_timeouts)))
    {
        assert_eq!(outcome(ignores, &ended), Outcome::Ignored, "{ended:?}");
        assert_eq!(outcome(counts, &ended), Outcome::Failure, "{ended:?}");
    }
}

#[test]
fn what_the_far_side_shed_on_purpose_counts_only_where_policy_says_so() {
    for ended in [shed(), Ended::Declined] {
        assert_eq!(outcome(&FailureWhen::default(), &ended), Outcome::Ignored);
        let counted = FailureWhen { shed: true, ..FailureWhen::default() };
        assert_eq!(outcome(&counted, &ended), Outcome::Failure);
    }
}

#[test]
fn the_code_of_a_grpc_answer_is_in_its_trailers_or_in_a_head_that_is_nothing_but_trailers() {
    let none = HeaderMap::new();
    let (ok, unavailable) = (fields("0"), fields("14"));
    assert_eq!(grpc(StatusCode::OK, &unavailable, Trailers::ToCome), Some(14));
    assert_eq!(grpc(StatusCode::OK, &none, Trailers::ToCome), None);
    assert_eq!(grpc(StatusCode::OK, &none, Trailers::Over(Some(&unavailable))), Some(14));
    assert_eq!(grpc(StatusCode::OK, &ok, Trailers::Over(Some(&unavailable))), Some(14));
    assert_eq!(grpc(StatusCode::OK, &ok, Trailers::Over(None)), Some(0));
    assert_eq!(grpc(StatusCode::OK, &none, Trailers::Over(None)), Some(2), "it broke its protocol");
    assert_eq!(grpc(StatusCode::OK, &none, Trailers::Over(Some(&none))), Some(2));
    for unknown in ["17", "999", "-1", "", "unavailable"] {
        assert_eq!(grpc(StatusCode::OK, &fields(unknown), Trailers::ToCome), Some(2), "{unknown:?}");
    }
}

#[test]
fn a_status_without_a_code_is_mapped_as_grpc_s_clients_do_it() {
    let none = HeaderMap::new();
    for (status, code) in
        [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (502, 14), (503, 14), (504, 14)]
    {
        assert_eq!(grpc(StatusCode::from_u16(status).unwrap(), &none, Trailers::ToCome), Some(code));
    }
    assert_eq!(grpc(StatusCode::INTERNAL_SERVER_ERROR, &none, Trailers::ToCome), Some(2));
    assert_eq!(
        grpc(StatusCode::SERVICE_UNAVAILABLE, &fields("8"), Trailers::ToCome),
        Some(8),
        "its own word"
    );
}

#[test]
fn policy_says_after_which_answers_is_retried_and_lost_connections_always_are() {
    let judge = |ended| retry(&policy(), &Method::GET, IdempotencyKey::Absent, &ended);
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    assert_eq!(judge(answered(503, None)), Verdict::Retry(Why::Status(unavailable)));
    assert_eq!(judge(answered(200, Some(14))), Verdict::Retry(Why::Grpc(14)));
    assert_eq!(judge(shed()), Verdict::Retry(Why::Grpc(14)));
    assert_eq!(judge(Ended::ConnectFailed), Verdict::Retry(Why::ConnectFailed));
    assert_eq!(judge(Ended::ConnectTimedOut), Verdict::Retry(Why::ConnectTimedOut));
    assert_eq!(judge(Ended::Declined), Verdict::Retry(Why::Declined));
    assert_eq!(judge(Ended::Reset), Verdict::Retry(Why::Reset));
    assert_eq!(judge(Ended::AttemptTimedOut), Verdict::Retry(Why::AttemptTimedOut));
    assert_eq!(judge(answered(500, None)), Verdict::Final(WhyNot::NotListed));
    assert_eq!(judge(answered(200, Some(4))), Verdict::Final(WhyNot::NotListed));
    assert_eq!(judge(Ended::BrokeOff), Verdict::Final(WhyNot::AnswerBegun));
    assert_eq!(judge(Ended::RequestTimedOut), Verdict::Final(WhyNot::TimeOver));
    assert_eq!(judge(Ended::ClientLeft), Verdict::Final(WhyNot::ClientLeft));
}

#[test]
fn only_idempotent_methods_are_retried_or_what_brings_a_key() {
    let judge = |method: &Method, key| retry(&policy(), method, key, &Ended::Reset);
    let idempotent = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];
    for method in idempotent.into_iter().chain(["POST", "PATCH", "CONNECT", "PROPFIND", "get"]) {
        let parsed: Method = method.parse().unwrap();
        let expected = if idempotent.contains(&method) {
            Verdict::Retry(Why::Reset)
        } else {
            Verdict::Final(WhyNot::NotIdempotent { method: parsed.clone() })
        };
        assert_eq!(judge(&parsed, IdempotencyKey::Absent), expected);
        assert_eq!(judge(&parsed, IdempotencyKey::Present), Verdict::Retry(Why::Reset));
    }
}

#[test]
fn a_policy_that_requires_a_key_requires_it_whatever_the_method() {
    let strict = Retry { idempotency_key_required: true, ..policy() };
    let judge = |key| retry(&strict, &Method::GET, key, &Ended::Reset);
    assert_eq!(judge(IdempotencyKey::Absent), Verdict::Final(WhyNot::KeyRequired));
    assert_eq!(judge(IdempotencyKey::Present), Verdict::Retry(Why::Reset));
}

#[test]
fn an_empty_key_is_none() {
    let key = |value| {
        IdempotencyKey::of(&HeaderMap::from_iter([(IDEMPOTENCY_KEY, HeaderValue::from_static(value))]))
    };
    assert_eq!(key("8e03978e"), IdempotencyKey::Present);
    assert_eq!(key(" "), IdempotencyKey::Absent);
    assert_eq!(IdempotencyKey::of(&HeaderMap::new()), IdempotencyKey::Absent);
}

#[test]
fn every_reason_is_a_sentence() {
    assert_eq!(
        WhyNot::NotIdempotent { method: Method::POST }.to_string(),
        "POST is not idempotent, and there is no Idempotency-Key"
    );
    assert_eq!(Why::Status(StatusCode::BAD_GATEWAY).to_string(), "the answer was 502");
}

fn any_ended() -> impl Strategy<Value = Ended> {
    let by = prop_oneof![Just(By::Backend), Just(By::Shed)];
    let answer = (100_u16..1_000, prop::option::of(0_u8..17), by).prop_map(|(status, grpc, by)| {
        Ended::Answered(Answered { status: StatusCode::from_u16(status).unwrap(), grpc, by })
    });
    prop_oneof![
        8 => answer,
        1 => Just(Ended::ConnectFailed),
        1 => Just(Ended::ConnectTimedOut),
        1 => Just(Ended::Declined),
        1 => Just(Ended::Reset),
        1 => Just(Ended::BrokeOff),
        1 => Just(Ended::AttemptTimedOut),
        1 => Just(Ended::RequestTimedOut),
        1 => Just(Ended::ClientLeft),
    ]
}

proptest! {
    /// Whatever policy lists: the client's going away never counts, what was shed counts if and only if policy says so,
    /// an answer that is listed nowhere is none, and what may not be repeated is not.
    #[test]
    fn no_policy_can_count_or_retry_what_must_not_be(
        http in prop::collection::vec((100_u16..1_000, 100_u16..1_000), 0..3),
        grpc in prop::collection::vec(0_u8..17, 0..4),
        statuses in prop::collection::vec(100_u16..1_000, 0..4),
        flags: (bool, bool, bool),
        ended in any_ended(),
        method in prop::sample::select(vec!["GET", "PUT", "POST", "PATCH"]),
    ) {
        let (counts_shed, idempotency_key_required, has_key) = flags;
        let http: Vec<_> = http.into_iter().map(|(from, to)| StatusRange { from, to }).collect();
        let when = FailureWhen { http: http.clone(), grpc: grpc.clone(), shed: counts_shed, ..FailureWhen::default() };
        let counted = outcome(&when, &ended);
        match ended {
            Ended::ClientLeft => prop_assert_eq!(counted, Outcome::Ignored),
            Ended::Declined | Ended::Answered(Answered { by: By::Shed, .. }) => {
                prop_assert_eq!(counted, if counts_shed { Outcome::Failure } else { Outcome::Ignored });
            }
            Ended::Answered(Answered { status, grpc: code, .. }) => {
                let listed = code.is_some_and(|code| grpc.contains(&code))
                    || http.iter().any(|range| range.from <= status.as_u16() && status.as_u16() <= range.to);
                prop_assert_eq!(counted, if listed { Outcome::Failure } else { Outcome::Success });
            }
            _ => prop_assert_eq!(counted, Outcome::Failure),
        }

        let policy = Retry { http: statuses.clone(), grpc: grpc.clone(), idempotency_key_required, ..policy() };
        let key = if has_key { IdempotencyKey::Present } else { IdempotencyKey::Absent };
        let method: Method = method.parse().unwrap();
        let may_be_repeated = has_key || (!idempotency_key_required && [Method::GET, Method::PUT].contains(&method));
        let is_worth_it = match ended {
            Ended::ClientLeft | Ended::RequestTimedOut | Ended::BrokeOff => false,
            Ended::Answered(Answered { status, grpc: code, .. }) => {
                statuses.contains(&status.as_u16()) || code.is_some_and(|code| grpc.contains(&code))
            }
            _ => true,
        };
        let verdict = retry(&policy, &method, key, &ended);
        prop_assert_eq!(matches!(verdict, Verdict::Retry(_)), may_be_repeated && is_worth_it);
    }
}
