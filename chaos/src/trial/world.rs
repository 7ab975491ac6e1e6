//! The processes of one system: apps, what stands between them, and generators of load, one after another.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::backend::{self, BackendPlan, Capacity, Count, Order};
use super::bins::quantile;
use super::hop::{self, Forwards, HopPlan};
use super::schedule::{Arrivals, Phase, length};
use super::system::Between;
use super::topology::{Node, Topology, port};
use super::traffic::{LoadPlan, Sample, Stream, samples};
use super::{envoy, generator};
use crate::client::ask;
use crate::fleet::{Fleet, LOOK_PERIOD, START_MAX};
use crate::plan::{Part, Ready};

/// From the start of a generator's process until its first request may be due: it takes a few milliseconds to start.
const BEGIN_AFTER: Duration = Duration::from_millis(500);
/// For a generator to write down what it saw, on a loaded machine.
const WRITE_MAX: Duration = Duration::from_secs(20);
/// For an order to the backend.
const ORDER_MAX: Duration = Duration::from_secs(5);

/// What the caller knows: how the mesh's parts are started.
pub trait Sidecars {
    /// With which arguments this program does the work of such a file ([`work`]).
    fn part_arguments(&self, plan: &Path) -> Vec<OsString>;
    /// A control plane with this policy, and a sidecar for each node; all that they write lies in `folder`.
    fn mesh(&self, folder: &Path, topology: &Topology, policy: &str) -> anyhow::Result<Mesh>;
}

/// Our own parts of a system.
#[derive(Debug)]
pub struct Mesh {
    pub control_plane: Part,
    pub sidecars: Vec<Part>,
}

/// A process of an experiment: what the program reads when it is executed again.
#[derive(Debug, Serialize, Deserialize)]
pub enum Work {
    Backend(BackendPlan),
    Hop(HopPlan),
    Load(LoadPlan),
}

/// Does what lies in a file.
pub async fn work(plan: &Path) -> anyhow::Result<()> {
    let text = fs::read(plan).with_context(|| format!("reading {}", plan.display()))?;
    let work = serde_json::from_slice(&text).with_context(|| format!("understanding {}", plan.display()))?;
    match work {
        Work::Backend(plan) => backend::run(plan).await,
        Work::Hop(plan) => hop::run(plan).await,
        Work::Load(plan) => generator::run(plan).await,
    }
}

/// How the apps of a world are.
#[derive(Debug, Clone, Copy)]
pub struct Apps {
    pub capacity: Capacity,
    pub forwards: Forwards,
    /// How often an app in the middle tries by itself.
    pub attempts: u32,
}

impl Apps {
    /// A backend alone.
    pub fn backend(capacity: Capacity) -> Self {
        Self { capacity, forwards: Forwards::Nothing, attempts: 1 }
    }
}

/// Where and with what a world is made.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    pub program: &'a Path,
    /// Its own, empty at first.
    pub folder: &'a Path,
    pub sidecars: &'a dyn Sidecars,
    pub envoy: Option<&'a Path>,
    pub seed: u64,
}

/// A system that runs. Its processes end with it.
pub struct World<'a> {
    ground: Ground<'a>,
    fleet: Fleet,
    pub topology: Topology,
    between: Between,
    loads: u32,
    lags: Vec<Duration>,
}

/// Streams are alike but for where they come from.
#[derive(Debug, Clone)]
pub struct Kind {
    pub phases: Vec<Phase>,
    pub patience: Duration,
    pub retries: u32,
    /// A request field and its value.
    pub field: Option<(&'static str, &'static str)>,
}

impl<'a> World<'a> {
    pub async fn start(
        ground: Ground<'a>,
        topology: Topology,
        between: Between,
        apps: Apps,
    ) -> anyhow::Result<Self> {
        let logs = ground.folder.join("logs");
        fs::create_dir_all(&logs).with_context(|| format!("making {}", logs.display()))?;
        let fleet = Fleet::new(ground.program, &logs);
        let mut world = Self { ground, fleet, topology, between, loads: 0, lags: Vec::new() };
        world.start_apps(apps).await?;
        match &world.between {
            Between::Nothing => {}
            Between::Sidecars(policy) => {
                let mesh = ground.sidecars.mesh(ground.folder, &world.topology, policy)?;
                world.fleet.start_all([&mesh.control_plane]).await?;
                world.fleet.start_all(&mesh.sidecars).await?;
            }
            Between::Envoys(traits) => {
                let program = ground.envoy.context("an Envoy was to be started, and there is none")?;
                let nodes = world.topology.nodes.iter();
                let parts =
                    nodes.map(|node| envoy::part(program, ground.folder, &world.topology, node, *traits));
                let parts = parts.collect::<anyhow::Result<Vec<_>>>()?;
                world.fleet.start_all(&parts).await?;
            }
        }
        world.reach_all().await?;
        Ok(world)
    }

    async fn start_apps(&mut self, apps: Apps) -> anyhow::Result<()> {
        let backend = self.topology.backend();
        let plan = BackendPlan {
            listen: backend.at(port::APP),
            control: backend.at(port::CONTROL),
            capacity: apps.capacity,
            seed: self.ground.seed,
        };
        let ready = vec![Ready::Answers(plan.control, "/count")];
        let mut parts = vec![self.part("backend", &Work::Backend(plan), ready)?];
        for node in self.topology.hops() {
            let (next, next_host) = self.next(node);
            let listen = node.at(port::APP);
            let Apps { forwards, attempts, .. } = apps;
            let plan = HopPlan { listen, next, next_host, forwards, attempts };
            parts.push(self.part(&node.name, &Work::Hop(plan), Vec::new())?);
        }
        self.fleet.start_all(&parts).await
    }

