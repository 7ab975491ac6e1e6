//! The whole sidecar: what its parts share, and how it starts, drains and ends.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use actix_rt::{Arbiter, ArbiterHandle};
use arc_swap::{ArcSwap, ArcSwapOption};
use outrider_shared::session::Report;
use outrider_shared::snapshot::Snapshot;
use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::contexts::Contexts;
use crate::drain::{self, Phase};
use crate::edges::certificates::{self, Certificates};
use crate::edges::{Edges, TlsByPort};
use crate::leg::pump::room::Room;
use crate::listen::{self, Doors, Entry, ShardDoor};
use crate::mesh::Tls;
use crate::pipeline::matching::Table;
use crate::session::{self, Session, SessionConfig};
use crate::shard::Shard;
use crate::stats::{Counter, ShardRecorder, StatsRegistry};
use crate::telemetry::{TracePolicy, Tracer, TracerIdentity};
use crate::upstream::UpstreamMap;
use crate::upstream::events::Events;
use crate::upstream::mailbox::ActorTotals;
use crate::upstream::supervisor::{Directory, Supervisor, SupervisorHandle};
use crate::{admin, health, overload, probe, view};

/// How often a drain looks at what is still open.
const DRAIN_POLL: Duration = Duration::from_millis(50);
/// For the last report to the control plane, once nothing is under way any more. 2 s: it takes milliseconds.
const LEAVE_MAX: Duration = Duration::from_secs(2);
/// Signals and `POST /drain` that wait for the drain; more of them say nothing new.
const ASKED_MAX: usize = 4;

/// Tells connections to finish.
pub struct Finish {
    /// Those from peers and from outside, and their listeners.
    pub outside: watch::Sender<bool>,
    /// Those of the app.
    pub app: watch::Sender<bool>,
}

/// A snapshot in the form in which requests read it.
pub struct Published {
    pub table: Table,
    pub tracing: TracePolicy,
}

/// What all threads of the sidecar share. Everything in it is read by snapshot or written by one thread.
pub struct Node {
    pub config: Config,
    /// The service, `namespace/name`, as refusals name this sidecar.
    pub name: String,
    /// Random, one for each run.
    pub boot: String,
    pub started: Instant,
    /// The snapshot in force, and what requests read of it.
    pub snapshot: ArcSwapOption<Snapshot>,
    pub published: Arc<ArcSwapOption<Published>>,
    pub tls: Arc<ArcSwapOption<Tls>>,
    /// What edges show to clients from outside.
    pub certificates: Certificates,
    pub edge_tls: ArcSwap<TlsByPort>,
    pub upstreams: Arc<ArcSwap<UpstreamMap>>,
    pub supervisor: SupervisorHandle,
    /// Of the upstreams' actors.
    pub actors: Arc<ActorTotals>,
    pub stats: Arc<StatsRegistry>,
    /// Connections closed at once, since their address had as many as it may have.
    pub refused_by_address: Arc<Counter>,
    /// For bodies that are kept until their request needs not be sent again.
    pub kept_bodies: Arc<Room>,
    pub tracer: Tracer,
    /// What requests under way have brought with them.
    pub contexts: Arc<Contexts>,
    /// What happened to upstreams.
    pub events: Arc<Events>,
    /// The app's port answers to neighbours too.
    pub bypassable: AtomicBool,
    pub finish: Finish,
    pub phase: watch::Sender<Phase>,
    /// Asks for a drain.
    pub ask: mpsc::Sender<()>,
}

/// How a sidecar ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Requests that were cut off.
    pub cut: u64,
}

