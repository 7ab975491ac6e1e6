//! The thread that batches spans and sends them.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::{Counts, ExportSettings, Protocol, SHUTDOWN_MAX, TracerError, convert, tls};
use crate::telemetry::SpanRecord;

/// A collector that is away is complained of this often at most.
const COMPLAINT_INTERVAL: Duration = Duration::from_mins(1);

/// What the thread holds of its [`Tracer`](super::Tracer).
pub(super) struct Inlets {
    pub spans: mpsc::Receiver<SpanRecord>,
    pub stopped: watch::Receiver<bool>,
    pub counts: Arc<Counts>,
    /// Dropped when the thread ends.
    pub alive: watch::Sender<()>,
}

pub(super) fn spawn(settings: ExportSettings, inlets: Inlets) -> Result<(), TracerError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(TracerError::Thread)?;
    // The exporter's client wants a runtime around it from the start; `enter`, since the caller may be in one of its own.
    let built = {
        let _entered = runtime.enter();
        build(&settings)
    };
    let exporter = match built {
        Ok(exporter) => exporter,
        Err(error) => {
            // A runtime must not be dropped, which may wait, by an async caller.
            runtime.shutdown_background();
            return Err(error);
        }
    };
    let worker = Worker { settings, exporter, inlets, complained: None };
    std::thread::Builder::new()
        .name("outrider-traces".to_owned())
        .spawn(move || runtime.block_on(worker.run()))
        .map_err(TracerError::Thread)?;
    Ok(())
}

fn build(settings: &ExportSettings) -> Result<SpanExporter, TracerError> {
    let endpoint = || settings.endpoint.clone();
    let connector = match &settings.tls {
        None => None,
        Some(files) => {
            let connector = tls::connector(settings.protocol, files);
            Some(connector.map_err(|source| TracerError::Tls { endpoint: endpoint(), source })?)
        }
    };
    let built = match settings.protocol {
        Protocol::HttpProtobuf => {
            let builder = SpanExporter::builder()
                .with_http()
                .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                .with_endpoint(&settings.endpoint)
                .with_timeout(settings.timeout)
                .with_headers(settings.headers.iter().cloned().collect());
            match connector {
                None => builder.build(),
                Some(tls) => builder.with_http_client(HyperClient::new(tls, settings.timeout, None)).build(),
            }
        }
        Protocol::Grpc => {
            let builder = SpanExporter::builder()
                .with_tonic()
                .with_endpoint(&settings.endpoint)
                .with_timeout(settings.timeout)
                .with_metadata(metadata(&settings.headers));
            match connector {
                None => builder.build(),
                Some(tls) => {
                    let to = tonic::transport::Endpoint::from_shared(settings.endpoint.clone());
                    let to = to.map_err(|source| TracerError::Endpoint { endpoint: endpoint(), source })?;
                    let channel = to.timeout(settings.timeout).connect_with_connector_lazy(tls);
                    builder.with_channel(channel).build()
                }
            }
        }
    };
    let mut exporter = built.map_err(|source| TracerError::Exporter { endpoint: endpoint(), source })?;
    let attributes = settings.resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    exporter.set_resource(&Resource::builder_empty().with_attributes(attributes).build());
    Ok(exporter)
}

fn metadata(headers: &[(String, String)]) -> MetadataMap {
    let legal = headers.iter().filter_map(|(name, value)| {
        Some((http::HeaderName::try_from(name).ok()?, http::HeaderValue::try_from(value).ok()?))
    });
    MetadataMap::from_headers(legal.collect())
}

struct Worker {
    settings: ExportSettings,
    exporter: SpanExporter,
    inlets: Inlets,
    complained: Option<Instant>,
}

