//! What one admission and its completion cost a shard, and what a second shard of the same upstream adds.
//!
//! Two shards on threads of their own, as in the product, with the control arbiter and the upstream's actor on a third, which
//! is idle but for a digest each 50 ms. A quarter of the limit is under way at each shard all the time, and one request more is
//! admitted and completed over and over. What the pipeline calls between a request's routing and its answer's end is called
//! here in that order and with the defaults of policy; what it does with HTTP, traces and the app's own time is not. The limit
//! lies between equal bounds, so that it does not move.
//!
//! Plain rounds, not a framework for benchmarks: what counts is two threads at the same time beside each alone. A round in
//! which a thread waited for a core says nothing about that, so it is made again. The control reads the clock alone, as often
//! as the others do: that much of their time is the clock's, and what is not twice as much there, the machine has not.
//!
//! `cargo bench -p outrider-sidecar --bench admission [-- -o json] [--rounds 21]`. A goal that is missed makes it fail. A run
//! by `cargo test` says only that it works.

mod caller;
mod report;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_rt::Arbiter;
use arc_swap::ArcSwap;
use outrider_shared::ServiceId;
use outrider_shared::snapshot::{DirectoryService, Endpoint};
use outrider_shared::traffic::{ClientTraffic, Concurrency, ServerTraffic};
use outrider_sidecar::stats::{ShardRecorder, StatsRegistry};
use outrider_sidecar::upstream::supervisor::{Directory, Ensure, Supervisor};
use outrider_sidecar::upstream::{Key, Upstream, UpstreamMap};
use tokio::sync::oneshot;

use caller::{APP_PORT, Caller, Work};
use report::{Figures, NANOS_MAX, SCALING_MIN, Spread, print};

/// By the default of a sidecar.
const SHARDS: usize = 2;
const LIMITS: [u32; 3] = [4, 32, 1_024];
/// A sidecar's own bound, by default.
const CAP: u32 = 1_024;
const ENDPOINTS: u8 = 3;
/// Of one measurement: so short that some fall between two disturbances of a machine that does other things too.
const ROUND: Duration = Duration::from_millis(2);
const ROUNDS: usize = 101;
/// Pairs of rounds that are made for each that counts: 40 s at most for one line of the table.
const TRIES: usize = 60;
/// Of a round, the part in which every thread must have had a core.
const ON_CORE_MIN: f64 = 0.95;
/// Until both shards have heard that a measurement begins.
const LEAD: Duration = Duration::from_millis(1);

/// An upstream whose limit does not move, and who calls it.
#[derive(Clone)]
struct Case {
    work: Work,
    limit: u32,
    upstream: Arc<Upstream>,
}

impl Case {
    async fn new(work: Work, limit: u32) -> Self {
        let map = Arc::new(ArcSwap::from_pointee(UpstreamMap::new()));
        let supervisor = Supervisor::new(map, vec![Arbiter::current(); SHARDS], CAP, Arc::default()).start();
        let concurrency = Concurrency { initial: limit, min: limit, max: limit, ..Concurrency::default() };
        let service: ServiceId = "shop/payments".parse().expect("a name of a service");
        let directory = Directory {
            services: vec![DirectoryService {
                service: service.clone(),
                identity: "spiffe://shop.local/ns/shop/sa/payments".parse().expect("an identity"),
                ports: Vec::new(),
                endpoints: (1..=ENDPOINTS).map(endpoint).collect(),
                traffic: Some(ClientTraffic { concurrency: Some(concurrency), ..ClientTraffic::default() }),
            }],
            app: Some(ServerTraffic { concurrency, ..ServerTraffic::default() }),
        };
        supervisor.send(directory).await.expect("the supervisor runs");
        let key = match work {
            Work::Outbound => Key::Service(service),
            Work::Inbound | Work::Control => Key::AppPort(APP_PORT),
        };
        let ensured = supervisor.send(Ensure { key }).await.expect("the supervisor runs");
        Self { work, limit, upstream: ensured.expect("the directory lists it") }
    }

