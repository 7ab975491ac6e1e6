//! How the control plane starts and stops.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use arc_swap::{ArcSwap, ArcSwapOption};
use clap::Args as ClapArgs;
use outrider_shared::api::{MintRequest, Role};
use outrider_shared::names::port;
use outrider_shared::policy::Service;
use ractor::{Actor as _, ActorRef, call_t};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::api::{self, Access};
use crate::authority::actor::Message as AuthorityMessage;
use crate::authority::records::{KEY_VARIABLE, Seal, digest, random_secret};
use crate::authority::{self, Authority, Mint};
use crate::control;
use crate::metrics::Metrics;
use crate::parts::Parts;
use crate::policy_store;
use crate::session::ANSWER_MAX_MS;
use crate::store::Store;
use crate::supervisor::{self, Supervisor};

/// A credential that somebody wrote by hand has at least so many characters.
const CREDENTIAL_CHARS_MIN: usize = 16;
/// Newly declared services get their join secret within this time.
const JOIN_SECRETS_PERIOD: Duration = Duration::from_secs(2);

/// How long a stop waits for threads that hold the store; they have nothing left to do.
const RELEASE_MAX: Duration = Duration::from_secs(5);

/// Issues identities, distributes policy, and shows what the mesh does.
#[derive(Debug, Clone, ClapArgs)]
pub struct Args {
    /// Directory of the policy's YAML documents; watched for changes.
    #[arg(long, env = "OUTRIDER_CP_POLICY", value_name = "DIR")]
    pub policy: PathBuf,

    /// Keeps keys, credentials, revisions and quota. The API's credentials are written here: `operator-token`, and
    /// `read-token`, which changes nothing.
    #[arg(
        long,
        env = "OUTRIDER_CP_DATA_DIR",
        value_name = "DIR",
        default_value = "/var/lib/outrider-control-plane"
    )]
    pub data_dir: PathBuf,

    /// The API and the page, for operators.
    #[arg(long, env = "OUTRIDER_CP_API", value_name = "IP:PORT", default_value_t = SocketAddr::from(([127, 0, 0, 1], port::API)))]
    pub api: SocketAddr,

    /// Further values of Host under which the API is reached, as control-plane:14100.
    #[arg(long = "api-host", env = "OUTRIDER_CP_API_HOSTS", value_name = "HOST:PORT", value_delimiter = ',')]
    pub api_hosts: Vec<String>,

    /// Where sidecars join and hold their sessions (TLS).
    #[arg(long, env = "OUTRIDER_CP_CONTROL", value_name = "IP:PORT", default_value_t = SocketAddr::from(([0, 0, 0, 0], port::CONTROL)))]
    pub control: SocketAddr,

    /// Writes a join secret for each declared service here, as namespace.name, where the file is missing.
    #[arg(long, env = "OUTRIDER_CP_JOIN_SECRETS_DIR", value_name = "DIR")]
    pub join_secrets_dir: Option<PathBuf>,

    /// File with the key that seals private keys at rest; or the key itself in the variable `OUTRIDER_KEY`. Keys that lie
    /// unsealed are sealed at the next start. Without a key the directory's mode alone protects them.
    #[arg(long, env = "OUTRIDER_CP_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

/// What a control plane runs with.
pub type Config = Args;

/// A control plane that runs in this process.
pub struct Running {
    pub api_addr: SocketAddr,
    pub control_addr: SocketAddr,
    pub operator_token: String,
    pub read_token: String,
    parts: Arc<Parts>,
    supervisor: ActorRef<supervisor::Start>,
    servers: Vec<(actix_web::dev::ServerHandle, JoinHandle<std::io::Result<()>>)>,
    /// Writes them for services that are declared later.
    join_secrets: Option<JoinHandle<()>>,
    ended: Option<JoinHandle<()>>,
}

/// Runs until SIGTERM or SIGINT.
pub fn run(args: Args) -> anyhow::Result<()> {
    actix_rt::System::new().block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut running = start(args).await?;
        let failed = running.ended.take().context("just started")?;
        let outcome = tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            _ = failed => Err(anyhow::anyhow!("the control plane's actors failed again and again; see the log above")),
        };
        running.stop().await;
        outcome
    })
}

