//! The control plane under test: in a thread of the case's process, or as a process of its own.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use outrider_control_plane::{Args, start};
use outrider_shared::api::MintAnswer;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::oneshot;

use crate::call::{Answer, Call};
use crate::loopback::port;
use crate::process::{self, Process};
use crate::wait;

/// The policy's one file.
const FILE: &str = "case.yaml";

/// A running control plane, or one that was stopped and can be started again.
pub struct Control {
    ip: IpAddr,
    folder: PathBuf,
    running: Option<Running>,
}

enum Running {
    Thread { stop: oneshot::Sender<()>, thread: JoinHandle<()> },
    Process(Process),
}

impl Control {
    /// In a thread of this process, answering.
    pub async fn in_thread(ip: IpAddr, folder: &Path, policy: &str) -> Self {
        let mut control = Self::prepared(ip, folder, policy);
        control.start_thread();
        control.answers().await;
        control
    }

    /// As a process, answering; its log in `folder`.
    pub async fn in_process(ip: IpAddr, folder: &Path, policy: &str) -> Self {
        let mut control = Self::prepared(ip, folder, policy);
        control.start_process().await;
        control
    }

    fn prepared(ip: IpAddr, folder: &Path, policy: &str) -> Self {
        let control = Self { ip, folder: folder.to_owned(), running: None };
        std::fs::create_dir_all(control.policy_dir()).expect("the case's folder is writable");
        control.write_policy(policy);
        control
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, port::CONTROL)
    }
    pub fn api(&self) -> SocketAddr {
        SocketAddr::new(self.ip, port::API)
    }
    pub fn data_dir(&self) -> PathBuf {
        self.folder.join("control-plane")
    }
    pub fn policy_dir(&self) -> PathBuf {
        self.folder.join("policy")
    }

    /// The documents as they lie in its directory.
    pub fn policy(&self) -> String {
        std::fs::read_to_string(self.policy_dir().join(FILE)).expect("it was written before")
    }

    /// Replaces the documents, in one step.
    pub fn write_policy(&self, text: &str) {
        self.write_file(FILE, text);
    }

    /// Adds or replaces a file of its directory, in one step.
    pub fn write_file(&self, name: &str, text: &str) {
        let beside = self.folder.join("policy.new");
        std::fs::write(&beside, text).expect("the case's folder is writable");
        std::fs::rename(beside, self.policy_dir().join(name)).expect("the case's folder is writable");
    }

    fn start_thread(&mut self) {
        let args = Args {
            policy: self.policy_dir(),
            data_dir: self.data_dir(),
            api: self.api(),
            api_hosts: Vec::new(),
            control: self.address(),
            join_secrets_dir: None,
            key_file: None,
        };
        let (stop, stopped) = oneshot::channel();
        let thread =
            std::thread::Builder::new().name(format!("control plane {}", self.ip)).spawn(move || {
                let runner = actix_rt::System::new();
                runner.block_on(async {
                    let running = start(args).await.expect("the case's policy and places are right");
                    // Dropped: the mesh is over.
                    let _ = stopped.await;
                    running.stop().await;
                });
                actix_rt::System::current().stop();
                runner.run().expect("its arbiters end");
            });
        self.running = Some(Running::Thread { stop, thread: thread.expect("a thread is to be had") });
    }

    /// Starts it as a process, on the same data as before; returns once it answers.
    pub async fn start_process(&mut self) {
        assert!(self.running.is_none(), "it has been stopped before");
        let mut command = process::node("control-plane");
        command
            .arg(format!("--policy={}", self.policy_dir().display()))
            .arg(format!("--data-dir={}", self.data_dir().display()))
            .arg(format!("--api={}", self.api()))
            .arg(format!("--control={}", self.address()));
        self.running = Some(Running::Process(Process::start("control-plane", &self.folder, &mut command)));
        self.answers().await;
    }

    async fn answers(&self) {
        wait::until("the control plane answers", async || {
            let answer = Call::get(&self.api().to_string(), "/ready").send(self.api()).await;
            match answer {
                Ok(answer) if answer.status == 200 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    #[track_caller]
    pub fn process(&mut self) -> &mut Process {
        match &mut self.running {
            Some(Running::Process(process)) => process,
            Some(Running::Thread { .. }) | None => panic!("the control plane is no running process"),
        }
    }

    /// Kills the process, as a crash would.
    pub async fn kill(&mut self) {
        self.process().kill().await;
        self.running = None;
    }

    fn call(&self, call: Call) -> Call {
        let token =
            std::fs::read_to_string(self.data_dir().join("operator-token")).expect("made at first start");
        call.header("authorization", &format!("Bearer {}", token.trim()))
    }

    /// A `GET` of the API as an operator.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let call = self.call(Call::get(&self.api().to_string(), path));
        let answer = call.send(self.api()).await.map_err(|error| format!("{error:?}"))?;
        if answer.status != 200 {
            return Err(format!("{answer:?}"));
        }
        serde_json::from_slice(&answer.body).map_err(|error| format!("{error}: {}", answer.text()))
    }

    /// A `POST` of the API as an operator.
    pub async fn post(&self, path: &str, body: &serde_json::Value) -> Answer {
        let call = Call::post(&self.api().to_string(), path, body.to_string())
            .header("content-type", "application/json");
        wait::bounded("an answer of the API", self.call(call).send(self.api()))
            .await
            .expect("the API answers")
    }

    async fn mint(&self, path: &str, service: &str) -> String {
        let answer = self.post(path, &json!({"service": service})).await;
        assert!(answer.status.is_success(), "{answer:?}");
        let minted: MintAnswer = serde_json::from_slice(&answer.body).expect("the API's own form");
        minted.credential
    }

    /// A one-use token for a service.
    pub async fn token(&self, service: &str) -> String {
        self.mint("/v1/tokens", service).await
    }

    /// A join secret for a service.
    pub async fn join_secret(&self, service: &str) -> String {
        self.mint("/v1/join-secrets", service).await
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(Running::Thread { stop, thread }) = self.running.take() {
            // It may have ended by a panic of its own, which the case reports in its own words.
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}
