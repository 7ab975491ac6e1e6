//! How each kind of client is made to ask, and what it told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use outrider_tests::process;

use crate::operation::{Content, Heard, Operation, Seen};
use crate::parse;
use crate::servers::Programs;

/// One process for all, so that it may keep its connection. Some releases of curl cannot use a connection of HTTP/2 with
/// prior knowledge twice, whoever serves it: there it is a process for each.
pub async fn curl(curl: &Path, flag: &str, folder: &Path, at: SocketAddr, operations: &[Operation]) -> Heard {
    let mut heard = Heard::new();
    let together = if flag == "--http2-prior-knowledge" { 1 } else { operations.len() };
    for asked in operations.chunks(together) {
        heard.extend(curl_once(curl, flag, folder, at, asked).await);
    }
    heard
}

async fn curl_once(curl: &Path, flag: &str, folder: &Path, at: SocketAddr, asked: &[Operation]) -> Heard {
    let file = |operation: &Operation, what: &str| folder.join(format!("{}.{what}", operation.name));
    let mut args = Vec::new();
    for operation in asked {
        let (head, body) = (file(operation, "head"), file(operation, "body"));
        for old in [&head, &body] {
            let _ = std::fs::remove_file(old);
        }
        if !args.is_empty() {
            args.push("--next".to_owned());
        }
        let told = "%{exitcode} %{errormsg}\n".to_owned();
        let (head, body) = (head.display().to_string(), body.display().to_string());
        args.extend(["-sS".to_owned(), flag.to_owned(), "-D".to_owned(), head, "-o".to_owned(), body]);
        args.extend(["-w".to_owned(), told, "--max-time".to_owned(), "15".to_owned()]);
        args.extend(curl_content(operation, &folder.join("content")));
        args.push(format!("http://{at}{}", operation.path));
    }
    let output = process::output(curl, args).await;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let results = asked.iter().zip(printed.lines()).map(|(operation, line)| {
        let read = |what| std::fs::read(file(operation, what)).unwrap_or_default();
        let head = parse::head(&String::from_utf8_lossy(&read("head")));
        let seen = match line.strip_prefix("0 ") {
            // For HEAD, curl puts the head where the content would be.
            Some(_) if operation.method == "HEAD" => {
                head.map(|(status, fields)| Seen::new(status, fields, b""))
            }
            Some(_) => head.map(|(status, fields)| Seen::new(status, fields, &read("body"))),
            None => Err(line.to_owned()),
        };
        (operation.name, seen)
    });
    results.collect()
}

fn curl_content(operation: &Operation, content: &Path) -> Vec<String> {
    let parts: &[&str] = match operation.content {
        Content::Nothing if operation.method == "HEAD" => return vec!["--head".to_owned()],
        Content::Nothing => return Vec::new(),
        Content::Length => &["Expect:"],
        Content::Parts => &["Expect:", "Content-Length:", "Transfer-Encoding: chunked"],
    };
    let mut args = vec!["--data-binary".to_owned(), format!("@{}", content.display())];
    args.extend(parts.iter().flat_map(|field| ["-H".to_owned(), (*field).to_owned()]));
    args
}

/// A few equal requests for each operation, one after the other on one connection.
pub async fn h2load(
    h2load: &Path,
    flags: &[&str],
    content: &Path,
    at: SocketAddr,
    operations: &[Operation],
) -> Heard {
    const REQUESTS: usize = 3;
    let content = content.display().to_string();
    let mut heard = Heard::new();
    for operation in operations {
        let number = REQUESTS.to_string();
        let mut args = vec!["-n", &number, "-c", "1", "-m", "1", "-t", "1", "-T", "10"];
        args.extend(flags);
        if operation.content == Content::Length {
            args.extend(["-d", &content]);
        }
        let method = format!(":method: {}", operation.method);
        if operation.method == "HEAD" {
            args.extend(["-H", &method]);
        }
        let url = format!("http://{at}{}", operation.path);
        args.push(&url);
        let output = process::output(h2load, args).await;
        let expected = if operation.name == "none" { 204 } else { 200 };
        heard.insert(
            operation.name,
            parse::h2load(&String::from_utf8_lossy(&output.stdout), REQUESTS, expected),
        );
    }
    heard
}

/// It prints content, or what it heard beside it: so it asks twice.
pub async fn nghttp(nghttp: &Path, content: &Path, at: SocketAddr, operations: &[Operation]) -> Heard {
    let content = content.display().to_string();
    let mut heard = Heard::new();
    for operation in operations {
        let method = format!(":method: {}", operation.method);
        let url = format!("http://{at}{}", operation.path);
        let mut args = vec!["-t", "10", "-H", &*method];
        if operation.content != Content::Nothing {
            args.extend(["-d", &*content]);
        }
        if operation.content == Content::Parts {
            args.push("--no-content-length");
        }
        args.push(&*url);
        let body = process::output(nghttp, &args).await.stdout;
        args.extend(["-n", "-v"]);
        let printed = process::output(nghttp, &args).await.stdout;
        let head = parse::nghttp(&String::from_utf8_lossy(&printed));
        heard.insert(operation.name, head.map(|(status, fields)| Seen::new(status, fields, &body)));
    }
    heard
}

/// All addresses in one process, which prints lines of JSON.
pub async fn peer(programs: &Programs, ending: &str, protocol: &str, addresses: &[SocketAddr]) -> Vec<Heard> {
    #[derive(serde::Deserialize)]
    struct Line {
        at: SocketAddr,
        op: String,
        error: Option<String>,
        #[serde(flatten)]
        rest: serde_json::Value,
    }
    let shown: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let args = [&["call", protocol], &shown.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat();
    let command = programs.peer(ending, &args);
    let printed = process::run(Path::new(command.get_program()), command.get_args()).await;
    let mut heard: BTreeMap<SocketAddr, Heard> = BTreeMap::new();
    for line in printed.lines() {
        let line: Line = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let seen = match line.error {
            Some(error) => Err(error),
            None => serde_json::from_value(line.rest).map_err(|error| error.to_string()),
        };
        heard.entry(line.at).or_default().insert(Operation::of(&line.op).name, seen);
    }
    addresses.iter().map(|at| heard.remove(at).unwrap_or_default()).collect()
}
