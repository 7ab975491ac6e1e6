//! Starts an actor for each upstream in use, feeds it the directory, and starts it anew when it panics.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix::dev::channel::{AddressReceiver, channel};
use actix::{Actor, Addr, AsyncContext, Context, MailboxError, Message};
use actix_rt::ArbiterHandle;
use arc_swap::{ArcSwap, ArcSwapOption};
use outrider_shared::snapshot::DirectoryService;
use outrider_shared::traffic::{ClientTraffic, ServerTraffic};
use outrider_shared::{ServiceId, SidecarId, SpiffeId};

use super::actor::{Configure, Crashed, Retire, UpstreamActor};
use super::events::Events;
use super::lease::Leases;
use super::machine::{Input, Machine};
use super::mailbox::{self, ActorTotals, Hears, Mailbox};
use super::settings::Settings;
use super::{Key, Snapshot, Unheard, Upstream, UpstreamMap};

/// Messages that wait. 4,096: every shard may ask once for each service of a large mesh at its first use.
pub const MAILBOX_MAX: usize = 4_096;
/// An upstream's actor is started anew this often within [`STORM_WINDOW`] at once; after that it waits
/// [`STORM_PAUSE`], so a panic that comes back with the same input does not eat a core.
const STORM_RESTARTS: usize = 5;
const STORM_WINDOW: Duration = Duration::from_secs(10);
const STORM_PAUSE: Duration = Duration::from_secs(1);

/// Before an actor is told again what it did not take. 100 ms: it works its mailbox off by then.
const RETELL_PAUSE: Duration = Duration::from_millis(100);

/// What an actor needs that a service of the directory gives.
#[derive(Debug, Clone, PartialEq)]
struct Listed {
    identity: SpiffeId,
    endpoints: Vec<(SidecarId, SocketAddr)>,
    traffic: Option<ClientTraffic>,
}

/// Owns: which upstreams there are. Receives: [`Ensure`], [`Directory`], [`Crashed`]. Publishes: the map of upstreams.
/// Capacity: [`MAILBOX_MAX`]. On full: an unknown upstream is refused as not ready. On restart: never, it has no code
/// that depends on input's content; were it to panic, upstreams in use go on, and new ones are refused.
pub struct Supervisor {
    map: Arc<ArcSwap<UpstreamMap>>,
    /// Where requests are, and actors too: who waits for a permit asks an actor of its own thread, or of one that is busy
    /// with requests, and seldom wakes another.
    shards: Vec<ArbiterHandle>,
    /// Requests under way to one upstream that the sidecar takes at all.
    cap: u32,
    directory: HashMap<ServiceId, Listed>,
    app: Option<ServerTraffic>,
    crashes: HashMap<Key, VecDeque<Instant>>,
    events: Arc<Events>,
    mailbox: Arc<Mailbox>,
    /// Of the actors that it has started.
    totals: Arc<ActorTotals>,
}

/// How the supervisor is spoken to.
#[derive(Clone)]
pub struct SupervisorHandle {
    address: Addr<Supervisor>,
    pub mailbox: Arc<Mailbox>,
}

impl SupervisorHandle {
    /// Waits for room in the mailbox, and for the answer. `Err`: it has ended.
    pub async fn send<M>(&self, message: M) -> Result<M::Result, MailboxError>
    where
        M: Message<Result: Send> + Send + 'static,
        Supervisor: Hears<M>,
    {
        self.address.send(self.mailbox.enclose(message)).await
    }

    /// `Err`: there is no room in the mailbox, or it has ended.
    pub fn try_send<M>(&self, message: M) -> Result<(), Unheard>
    where
        M: Message<Result: Send> + Send + 'static,
        Supervisor: Hears<M>,
    {
        self.address.try_send(self.mailbox.enclose(message)).map_err(|error| {
            self.mailbox.refuse();
            tracing::debug!(%error, "the upstreams' supervisor did not take a message");
            Unheard
        })
    }

    /// Whatever waits before it: an actor's end is told once, and nobody tells it again. At most one for each upstream.
    #[expect(
        clippy::disallowed_methods,
        reason = "bounded by what it tells; and whether it has ended is looked at first"
    )]
    pub(super) fn tell_of_crash(&self, crashed: Crashed) {
        if !self.address.connected() {
            tracing::error!(upstream = %crashed.key, "nobody will restart this upstream's actor");
            return;
        }
        self.address.do_send(self.mailbox.enclose(crashed));
    }
}

