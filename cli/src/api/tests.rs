use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use outrider_shared::api::{MintAnswer, MintRequest, QuotaAnswer};
use tokio::net::{TcpListener, TcpSocket};

use super::{Api, ApiArgs, ApiError};

/// A control plane of which nothing but the API is real: it knows one credential.
async fn control_plane() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer)),
            );
        }
    });
    address
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let allowed = request.headers().get("authorization").is_some_and(|value| value == "Bearer right");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let (status, body) = match path.as_str() {
        _ if !allowed => {
            (401, r#"{"type":"about:blank","title":"no","status":401,"detail":"unknown credential"}"#.into())
        }
        "/v1/quota" => (200, r#"{"rows":[]}"#.into()),
        "/v1/tokens" => {
            let asked: MintRequest = serde_json::from_slice(&body).unwrap();
            let minted = MintAnswer {
                credential: format!("for {}", asked.service),
                id: "t1".into(),
                expires_unix_s: None,
            };
            (200, serde_json::to_string(&minted).unwrap())
        }
        "/v1/stat" => (200, "<html>".to_owned()),
        _ => (404, "no such thing".to_owned()),
    };
    Ok(Response::builder().status(status).body(Full::new(body.into())).unwrap())
}

fn credential(directory: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = directory.path().join("operator-token");
    std::fs::write(&path, text).unwrap();
    path
}

fn open(address: SocketAddr, text: &str) -> Result<Api, ApiError> {
    let directory = tempfile::tempdir().unwrap();
    let credential_file = Some(credential(&directory, text));
    Api::open(&ApiArgs { api: format!("http://{address}").parse().unwrap(), credential_file })
}

#[tokio::test]
async fn the_credential_opens_the_api() {
    let api = open(control_plane().await, "right\n").unwrap();
    assert_eq!(api.get::<QuotaAnswer>("/v1/quota").await.unwrap(), QuotaAnswer { rows: Vec::new() });
    let request = MintRequest { service: "shop/orders".parse().unwrap(), ttl_s: Some(60) };
    let minted: MintAnswer = api.post("/v1/tokens", &request).await.unwrap();
    assert_eq!(minted.credential, "for shop/orders");
}

#[tokio::test]
async fn a_credential_that_is_refused_is_told_with_its_file_and_reason() {
    let api = open(control_plane().await, "wrong").unwrap();
    let error = api.get::<QuotaAnswer>("/v1/quota").await.unwrap_err();
    assert!(matches!(&error, ApiError::Refused { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("operator-token") && text.contains("unknown credential"), "{text}");
    assert!(!text.contains("wrong"), "the credential is a secret: {text}");
}

#[tokio::test]
async fn where_nothing_answers_the_error_names_the_next_step() {
    // Bound, so that nobody else gets the port, and not listening.
    let silent = TcpSocket::new_v4().unwrap();
    silent.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let api = open(silent.local_addr().unwrap(), "right").unwrap();
    let error = api.get::<QuotaAnswer>("/v1/quota").await.unwrap_err();
    assert!(matches!(&error, ApiError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("--api"), "{error}");
}

#[tokio::test]
async fn other_answers_are_told_as_they_are() {
    let api = open(control_plane().await, "right").unwrap();
    let error = api.get::<QuotaAnswer>("/v1/nothing").await.unwrap_err();
    assert!(error.to_string().ends_with("answered 404 Not Found to /v1/nothing: no such thing"), "{error}");
    let error = api.get::<QuotaAnswer>("/v1/stat").await.unwrap_err();
    assert!(matches!(&error, ApiError::NotUnderstood { .. }), "{error:?}");
}

#[test]
fn what_cannot_be_a_credential_or_a_url_is_refused_before_anything_is_sent() {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    assert!(matches!(open(address, " \n").unwrap_err(), ApiError::MalformedCredential { .. }));
    assert!(matches!(open(address, "two\nlines").unwrap_err(), ApiError::MalformedCredential { .. }));
    let directory = tempfile::tempdir().unwrap();
    let missing = ApiArgs {
        api: "http://127.0.0.1:1".parse().unwrap(),
        credential_file: Some(directory.path().join("missing")),
    };
    assert!(matches!(Api::open(&missing).unwrap_err(), ApiError::Credential { .. }));
    let https = ApiArgs {
        api: "https://127.0.0.1:1".parse().unwrap(),
        credential_file: Some(credential(&directory, "x")),
    };
    assert!(matches!(Api::open(&https).unwrap_err(), ApiError::Url { .. }));
}
