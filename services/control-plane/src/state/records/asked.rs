//! Runs that are asked for, and what becomes of that.

use transship_api::{ErrorDetail, ResourceId, RunRequest};
use transship_model::{BlobName, Execution, ExecutionId};

use super::{Origin, PipelineSnapshot, RunKind, RunRecord};

/// A run to be made, or made again.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRun {
    /// The identifier as its maker wrote it.
    pub id: ResourceId,
    /// Whether it exports or imports.
    pub kind: RunKind,
    /// The location that the client sent.
    pub location: Option<String>,
    /// What it carries out.
    pub execution: NewExecution,
    /// The name of its long-running operation, never used before.
    pub operation: String,
    /// What was asked for.
    pub request: RunRequest,
    /// What makes the same request run again.
    pub force_update_tag: Option<String>,
    /// What started it.
    pub origin: Origin,
    /// The pipeline as it is.
    pub pipeline: PipelineSnapshot,
    /// The blob that was asked for.
    pub blob: BlobName,
    /// The W3C trace context of the run.
    pub traceparent: String,
    /// Who makes it.
    pub by: String,
    /// Now, in milliseconds since the Unix epoch.
    pub now_ms: i64,
}

/// What a new run carries out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewExecution {
    /// An execution of its own, which is started: the run waits, with a `Start` in the outbox. The identity is that
    /// of a run that was never made before; one that is made again keeps its own. The store gives the generation.
    Own(ExecutionId),
    /// Work of another execution that is under way already, such as the import that a copier asked for: nothing is
    /// started, and the run runs at once.
    Adopted {
        /// The other execution.
        execution: Execution,
        /// How many parts it has.
        parts: u32,
        /// The only part that the run is about, where it is not about all of them.
        only: Option<u32>,
    },
}

/// What to do about a run that is asked for.
#[derive(Debug)]
pub enum RunDecision {
    /// Make it, or make it again.
    Start(Box<NewRun>),
    /// It is there, and the same was asked for.
    Same,
    /// It cannot be: the HTTP status and why.
    Refuse(u16, ErrorDetail),
}

/// What became of a run that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum PutOutcome {
    /// It was made, or made again.
    Started(RunRecord),
    /// It was there.
    Unchanged(RunRecord),
    /// It cannot be.
    Refused {
        /// The HTTP status.
        status: u16,
        /// Why.
        error: ErrorDetail,
    },
}
