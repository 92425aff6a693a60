//! The inventory: every family of metrics that a stage service exposes, in one table. Names follow the
//! [naming rules of Prometheus](https://prometheus.io/docs/practices/naming): one prefix, base units, `_total`
//! for counters. A test holds the rules; another holds the exposition to this table.

use transship_model::{Code, Stage};

use crate::label::{
    BlobResult, BusCondition, CopyMode, Direction, LabelValue, MessageOutcome, Outcome, PartOutcome, Share,
    SlotState,
};

/// What kind of metric a family is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only grows, and starts at 0 with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in buckets.
    Histogram {
        /// The upper bounds, in the unit of the name; `+Inf` follows by itself.
        buckets: &'static [f64],
    },
}

/// A label and every value that it can have.
#[derive(Clone, Copy)]
pub struct Label {
    /// The name.
    pub name: &'static str,
    /// Every value, over all stages.
    pub values: fn() -> Vec<&'static str>,
}

/// A family of metrics.
#[derive(Clone, Copy)]
pub struct Family {
    /// The full name.
    pub name: &'static str,
    /// What it says, for a person.
    pub help: &'static str,
    /// The kind.
    pub kind: Kind,
    /// The labels. At most one of them varies within a process; `stage`, `queue` and `version` do not.
    pub labels: &'static [Label],
}

/// The version of this build, the value of `version`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The queue that a process consumes, the value of `queue`.
pub fn queue_of(stage: Stage) -> &'static str {
    match stage {
        Stage::Exporter => "exporter.parts",
        Stage::BlobCopier => "blob-copier.copies",
        Stage::Importer => "importer.imports",
        Stage::ControlPlane => "control-plane.facts",
    }
}

const STAGES: [Stage; 4] = [Stage::Exporter, Stage::BlobCopier, Stage::Importer, Stage::ControlPlane];

fn texts<L: LabelValue>() -> Vec<&'static str> {
    L::all().iter().map(|value| value.text()).collect()
}

const STAGE: Label = Label { name: "stage", values: || STAGES.iter().map(|stage| stage.name()).collect() };
const QUEUE: Label = Label { name: "queue", values: || STAGES.iter().copied().map(queue_of).collect() };
const BUILD_VERSION: Label = Label { name: "version", values: || vec![VERSION] };

const fn closed<L: LabelValue>(name: &'static str) -> Label {
    Label { name, values: texts::<L> }
}

macro_rules! families {
    ($($id:ident: $kind:expr, $name:literal, [$($label:expr),*], $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $id: Family = Family { name: $name, help: $help, kind: $kind, labels: &[$($label),*] };
        )+

        /// Every family, except those about the process that the Prometheus client itself names `process_*`.
        pub const ALL: &[Family] = &[$($id),+];
    };
}

/// From a small manifest to a slice of ten minutes and what may come after it, in seconds.
const STAGE_SECONDS: Kind = Kind::Histogram {
    buckets: &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0],
};
/// From a broker at rest to the time-out of a confirm, in seconds.
const PUBLISH_SECONDS: Kind = Kind::Histogram {
    buckets: &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0],
};

families! {
    BUILD_INFO: Kind::Gauge, "transship_build_info", [BUILD_VERSION, STAGE],
        "The version of the service; always 1.";
    ARTIFACTS: Kind::Counter, "transship_artifacts_total", [STAGE, closed::<Outcome>("outcome")],
        "Artifacts that the stage has finished, by outcome.";
    BYTES: Kind::Counter, "transship_bytes_total", [STAGE, closed::<Direction>("direction")],
        "Bytes of content that the stage has read from its source and written to its target.";
    BLOBS: Kind::Counter, "transship_blobs_total", [STAGE, closed::<BlobResult>("result")],
        "Blobs and manifests that the stage has finished, by result.";
    PARTS: Kind::Counter, "transship_parts_total", [STAGE, closed::<PartOutcome>("outcome")],
        "Parts of runs that have ended in the stage, by outcome.";
    STAGE_DURATION: STAGE_SECONDS, "transship_stage_duration_seconds", [STAGE],
        "How long the stage worked on one delivery, from taking it to settling it.";
    PARTS_IN_FLIGHT: Kind::Gauge, "transship_parts_in_flight", [STAGE],
        "Parts that the stage works on now.";
    WORKER_SLOTS: Kind::Gauge, "transship_worker_slots", [STAGE, closed::<SlotState>("state")],
        "Worker slots of the service, used and free.";
    RETRIES: Kind::Counter, "transship_retries_total", [STAGE, closed::<Code>("reason")],
        "Repetitions of a call or of a delivery, by the code of the failure before them.";
    ERRORS: Kind::Counter, "transship_errors_total", [STAGE, closed::<Code>("code")],
        "Failures that ended a delivery or an artifact, by code.";
    MESSAGES: Kind::Counter, "transship_messages_total", [QUEUE, closed::<MessageOutcome>("outcome")],
        "Deliveries of the work queue that were settled, by how.";
    PUBLISH_DURATION: PUBLISH_SECONDS, "transship_publish_duration_seconds", [],
        "How long the broker took to confirm a batch of messages.";
    BYTE_BUDGET: Kind::Gauge, "transship_byte_budget_bytes", [closed::<Share>("state")],
        "The byte budget of the process: what buffers use, and the limit.";
    BUS_STATE: Kind::Gauge, "transship_bus_state", [closed::<BusCondition>("state")],
        "The state of the connection to the broker: 1 for the state that holds, 0 for the others.";
    LAST_SUCCESS: Kind::Gauge, "transship_last_success_timestamp_seconds", [STAGE],
        "When a part last succeeded in the stage, in seconds since the Unix epoch; 0 before the first.";
    COPY_MODE: Kind::Counter, "transship_copy_mode_total", [closed::<CopyMode>("mode")],
        "Bundles that were copied, by how.";
    PEAK_MEMORY: Kind::Gauge, "transship_peak_resident_memory_bytes", [],
        "The most resident memory that the process has had (VmHWM); 0 where the system does not tell.";
}
