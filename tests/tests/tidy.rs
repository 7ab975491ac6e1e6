//! Rules of the repository that no compiler and no lint holds, each as a test. A failure lists every place.

#![allow(clippy::case_sensitive_file_extension_comparisons, reason = "files here are named in lower case")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CRATES: [&str; 6] = ["shared", "sidecar", "control-plane", "cli", "tests", "chaos"];

/// What the top level holds. A new entry needs a better reason than that there was no place for it.
const TOP_LEVEL: [&str; 23] = [
    ".cargo",
    ".ci",
    ".clippy.toml",
    ".dockerignore",
    ".git",
    ".gitignore",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "chaos",
    "cli",
    "control-plane",
    "deny.toml",
    "deploy",
    "docker-compose.yml",
    "docs",
    "rustfmt.toml",
    "shared",
    "sidecar",
    "target",
    "tests",
];
/// Left behind by tools and runs, and ignored by git.
const IGNORED: [&str; 3] = ["target", ".git", ".outrider"];

/// One concept in one file that can be read in one sitting.
const LINES_MAX: usize = 400;
/// Files that are longer, and why that is the better thing. A file that has become shorter leaves the list.
const LONGER: [(&str, &str); 1] =
    [("sidecar/src/pipeline/rejection/table.rs", "one table of which each row has the same form")];

/// Two screens: what nobody reads to its end keeps no promise.
const ARCHITECTURE_LINES_MAX: usize = 160;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

