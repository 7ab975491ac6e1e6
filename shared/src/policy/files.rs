//! Reads the files of a policy directory, within bounds, and hands their text on.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::check::{self, Document};
use super::problem::{Problem, Problems};
use super::{Loaded, yaml};

/// One file. 1 MiB: some ten thousand rules; a larger one is most likely no policy.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// All files. 8 MiB: a snapshot holds every route, and has 16 MiB.
pub const TOTAL_BYTES_MAX: u64 = 8 << 20;
/// Documents in all files.
pub const DOCUMENTS_MAX: usize = 10_000;
/// Files in a directory, others than policy counted too: what a listing may cost.
const ENTRIES_MAX: usize = 20_000;

/// Loads every `*.yaml` and `*.yml` of a directory, not of directories inside it, in the order of their names. Links
/// are followed, as Kubernetes mounts a `ConfigMap` by links; names with a dot in front are left out, as editors and those
/// mounts use them for what is not whole.
pub fn load_dir(dir: &Path) -> Result<Loaded, Problems> {
    let mut problems = Vec::new();
    let files = read_dir(dir, &mut problems);
    load_beside(problems, files)
}

/// Loads documents from texts, each with the name that problems call it by. The same files in another order are the same
/// policy with the same hash.
pub fn load(files: Vec<(String, String)>) -> Result<Loaded, Problems> {
    load_beside(Vec::new(), files)
}

/// Loads what could be read; `problems` tell of what could not.
fn load_beside(mut problems: Vec<Problem>, mut files: Vec<(String, String)>) -> Result<Loaded, Problems> {
    files.sort();
    let mut documents = Vec::new();
    let mut readable = problems.is_empty();
    let total: u64 = files.iter().map(|(_, text)| text.len() as u64).sum();
    if total > TOTAL_BYTES_MAX {
        let (name, _) = &files[0];
        problems.push(of_file(name, &format!("the files have {total} bytes together"), &total_help()));
        return Err(Problems::new(problems, Vec::new()));
    }
    for (name, text) in &files {
        if text.len() as u64 > FILE_BYTES_MAX {
            problems.push(of_file(name, "the file is too large", &file_help()));
            readable = false;
            continue;
        }
        let (found, bad) = yaml::documents(text, documents.len());
        documents.extend(found.into_iter().map(|root| Document { file: name, root }));
        if let Some(bad) = bad {
            readable = false;
            let (line, column) = bad.mark.map_or((0, 0), |mark| (mark.line, mark.column));
            let file = name.clone();
            problems.push(Problem {
                file,
                line,
                column,
                path: String::new(),
                message: bad.message,
                help: None,
            });
        }
    }
    let policy = check::check(&documents, readable, &mut problems);
    drop(documents);
    if !problems.is_empty() {
        return Err(Problems::new(problems, files));
    }
    let hash = hash(&files);
    Ok(Loaded { policy, hash, files })
}

fn read_dir(dir: &Path, problems: &mut Vec<Problem>) -> Vec<(String, String)> {
    let shown = dir.display().to_string();
    let listing = match std::fs::read_dir(dir) {
        Ok(listing) => listing,
        Err(error) => {
            problems.push(of_file(&shown, &format!("the directory cannot be read: {error}"), &dir_help()));
            return Vec::new();
        }
    };
    let mut paths = Vec::new();
    for (seen, entry) in listing.enumerate() {
        if seen == ENTRIES_MAX {
            let message = format!("the directory has more than {ENTRIES_MAX} entries");
            problems.push(of_file(&shown, &message, "keep policy in a directory of its own"));
            return Vec::new();
        }
        match entry {
            Ok(entry) => paths.push(entry.path()),
            Err(error) => {
                problems.push(of_file(
                    &shown,
                    &format!("the directory cannot be read: {error}"),
                    &dir_help(),
                ));
            }
        }
    }
    paths.retain(|path| is_policy(path));
    paths.sort();
    if paths.is_empty() && problems.is_empty() {
        problems.push(of_file(&shown, "the directory has no *.yaml or *.yml file", &dir_help()));
    }
    let mut files = Vec::new();
    let mut left = TOTAL_BYTES_MAX;
    for path in paths {
        let name = path.display().to_string();
        match read_file(&path, left.min(FILE_BYTES_MAX)) {
            Ok(text) => {
                left -= text.len() as u64;
                files.push((name, text));
            }
            Err(message) => {
                let help = if left < FILE_BYTES_MAX { total_help() } else { file_help() };
                problems.push(of_file(&name, &message, &help));
            }
        }
    }
    files
}

fn is_policy(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let yaml = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
    yaml && !hidden
}

/// Opens before it looks, so that what was looked at is what is read; the bound holds for a file that grows meanwhile too.
fn read_file(path: &Path, bytes_max: u64) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("the file cannot be read: {error}");
    // A named pipe would block at opening, so its kind is asked for before.
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("this is no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > bytes_max {
        return Err("the file is too large".to_owned());
    }
    String::from_utf8(bytes).map_err(|_| "the file is not UTF-8".to_owned())
}

fn of_file(name: &str, message: &str, help: &str) -> Problem {
    Problem {
        file: name.to_owned(),
        line: 0,
        column: 0,
        path: String::new(),
        message: message.to_owned(),
        help: Some(help.to_owned()),
    }
}

fn file_help() -> String {
    format!("a regular file of UTF-8 text with at most {FILE_BYTES_MAX} bytes")
}

fn total_help() -> String {
    format!("at most {TOTAL_BYTES_MAX} bytes in all files")
}

fn dir_help() -> String {
    "a directory with at least one readable *.yaml or *.yml file".to_owned()
}

/// Lengths go in too, so that text cannot move from one file to the next without a change. Names do not: a directory that
/// was mounted elsewhere is the same policy.
fn hash(files: &[(String, String)]) -> String {
    let mut hasher = Sha256::new();
    for (_, text) in files {
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text);
    }
    let mut hex = String::with_capacity(64);
    for byte in hasher.finalize() {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}
