//! One experiment: a steady mesh under load, a fault, and a judgement of what callers saw.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::time::sleep;

use crate::client::ask;
use crate::fleet::{Fleet, LOOK_PERIOD, START_MAX};
use crate::load::{Load, Sample};
use crate::plan::{Part, Plan, Pod};
use crate::report::{Check, Event, Report, failures};
use crate::scenario::Scenario;

/// Load before the fault, in which nothing may fail: else what comes after it shows nothing.
const STEADY: Duration = Duration::from_secs(2);
/// Load after all is said to be well again, so that a late failure is seen.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// Orders in a row that must succeed before the load begins: endpoints become known one after another at the start.
const ORDERS_IN_A_ROW: u32 = 20;
/// The requests that came in at a sidecar. It begins at nothing with each process.
pub const SERVED: &str = "outrider_inbound_requests_total";

#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub rate_per_second: u32,
}

/// The mesh while an experiment is under way.
#[derive(Debug)]
pub struct Experiment<'a> {
    plan: &'a Plan,
    fleet: Fleet,
    load: Load,
    events: Vec<Event>,
}

/// Runs one scenario on a mesh of its own. An error says that the experiment could not be made, not that it failed.
///
/// May be cancelled: the processes end with the future.
pub async fn run(scenario: Scenario, plan: &Plan, options: Options) -> anyhow::Result<Report> {
    let fleet = Fleet::start(plan).await?;
    whole(plan.edge).await?;
    let load = Load::start(plan.edge, options.rate_per_second);
    sleep(STEADY).await;
    let mut experiment = Experiment { plan, fleet, load, events: Vec::new() };
    let injected = scenario.inject(&mut experiment).await?;
    sleep(AFTERWARDS).await;
    let Experiment { mut fleet, load, events, .. } = experiment;
    fleet.check()?;
    let samples = load.stop().await?;
    fleet.stop().await?;
    let mut checks = failures(&samples, injected.fault_at, scenario.tolerated());
    checks.extend(injected.checks);
    steady_before(&samples, injected.fault_at)?;
    Ok(Report::new(scenario, options.rate_per_second, events, checks, &samples))
}

/// What a scenario did.
#[derive(Debug)]
pub struct Injected {
    /// From the load's beginning.
    pub fault_at: Duration,
    /// What it looked at besides the callers.
    pub checks: Vec<Check>,
}

fn steady_before(samples: &[Sample], fault_at: Duration) -> anyhow::Result<()> {
    // What was under way when the fault came is its victim.
    let mut before = samples.iter().filter(|sample| sample.due + sample.took < fault_at);
    match before.find_map(|sample| sample.failure.as_ref()) {
        Some(failure) => bail!("the shop was not steady before the fault: {failure}"),
        None => Ok(()),
    }
}

/// Until orders succeed one after another.
async fn whole(edge: SocketAddr) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut in_a_row = 0;
    let mut last = String::new();
    while in_a_row < ORDERS_IN_A_ROW {
        match tokio::time::timeout(START_MAX, ask(edge, "POST", "/api/orders")).await {
            Ok(Ok(answer)) if answer.status == 201 => in_a_row += 1,
            other => {
                in_a_row = 0;
                last = format!("{other:?}");
                sleep(LOOK_PERIOD).await;
            }
        }
        if begun.elapsed() >= START_MAX {
            bail!("the shop takes no orders after {} s: {last}", START_MAX.as_secs());
        }
    }
    Ok(())
}

impl<'a> Experiment<'a> {
    pub fn control_plane(&self) -> &'a Part {
        &self.plan.control_plane
    }

    pub fn pods(&self) -> &'a [Pod] {
        &self.plan.pods
    }

    pub fn pod(&self, app: &str) -> anyhow::Result<&'a Pod> {
        self.plan.pod(app).with_context(|| format!("the mesh has no {app}"))
    }

    /// Puts down that something happened now.
    pub fn mark(&mut self, what: impl Into<String>) -> Duration {
        let at = self.load.elapsed();
        self.events.push(Event { at, what: what.into() });
        at
    }

    pub async fn kill(&mut self, part: &Part) -> anyhow::Result<Duration> {
        let at = self.mark(format!("{} killed", part.name));
        self.fleet.kill(part).await?;
        Ok(at)
    }

    /// SIGTERM; its exit code must be 0.
    pub async fn end(&mut self, part: &Part) -> anyhow::Result<Check> {
        self.mark(format!("{} asked to end", part.name));
        let exit = self.fleet.end(part).await?;
        self.mark(format!("{} ended ({exit})", part.name));
        Ok(Check::new(
            format!("{} ends when asked to", part.name),
            "exit code 0",
            exit.to_string(),
            exit.success(),
        ))
    }

    /// Starts it again, and waits until it is in service. Nothing within `max` is no error, but a finding.
    pub async fn restart(&mut self, part: &'a Part, max: Duration) -> anyhow::Result<Check> {
        self.mark(format!("{} started again", part.name));
        self.fleet.launch(part)?;
        let took = match self.fleet.ready(part, max).await {
            Ok(took) => {
                self.mark(format!("{} ready", part.name));
                Ok(took)
            }
            Err(error) => Err(error.to_string()),
        };
        Ok(Check::within(format!("{} is ready again", part.name), max, took))
    }

    /// Waits until a counter or gauge is at least 1 at the sidecars of all these pods.
    pub async fn reach_one(&mut self, pods: &[Pod], metric: &str, what: &str, max: Duration) -> Check {
        let begun = Instant::now();
        for pod in pods {
            while sum(pod.health, metric).await.is_none_or(|sum| sum < 1.0) {
                if begun.elapsed() >= max {
                    let missing = format!("not seen at {}", pod.sidecar.name);
                    return Check::within(what.to_owned(), max, Err(missing));
                }
                sleep(LOOK_PERIOD).await;
            }
        }
        self.mark(what);
        Check::within(what.to_owned(), max, Ok(begun.elapsed()))
    }

    /// A fault at an instance that nobody calls would show nothing.
    pub async fn is_called(&self, pod: &Pod) -> anyhow::Result<()> {
        match sum(pod.health, SERVED).await {
            Some(served) if served >= 1.0 => Ok(()),
            _ => bail!("{} was not called before the fault", pod.app.name),
        }
    }
}

/// All lines of a metric together; `None` where there is none, or no answer.
async fn sum(health: SocketAddr, metric: &str) -> Option<f64> {
    let answer =
        tokio::time::timeout(Duration::from_secs(1), ask(health, "GET", "/metrics")).await.ok()?.ok()?;
    let page = String::from_utf8(answer.body).ok()?;
    page.lines()
        .filter(|line| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['{', ' '])))
        .map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()))
        .try_fold(None, |sum: Option<f64>, value| Some(Some(sum.unwrap_or(0.0) + value?)))
        .flatten()
}