    fn part(&self, name: &str, work: &Work, ready: Vec<Ready>) -> anyhow::Result<Part> {
        let file = self.ground.folder.join(format!("{name}.json"));
        let text = serde_json::to_vec(work).context("a plan is plain values")?;
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        let arguments = self.ground.sidecars.part_arguments(&file);
        Ok(Part { name: name.to_owned(), program: None, arguments, ready })
    }

    /// Where an app sends its calls, and by which name.
    fn next(&self, node: &Node) -> (std::net::SocketAddr, String) {
        let next = self.topology.called_by(node);
        let address = match self.between {
            Between::Nothing => next.at(port::APP),
            Between::Sidecars(_) | Between::Envoys(_) => node.at(port::UPSTREAM),
        };
        (address, next.name.clone())
    }

    /// Until a call of each client has got through to the backend.
    async fn reach_all(&mut self) -> anyhow::Result<()> {
        for client in self.topology.clients() {
            let begun = Instant::now();
            let (target, _) = self.next(client);
            loop {
                let answer = tokio::time::timeout(START_MAX, ask(target, "GET", "/")).await;
                if matches!(&answer, Ok(Ok(answer)) if answer.status == 200) {
                    break;
                }
                if begun.elapsed() >= START_MAX {
                    bail!("{} does not get through after {} s: {answer:?}", client.name, START_MAX.as_secs());
                }
                sleep(LOOK_PERIOD).await;
            }
        }
        Ok(())
    }

    /// A stream of each of these kinds from each client; the number of the client is the index in its chunk.
    pub fn streams(&self, kinds: &[Kind]) -> Vec<Stream> {
        self.topology
            .clients()
            .flat_map(|client| kinds.iter().map(|kind| self.stream(client, kind)))
            .collect()
    }

    pub fn stream(&self, client: &Node, kind: &Kind) -> Stream {
        let (target, host) = self.next(client);
        let fields =
            kind.field.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let Kind { phases, patience, retries, .. } = kind.clone();
        Stream { target, host, fields, arrivals: Arrivals::Poisson, phases, patience, retries }
    }

    /// Runs a load to its end, gives orders to the backend meanwhile, and tells what each request saw.
    pub async fn load(
        &mut self,
        streams: Vec<Stream>,
        orders: &[(Duration, Order)],
    ) -> anyhow::Result<Vec<Sample>> {
        self.loads += 1;
        let name = format!("load-{}", self.loads);
        let out = self.ground.folder.join(format!("{name}.samples"));
        let lasts = |stream: &Stream| length(&stream.phases) + stream.patience * (stream.retries + 1);
        let longest = streams.iter().map(lasts).max().unwrap_or_default();
        let begin = SystemTime::now() + BEGIN_AFTER;
        let begin_unix_us = begin.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
        let begin_unix_us = u64::try_from(begin_unix_us).context("the system's clock is wrong")?;
        let seed = self.ground.seed.wrapping_add(u64::from(self.loads));
        let plan = LoadPlan { seed, begin_unix_us, streams, out: out.clone() };
        let part = self.part(&name, &Work::Load(plan), Vec::new())?;
        let begun = Instant::now() + BEGIN_AFTER;
        self.fleet.launch(&part)?;
        for (at, order) in orders {
            sleep((begun + *at).saturating_duration_since(Instant::now())).await;
            self.order(*order).await?;
        }
        let left = (begun + longest).saturating_duration_since(Instant::now());
        self.fleet.finished(&part, left + WRITE_MAX).await?;
        self.fleet.check()?;
        let samples = read_samples(&out)?;
        self.lags.extend(samples.iter().map(|sample| sample.lag));
        Ok(samples)
    }

    pub async fn order(&self, order: Order) -> anyhow::Result<()> {
        self.control(&order.path()).await.map(drop)
    }

    pub async fn count(&self) -> anyhow::Result<Count> {
        let body = self.control("/count").await?;
        serde_json::from_slice(&body).context("understanding the backend's count")
    }

    async fn control(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let asking = || format!("telling the backend {path}");
        let address = self.topology.backend().at(port::CONTROL);
        let answer = tokio::time::timeout(ORDER_MAX, ask(address, "POST", path)).await;
        let answer = answer.with_context(asking)?.with_context(asking)?;
        if answer.status != 200 {
            bail!("{}: {}", asking(), answer.status);
        }
        Ok(answer.body)
    }

    /// How late the generators were.
    pub fn lags(&self) -> &[Duration] {
        &self.lags
    }

    pub async fn stop(self) -> anyhow::Result<()> {
        self.fleet.stop().await
    }
}

fn read_samples(out: &PathBuf) -> anyhow::Result<Vec<Sample>> {
    let text = fs::read_to_string(out).with_context(|| format!("reading {}", out.display()))?;
    let samples = samples(&text).with_context(|| format!("understanding {}", out.display()))?;
    // It has been read, and an experiment writes many.
    fs::remove_file(out).with_context(|| format!("removing {}", out.display()))?;
    Ok(samples)
}

/// Within which 99 % of the requests were sent.
pub fn lag_p99(lags: &[Duration]) -> Option<Duration> {
    quantile(lags.to_vec(), 0.99)
}
