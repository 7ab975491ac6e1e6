//! The answers of the shop's HTTP apps.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use outrider_shared::join::Problem;
use serde::Serialize;

use super::serve::Body;

pub fn body(content: impl Into<Bytes>) -> Body {
    Body::new(Full::new(content.into()))
}

fn of(status: StatusCode, kind: &'static str, content: impl Into<Bytes>) -> Response<Body> {
    let mut answer = Response::new(body(content));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

pub fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(content) => of(status, "application/json", content),
        Err(error) => {
            problem(StatusCode::INTERNAL_SERVER_ERROR, "the answer was not made", error.to_string())
        }
    }
}

/// RFC 9457.
pub fn problem(status: StatusCode, title: &str, detail: String) -> Response<Body> {
    let problem = Problem {
        kind: "about:blank".to_owned(),
        title: title.to_owned(),
        status: status.as_u16(),
        detail: Some(detail),
    };
    let content = serde_json::to_vec(&problem).expect("a problem is strings and a number");
    of(status, "application/problem+json", content)
}

pub fn page(content: String) -> Response<Body> {
    of(StatusCode::OK, "text/html; charset=utf-8", content)
}

/// Back to `path` with GET, after a form was posted.
pub fn see_other(path: &'static str) -> Response<Body> {
    let mut answer = of(StatusCode::SEE_OTHER, "text/plain", "");
    answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static(path));
    answer
}

pub fn not_found(path: &str) -> Response<Body> {
    problem(StatusCode::NOT_FOUND, "there is no such thing in this shop", format!("{path} was asked for"))
}