/// An upstream is asked for that no shard has used before. `None`: the directory does not list it.
pub struct Ensure {
    pub key: Key,
}
impl Message for Ensure {
    type Result = Option<Arc<Upstream>>;
}

/// The directory of a new snapshot. From the node.
pub struct Directory {
    pub services: Vec<DirectoryService>,
    /// How the app is protected; `None`: by the defaults.
    pub app: Option<ServerTraffic>,
}
impl Message for Directory {
    type Result = ();
}

impl Supervisor {
    /// `cap`: requests under way to one upstream that the sidecar takes at all.
    pub fn new(
        map: Arc<ArcSwap<UpstreamMap>>,
        shards: Vec<ArbiterHandle>,
        cap: u32,
        events: Arc<Events>,
    ) -> Self {
        let (directory, crashes) = (HashMap::new(), HashMap::new());
        let (mailbox, totals) = (Arc::default(), Arc::default());
        Self { map, shards, cap, directory, app: None, crashes, events, mailbox, totals }
    }

    /// The counters stay when it has begun.
    pub fn totals(&self) -> Arc<ActorTotals> {
        Arc::clone(&self.totals)
    }

    pub fn start(self) -> SupervisorHandle {
        let mailbox = Arc::clone(&self.mailbox);
        SupervisorHandle { address: Actor::start(self), mailbox }
    }

    /// What holds for an upstream.
    fn settings(&self, key: &Key) -> Settings {
        match key {
            Key::Service(service) => {
                let listed = self.directory.get(service);
                Settings::of_service(listed.and_then(|listed| listed.traffic.as_ref()), self.cap)
            }
            Key::AppPort(_) => Settings::of_app(self.app.as_ref(), self.cap),
        }
    }

    fn start_upstream(&self, key: &Key, ctx: &Context<Self>) -> Option<Arc<Upstream>> {
        let listed = match key {
            Key::Service(service) => Some(self.directory.get(service)?),
            Key::AppPort(_) => None,
        };
        let settings = self.settings(key);
        let leases = Leases::new(settings.concurrency.initial, self.shards.len());
        let empty = Snapshot {
            generation: 0,
            incarnation: 0,
            identity: None,
            settings: Arc::new(settings),
            endpoints: Vec::new(),
            breaker: None,
            panic: None,
        };
        let now = Instant::now();
        // Whole before anybody sees it: the request that asked for this upstream reads it at once.
        let mut first = Machine::resume(&empty, now);
        if let Some(listed) = listed {
            first.handle(listed.input(), 0.0, now);
        }
        // The actor needs its upstream and the upstream its actor's address: the address comes first.
        let (sender, mailbox) = channel(mailbox::CAPACITY);
        let upstream = Arc::new(Upstream {
            key: key.clone(),
            leases,
            snapshot: Arc::new(ArcSwap::from_pointee(first.snapshot())),
            view: ArcSwapOption::empty(),
            actor: ArcSwap::from_pointee(Addr::new(sender)),
            mailbox: Arc::new(Mailbox::new(&self.totals)),
            askers: Arc::default(),
            retired: AtomicBool::new(false),
        });
        self.run(&upstream, first, mailbox, ctx);
        let mut map = UpstreamMap::clone(&self.map.load());
        map.insert(key.clone(), Arc::clone(&upstream));
        self.map.store(Arc::new(map));
        Some(upstream)
    }

    /// Runs an actor on the shard that is the upstream's.
    fn run(
        &self,
        upstream: &Arc<Upstream>,
        machine: Machine,
        mailbox: AddressReceiver<UpstreamActor>,
        ctx: &Context<Self>,
    ) {
        let supervisor = SupervisorHandle { address: ctx.address(), mailbox: Arc::clone(&self.mailbox) };
        let events = Arc::clone(&self.events);
        let mut hasher = DefaultHasher::new();
        upstream.key.hash(&mut hasher);
        let shards = self.shards.len() as u64;
        let shard = usize::try_from(hasher.finish() % shards).expect("as many shards as cores");
        let upstream = Arc::clone(upstream);
        self.shards[shard].spawn_fn(move || {
            let actor = UpstreamActor::new(upstream, machine, supervisor, events);
            Context::with_receiver(mailbox).run(actor);
        });
    }

