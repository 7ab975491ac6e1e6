//! What is said of each mistake, word for word: `mistakes.txt` holds the documents and the reports.

use std::fmt::Write as _;

use super::*;

/// `=== title`, documents, `>>>`, reports. `SERVICES` lies beside each, in a file of its own.
struct Case {
    title: String,
    documents: String,
    reports: String,
}

fn cases(text: &str) -> Vec<Case> {
    let sections = text.split("=== ").skip(1);
    sections
        .map(|section| {
            let (title, rest) = section.split_once('\n').unwrap();
            let (documents, reports) = rest.split_once(">>>\n").unwrap();
            Case {
                title: title.to_owned(),
                documents: documents.to_owned(),
                reports: reports.trim().to_owned(),
            }
        })
        .collect()
}

fn reports(documents: &str) -> String {
    let files = vec![
        ("case.yaml".to_owned(), documents.to_owned()),
        ("services.yaml".to_owned(), SERVICES.to_owned()),
    ];
    match load(files) {
        Ok(_) => "nothing: the policy loads".to_owned(),
        Err(problems) => problems.plain().trim().to_owned(),
    }
}

#[test]
fn every_mistake_is_reported_with_its_place_and_what_would_be_right() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/policy/tests/mistakes.txt");
    let cases = cases(&fs::read_to_string(&path).unwrap());
    assert!(cases.len() >= 25);
    if std::env::var_os("OUTRIDER_UPDATE_DOCS").is_some() {
        let mut text = String::new();
        for Case { title, documents, .. } in &cases {
            write!(text, "=== {title}\n{documents}>>>\n{}\n\n", reports(documents)).unwrap();
        }
        fs::write(&path, text).unwrap();
        return;
    }
    for Case { title, documents, reports: expected } in &cases {
        assert_eq!(reports(documents), *expected, "{title}");
    }
}

#[test]
fn a_report_for_a_terminal_shows_the_line_and_has_no_colours_unless_asked() {
    let problems = load_text("apiVersion: outrider.mesh/v1alpha1\nkind: Servise\n").unwrap_err();
    let plain = problems.graphical(Color::Never);
    assert!(plain.contains("policy.yaml:2:7") && plain.contains("kind: Servise"), "{plain}");
    assert!(plain.contains("did you mean `Service`?") && !plain.contains('\u{1b}'), "{plain}");
    assert!(problems.graphical(Color::Always).contains('\u{1b}'));
}

#[test]
fn a_report_deep_in_a_file_shows_its_own_line() {
    let text = "# a line\n".repeat(5_000) + "apiVersion: outrider.mesh/v1alpha1\nkind: Servise\n";
    let shown = load_text(&text).unwrap_err().graphical(Color::Never);
    assert!(shown.contains("policy.yaml:5002:7") && shown.contains("5002 │ kind: Servise"), "{shown}");
}

#[test]
fn a_report_in_a_line_that_is_too_long_to_show_shows_what_stands_around_it() {
    let long = "x".repeat(100_000);
    let text = format!(
        "apiVersion: outrider.mesh/v1alpha1\nkind: Service\nmetadata: {{name: x, namespace: shop}}\n\
         spec: {{serviceAccount: {long}, ports: [{{port: 80, appProtocol: htp}}]}} # {long}\n"
    );
    let shown = load_text(&text).unwrap_err().graphical(Color::Never);
    assert!(shown.len() < 20_000, "{} bytes", shown.len());
    let lines: Vec<&str> = shown.lines().collect();
    let at = lines.iter().position(|line| line.contains("appProtocol: htp")).expect("the place is shown");
    let mark = |line: &str, sign: &str| line.find(sign).map(|byte| line[..byte].chars().count());
    assert_eq!(mark(lines[at], "htp"), mark(lines[at + 1], "▲"), "{shown}");
    assert!(lines[at].contains("│ …xxx") && lines[at].ends_with("xxx…"), "{shown}");
}

#[test]
fn problems_are_data_too() {
    let problems = load_text("apiVersion: outrider.mesh/v1alpha1\nkind: Servise\n").unwrap_err();
    let json = serde_json::to_value(problems.list()).unwrap();
    assert_eq!(json[0]["file"], "policy.yaml");
    assert_eq!((json[0]["line"].as_u64(), json[0]["column"].as_u64()), (Some(2), Some(7)));
    assert_eq!((&json[0]["path"], &json[0]["message"]), (&"kind".into(), &"unknown kind `Servise`".into()));
    assert!(json[0]["help"].as_str().unwrap().starts_with("did you mean `Service`?"));
}
