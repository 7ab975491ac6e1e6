//! What third-party clients print, read.

use std::collections::BTreeMap;

use crate::operation::Seen;

type Fields = BTreeMap<String, String>;

fn add(fields: &mut Fields, name: &str, value: &str) {
    let value = value.trim();
    let of_name = fields.entry(name.to_ascii_lowercase());
    of_name.and_modify(|all| *all = format!("{all}, {value}")).or_insert_with(|| value.to_owned());
}

/// The last of the heads that curl's `--dump-header` wrote: those before it are interim.
pub fn head(dumped: &str) -> Result<(u16, Fields), String> {
    let last = dumped.trim_end().rsplit("\r\n\r\n").next().unwrap_or_default();
    let mut lines = last.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let mut fields = Fields::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        add(&mut fields, name, value);
    }
    Ok((status.ok_or_else(|| format!("no head in {dumped:?}"))?, fields))
}

/// What `nghttp --verbose` printed of the one answer it got.
pub fn nghttp(printed: &str) -> Result<(u16, Fields), String> {
    let mut fields = Fields::new();
    let received = printed.lines().filter_map(|line| line.split_once("recv (stream_id=")?.1.split_once(") "));
    let mut status = None;
    for (_, field) in received {
        match field.strip_prefix(":status: ") {
            Some(value) => status = value.trim().parse().ok(),
            None => {
                if let Some((name, value)) = field.split_once(": ") {
                    add(&mut fields, name, value);
                }
            }
        }
    }
    Ok((status.ok_or_else(|| format!("no status in {printed}"))?, fields))
}

/// What h2load printed of `requests` equal ones: it tells classes of statuses, and bytes. A class is taken for `expected`.
pub fn h2load(printed: &str, requests: usize, expected: u16) -> Result<Seen, String> {
    let line = |start: &str| printed.lines().find(|line| line.starts_with(start)).unwrap_or_default();
    let short = format!("{} / {} / {}", line("requests:"), line("status codes:"), line("traffic:"));
    let all = line("requests:").contains(&format!(" {requests} succeeded"))
        && line("status codes:").starts_with(&format!("status codes: {requests} 2xx"));
    let bytes = line("traffic:")
        .rsplit_once("), ")
        .and_then(|(_, data)| data.split_once('(')?.1.split_once(')')?.0.parse::<usize>().ok());
    match bytes {
        Some(bytes) if all && bytes.is_multiple_of(requests) => {
            Ok(Seen { status: expected, fields: None, length: bytes / requests, patterned: None, text: None })
        }
        _ => Err(short),
    }
}

#[test]
fn only_the_last_head_that_curl_wrote_counts() {
    let dumped = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nA: 1\r\na: 2\r\n\r\n";
    assert_eq!(head(dumped), Ok((200, Fields::from([("a".to_owned(), "1, 2".to_owned())]))));
    assert!(head("").is_err());
}

#[test]
fn h2load_has_seen_what_all_of_its_requests_were_answered_with() {
    let printed = "requests: 3 total, 3 started, 3 done, 3 succeeded, 0 failed, 0 errored, 0 timeout\n\
                   status codes: 3 2xx, 0 3xx, 0 4xx, 0 5xx\n\
                   traffic: 192.40KB (197015) total, 71B (71) headers (space savings 75.85%), 192.00KB (196608) data\n";
    assert_eq!(h2load(printed, 3, 200).map(|seen| seen.length), Ok(65_536));
    assert!(h2load(&printed.replace("3 succeeded", "2 succeeded"), 3, 200).is_err());
    assert!(h2load(&printed.replace("3 2xx", "2 2xx"), 3, 200).is_err());
}