/// Serves until the drain, which `asked` begins and a second one ends at once. Runs on the calling thread, which becomes
/// the control arbiter and must be inside an actix system.
pub async fn serve(config: Config, mut asked: mpsc::Receiver<()>) -> anyhow::Result<Ended> {
    let (effects, mut asked_within) = assemble(config)?;
    let node = Arc::clone(&effects.node);
    let session = Rc::new(session::start(
        SessionConfig {
            control_planes: node.config.control_planes.clone(),
            data_dir: node.config.data_dir.clone(),
            join: node.config.join.clone(),
            service: node.config.service.clone(),
            advertise: node.config.advertise,
            inbound_port: node.config.inbound.port(),
            boot: node.boot.clone(),
        },
        effects,
    )?);
    actix_rt::spawn(probe::run(Arc::clone(&node), Rc::clone(&session)));
    admin::start(&node, &session)?;
    tracing::info!(
        service = %node.config.service,
        inbound = %node.config.inbound,
        outbound = %node.config.outbound,
        admin = %node.config.admin,
        shards = node.config.shards,
        "serving"
    );

    let drained = drain(&node, &session, async move || {
        tokio::select! {
            asked = asked.recv() => asked,
            asked = asked_within.recv() => asked,
        }
    });
    let ended = tokio::select! {
        ended = drained => ended,
        error = session.failed() => return Err(error.into()),
    };
    // Past the bound, what was counted in the last second is lost, as with a crash.
    let _ = actix_rt::time::timeout(LEAVE_MAX, session.leave()).await;
    node.tracer.shutdown().await;
    Ok(ended)
}

/// Everything but the session: shards and listeners, which wait for an identity and a snapshot.
fn assemble(config: Config) -> anyhow::Result<(Rc<Effects>, mpsc::Receiver<()>)> {
    let (ask, asked_within) = mpsc::channel(ASKED_MAX);
    let upstreams = Arc::new(ArcSwap::from_pointee(UpstreamMap::new()));
    let events = Arc::new(Events::default());
    let arbiters: Vec<_> = (0..config.shards).map(|_| Arbiter::new().handle()).collect();
    let cap = config.concurrency_limit;
    let supervisor = Supervisor::new(Arc::clone(&upstreams), arbiters.clone(), cap, Arc::clone(&events));
    let actors = supervisor.totals();
    let boot = format!("{:032x}", rand::random::<u128>());
    let identity = TracerIdentity {
        service: config.service.name().to_owned(),
        namespace: config.service.namespace().to_owned(),
        instance: boot.clone(),
    };
    let node = Arc::new(Node {
        name: config.service.to_string(),
        boot,
        started: Instant::now(),
        snapshot: ArcSwapOption::empty(),
        published: Arc::default(),
        tls: Arc::default(),
        certificates: Certificates::load(&config.edge_certificates)?,
        edge_tls: ArcSwap::default(),
        upstreams,
        supervisor: supervisor.start(),
        actors,
        stats: StatsRegistry::new(),
        refused_by_address: Arc::default(),
        kept_bodies: Arc::new(Room::new(overload::memory_bytes(config.memory_limit))),
        tracer: Tracer::from_environment(&identity)?,
        contexts: Arc::default(),
        events,
        bypassable: AtomicBool::new(false),
        finish: Finish { outside: watch::channel(false).0, app: watch::channel(false).0 },
        phase: watch::channel(Phase::Serving).0,
        ask,
        config,
    });
    let doors = (0..).zip(&arbiters).map(|(id, arbiter)| start_shard(id, arbiter, &node)).collect();
    let doors = Doors::new(doors, &node.config.limits, Arc::clone(&node.refused_by_address));
    listen_all(&node, &doors)?;
    let edges = Edges::new(Arc::clone(&node), doors);
    actix_rt::spawn(certificates::watch(Rc::clone(&edges)));
    actix_rt::spawn(health::run(Arc::clone(&node)));
    actix_rt::spawn(overload::watch(Arc::clone(&node)));
    Ok((Rc::new(Effects { node, edges }), asked_within))
}

fn start_shard(id: usize, arbiter: &ArbiterHandle, node: &Arc<Node>) -> ShardDoor {
    let (send, accepted) = mpsc::channel(listen::HANDOVER_MAX);
    let recorder = ShardRecorder::new(&node.stats);
    let stats = Arc::clone(recorder.shard());
    let node = Arc::clone(node);
    arbiter.spawn_fn(move || {
        actix_rt::spawn(Shard::new(id, node, Rc::new(recorder)).run(accepted));
    });
    ShardDoor { send, stats }
}