/// Starts one; must be called inside an actix system.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    make_private_dir(&config.data_dir)?;
    let api = bind(config.api, "--api")?;
    let control = bind(config.control, "--control")?;
    let mut store = Store::open(&config.data_dir)?;
    let key_file = config.key_file.clone().or_else(systemd_key);
    let seal = Arc::new(Seal::of(key_file.as_deref(), std::env::var_os(KEY_VARIABLE))?);
    if matches!(*seal, Seal::None) {
        tracing::warn!(dir = %config.data_dir.display(), "private keys at rest are protected by the directory's mode alone: give --key-file or OUTRIDER_KEY to seal them");
    }
    if authority::seal_at_rest(&store, &seal)? {
        store.compact()?;
        tracing::info!("sealed the private keys that lay unsealed: backups of before hold them still");
    }
    let store = Arc::new(store);
    let (revision, problems) = policy_store::first(&store, &config.policy)?;
    let own =
        Authority::open(Arc::clone(&store), revision.policy.mesh().trust_domain(), &seal)?.own_material()?;
    let parts = Arc::new(Parts {
        store,
        policy: ArcSwap::from_pointee(revision),
        problems: ArcSwap::from_pointee(problems),
        own: ArcSwap::new(own),
        authority: ArcSwapOption::empty(),
        registry: ArcSwapOption::empty(),
        supervisor: ArcSwapOption::empty(),
        metrics: Metrics::default(),
    });
    parts.metrics.revision.set(parts.policy.load().revision);
    parts.metrics.policy_problems.set(i64::try_from(parts.problems.load().len()).unwrap_or(i64::MAX));
    let operator_token = credential(&config.data_dir, "operator-token")?;
    let read_token = credential(&config.data_dir, "read-token")?;
    let arguments = (Arc::clone(&parts), seal, config.policy.clone());
    let (supervisor, ended) = Supervisor::spawn(None, Supervisor, arguments).await?;
    let (api_addr, control_addr) = (api.local_addr()?, control.local_addr()?);
    let credentials =
        vec![(digest(operator_token.as_bytes()), Role::Mint), (digest(read_token.as_bytes()), Role::Read)];
    let access = Access { credentials, hosts: hosts(api_addr, &config.api_hosts) };
    let servers = [api::start(&parts, access, api)?, control::start(&parts, control)?];
    let servers = servers.map(|server| (server.handle(), actix_rt::spawn(server)));
    let join_secrets = if let Some(dir) = config.join_secrets_dir {
        write_join_secrets(&parts, &dir).await?;
        Some(actix_rt::spawn(keep_writing_join_secrets(Arc::clone(&parts), dir)))
    } else {
        None
    };
    tracing::info!(api = %api_addr, control = %control_addr, revision = parts.policy.load().revision, "serving");
    Ok(Running {
        api_addr,
        control_addr,
        operator_token,
        read_token,
        parts,
        supervisor,
        servers: servers.into(),
        join_secrets,
        ended: Some(ended),
    })
}

impl Running {
    /// What its parts share, for whoever runs it in process.
    pub fn parts(&self) -> &Arc<Parts> {
        &self.parts
    }

    /// Ends sessions and actors; when this returns, what they hold is on disk, and the directory is free for another.
    pub async fn stop(self) {
        for (handle, server) in self.servers {
            handle.stop(false).await;
            // How it served does not matter any more.
            let _ = server.await;
        }
        if let Some(writer) = self.join_secrets {
            writer.abort();
        }
        self.parts.authority.store(None);
        self.parts.registry.store(None);
        let supervisor = self.parts.supervisor.swap(None);
        if let Some(cell) = supervisor {
            cell.stop_children_and_wait(None, Some(Duration::from_secs(5))).await;
        }
        // It may have ended by itself.
        let _ = self.supervisor.stop_and_wait(None, Some(Duration::from_secs(5))).await;
        // The servers' threads and what they ran end by themselves, a little later.
        let end = Instant::now() + RELEASE_MAX;
        while Arc::strong_count(&self.parts) > 1 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tracing::info!("stopped");
    }
}

fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .with_context(|| format!("binding {flag} {address}; move it with {flag}"))
}

fn make_private_dir(dir: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("making --data-dir {}", dir.display()))
}

/// A key that systemd hands over (`LoadCredential=outrider-key:…`).
fn systemd_key() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join("outrider-key");
    path.exists().then_some(path)
}

/// Reads a credential for the API, or makes it at first start.
fn credential(dir: &Path, name: &str) -> anyhow::Result<String> {
    let path = dir.join(name);
    match std::fs::read_to_string(&path) {
        Ok(token) => {
            let token = token.trim();
            anyhow::ensure!(
                token.len() >= CREDENTIAL_CHARS_MIN,
                "{} holds fewer than {CREDENTIAL_CHARS_MIN} characters: remove it, and another one is made",
                path.display()
            );
            Ok(token.to_owned())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let token = random_secret(32);
            write_private(&path, &token)?;
            Ok(token)
        }
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// The file is there whole or not at all.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let part = path.with_added_extension("part");
    let opened = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part);
    opened
        .and_then(|mut file| writeln!(file, "{text}").and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&part, path))
        .with_context(|| format!("writing {}", path.display()))
}

/// Loopback under its own address and as localhost, and what is configured.
fn hosts(api: SocketAddr, configured: &[String]) -> Vec<String> {
    let mut hosts =
        vec![api.to_string(), format!("localhost:{}", api.port()), format!("127.0.0.1:{}", api.port())];
    hosts.extend(configured.iter().cloned());
    hosts.sort();
    hosts.dedup();
    hosts
}

/// One join secret for each declared service that has no file yet.
async fn write_join_secrets(parts: &Parts, dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("making --join-secrets-dir {}", dir.display()))?;
    let revision = parts.policy.load_full();
    for service in revision.policy.services().map(Service::id) {
        let path = dir.join(format!("{}.{}", service.namespace(), service.name()));
        if path.exists() {
            continue;
        }
        let authority = parts.authority().context("the authority is being started anew")?;
        let request = MintRequest { service: service.clone(), ttl_s: None };
        let minted = call_t!(
            authority,
            |reply| AuthorityMessage::Mint(Mint::JoinSecret, request, reply),
            ANSWER_MAX_MS
        )??;
        write_private(&path, &minted.credential)?;
    }
    Ok(())
}

async fn keep_writing_join_secrets(parts: Arc<Parts>, dir: PathBuf) {
    let mut seen = parts.policy.load().revision;
    loop {
        tokio::time::sleep(JOIN_SECRETS_PERIOD).await;
        let revision = parts.policy.load().revision;
        if revision == seen {
            continue;
        }
        match write_join_secrets(&parts, &dir).await {
            Ok(()) => seen = revision,
            Err(error) => tracing::warn!(error = format!("{error:#}"), "a join secret was not written"),
        }
    }
}
