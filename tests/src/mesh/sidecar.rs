//! A sidecar under test: in a thread of the case's process, or as a process of its own.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread::JoinHandle;

use crate::loopback::port;
use http::Method;
use outrider_shared::ServiceId;
use outrider_sidecar::config::{Args, ByteCount, EdgeCertificate, UpstreamListener};
use outrider_sidecar::limits::Limits;
use outrider_sidecar::node::{self, Ended};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::call::{Answer, Call};
use crate::process::{self, Process, Signal};
use crate::wait;

/// What a sidecar is started with; its ports are the usual ones on `ip`.
#[derive(Debug, Clone)]
pub struct Start {
    pub service: ServiceId,
    pub ip: IpAddr,
    pub control_plane: String,
    /// The join credential's text; `None` where an identity lies in `data_dir`.
    pub join: Option<String>,
    pub data_dir: PathBuf,
    pub upstreams: Vec<UpstreamListener>,
    pub edge_certificates: Vec<EdgeCertificate>,
    pub concurrency_limit: u32,
    pub memory_limit: Option<ByteCount>,
    pub allow_faults: bool,
    pub limits: Limits,
    pub drain_grace_s: u64,
    /// Of a process: so many descriptors at most.
    pub open_files: Option<u32>,
    /// `None`: where it listens.
    pub advertise: Option<SocketAddr>,
}

impl Start {
    fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, port)
    }

    fn args(&self) -> Args {
        Args {
            service: self.service.clone(),
            control_plane: vec![self.control_plane.clone()],
            join_file: None,
            join: self.join.clone(),
            data_dir: self.data_dir.clone(),
            app_host: self.ip,
            inbound: self.address(port::INBOUND),
            advertise: self.advertise,
            outbound: self.address(port::OUTBOUND),
            upstreams: self.upstreams.clone(),
            edge_host: self.ip,
            edge_ports: Vec::new(),
            edge_certificates: self.edge_certificates.clone(),
            admin: self.address(port::ADMIN),
            health: self.address(port::HEALTH),
            shards: Some(2),
            concurrency_limit: self.concurrency_limit,
            memory_limit: self.memory_limit,
            allow_faults: self.allow_faults,
            limits: self.limits,
            drain_grace_s: self.drain_grace_s,
        }
    }

    /// The same as flags of a command.
    fn flags(&self, command: &mut Command) {
        let mut flag = |name: &str, value: String| {
            command.arg(format!("--{name}={value}"));
        };
        flag("service", self.service.to_string());
        flag("control-plane", self.control_plane.clone());
        flag("data-dir", self.data_dir.display().to_string());
        flag("app-host", self.ip.to_string());
        flag("inbound", self.address(port::INBOUND).to_string());
        flag("outbound", self.address(port::OUTBOUND).to_string());
        flag("edge-host", self.ip.to_string());
        flag("admin", self.address(port::ADMIN).to_string());
        flag("health", self.address(port::HEALTH).to_string());
        flag("shards", "2".to_owned());
        flag("concurrency-limit", self.concurrency_limit.to_string());
        flag("drain-grace-s", self.drain_grace_s.to_string());
        if let Some(ByteCount(bytes)) = self.memory_limit {
            flag("memory-limit", bytes.to_string());
        }
        if self.allow_faults {
            command.arg("--allow-faults");
        }
        let mut flag = |name: &str, value: String| {
            command.arg(format!("--{name}={value}"));
        };
        for UpstreamListener { service, port, listen } in &self.upstreams {
            flag("upstream", format!("{service}:{port}={listen}"));
        }
        for EdgeCertificate { name, certificate, key } in &self.edge_certificates {
            flag("edge-certificate", format!("{name}={},{}", certificate.display(), key.display()));
        }
        if let Some(advertise) = self.advertise {
            flag("advertise", advertise.to_string());
        }
        if let Some(join) = &self.join {
            flag("join", join.clone());
        }
    }
}

/// A running sidecar.
pub struct Sidecar {
    start: Start,
    running: Running,
}

