//! What the documents say is so: tests that they name exist, headings that they link to exist, and policy that they show is
//! policy. Links to files and names of commands are held by the rules of the repository.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use outrider_shared::policy;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

/// Every file of the repository that ends so, with its text.
fn files(ending: &str) -> Vec<(PathBuf, String)> {
    let mut folders = vec![root()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a directory of the repository is readable") {
            let path = entry.expect("the directory stays as it is").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("names here are UTF-8");
            if path.is_dir() {
                if !["target", ".git", ".outrider"].contains(&name) {
                    folders.push(path);
                }
            } else if name.ends_with(ending) {
                let text = fs::read_to_string(&path).expect("a file of the repository is readable");
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "the walk finds files that end in {ending}");
    found
}

fn documents() -> Vec<(PathBuf, String)> {
    files(".md")
}

/// What stands in fences, with the word behind the first fence, each line without what its first one is indented by.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String, Vec<String>)> = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        match (line.trim_start().strip_prefix("```"), open.take()) {
            (Some(language), None) => open = Some((indent, language.to_owned(), Vec::new())),
            (Some(_), Some((_, language, lines))) => found.push((language, lines.join("\n"))),
            (None, Some((indent, language, mut lines))) => {
                lines.push(line.get(indent..).unwrap_or_default().to_owned());
                open = Some((indent, language, lines));
            }
            (None, None) => {}
        }
    }
    found
}

#[test]
fn every_test_that_a_document_names_exists() {
    let functions: BTreeSet<String> = files(".rs")
        .iter()
        .flat_map(|(_, text)| text.split("fn ").skip(1).map(name_at).collect::<Vec<_>>())
        .collect();
    let mut named = 0;
    let mut missing = Vec::new();
    for (path, text) in documents() {
        for word in text.split('`').skip(1).step_by(2) {
            // A sentence: labels, metrics and fields have fewer words.
            let is_sentence = word.matches('_').count() >= 4
                && !word.starts_with("outrider_")
                && !word.starts_with("http_")
                && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            if is_sentence {
                named += 1;
                if !functions.contains(word) {
                    missing.push(format!("{}: {word}", path.display()));
                }
            }
        }
    }
    assert!(named > 20, "the documents name their tests");
    assert!(missing.is_empty(), "no such test:\n{}", missing.join("\n"));
}

fn name_at(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

#[test]
fn every_heading_that_a_document_links_to_exists() {
    let mut missing = Vec::new();
    for (path, text) in documents() {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let Some((file, anchor)) = target.split_once('#').filter(|_| !target.contains("://")) else {
                continue;
            };
            let at = if file.is_empty() {
                path.clone()
            } else {
                path.parent().expect("a file lies in a folder").join(file)
            };
            let there = fs::read_to_string(&at).unwrap_or_default();
            if !there.lines().filter(|line| line.starts_with('#')).any(|line| slug(line) == anchor) {
                missing.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "no such heading:\n{}", missing.join("\n"));
}

/// As the usual readers of Markdown make it.
fn slug(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn policy_in_the_documents_is_policy() {
    let shop = "apiVersion: outrider.mesh/v1alpha1\nkind: Service\nmetadata: {name: orders, namespace: shop}\n\
                spec: {ports: [{port: 8080, appProtocol: http}]}\n";
    let mut seen = 0;
    for (path, text) in documents() {
        for (_, block) in blocks(&text).iter().filter(|(language, _)| language == "yaml") {
            if !block.contains("apiVersion:") {
                continue;
            }
            seen += 1;
            let given = [("base.yaml", shop), ("example.yaml", block)];
            let given = given.map(|(name, text)| (name.to_owned(), text.to_owned()));
            if let Err(problems) = policy::load(given.to_vec()) {
                panic!("{}:\n{block}\n{}", path.display(), problems.plain());
            }
        }
    }
    assert!(seen >= 2, "the documents show policy");
}

#[test]
fn the_line_that_the_tutorial_edits_is_in_the_shops_policy() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("a file of the repository");
    let (_, edited) = blocks(&read("docs/tutorial.md"))
        .into_iter()
        .find(|(language, _)| language == "yaml")
        .expect("the tutorial shows the line as it becomes");
    let before = edited.replace("methods: [POST]", "methods: [GET, POST]");
    assert_ne!(edited, before, "the tutorial takes GET away");
    assert!(read("deploy/policy/shop.yaml").contains(before.trim()), "{before}");
}
