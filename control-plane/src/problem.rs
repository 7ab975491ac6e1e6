//! Errors of both ports, as RFC 9457 has them.

use actix_web::error::JsonPayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use actix_web::{HttpRequest, HttpResponse, Resource, ResponseError, Route, web};
use outrider_shared::join::Problem;

use crate::authority::Refused;

/// An answer that is no success.
#[derive(Debug, thiserror::Error)]
#[error("{title}: {detail}")]
pub struct Failed {
    pub status: u16,
    pub title: &'static str,
    pub detail: String,
}

impl Failed {
    pub fn new(status: u16, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, title, detail: detail.into() }
    }

    /// A part is being started anew, or does not answer.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(503, "Not available now", detail)
    }
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        let (status, title) = refused.status();
        if status == 500 {
            tracing::error!(error = &refused as &dyn std::error::Error, "a request failed");
        }
        Self::new(status, title, refused.to_string())
    }
}

impl ResponseError for Failed {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::build(self.status_code())
            .insert_header(ContentType("application/problem+json".parse().expect("a media type")))
            .json(Problem {
                kind: "about:blank".to_owned(),
                title: self.title.to_owned(),
                status: self.status,
                detail: Some(self.detail.clone()),
            })
    }
}

/// A body that is not what the route takes.
pub fn json_config(limit: usize) -> web::JsonConfig {
    web::JsonConfig::default().limit(limit).error_handler(move |error, _| {
        let failed = match error {
            JsonPayloadError::ContentType => {
                Failed::new(415, "Not JSON", "send Content-Type: application/json")
            }
            JsonPayloadError::Overflow { .. } | JsonPayloadError::OverflowKnownLength { .. } => {
                Failed::new(413, "Too large", format!("a body has at most {limit} bytes here"))
            }
            error => Failed::new(400, "Malformed request", error.to_string()),
        };
        failed.into()
    })
}

/// A query that is not what the route takes.
pub fn query_config() -> web::QueryConfig {
    web::QueryConfig::default()
        .error_handler(|error, _| Failed::new(400, "Malformed request", error.to_string()).into())
}

/// A path with its one method.
pub fn only(path: &str, way: Route) -> Resource {
    web::resource(path).route(way).default_service(web::to(async |request: HttpRequest| {
        let detail = format!("{} does not take {}", request.path(), request.method());
        Failed::new(405, "No such method", detail).error_response()
    }))
}

/// A path that nothing lies at.
pub async fn no_such_way(request: HttpRequest) -> HttpResponse {
    Failed::new(404, "No such path", format!("nothing lies at {}", request.path())).error_response()
}