enum Running {
    Thread { ask: mpsc::Sender<()>, thread: Option<JoinHandle<anyhow::Result<Ended>>> },
    Process { process: Process, folder: PathBuf },
}

impl Sidecar {
    /// In a thread of this process.
    pub fn in_thread(start: Start) -> Self {
        // Two requests to end say all that there is to say.
        let (ask, asked) = mpsc::channel(2);
        let config = start.args().check().expect("the case's flags are right");
        let thread = std::thread::Builder::new()
            .name(format!("sidecar {}", start.ip))
            .spawn(move || {
                let runner = actix_rt::System::new();
                let ended = runner.block_on(node::serve(config, asked));
                // Ends the arbiters too, as the process's end would.
                actix_rt::System::current().stop();
                runner.run()?;
                ended
            })
            .expect("a thread is to be had");
        Self { start, running: Running::Thread { ask, thread: Some(thread) } }
    }

    /// As a process, its log in `folder`.
    pub fn in_process(start: Start, folder: &Path, environment: &[(&str, &str)]) -> Self {
        let process = spawn(&start, folder, environment);
        Self { start, running: Running::Process { process, folder: folder.to_owned() } }
    }

    pub fn ip(&self) -> IpAddr {
        self.start.ip
    }
    pub fn outbound(&self) -> SocketAddr {
        self.start.address(port::OUTBOUND)
    }
    pub fn inbound(&self) -> SocketAddr {
        self.start.address(port::INBOUND)
    }
    pub fn at(&self, port: u16) -> SocketAddr {
        self.start.address(port)
    }
    pub fn data_dir(&self) -> &Path {
        &self.start.data_dir
    }
    /// The listener of its own for the `index`th upstream asked for.
    pub fn upstream(&self, index: usize) -> SocketAddr {
        self.start.upstreams[index].listen
    }

    /// `GET` of the admin port or the health port; an error where nothing answers there.
    pub async fn get(&self, port: u16, path: &str) -> Result<Answer, String> {
        let at = self.start.address(port);
        Call::get(&at.to_string(), path).send(at).await.map_err(|error| format!("{at}{path}: {error:?}"))
    }

    /// `POST` of the admin port, without a body.
    pub async fn post(&self, path: &str) -> Result<Answer, String> {
        let at = self.start.address(port::ADMIN);
        let call = Call::new(Method::POST, &at.to_string(), path);
        call.send(at).await.map_err(|error| format!("{at}{path}: {error:?}"))
    }

    /// Whether `/ready` says so now; otherwise why not.
    pub async fn is_ready(&self) -> Result<(), String> {
        let answer = self.get(port::HEALTH, "/ready").await?;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    }

    pub async fn ready(&self) {
        wait::until(&format!("the sidecar of {} is ready", self.start.service), || self.is_ready()).await;
    }

    /// The admin port's `/snapshot`.
    pub async fn snapshot(&self) -> Result<Value, String> {
        let answer = self.get(port::ADMIN, "/snapshot").await?;
        serde_json::from_slice(&answer.body).map_err(|error| error.to_string())
    }

    /// The admin port's `/upstreams`, the one of this name.
    pub async fn upstream_view(&self, name: &str) -> Result<Value, String> {
        let answer = self.get(port::ADMIN, "/upstreams").await?;
        let all: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        let found = all["upstreams"].as_array().and_then(|all| all.iter().find(|one| one["name"] == name));
        found.cloned().ok_or_else(|| format!("no upstream {name} in {all}"))
    }

    /// How many endpoints of a service its directory has.
    pub async fn endpoints(&self, service: &str) -> Result<usize, String> {
        let view = self.snapshot().await?;
        let directory = view["snapshot"]["directory"].as_array().ok_or("no snapshot yet")?;
        let found = directory.iter().find(|one| one["service"] == service);
        let endpoints = found.and_then(|one| one["endpoints"].as_array());
        endpoints.map(Vec::len).ok_or_else(|| format!("{service} is not in the directory"))
    }

