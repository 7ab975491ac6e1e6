//! What is written of upstreams, and what is not.

use outrider_shared::session::{ActorView, BreakerView, EndpointView};
use serde_json::Value;

use super::*;

fn upstream(name: &str) -> UpstreamView {
    let breaker = BreakerView { state: "Open".to_owned(), since_ms: 5, ..BreakerView::default() };
    let endpoint =
        EndpointView { retry_in_ms: Some(900), breaker: Some(breaker.clone()), ..EndpointView::default() };
    let actor = ActorView { breaker: Some(breaker), ..ActorView::default() };
    UpstreamView {
        name: name.to_owned(),
        endpoints: vec![endpoint],
        actor: Some(actor),
        ..UpstreamView::default()
    }
}

fn names(lines: &[Bytes]) -> Vec<(String, bool)> {
    let read = |line: &Bytes| serde_json::from_slice::<Value>(line).expect("a line of JSON");
    let of = |value: Value| (value["name"].as_str().unwrap_or_default().to_owned(), value["gone"] == true);
    lines.iter().map(|line| of(read(line))).collect()
}

#[test]
fn only_what_has_changed_is_written_and_time_alone_is_no_change() {
    let (a, b) = (upstream("a"), upstream("b"));
    let mut seen = Seen::default();
    let shown = |name: &str| (name.to_owned(), false);
    assert_eq!(names(&seen.look(vec![a.clone(), b.clone()])), [shown("a"), shown("b")]);
    let mut later = a.clone();
    later.endpoints[0].retry_in_ms = Some(600);
    for breaker in [&mut later.endpoints[0].breaker, &mut later.actor.as_mut().expect("there").breaker] {
        breaker.as_mut().expect("there").since_ms += 300;
    }
    assert!(seen.look(vec![later.clone(), b.clone()]).is_empty(), "a breaker only became older");
    later.requests += 1;
    assert_eq!(names(&seen.look(vec![later.clone(), b])), [shown("a")]);
    assert_eq!(names(&seen.look(vec![later])), [("b".to_owned(), true)]);
}

#[test]
fn a_place_is_free_again_when_its_watcher_has_gone() {
    let watchers = Watchers::default();
    let mut places: Vec<_> = (0..WATCHERS_MAX).map(|_| watchers.place().expect("a place")).collect();
    assert!(watchers.place().is_none(), "all are taken");
    places.pop();
    assert!(watchers.place().is_some());
}
