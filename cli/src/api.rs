//! The client of the control plane's API, with the operator's credential.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use outrider_shared::join::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::fetch::{Bounds, FetchError, Fetcher};

/// Where the credential is looked for when no flag says it: a control plane's of this directory, then the demo's.
pub const CREDENTIAL_FILES: [&str; 2] =
    ["./.outrider/operator-token", "./.outrider/demo/control-plane/operator-token"];
/// An operator waits no longer than this for a table.
const TIME_MAX: Duration = Duration::from_secs(5);
/// 2,000 sidecars with their upstreams take about 6 MB.
const ANSWER_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, Clone, Args)]
pub struct ApiArgs {
    /// The control plane's API.
    #[arg(long, env = "OUTRIDER_API", value_name = "URL", default_value = "http://127.0.0.1:14100")]
    pub api: Uri,
    /// File with the operator's credential [default: ./.outrider/operator-token, then the demo's].
    #[arg(long, env = "OUTRIDER_CREDENTIAL_FILE", value_name = "FILE")]
    pub credential_file: Option<PathBuf>,
}

/// Why the API gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("{given} is no URL of a control plane: write http://host:port")]
    Url { given: String },
    #[error(
        "no operator credential found (looked for {}): run this where `outrider demo` runs, or name its file with \
         --credential-file; the control plane writes it as operator-token into its data directory",
        CREDENTIAL_FILES.join(" and ")
    )]
    NoCredential,
    #[error("reading the operator credential from {}", path.display())]
    Credential { path: PathBuf, source: std::io::Error },
    #[error("the operator credential in {} is not one line of text", path.display())]
    MalformedCredential { path: PathBuf },
    #[error(
        "no control plane answers at {api}: start one (`outrider demo`, `outrider control-plane`), \
         or say with --api where it is"
    )]
    Unreachable { api: String, source: Box<FetchError> },
    #[error(
        "the control plane at {api} refuses the credential in {}: it belongs to another control plane, \
         or its role does not allow this ({detail})",
        credential.display()
    )]
    Refused { api: String, credential: PathBuf, detail: String },
    #[error("the control plane at {api} answered {status} to {path}: {detail}")]
    Status { api: String, path: String, status: StatusCode, detail: String },
    #[error("the answer of {api} to {path} is not understood: is the control plane of another version?")]
    NotUnderstood { api: String, path: String, source: serde_json::Error },
}

/// One control plane, and what opens it.
#[derive(Debug)]
pub struct Api {
    root: Uri,
    credential: HeaderValue,
    credential_file: PathBuf,
    fetcher: Fetcher,
}

impl Api {
    pub fn open(args: &ApiArgs) -> Result<Self, ApiError> {
        let credential_file = match &args.credential_file {
            Some(path) => path.clone(),
            None => CREDENTIAL_FILES
                .iter()
                .map(Path::new)
                .find(|path| path.exists())
                .ok_or(ApiError::NoCredential)?
                .to_owned(),
        };
        let text = std::fs::read_to_string(&credential_file)
            .map_err(|source| ApiError::Credential { path: credential_file.clone(), source })?;
        let credential = Some(text.trim())
            .filter(|text| !text.is_empty())
            .and_then(|text| HeaderValue::try_from(format!("Bearer {text}")).ok());
        let mut credential =
            credential.ok_or_else(|| ApiError::MalformedCredential { path: credential_file.clone() })?;
        credential.set_sensitive(true);
        if args.api.scheme_str() != Some("http") || args.api.authority().is_none() {
            return Err(ApiError::Url { given: args.api.to_string() });
        }
        let bounds = Bounds { time_max: TIME_MAX, body_bytes_max: ANSWER_BYTES_MAX };
        Ok(Self { root: args.api.clone(), credential, credential_file, fetcher: Fetcher::new(bounds) })
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.understood(path, &self.call(Method::GET, path, Bytes::new()).await?)
    }

    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ApiError> {
        let body = serde_json::to_vec(body).expect("what is posted are plain structs");
        self.understood(path, &self.call(Method::POST, path, body.into()).await?)
    }

    pub async fn delete(&self, path: &str) -> Result<(), ApiError> {
        self.call(Method::DELETE, path, Bytes::new()).await.map(drop)
    }

    fn understood<T: DeserializeOwned>(&self, path: &str, answer: &[u8]) -> Result<T, ApiError> {
        serde_json::from_slice(answer).map_err(|source| ApiError::NotUnderstood {
            api: self.root.to_string(),
            path: path.to_owned(),
            source,
        })
    }

    /// The body of an answer that is a success.
    async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ApiError> {
        let api = || self.root.to_string();
        let authority = self.root.authority().expect("checked when it was opened").clone();
        let uri = Uri::builder().scheme("http").authority(authority).path_and_query(path).build();
        let request = Request::builder()
            .method(method)
            .uri(uri.expect("paths here are made of literals and checked names"))
            .header(header::AUTHORIZATION, self.credential.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .expect("every part is valid by its type");
        let answer = self
            .fetcher
            .fetch(request)
            .await
            .map_err(|source| ApiError::Unreachable { api: api(), source: Box::new(source) })?;
        let (status, path) = (answer.status(), path.to_owned());
        if status.is_success() {
            return Ok(answer.into_body());
        }
        let detail = detail(answer.body());
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(ApiError::Refused { api: api(), credential: self.credential_file.clone(), detail });
        }
        Err(ApiError::Status { api: api(), path, status, detail })
    }
}

/// What a refusal says: a problem's detail, or the start of the text.
fn detail(body: &[u8]) -> String {
    serde_json::from_slice::<Problem>(body).map_or_else(
        |_| String::from_utf8_lossy(body).trim().chars().take(200).collect(),
        |problem| problem.detail.unwrap_or(problem.title),
    )
}

#[cfg(test)]
mod tests;