    /// Waits until its directory has exactly so many endpoints of a service.
    pub async fn sees(&self, service: &str, endpoints: usize) {
        let what = format!("{} sees {endpoints} endpoints of {service}", self.start.service);
        wait::until(&what, async || {
            let now = self.endpoints(service).await?;
            if now == endpoints { Ok(()) } else { Err(format!("it sees {now}")) }
        })
        .await;
    }

    /// Waits until its snapshot comes from this revision of the policy, or a later one.
    pub async fn has_revision(&self, revision: u64) {
        wait::until(&format!("{} has revision {revision}", self.start.service), async || {
            let now = self.snapshot().await?["snapshot"]["revision"].as_u64();
            if now >= Some(revision) { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await;
    }

    /// The sum of a metric's samples whose labels include all of `labels`, as `reason="expired"`.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> Result<f64, String> {
        let text = self.get(port::HEALTH, "/metrics").await?.text();
        let mut sum = 0.0;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) =
                line.split_once(" # ").map_or(line, |(sample, _)| sample).rsplit_once(' ')
            else {
                continue;
            };
            let (series_name, series_labels) = series.split_once('{').unwrap_or((series, ""));
            if series_name == name && labels.iter().all(|label| series_labels.contains(label)) {
                sum += value.parse::<f64>().map_err(|error| format!("{line}: {error}"))?;
            }
        }
        Ok(sum)
    }

    /// Waits until a metric has at least this value.
    pub async fn counts(&self, name: &str, labels: &[&str], least: f64) {
        wait::until(&format!("{name}{labels:?} is {least}"), async || {
            let now = self.metric(name, labels).await?;
            if now >= least { Ok(()) } else { Err(format!("{now}")) }
        })
        .await;
    }

    /// Asks for a drain, as SIGTERM does; a second time ends it at once.
    pub fn ask(&self) {
        match &self.running {
            // Full or closed: it has been asked often enough.
            Running::Thread { ask, .. } => drop(ask.try_send(())),
            Running::Process { process, .. } => process.signal(Signal::Terminate),
        }
    }

    /// Waits for the end of a sidecar in a thread; how it ended.
    pub async fn ended(mut self) -> anyhow::Result<Ended> {
        let Running::Thread { thread, .. } = &mut self.running else {
            panic!("{} is a process", self.start.ip)
        };
        let thread = thread.take().expect("taken here only");
        wait::until("the sidecar's thread ends", || {
            let done = thread.is_finished();
            async move { if done { Ok(()) } else { Err("it runs".to_owned()) } }
        })
        .await;
        thread.join().expect("a sidecar never panics")
    }

    #[track_caller]
    pub fn process(&mut self) -> &mut Process {
        match &mut self.running {
            Running::Process { process, .. } => process,
            Running::Thread { .. } => panic!("the sidecar at {} is a thread", self.start.ip),
        }
    }

    /// All that a sidecar in a process has logged.
    #[track_caller]
    pub fn log(&self) -> String {
        match &self.running {
            Running::Process { process, .. } => process.log(),
            Running::Thread { .. } => panic!("the sidecar at {} is a thread", self.start.ip),
        }
    }

    /// Waits for the end of a sidecar in a process.
    pub async fn exited(&mut self) -> ExitStatus {
        self.process().ended().await
    }

    /// Starts it again at the same place, once it has ended: from disk, unless `join` is given.
    pub fn start_again(&mut self, join: Option<String>, environment: &[(&str, &str)]) {
        self.start.join = join;
        let Running::Process { process, folder } = &mut self.running else {
            panic!("the sidecar at {} is a thread", self.start.ip)
        };
        *process = spawn(&self.start, folder, environment);
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if let Running::Thread { ask, .. } = &self.running {
            // Full or closed: it ends already.
            let _ = ask.try_send(());
            let _ = ask.try_send(());
        }
    }
}

fn spawn(start: &Start, folder: &Path, environment: &[(&str, &str)]) -> Process {
    let mut command = match start.open_files {
        None => process::node("sidecar"),
        Some(most) => process::node_with_open_files("sidecar", most),
    };
    start.flags(&mut command);
    command.envs(environment.iter().copied());
    let name = format!("sidecar-{}-{}", start.service.name(), start.ip);
    Process::start(&name, folder, &mut command)
}