/// Every file below `start` that ends so, as paths from the root, sorted.
fn files(start: &str, endings: &[&str]) -> Vec<String> {
    fn walk(root: &Path, at: &Path, endings: &[&str], found: &mut Vec<String>) {
        for entry in fs::read_dir(at).expect("a directory of the repository is readable") {
            let path = entry.expect("the directory stays as it is").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("names here are UTF-8");
            if path.is_dir() {
                if !IGNORED.contains(&name) {
                    walk(root, &path, endings, found);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let below = path.strip_prefix(root).expect("it was found below the root");
                found.push(below.to_str().expect("names here are UTF-8").to_owned());
            }
        }
    }
    let root = root();
    let mut found = Vec::new();
    walk(&root, &root.join(start), endings, &mut found);
    found.sort();
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Source that runs in the product: not a test, and not the harness of the tests.
fn is_product(path: &str) -> bool {
    !(path.starts_with("tests/") || path.ends_with("/tests.rs") || path.contains("/tests/"))
}

fn product() -> Vec<String> {
    let sources: Vec<_> = files(".", &[".rs"]).into_iter().filter(|path| is_product(path)).collect();
    assert!(sources.len() > CRATES.len(), "the walk finds the sources");
    sources
}

/// Lines of all these files for which the rule gives a reason.
fn offences(paths: &[String], rule: impl Fn(&str, &str) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for path in paths {
        for (number, line) in read(path).lines().enumerate() {
            if let Some(why) = rule(path, line) {
                found.push(format!("{path}:{}: {why}", number + 1));
            }
        }
    }
    found
}

#[track_caller]
fn assert_none(rule: &str, found: &[String]) {
    let list = found.iter().fold(String::new(), |mut list, line| {
        let _ = write!(list, "\n  {line}");
        list
    });
    assert!(found.is_empty(), "{rule}:{list}");
}

#[test]
fn the_top_level_holds_what_the_design_names() {
    let found: Vec<String> = fs::read_dir(root())
        .expect("the root is readable")
        .map(|entry| entry.expect("the root stays as it is").file_name().to_string_lossy().into_owned())
        .filter(|name| !TOP_LEVEL.contains(&name.as_str()) && !IGNORED.contains(&name.as_str()))
        .collect();
    assert_none("not allowed at the top level", &found);
}

#[test]
fn a_source_file_can_be_read_in_one_sitting() {
    let lines = |path: &str| read(path).lines().count();
    let mut found: Vec<String> = product()
        .iter()
        .filter(|path| !LONGER.iter().any(|(known, _)| known == path))
        .filter_map(|path| Some((path, lines(path))).filter(|(_, lines)| *lines > LINES_MAX))
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    for (path, why) in LONGER {
        assert!(!why.is_empty(), "{path}: an exception says why");
        if lines(path) <= LINES_MAX {
            found.push(format!("{path}: no longer an exception"));
        }
    }
    assert_none(&format!("more than {LINES_MAX} lines"), &found);
}

#[test]
fn every_module_says_first_what_it_is() {
    let found: Vec<String> = files(".", &[".rs"])
        .into_iter()
        .filter(|path| !path.ends_with("/tests.rs") && !path.contains("/tests/"))
        .filter(|path| {
            read(path).lines().next().is_none_or(|first| !first.starts_with("//! ") || first.len() < 15)
        })
        .collect();
    assert_none("does not begin with a sentence that says what it is", &found);
}

#[test]
fn a_module_with_parts_is_a_file_beside_its_folder() {
    let found =
        files(".", &["mod.rs"]).into_iter().filter(|path| path.ends_with("/mod.rs")).collect::<Vec<_>>();
    assert_none("x.rs + x/, never x/mod.rs", &found);
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let marks =
        ["TO-DO", "FIX-ME", "XX-X", "HA-CK", "to-do!(", "unimple-mented!(", "#[ig-nore", "allow(dead-_code)"]
            .map(|mark| mark.replacen('-', "", 1));
    let found = offences(&files(".", &[".rs", ".md", ".toml", ".yml", ".yaml", ".py", ".sh"]), |_, line| {
        marks.iter().find(|mark| line.contains(mark.as_str())).map(ToString::to_string)
    });
    assert_none("unfinished, or kept without use", &found);
}

#[test]
fn the_product_states_why_it_cannot_panic() {
    let found = offences(&product(), |_, line| {
        [".unwrap()", ".unwrap_err()"].into_iter().find(|call| line.contains(call)).map(str::to_owned)
    });
    assert_none("say with `expect` which fact makes it impossible", &found);
}

#[test]
fn every_crate_takes_lints_and_versions_from_the_workspace() {
    let mut found = Vec::new();
    for name in CRATES {
        let manifest = read(&format!("{name}/Cargo.toml"));
        if !manifest.contains("[lints]\nworkspace = true") {
            found.push(format!("{name}: lints"));
        }
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            if !manifest.contains(&format!("\n{key}.workspace = true")) {
                found.push(format!("{name}: {key}"));
            }
        }
        for (dependency, given) in dependencies(&manifest) {
            if !given.contains("workspace = true") {
                found.push(format!("{name}: {dependency}"));
            }
        }
    }
    assert_none("not from the workspace", &found);
}

#[test]
fn no_dependency_of_the_workspace_is_without_a_user() {
    let used: BTreeSet<String> = CRATES
        .iter()
        .flat_map(|name| dependencies(&read(&format!("{name}/Cargo.toml"))))
        .map(|(dependency, _)| dependency)
        .collect();
    let found: Vec<String> = dependencies(&read("Cargo.toml"))
        .into_iter()
        .map(|(dependency, _)| dependency)
        .filter(|dependency| !used.contains(dependency))
        .collect();
    assert_none("listed in [workspace.dependencies] and used by no crate", &found);
}

#[test]
fn no_crate_lists_a_dependency_that_it_does_not_name() {
    let mut found = Vec::new();
    for name in CRATES {
        let sources: String =
            files(name, &[".rs"]).iter().map(|path| read(path)).collect::<Vec<_>>().join("\n");
        for (dependency, _) in dependencies(&read(&format!("{name}/Cargo.toml"))) {
            // The one whose library has another name than its package.
            let library =
                if dependency == "rustls-webpki" { "webpki" } else { &dependency.replace('-', "_") };
            if !sources.contains(library) {
                found.push(format!("{name}: {dependency}"));
            }
        }
    }
    assert_none("a dependency without use", &found);
}

/// Name and right side of each line in the sections that end in `dependencies]`.
fn dependencies(manifest: &str) -> Vec<(String, String)> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if let Some((left, right)) = line.split_once('=').filter(|_| inside) {
            let (name, key) = left.trim().split_once('.').unwrap_or((left.trim(), ""));
            found.push((name.to_owned(), format!("{key} ={right}")));
        }
    }
    found.into_iter().map(|(name, right)| (name, right.trim().to_owned())).collect()
}

#[test]
fn what_an_actor_must_not_do_is_banned_with_a_reason() {
    let bans = read(".clippy.toml");
    for path in [
        "actix::Addr::do_send",
        "actix::Recipient::do_send",
        "tokio::sync::mpsc::unbounded_channel",
        "std::thread::sleep",
    ] {
        let line = bans.lines().find(|line| line.contains(&format!("\"{path}\"")));
        assert!(
            line.is_some_and(|line| line.contains("reason = \"")),
            "{path} is banned, and the ban says why"
        );
    }
}

/// Every package that a crate links or builds with, as `cargo tree` names them.
fn tree(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--prefix",
            "none",
            "--format",
            "{p}",
            "--edges",
            "normal,build",
            "--package",
            package,
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names: BTreeSet<String> = String::from_utf8(output.stdout)
        .expect("package names are ASCII")
        .lines()
        .filter_map(|line| line.split(' ').next().map(str::to_owned))
        .collect();
    assert!(names.contains(package), "the tree begins with {package}");
    names
}

#[test]
fn no_openssl_is_in_the_sidecar() {
    let tree = tree("outrider-sidecar");
    assert!(tree.contains("aws-lc-sys"), "the tree shows native libraries");
    // `openssl-probe` knows where platforms keep their roots, and links nothing.
    let is_openssl = |name: &String| name.starts_with("openssl") && name != "openssl-probe";
    let found: Vec<String> = tree.into_iter().filter(is_openssl).collect();
    assert_none("linked into the sidecar", &found);
}