    /// Swaps a fresh actor in, which resumes from the last snapshot.
    fn restart(&mut self, Crashed { key, about }: &Crashed, ctx: &mut Context<Self>) {
        let Some(upstream) = self.map.load().get(key).cloned() else { return };
        let machine = Machine::restart(&upstream.snapshot.load(), Instant::now());
        upstream.snapshot.store(Arc::new(machine.snapshot()));
        let (sender, mailbox) = channel(mailbox::CAPACITY);
        self.run(&upstream, machine, mailbox, ctx);
        upstream.actor.store(Arc::new(Addr::new(sender)));
        self.totals.restarts.fetch_add(1, Ordering::Relaxed);
        self.events.tell(key, None, format!("its actor panicked over {about}, and a new one goes on"));
        // What the last one had in its mailbox it never heard.
        self.tell_all(key, ctx);
    }

    /// Tells an upstream's actor what holds for it; again later where its mailbox is full or it is being started anew.
    fn tell_all(&self, key: &Key, ctx: &mut Context<Self>) {
        let Some(upstream) = self.map.load().get(key).cloned() else { return };
        let listed = match key {
            Key::Service(service) => self.directory.get(service),
            Key::AppPort(_) => None,
        };
        let told = upstream
            .try_tell(Configure(self.settings(key)))
            .and_then(|()| listed.map_or(Ok(()), |listed| upstream.try_tell(listed.input())));
        if told.is_err() {
            let key = key.clone();
            ctx.run_later(RETELL_PAUSE, move |this, ctx| this.tell_all(&key, ctx));
        }
    }
}

/// Ends the actor of an upstream that is in nobody's map any more, which holds its upstream and its own address: again
/// later where its mailbox is full.
fn retire(upstream: Arc<Upstream>, ctx: &mut Context<Supervisor>) {
    upstream.retired.store(true, Ordering::Relaxed);
    if upstream.try_tell(Retire).is_err() && upstream.actor.load().connected() {
        ctx.run_later(RETELL_PAUSE, |_, ctx| retire(upstream, ctx));
    }
}

impl Listed {
    fn input(&self) -> Input {
        Input::Directory { identity: Some(self.identity.clone()), endpoints: self.endpoints.clone() }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_MAX);
    }
}

impl Hears<Ensure> for Supervisor {
    fn hear(&mut self, ensure: Ensure, ctx: &mut Self::Context) -> Option<Arc<Upstream>> {
        let known = self.map.load().get(&ensure.key).cloned();
        known.or_else(|| self.start_upstream(&ensure.key, ctx))
    }
}

impl Hears<Directory> for Supervisor {
    fn hear(&mut self, directory: Directory, ctx: &mut Self::Context) {
        let listed = directory.services.into_iter().map(|service| {
            let endpoints = service.endpoints.into_iter().map(|e| (e.sidecar, e.address)).collect();
            (service.service, Listed { identity: service.identity, endpoints, traffic: service.traffic })
        });
        let before = std::mem::replace(&mut self.directory, listed.collect());
        let app_changed = self.app != directory.app;
        self.app = directory.app;
        let map = self.map.load_full();
        let gone = |key: &Key| match key {
            Key::Service(service) => !self.directory.contains_key(service),
            Key::AppPort(_) => false,
        };
        let (old, left): (UpstreamMap, UpstreamMap) = map
            .iter()
            .map(|(key, upstream)| (key.clone(), Arc::clone(upstream)))
            .partition(|(key, _)| gone(key));
        if !old.is_empty() {
            self.map.store(Arc::new(left));
            self.crashes.retain(|key, _| !old.contains_key(key));
            for upstream in old.into_values() {
                retire(upstream, ctx);
            }
        }
        for key in map.keys() {
            let changed = match key {
                Key::Service(service) => before.get(service) != self.directory.get(service),
                Key::AppPort(_) => app_changed,
            };
            if changed {
                self.tell_all(key, ctx);
            }
        }
    }
}

impl Hears<Crashed> for Supervisor {
    fn hear(&mut self, crashed: Crashed, ctx: &mut Self::Context) {
        let now = Instant::now();
        let crashes = self.crashes.entry(crashed.key.clone()).or_default();
        crashes.retain(|at| now.saturating_duration_since(*at) < STORM_WINDOW);
        crashes.push_back(now);
        tracing::error!(upstream = %crashed.key, about = crashed.about, crashes = crashes.len(), "an upstream's actor panicked and is started anew");
        if crashes.len() <= STORM_RESTARTS {
            self.restart(&crashed, ctx);
        } else {
            ctx.run_later(STORM_PAUSE, move |this, ctx| this.restart(&crashed, ctx));
        }
    }
}
