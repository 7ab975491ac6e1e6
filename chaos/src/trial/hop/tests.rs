use http::{HeaderMap, HeaderValue};

use super::Forwards;

#[test]
fn each_kind_of_app_passes_on_what_its_name_says() {
    let mut fields = HeaderMap::new();
    for name in ["host", "outrider-deadline", "traceparent", "tracestate", "x-other"] {
        fields.insert(name, HeaderValue::from_static("value"));
    }
    let passed = |kind: Forwards| {
        let mut names: Vec<_> = kind.of(&fields).keys().map(ToString::to_string).collect();
        names.sort();
        names
    };
    assert_eq!(passed(Forwards::All), ["outrider-deadline", "traceparent", "tracestate"]);
    assert_eq!(passed(Forwards::Trace), ["traceparent"]);
    assert!(passed(Forwards::Nothing).is_empty());
}
