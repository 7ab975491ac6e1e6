//! What can be seen from outside: trace context passed on, spans exported, metrics answered.
//!
//! The one place that knows OpenTelemetry's and Prometheus's libraries, since the former's tracing interface is not stable
//! yet. The data path sees [`TracePolicy`], [`TraceContext`], [`InboundSpan`], [`OutboundSpan`] and [`Tracer`] alone.
//!
//! ```text
//! request ─▶ TracePolicy::begin ─▶ TraceContext ─▶ InboundSpan | OutboundSpan ─▶ Tracer::submit ─▶ bounded queue
//!                                       │                                                         │ (full: counted)
//!                                       └─▶ TracePolicy::inject                        a thread of its own ─▶ OTLP
//! ```

mod context;
mod export;
pub mod log;
pub mod metrics;
mod span;

pub use context::{TraceContext, TracePolicy};
pub use export::{
    ClientFiles, ExportSettings, Exporting, Protocol, SettingsError, TlsError, TlsFiles, TraceCounts, Tracer,
    TracerError, TracerIdentity,
};
pub use span::{
    Ending, InboundSpan, OutboundSpan, Rpc, SampledBy, ServerAddress, SpanAttributes, SpanEvent, SpanKind,
    SpanRecord, SpanStart,
};
