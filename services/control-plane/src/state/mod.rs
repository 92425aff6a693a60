//! State that survives: what was asked for is written before it is answered, what was heard before it is
//! acknowledged.
//!
//! One code base for SQLite and PostgreSQL. Whatever writes goes through one [`writer`], which makes one
//! transaction of what waits for it; readers have connections of their own.

mod claims;
mod dead_letters;
mod deployments;
mod error;
mod every;
mod file;
mod folding;
mod leases;
mod listing;
mod outbox;
mod parts;
mod put;
mod records;
mod resources;
mod retention;
mod runs;
mod schedules;
mod schema;
mod sightings;
mod standings;
mod store;
mod triggers;
mod turns;
mod values;
mod waiting;
mod work;
mod writer;

pub use claims::{ClaimedPut, ImportClaim};
pub use error::StoreError;
pub use records::{
    Action, Claim, DeadLetter, DeadLetterLine, Folded, NewDeadLetter, NewExecution, NewRun, Origin,
    OutboxItem, OutboxRow, PartRecord, PipelineSnapshot, PutOutcome, Queue, ResourceRecord, RunDecision,
    RunKind, RunRecord, RunState, SeenBlob, SeenVerdict, StartObstacle, TagState,
};
pub use standings::RunStands;
pub use store::Store;
pub use work::Work;