/// The listeners that do not depend on policy.
fn listen_all(node: &Arc<Node>, doors: &Rc<Doors>) -> anyhow::Result<()> {
    let config = &node.config;
    let inbound = listen::bind(config.inbound, "--inbound")?;
    let outside = node.finish.outside.subscribe();
    actix_rt::spawn(listen::accept(inbound, Entry::Inbound, Rc::clone(doors), outside));
    let outbound = listen::bind(config.outbound, "--outbound")?;
    let app = node.finish.app.subscribe();
    actix_rt::spawn(listen::accept(outbound, Entry::Outbound, Rc::clone(doors), app));
    for upstream in &config.upstreams {
        let listener = listen::bind(upstream.listen, "--upstream")?;
        let entry = Entry::Upstream { service: upstream.service.clone(), port: upstream.port };
        let app = node.finish.app.subscribe();
        actix_rt::spawn(listen::accept(listener, entry, Rc::clone(doors), app));
    }
    Ok(())
}

/// Carries out the drain's machine.
async fn drain(node: &Arc<Node>, session: &Rc<Session>, mut asked: impl AsyncFnMut() -> Option<()>) -> Ended {
    let mut machine = drain::Machine::new(node.config.drain_grace);
    let (withdrawn, mut was_withdrawn) = mpsc::channel(1);
    let mut asking = true;
    loop {
        let due = machine.poll_timeout();
        let timeout = async {
            match due {
                Some(at) => actix_rt::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let polled = async {
            match machine.phase() {
                Phase::Finishing { .. } => actix_rt::time::sleep(DRAIN_POLL).await,
                Phase::Serving | Phase::Withdrawing { .. } | Phase::Done => std::future::pending().await,
            }
        };
        let output = tokio::select! {
            again = asked(), if asking => {
                asking = again.is_some();
                again.and_then(|()| {
                    // What is cut off now is what is open now.
                    let now = Instant::now();
                    let open = drain::Input::Open(node.stats.in_flight());
                    machine.handle(open, now).or_else(|| machine.handle(drain::Input::Asked, now))
                })
            },
            Some(()) = was_withdrawn.recv() => machine.handle(drain::Input::Withdrawn, Instant::now()),
            () = timeout => machine.handle_timeout(Instant::now()),
            () = polled => machine.handle(drain::Input::Open(node.stats.in_flight()), Instant::now()),
        };
        node.phase.send_replace(machine.phase());
        match output {
            None => {}
            Some(drain::Output::Withdraw) => {
                tracing::info!("draining: withdrawing from the mesh");
                let (session, withdrawn) = (Rc::clone(session), withdrawn.clone());
                actix_rt::spawn(async move {
                    session.withdraw().await;
                    // The drain may have ended meanwhile.
                    let _ = withdrawn.send(()).await;
                });
            }
            Some(drain::Output::Finish) => {
                tracing::info!(open = node.stats.in_flight(), "draining: finishing what is under way");
                node.finish.outside.send_replace(true);
            }
            Some(drain::Output::Exit { cut }) => {
                node.finish.app.send_replace(true);
                if cut > 0 {
                    tracing::warn!(cut, "drained, and cut off what was still under way");
                } else {
                    tracing::info!("drained");
                }
                return Ended { cut };
            }
        }
    }
}

/// What the session does to the rest of the sidecar.
struct Effects {
    node: Arc<Node>,
    edges: Rc<Edges>,
}

impl session::Effects for Effects {
    fn identity(&self, material: Arc<outrider_shared::identity::Material>) {
        self.node.tls.store(Some(Tls::new(material)));
    }

    fn snapshot(&self, snapshot: Arc<Snapshot>) -> Result<(), Vec<String>> {
        let table = Table::compile(&snapshot).map_err(|unusable| unusable.reasons)?;
        self.edges.adopt(&snapshot.local.edges)?;
        // The directory first: a table that names a service must find it there.
        let directory =
            Directory { services: snapshot.directory.clone(), app: snapshot.local.traffic.clone() };
        if self.node.supervisor.try_send(directory).is_err() {
            return Err(vec![
                "the upstreams' supervisor is too busy to take the directory, or has ended".to_owned(),
            ]);
        }
        let tracing = TracePolicy::new(&snapshot.tracing, self.node.tracer.exporting());
        self.node.published.store(Some(Arc::new(Published { table, tracing })));
        // Last: what is shown as in force is.
        self.node.snapshot.store(Some(snapshot));
        Ok(())
    }

    fn report(&self) -> Report {
        view::report(&self.node)
    }
}

#[cfg(test)]
mod tests;
