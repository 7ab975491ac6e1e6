use super::{Curve, Panel, number, steps, svg};

/// Every element closes, in the order in which it opened, and every attribute has its quotes.
fn assert_well_formed(text: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find('<') {
        assert!(!rest[..begin].contains('>'), "a bare > before {}", &rest[begin..]);
        let end = begin + rest[begin..].find('>').expect("a tag ends");
        let tag = &rest[begin + 1..end];
        assert!(!tag.contains('<'), "a tag in a tag: {tag}");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().expect("a tag has a name"));
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "left open: {open:?}");
    assert!(!text.contains("NaN") && !text.contains("inf"), "a place that is no number: {text}");
}

#[test]
fn a_plot_is_well_formed_whatever_its_words_and_numbers_are() {
    let panels = [
        Panel::new("Goodput & <more>", "seconds", "a \"second\"").shaded(2.0, 50.0).level(300.0),
        Panel::new("Amplification", "kind", "times").log(),
        Panel::new("Nothing", "x", "y"),
    ];
    let lines = [
        vec![vec![(0.0, 0.0), (1.0, 280.0), (9.5, 300.0)], vec![(1.0, 243.0), (2.0, 0.0)], vec![]],
        vec![vec![(3.0, 7.0), (4.0, f64::NAN), (5.0, 6.0)], vec![(1.0, 1.2), (2.0, 0.01)]],
    ];
    let curves = [Curve { name: "ours", panels: &lines[0] }, Curve { name: "a<b", panels: &lines[1] }];
    let text = svg("retry-storm & co", &panels, &curves);
    assert_well_formed(&text);
    assert_eq!(text.matches("<polyline").count(), 5, "a line is broken where nothing was measured");
    assert!(text.contains("a&lt;b") && text.contains("Goodput &amp; &lt;more&gt;"), "{text}");
    assert_well_formed(&svg("empty", &[Panel::new("a", "b", "c")], &[]));
}

#[test]
fn an_axis_has_round_numbers_within_its_ends() {
    assert_eq!(steps((0.0, 35.0)), [0.0, 10.0, 20.0, 30.0]);
    assert_eq!(steps((0.0, 1.0)).len(), 6);
    assert_eq!(steps((0.5, 10.0)).first(), Some(&2.0));
    assert_eq!((number(300.0), number(0.1), number(2.5)), ("300".into(), "0.1".into(), "2.5".into()));
}
