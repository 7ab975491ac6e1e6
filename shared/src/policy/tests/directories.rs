//! Policy as files in a directory.

use std::fmt::Write as _;

use super::*;

fn write(dir: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        fs::write(dir.join(name), text).unwrap();
    }
}

fn refusal(dir: &Path) -> String {
    let shown = dir.display().to_string();
    load_dir(dir).unwrap_err().plain().replace(&format!("{shown}/"), "").replace(&shown, "DIR")
}

#[test]
fn every_yaml_file_counts_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let service = |name: &str| {
        format!("apiVersion: outrider.mesh/v1alpha1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{}}\n")
    };
    let broken = "kind: [";
    let files = [
        ("b.yml", &*service("b")),
        ("a.yaml", &service("a")),
        ("readme.md", broken),
        (".hidden.yaml", broken),
        ("a.yaml~", broken),
    ];
    write(dir.path(), &files);
    fs::create_dir(dir.path().join("inner")).unwrap();
    write(&dir.path().join("inner"), &[("c.yaml", broken)]);
    let loaded = load_dir(dir.path()).unwrap();
    let names: Vec<&str> = loaded.files.iter().map(|(file, _)| file.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["a.yaml", "b.yml"]);
    assert_eq!(loaded.policy.services().len(), 2);
}

#[test]
fn a_link_is_followed_as_a_config_map_is_mounted() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("..data");
    fs::create_dir(&data).unwrap();
    write(&data, &[("shop.yaml", &shop())]);
    std::os::unix::fs::symlink("..data/shop.yaml", dir.path().join("shop.yaml")).unwrap();
    assert_eq!(load_dir(dir.path()).unwrap().policy, policy_of(&shop()));
}

#[test]
fn the_hash_tells_of_the_content_and_not_of_where_it_lies() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for dir in [&one, &two] {
        write(dir.path(), &[("shop.yaml", &shop())]);
    }
    let (first, second) = (load_dir(one.path()).unwrap(), load_dir(two.path()).unwrap());
    assert_eq!((first.hash.len(), &first.hash), (64, &second.hash));
    write(two.path(), &[("shop.yaml", &(shop() + "# changed\n"))]);
    assert_ne!(first.hash, load_dir(two.path()).unwrap().hash);
}

#[test]
fn a_directory_without_policy_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let help = "a directory with at least one readable *.yaml or *.yml file";
    assert_eq!(refusal(dir.path()), format!("DIR: the directory has no *.yaml or *.yml file ({help})\n"));
    let missing = load_dir(&dir.path().join("none")).unwrap_err().plain();
    assert!(missing.contains("the directory cannot be read: No such file"), "{missing}");
}

#[test]
fn files_that_cannot_be_read_are_all_told_and_hide_no_other_problem() {
    let dir = tempfile::tempdir().unwrap();
    let large = "#".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1);
    write(dir.path(), &[("large.yaml", &large), ("typo.yaml", "kind: Servise\napiVersion: x\n")]);
    fs::write(dir.path().join("latin.yaml"), [0xff, b'\n']).unwrap();
    fs::create_dir(dir.path().join("dir.yaml")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.path().join("link.yaml")).unwrap();
    let all = refusal(dir.path());
    for expected in [
        "dir.yaml: this is no regular file",
        "large.yaml: the file is too large",
        "latin.yaml: the file is not UTF-8",
        "link.yaml: the file cannot be read: No such file",
        "typo.yaml:1:7: kind: unknown kind `Servise` (did you mean `Service`?",
    ] {
        assert!(all.contains(expected), "{expected} is not in\n{all}");
    }
    assert_eq!(all.lines().count(), 5, "{all}");
}

#[test]
fn more_documents_than_the_bound_are_refused() {
    let service = |n: usize| {
        format!(
            "apiVersion: outrider.mesh/v1alpha1\nkind: Service\nmetadata: {{name: s{n}}}\nspec: {{}}\n---\n"
        )
    };
    let file = |range: std::ops::Range<usize>| range.map(service).collect::<String>();
    let mut files =
        vec![("a.yaml".to_owned(), file(0..9_000)), ("b.yaml".to_owned(), file(9_000..DOCUMENTS_MAX))];
    assert_eq!(load(files.clone()).unwrap().policy.services().len(), DOCUMENTS_MAX);
    files[1].1 += &service(DOCUMENTS_MAX);
    let refused = load(files).unwrap_err().plain();
    assert_eq!(refused, "b.yaml:5001:1: too many documents: at most 10000 are read in all files\n");
}

#[test]
fn a_thousand_problems_are_shown_and_the_rest_is_counted() {
    let text = "a: 1\n---\n".repeat(2_000);
    let problems = load_text(&text).unwrap_err();
    assert_eq!((problems.list().len(), problems.dropped()), (PROBLEMS_MAX, 3_000));
    assert!(problems.plain().ends_with("and 3000 more\n"));
    assert_eq!(problems.to_string(), "the policy has 4000 problems");
}

#[test]
fn more_unknown_fields_than_are_collected_are_refused_in_bounded_space() {
    let mut text =
        "apiVersion: outrider.mesh/v1alpha1\nkind: Service\nmetadata: {name: a}\nspec:\n".to_owned();
    for n in 0..15_000 {
        writeln!(text, "  f{n}: 1").unwrap();
    }
    let problems = load_text(&text).unwrap_err();
    assert_eq!(problems.list().len(), PROBLEMS_MAX);
    assert_eq!(problems.dropped(), 9 * PROBLEMS_MAX);
}

#[test]
fn more_bytes_than_the_bound_are_refused() {
    let text = "#".repeat(usize::try_from(FILE_BYTES_MAX).unwrap());
    let files: Vec<(String, String)> = (0..9).map(|n| (format!("{n}.yaml"), text.clone())).collect();
    let refused = load(files).unwrap_err().plain();
    assert_eq!(
        refused,
        "0.yaml: the files have 9437184 bytes together (at most 8388608 bytes in all files)\n"
    );
}

#[test]
fn aliases_and_nesting_cannot_grow_beyond_their_text() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let last = n - 1;
        let row = vec![format!("*a{last}"); 9].join(", ");
        writeln!(bomb, "a{n}: &a{n} [{row}]").unwrap();
    }
    for text in [bomb, "[".repeat(100_000), "{a: ".repeat(10_000)] {
        let refused = load_text(&text).unwrap_err();
        assert!(refused.plain().contains("this is no YAML: "), "{}", refused.plain());
    }
}