#[test]
fn nothing_asynchronous_is_in_shared() {
    let asynchronous = ["tokio", "actix", "actix-rt", "futures-util", "ractor", "hyper"];
    let found: Vec<String> =
        tree("outrider-shared").into_iter().filter(|name| asynchronous.contains(&name.as_str())).collect();
    assert_none("linked into shared", &found);
}

#[test]
fn what_the_documents_link_to_exists() {
    let mut found = Vec::new();
    let documents = files(".", &[".md"]);
    assert!(documents.contains(&"README.md".to_owned()), "the walk finds the documents");
    for path in &documents {
        let folder = root().join(path).parent().expect("a file lies in a folder").to_owned();
        for target in read(path).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let elsewhere = target.contains("://") || target.starts_with("mailto:");
            if !file.is_empty() && !elsewhere && !folder.join(file).exists() {
                found.push(format!("{path}: {target}"));
            }
        }
    }
    assert_none("a link that leads nowhere", &found);
}

#[test]
fn the_architecture_of_both_binaries_fits_two_screens_and_names_files_that_exist() {
    let mut found = Vec::new();
    for name in ["sidecar", "control-plane"] {
        let path = format!("{name}/ARCHITECTURE.md");
        let text = read(&path);
        if text.lines().count() > ARCHITECTURE_LINES_MAX {
            found.push(format!("{path}: more than {ARCHITECTURE_LINES_MAX} lines"));
        }
        for file in
            text.split('`').skip(1).step_by(2).filter(|word| word.ends_with(".rs") && !word.contains('<'))
        {
            let anywhere = ["", name, &format!("{name}/src"), "tests", "tests/tests"];
            if !anywhere.iter().any(|folder| root().join(folder).join(file).exists()) {
                found.push(format!("{path}: {file}"));
            }
        }
    }
    assert_none("wrong in an ARCHITECTURE.md", &found);
}

#[test]
fn every_subcommand_in_the_documents_exists() {
    let sources: String =
        files("cli/src", &[".rs"]).iter().map(|path| read(path)).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    let mut seen = 0;
    for path in files(".", &[".md"]) {
        let text = read(&path);
        for block in text.split("```").skip(1).step_by(2) {
            for line in block.lines() {
                let rest = line.trim_start_matches("$ ");
                let Some(rest) = ["outrider ", "cargo run --release --bin outrider -- "]
                    .iter()
                    .find_map(|start| rest.strip_prefix(start))
                else {
                    continue;
                };
                let Some(word) = rest.split(' ').next().filter(|word| word.starts_with(char::is_lowercase))
                else {
                    continue;
                };
                seen += 1;
                let variant: String =
                    word.split('-').map(|part| part[..1].to_uppercase() + &part[1..]).collect();
                if !sources.contains(&format!(" {variant}("))
                    && !sources.contains(&format!(" {variant},"))
                    && !sources.contains(&format!(" {variant} {{"))
                {
                    found.push(format!("{path}: outrider {word}"));
                }
            }
        }
    }
    assert!(seen > 0, "the documents show commands");
    assert_none("a command that does not exist", &found);
}

#[test]
fn both_dockerfiles_make_the_same_images() {
    /// From the first image on, without where its files come from.
    fn images(path: &str, source: &str) -> Vec<String> {
        let text = read(path);
        let start = text.find("# The control plane").expect("the images begin with the control plane's");
        text[start..].lines().map(|line| line.replace(source, "")).collect()
    }
    let from_source = images("deploy/Dockerfile", "--from=build ");
    let from_source: Vec<String> = from_source.iter().map(|line| line.replace("/context/", "")).collect();
    assert_eq!(from_source, images("deploy/Dockerfile.prebuilt", ""));
}

#[test]
fn text_is_plain() {
    let found =
        offences(&files(".", &[".rs", ".md", ".toml", ".yml", ".yaml", ".py", ".sh"]), |path, line| {
            let wrong = line.ends_with([' ', '\t', '\r']) || (line.contains('\t') && !path.ends_with(".md"));
            wrong.then(|| "white space".to_owned())
        });
    assert_none("white space at the end of a line, or a tab", &found);
}

#[test]
fn no_document_speaks_of_the_place_where_it_was_written() {
    let found = offences(&files(".", &[".rs", ".md", ".toml", ".yml", ".yaml"]), |path, line| {
        let words = ["/work/", "/root/", "/tmp/wt"];
        let word = words.iter().find(|word| line.contains(*word)).map(ToString::to_string);
        word.filter(|_| path != "tests/tests/tidy.rs")
    });
    assert_none("a path of somebody's machine", &found);
}
