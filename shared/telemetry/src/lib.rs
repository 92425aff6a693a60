//! **Owns** the inventory of metrics, the set-up of logs and traces, the propagation of the trace context
//! through messages, and the redaction of text.
//! **May know** Prometheus, OpenTelemetry, and of the model its stages, codes and counters.
//! **Never knows** the broker, storage, registries or bundles; and no label of a metric is ever a digest, tag,
//! run or blob.

mod export;
pub mod inventory;
mod label;
mod log;
mod metrics;
mod propagation;
mod redact;
mod setup;

pub use label::{
    BlobResult, BusCondition, CopyMode, Direction, LabelValue, MessageOutcome, Outcome, PartOutcome, Share,
    SlotState,
};
pub use log::LogFormat;
pub use metrics::{Metrics, PartInFlight};
pub use propagation::{
    MessageSpan, Relation, TraceContext, current_trace_id, inject, process_span, record_failure, send_span,
};
pub use redact::{HIDDEN, redact};
pub use setup::{Tracing, TracingError, TracingSettings};
