//! What a stage is to the harness: a value in, a value out.

use async_trait::async_trait;
use transship_bus::WorkQueue;
use transship_messages::{CopyRequested, FactBody, ImportRequested, WorkItem};
use transship_model::{Failure, Stage};

use crate::Context;

/// The verb of a stage.
#[async_trait]
pub trait Verb: Send + Sync + 'static {
    /// The work that it takes.
    type Work: WorkItem;
    /// Which stage this is.
    const STAGE: Stage;
    /// The queue that its work comes from.
    const QUEUE: WorkQueue;

    /// Does the work. Every effect may run twice and must end in the same state; the first one is to look
    /// whether it is done already.
    ///
    /// # Errors
    /// A [`Failure`] that says of itself what may be done about it.
    async fn handle(&self, work: &Self::Work, context: &Context) -> Result<Outcome<Self::Work>, Failure>;
}

/// Work for the next stage.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a piece of work is followed by a handful of these, once")]
pub enum FollowUp {
    /// For the blob-copier.
    Copy(CopyRequested),
    /// For the importer.
    Import(ImportRequested),
}

/// What a stage did.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome<W> {
    /// The work is done: first this work is published, then these facts.
    Done {
        /// What happened.
        facts: Vec<FactBody>,
        /// What comes next.
        next: Vec<FollowUp>,
    },
    /// The slice is over, and the rest is this work.
    Continue {
        /// The same part, the next slice.
        rest: W,
    },
    /// A newer execution owns the blob: nothing is to be done.
    Superseded,
}
