//! A control plane with a policy and a data directory of its own.

use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use awc::http::{Method, StatusCode, header};
use awc::{Client, ClientRequest};
use outrider_control_plane::{Args, Running, start};
use outrider_shared::api::{MintAnswer, SidecarView, SidecarsAnswer};
use outrider_shared::identity::JoinCredential;
use outrider_shared::join::Problem;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

/// Longest wait for anything that a case waits for.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

pub struct World {
    pub policy: TempDir,
    pub data: TempDir,
    running: Option<Running>,
}

pub fn mesh() -> String {
    "apiVersion: outrider.mesh/v1alpha1\nkind: MeshConfig\nmetadata: {name: mesh}\nspec: {trustDomain: mesh.example}\n"
        .to_owned()
}

pub fn service(name: &str) -> String {
    format!(
        "apiVersion: outrider.mesh/v1alpha1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  ports: [{{port: 80, appProtocol: http}}]\n  serviceAccount: {name}\n"
    )
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

impl World {
    /// Directories alone, with the services orders and payments.
    pub fn new() -> Self {
        let (policy, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let world = Self { policy, data, running: None };
        world.write("mesh.yaml", &mesh());
        world.write("orders.yaml", &service("orders"));
        world.write("payments.yaml", &service("payments"));
        world
    }

    pub async fn started() -> Self {
        let mut world = Self::new();
        world.start().await;
        world
    }

    pub fn write(&self, name: &str, text: &str) {
        let part = self.policy.path().join(format!(".{name}"));
        std::fs::write(&part, text).unwrap();
        std::fs::rename(part, self.policy.path().join(name)).unwrap();
    }

    pub async fn start(&mut self) {
        let args = Args {
            policy: self.policy.path().to_owned(),
            data_dir: self.data.path().to_owned(),
            api: loopback(),
            api_hosts: Vec::new(),
            control: loopback(),
            join_secrets_dir: None,
            key_file: None,
        };
        self.running = Some(start(args).await.unwrap());
    }

    pub async fn stop(&mut self) {
        self.running.take().unwrap().stop().await;
    }

    pub fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// Without a credential.
    pub fn bare(&self, method: Method, path: &str) -> ClientRequest {
        let url = format!("http://{}{path}", self.running().api_addr);
        Client::builder().timeout(WAIT_MAX).disable_redirects().finish().request(method, url)
    }

    pub fn operator(&self, method: Method, path: &str) -> ClientRequest {
        self.bare(method, path).bearer_auth(&self.running().operator_token)
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        let mut answer = self.operator(Method::GET, path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.json().limit(16 << 20).await.unwrap()
    }

    pub async fn mint(&self, kind: &str, service: &str) -> JoinCredential {
        let request = self.operator(Method::POST, &format!("/v1/{kind}"));
        let mut answer = request.send_json(&serde_json::json!({ "service": service })).await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        let minted: MintAnswer = answer.json().await.unwrap();
        minted.credential.parse().unwrap()
    }

    pub async fn sidecars(&self) -> Vec<SidecarView> {
        self.get::<SidecarsAnswer>("/v1/sidecars").await.sidecars
    }
}

/// Asks until the answer is the one that is waited for.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let end = Instant::now() + WAIT_MAX;
    while !holds().await {
        assert!(Instant::now() < end, "not in time: {what}");
        actix_rt::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A refusal's status, and its problem document.
pub async fn problem(request: awc::SendClientRequest) -> (u16, Problem) {
    let mut answer = request.await.unwrap();
    let status = answer.status().as_u16();
    let kind = answer.headers().get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap().to_owned());
    assert_eq!(kind.as_deref(), Some("application/problem+json"), "status {status}");
    let body = answer.body().await.unwrap();
    let problem: Problem = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem.status, status);
    assert!(problem.detail.as_ref().is_some_and(|detail| !detail.is_empty()), "{problem:?}");
    (status, problem)
}
