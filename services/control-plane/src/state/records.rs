//! What the control plane remembers: resources, runs, their parts, and what is still to be done for them.

mod asked;
mod message;
mod run;
mod seen;

use transship_api::{Kind, ResourceId};

pub use asked::{NewExecution, NewRun, PutOutcome, RunDecision};
pub use message::{
    DeadLetter, DeadLetterLine, Folded, NewDeadLetter, OutboxItem, OutboxRow, Queue, StartObstacle,
};
pub use run::{Action, Origin, PartRecord, PipelineSnapshot, RunKind, RunRecord, RunState};
pub use seen::{Claim, SeenBlob, SeenVerdict, TagState};

/// A pipeline or route. Runs are [`RunRecord`]s.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourceRecord {
    /// The order in which resources were made, oldest first. A replacement keeps it.
    pub seq: i64,
    /// The identifier as its maker wrote it.
    pub id: ResourceId,
    /// Which kind.
    pub kind: Kind,
    /// The resource as it is served, in JSON.
    pub body: String,
    /// Who made it.
    pub created_by: String,
    /// When, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Who changed it last.
    pub modified_by: String,
    /// When, in milliseconds since the Unix epoch.
    pub modified_ms: i64,
}
