//! What a work item is about, whichever queue it is for.

use transship_messages::{CopyRequested, ExportPart, ImportRequested, WorkItem};
use transship_model::{ContainerUrl, Execution, Part, Stage};

use super::records::Queue;

/// What a work item is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// The execution.
    pub execution: Execution,
    /// The part.
    pub part: Part,
    /// The stage that does it.
    pub stage: Stage,
    /// The container at the end of its way, where it is one of several.
    pub target: Option<ContainerUrl>,
}

impl Work {
    /// What a message of this queue is about; `None` where it cannot be understood.
    pub fn of(queue: Queue, body: &[u8]) -> Option<Self> {
        fn of<W: WorkItem>(body: &[u8], stage: Stage) -> Option<Work> {
            let work = W::decode(body).ok()?;
            let (execution, part, target) = (work.execution().clone(), work.part(), work.target().cloned());
            Some(Work { execution, part, stage, target })
        }
        match queue {
            Queue::ExporterParts => of::<ExportPart>(body, Stage::Exporter),
            Queue::BlobCopierCopies => of::<CopyRequested>(body, Stage::BlobCopier),
            Queue::ImporterImports => of::<ImportRequested>(body, Stage::Importer),
        }
    }
}
