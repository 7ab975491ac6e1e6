//! Spans on their way to a collector, by OTLP over gRPC or HTTP.
//!
//! A collector that is down or slow never slows a request: a span is handed over by a `try_send` into a bounded queue, and
//! what does not fit is dropped and counted. Batches are built and sent by a thread of their own, which exists only if an
//! endpoint is configured: a sidecar without a collector pays nothing. Export is off unless
//! `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or `OTEL_TRACES_EXPORTER=otlp` is set, so that an
//! idle sidecar does not knock at a port that nobody opened.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::SpanRecord;

mod convert;
mod settings;
#[cfg(test)]
mod tests;
mod tls;
mod worker;

pub use settings::{ExportSettings, Protocol, SettingsError, TracerIdentity};
pub use tls::{ClientFiles, TlsError, TlsFiles};

/// How long [`Tracer::shutdown`] waits for the last spans. 2 s: a drain must not outlive its grace for the sake of traces.
const SHUTDOWN_MAX: Duration = Duration::from_secs(2);

/// Whether spans go anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exporting {
    On,
    Off,
}

/// Why the exporter did not start.
#[derive(Debug, thiserror::Error)]
pub enum TracerError {
    #[error("the settings for exporting traces")]
    Settings(#[from] SettingsError),
    #[error("TLS to the collector at {endpoint}")]
    Tls { endpoint: String, source: TlsError },
    #[error("building the OTLP exporter for {endpoint}")]
    Exporter { endpoint: String, source: opentelemetry_otlp::ExporterBuildError },
    #[error("{endpoint} is no address of a collector")]
    Endpoint { endpoint: String, source: tonic::transport::Error },
    #[error("starting the thread that exports traces")]
    Thread(#[source] std::io::Error),
}

/// Where finished spans are handed in; cloned for each shard.
#[derive(Debug, Clone)]
pub struct Tracer(Option<Arc<Handle>>);

#[derive(Debug)]
struct Handle {
    queue: mpsc::Sender<SpanRecord>,
    counts: Arc<Counts>,
    /// Set to true to end the worker.
    stop: watch::Sender<bool>,
    /// Closed by the worker when it has ended.
    ended: watch::Receiver<()>,
}

/// Several shards write these, but only for spans that are exported.
#[derive(Debug, Default)]
struct Counts {
    exported: AtomicU64,
    dropped_queue_full: AtomicU64,
    dropped_export_failed: AtomicU64,
}

/// What became of the spans since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TraceCounts {
    pub exported: u64,
    pub dropped_queue_full: u64,
    /// The collector refused them, or did not answer in time.
    pub dropped_export_failed: u64,
}

impl Tracer {
    /// Takes spans nowhere.
    pub fn off() -> Self {
        Self(None)
    }

    /// As the `OTEL_*` variables of the process say; off where they name no collector.
    pub fn from_environment(identity: &TracerIdentity) -> Result<Self, TracerError> {
        match ExportSettings::from_variables(identity, |name| std::env::var(name).ok())? {
            None => Ok(Self::off()),
            Some(settings) => Self::start(settings),
        }
    }

    /// Takes spans to a test.
    #[cfg(test)]
    pub(super) fn captured() -> (Self, mpsc::Receiver<SpanRecord>) {
        let (queue, spans) = mpsc::channel(64);
        let (stop, _) = watch::channel(false);
        let (_, ended) = watch::channel(());
        (Self(Some(Arc::new(Handle { queue, counts: Arc::default(), stop, ended }))), spans)
    }

    /// Starts the thread that exports.
    pub fn start(settings: ExportSettings) -> Result<Self, TracerError> {
        let (queue, spans) = mpsc::channel(settings.queue_spans_max);
        let (stop, stopped) = watch::channel(false);
        let (alive, ended) = watch::channel(());
        let counts = Arc::<Counts>::default();
        worker::spawn(settings, worker::Inlets { spans, stopped, counts: Arc::clone(&counts), alive })?;
        Ok(Self(Some(Arc::new(Handle { queue, counts, stop, ended }))))
    }

    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    pub fn exporting(&self) -> Exporting {
        if self.is_on() { Exporting::On } else { Exporting::Off }
    }

    /// Never waits: a span that finds the queue full is dropped and counted.
    pub fn submit(&self, span: SpanRecord) {
        let Some(handle) = &self.0 else { return };
        if handle.queue.try_send(span).is_err() {
            handle.counts.dropped_queue_full.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn counts(&self) -> TraceCounts {
        let Some(handle) = &self.0 else { return TraceCounts::default() };
        TraceCounts {
            exported: handle.counts.exported.load(Ordering::Relaxed),
            dropped_queue_full: handle.counts.dropped_queue_full.load(Ordering::Relaxed),
            dropped_export_failed: handle.counts.dropped_export_failed.load(Ordering::Relaxed),
        }
    }

    /// Sends what is queued, for at most two seconds; what then is left is dropped and counted. Cancelled: the thread
    /// still ends by the same bound.
    pub async fn shutdown(&self) {
        let Some(handle) = &self.0 else { return };
        // Nobody listens if the thread has ended already, which is what is asked for.
        let _ = handle.stop.send(true);
        let mut ended = handle.ended.clone();
        // The worker never sends: it closes the channel by ending. Its own bound is the shorter one.
        let _ =
            tokio::time::timeout(SHUTDOWN_MAX * 2, async { while ended.changed().await.is_ok() {} }).await;
    }
}