impl Worker {
    /// Until it is told to stop, or the last [`Tracer`](super::Tracer) is gone; then sends what is queued within
    /// [`SHUTDOWN_MAX`], and counts the rest as dropped.
    async fn run(mut self) {
        let mut stopped = self.inlets.stopped.clone();
        let mut batch = Vec::new();
        let deadline = loop {
            // Cancelled by the stop alone: the batch is ours, so no span that was received is lost with it.
            let ended = tokio::select! {
                ended = fill(&mut self.inlets.spans, &mut batch, &self.settings) => ended,
                _ = stopped.wait_for(|stop| *stop) => break Instant::now() + SHUTDOWN_MAX,
            };
            let mut export = pin!(self.export(&mut batch));
            tokio::select! {
                () = &mut export => {}
                _ = stopped.wait_for(|stop| *stop) => {
                    let deadline = Instant::now() + SHUTDOWN_MAX;
                    // What is cut off here is counted by the export itself.
                    let _ = tokio::time::timeout_at(deadline, export).await;
                    break deadline;
                }
            }
            if ended == Filled::Ended {
                break Instant::now();
            }
        };
        // Whatever the bound cuts off is counted by the export itself.
        let _ = tokio::time::timeout_at(deadline, self.flush(batch)).await;
        add(&self.inlets.counts.dropped_export_failed, self.inlets.spans.len());
        drop(self.inlets.alive);
    }

    async fn flush(&mut self, mut batch: Vec<SpanRecord>) {
        self.inlets.spans.close();
        loop {
            while batch.len() < self.settings.batch_spans_max {
                let Ok(span) = self.inlets.spans.try_recv() else { break };
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            self.export(&mut batch).await;
        }
    }

    /// Sends `batch` and leaves it empty; cancelled, its spans count as dropped.
    async fn export(&mut self, batch: &mut Vec<SpanRecord>) {
        if batch.is_empty() {
            return;
        }
        let spans = std::mem::take(batch);
        let mut unsent = Unsent { spans: spans.len(), counts: &self.inlets.counts };
        let scope = convert::scope();
        let data = spans.into_iter().map(|span| convert::span_data(span, scope.clone())).collect();
        // The library bounds retries by its timeout, but not the attempt that is under way.
        let sent = tokio::time::timeout(self.settings.timeout, self.exporter.export(data)).await;
        let error = match sent {
            Ok(Ok(())) => {
                add(&self.inlets.counts.exported, std::mem::take(&mut unsent.spans));
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {:?}", self.settings.timeout),
        };
        drop(unsent);
        self.complain(&error);
    }

    fn complain(&mut self, error: &str) {
        let now = Instant::now();
        if self.complained.is_some_and(|last| now.duration_since(last) < COMPLAINT_INTERVAL) {
            return;
        }
        self.complained = Some(now);
        let dropped = self.inlets.counts.dropped_export_failed.load(Ordering::Relaxed);
        tracing::warn!(endpoint = %self.settings.endpoint, dropped, error, "the collector takes no spans");
    }
}

/// Spans that were taken from the queue and have not arrived: dropped, they are counted, whatever cut the export short.
struct Unsent<'c> {
    spans: usize,
    counts: &'c Counts,
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        add(&self.counts.dropped_export_failed, self.spans);
    }
}

#[derive(PartialEq, Eq)]
enum Filled {
    /// The batch is full, or its first span has waited long enough.
    Due,
    /// No span will come any more.
    Ended,
}

/// Waits for a first span, then for as many more as come in time.
async fn fill(
    spans: &mut mpsc::Receiver<SpanRecord>,
    batch: &mut Vec<SpanRecord>,
    settings: &ExportSettings,
) -> Filled {
    if spans.recv_many(batch, settings.batch_spans_max).await == 0 {
        return Filled::Ended;
    }
    let due = Instant::now() + settings.batch_delay;
    while batch.len() < settings.batch_spans_max {
        let room = settings.batch_spans_max - batch.len();
        match tokio::time::timeout_at(due, spans.recv_many(batch, room)).await {
            Err(_) => return Filled::Due,
            Ok(0) => return Filled::Ended,
            Ok(_) => {}
        }
    }
    Filled::Due
}

fn add(counter: &AtomicU64, spans: usize) {
    counter.fetch_add(spans.try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
}
