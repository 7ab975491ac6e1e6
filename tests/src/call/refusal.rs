//! What a sidecar's own answer says, read the way a person or a program would.

use http::StatusCode;

use super::Answer;

/// A refusal, from its `Proxy-Status`, its problem document, or its gRPC status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    /// The end of the problem's `type`; of a gRPC refusal `""`, since it has no problem document.
    pub label: String,
    pub flag: String,
    /// RFC 9209's `error`.
    pub error: String,
    /// `Kind/name#rule@r1`; `""` where no rule decided or the caller is not told.
    pub rule: String,
    pub detail: String,
    /// `""` where the request was not gRPC.
    pub grpc_status: String,
}

impl Refusal {
    #[track_caller]
    pub(super) fn of(answer: &Answer) -> Self {
        let proxy_status = answer.header("proxy-status");
        assert!(
            proxy_status.starts_with("outrider;") && answer.app().is_empty(),
            "not refused by a sidecar: {answer:?}"
        );
        let error = parameter(&proxy_status, "error");
        let grpc_status = answer.header("grpc-status");
        if !grpc_status.is_empty() {
            let message = answer.header("grpc-message");
            let (flag, detail) = message.split_once(": ").expect("a gRPC message begins with the flag");
            let rule = detail.rsplit_once(" [").map_or("", |(_, rule)| rule.trim_end_matches(']'));
            return Self {
                status: answer.status,
                label: String::new(),
                flag: flag.to_owned(),
                error,
                rule: rule.to_owned(),
                detail: detail.to_owned(),
                grpc_status,
            };
        }
        assert_eq!(answer.header("content-type"), "application/problem+json", "{answer:?}");
        let problem: serde_json::Value = serde_json::from_slice(&answer.body).expect("a problem is JSON");
        let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
        assert_eq!(problem["status"], answer.status.as_u16(), "{answer:?}");
        let kind = text("type");
        let label = kind.strip_prefix("tag:outrider.mesh,2026:refusal:").expect("our own kind of problem");
        Self {
            status: answer.status,
            label: label.to_owned(),
            flag: text("flag"),
            error,
            rule: text("rule"),
            detail: text("detail"),
            grpc_status,
        }
    }
}

/// A token parameter of the only member.
fn parameter(header: &str, key: &str) -> String {
    header
        .split(';')
        .find_map(|part| part.trim().strip_prefix(key)?.strip_prefix('='))
        .unwrap_or_default()
        .to_owned()
}