    /// Steps a second of these shards together, which begin at once; the time is that of the last to end. `None`: one of
    /// them had to wait for a core.
    async fn rate(&self, shards: &[&Shard], round: Duration) -> Option<f64> {
        let registry = StatsRegistry::new();
        let start = Instant::now() + LEAD;
        let ran = shards.iter().map(|shard| {
            let (tell, told) = oneshot::channel();
            let (id, case, recorder) = (shard.id, self.clone(), ShardRecorder::new(&registry));
            let sent = shard.arbiter.spawn_fn(move || {
                actix_rt::spawn(async move {
                    let caller = Caller::new(case.work, id, case.upstream, Rc::new(recorder));
                    let ran = caller.run(case.limit / 4, start, round).await;
                    tell.send(ran).ok().expect("somebody waits for it");
                });
            });
            assert!(sent, "a shard runs until the end");
            told
        });
        let ran = futures_util::future::join_all(ran.collect::<Vec<_>>()).await;
        let ran: Vec<_> = ran.into_iter().map(|ran| ran.expect("no shard panicked")).collect();
        let leases = &self.upstream.leases;
        assert_eq!((leases.limit(), leases.in_use()), (self.limit, 0), "every permit came back");
        let ended = ran.iter().map(|ran| ran.ended).max().expect("some shards ran");
        let steps: u32 = ran.iter().map(|ran| ran.steps).sum();
        let rate = f64::from(steps) / (ended - start).as_secs_f64();
        (round.is_zero() || ran.iter().all(|ran| ran.on_core >= ON_CORE_MIN)).then_some(rate)
    }

    /// Each shard alone and both together, in turn, so that what disturbs the machine for longer disturbs both.
    async fn measure(
        &self,
        shards: &[Shard; SHARDS],
        rounds: usize,
        round: Duration,
    ) -> Result<Figures, Case> {
        let [first, second] = shards;
        let (mut one, mut two) = (Vec::new(), Vec::new());
        let mut tries = 0;
        while one.len() < rounds {
            if tries == rounds * TRIES {
                return Err(self.clone());
            }
            let alone = if tries % 2 == 0 { first } else { second };
            let pair = (self.rate(&[alone], round).await, self.rate(&[first, second], round).await);
            if let (Some(alone), Some(both)) = pair {
                one.push(alone);
                two.push(both);
            }
            tries += 1;
        }
        Ok(Figures {
            work: self.work,
            limit: self.limit,
            nanos: Spread::of(one.iter().map(|rate| 1e9 / rate).collect()),
            scaling: Spread::of(one.iter().zip(&two).map(|(one, two)| two / one).collect()),
            one: Spread::of(one),
            two: Spread::of(two),
            tries,
        })
    }
}

struct Shard {
    id: usize,
    arbiter: Arbiter,
}

/// Arguments after `--`. Cargo itself gives `--bench` where it was asked for benchmarks.
struct Args {
    is_bench: bool,
    json: bool,
    rounds: usize,
}

impl Args {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self { is_bench: false, json: false, rounds: ROUNDS };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "--bench" => parsed.is_bench = true,
                "-o" => parsed.json = value()? == "json",
                "--rounds" => {
                    let rounds = value()?.parse().ok().filter(|rounds| *rounds > 0);
                    parsed.rounds = rounds.ok_or("--rounds takes a number from 1")?;
                }
                // What the harness of tests takes, for one, which runs this too.
                _ => {}
            }
        }
        Ok(parsed)
    }
}

/// Up to the first for which the machine was too busy.
async fn measure_all(rounds: usize, round: Duration) -> Result<Vec<Figures>, Case> {
    let shards = [0, 1].map(|id| Shard { id, arbiter: Arbiter::new() });
    let cases = [Work::Outbound, Work::Inbound].map(|work| LIMITS.map(|limit| (work, limit)));
    let mut all = Vec::new();
    for (work, limit) in cases.into_iter().flatten().chain([(Work::Control, CAP)]) {
        all.push(Case::new(work, limit).await.measure(&shards, rounds, round).await?);
    }
    Ok(all)
}

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let (rounds, round) = if args.is_bench { (args.rounds, ROUND) } else { (1, Duration::ZERO) };
    let all = match actix_rt::System::new().block_on(measure_all(rounds, round)) {
        Ok(all) => all,
        Err(Case { work, limit, .. }) => {
            eprintln!(
                "{work}, limit {limit}: the machine is too busy, its threads had to wait for a core in nearly every round"
            );
            return ExitCode::FAILURE;
        }
    };
    if args.json {
        println!("{}", serde_json::json!(all));
    } else {
        print(&all);
    }
    if !args.is_bench || all.iter().all(Figures::reaches_goals) {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "a goal is missed: at most {NANOS_MAX} ns, and {SCALING_MIN} times the throughput on two threads"
    );
    ExitCode::FAILURE
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], 14006))
}

fn endpoint(n: u8) -> Endpoint {
    Endpoint { sidecar: format!("{n:02x}").parse().expect("hex"), address: address(n) }
}
