//! Whatever the text is, loading ends with a policy or with problems that have a place.

use super::*;

/// Checks what holds for every text, and returns whether it loaded.
fn loads_or_says_why(text: &str) -> bool {
    let lines = u32::try_from(text.lines().count()).unwrap() + 1;
    match load_text(text) {
        Ok(loaded) => {
            assert_eq!(loaded, load_text(text).unwrap());
            true
        }
        Err(problems) => {
            assert!(!problems.list().is_empty());
            for problem in problems.list() {
                assert!(problem.line <= lines, "{problem} lies behind the last of {lines} lines");
                assert!(!problem.message.is_empty());
            }
            assert!(!problems.plain().is_empty() && !problems.graphical(Color::Never).is_empty());
            false
        }
    }
}

/// Words of policy and of YAML, in any order: closer to documents than letters are.
fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "apiVersion: outrider.mesh/v1alpha1\n",
        "apiVersion: gateway.networking.k8s.io/v1\n",
        "kind: Service\n",
        "kind: HTTPRoute\n",
        "kind: MeshConfig\n",
        "metadata: {name: a}\n",
        "metadata:\n  name: b\n  namespace: shop\n",
        "spec:\n",
        "spec: {}\n",
        "  ports: [{port: 80, appProtocol: http}]\n",
        "  rules:\n  - matches: [{path: {value: /a}}]\n",
        "  parentRefs: [{group: \"\", kind: Service, name: a}]\n",
        "---\n",
        "...\n",
        "? ",
        "- ",
        "&a ",
        "*a ",
        "!!str ",
        "<<: ",
        "[",
        "]",
        "{",
        "}",
        "|\n",
        "'",
        "\"",
        "\t",
        "\u{feff}",
        "null",
        "1e999",
        ".nan",
        "-1",
        "99999999999999999999999999999999999999999999",
        "é\n",
    ]);
    prop::collection::vec(word, 0..24).prop_map(|words| words.concat())
}

/// A change of a text at some of its characters.
#[derive(Debug, Clone)]
enum Change {
    Cut { at: usize, count: usize },
    Put { at: usize, text: String },
    Double { at: usize, count: usize },
    Swap { at: usize, with: usize },
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let at = || any::<usize>();
    let change = prop_oneof![
        (at(), 1..40_usize).prop_map(|(at, count)| Change::Cut { at, count }),
        (at(), "[ -~\n]{1,6}").prop_map(|(at, text)| Change::Put { at, text }),
        (at(), 1..60_usize).prop_map(|(at, count)| Change::Double { at, count }),
        (at(), at()).prop_map(|(at, with)| Change::Swap { at, with }),
    ];
    prop::collection::vec(change, 1..5)
}

fn changed(text: &str, changes: &[Change]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for change in changes {
        let place = |at: usize| at % chars.len().max(1);
        match change {
            Change::Cut { at, count } => {
                let (from, to) = (place(*at), (place(*at) + count).min(chars.len()));
                chars.drain(from..to);
            }
            Change::Put { at, text } => {
                let at = place(*at);
                chars.splice(at..at, text.chars());
            }
            Change::Double { at, count } => {
                let (from, to) = (place(*at), (place(*at) + count).min(chars.len()));
                let again = chars[from..to].to_vec();
                chars.splice(to..to, again);
            }
            Change::Swap { at, with } => {
                let (at, with) = (place(*at), place(*with));
                if !chars.is_empty() {
                    chars.swap(at, with);
                }
            }
        }
    }
    chars.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_text_loads_or_says_why(text in "\\PC{0,300}") {
        loads_or_says_why(&text);
    }

    #[test]
    fn any_words_load_or_say_why(text in words()) {
        loads_or_says_why(&text);
    }

    #[test]
    fn a_changed_shop_loads_or_says_why(changes in changes()) {
        loads_or_says_why(&changed(&shop(), &changes));
    }

    #[test]
    fn documents_mean_the_same_in_whatever_files_they_lie(cuts in prop::collection::vec(any::<bool>(), 11)) {
        let shop = shop();
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        let mut current = 0;
        for (i, document) in shop.split("\n---\n").enumerate() {
            if i > 0 && cuts[(i - 1) % cuts.len()] {
                current += 1;
            }
            // The later files get the names that sort first.
            let file = files.entry(format!("{:03}.yaml", 100 - current)).or_default();
            file.push_str(document);
            file.push_str("\n---\n");
        }
        let split = load(files.into_iter().collect()).map_err(|problems| problems.plain()).unwrap();
        prop_assert_eq!(split.policy, policy_of(&shop));
    }
}

#[test]
fn the_shop_without_any_one_of_its_lines_loads_or_says_why() {
    let shop = shop();
    let lines: Vec<&str> = shop.lines().collect();
    let mut loaded = 0;
    for left_out in 0..lines.len() {
        let kept: Vec<&str> =
            lines.iter().enumerate().filter(|(i, _)| *i != left_out).map(|(_, line)| *line).collect();
        loaded += usize::from(loads_or_says_why(&kept.join("\n")));
    }
    assert!(loaded > 0 && loaded < lines.len(), "{loaded} of {} load", lines.len());
}
