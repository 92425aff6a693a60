//! State that survives: what was asked for is written before it is answered, what was heard before it is
//! acknowledged.

mod records;

pub use records::{
    Action, DeadLetter, Origin, OutboxItem, OutboxRow, PipelineSnapshot, Queue, ResourceRecord, RunKind,
    RunRecord, RunState, SeenBlob, SeenVerdict,
};
