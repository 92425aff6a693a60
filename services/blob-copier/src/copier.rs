//! The verb.

use std::sync::Arc;

use async_trait::async_trait;
use transship_bus::WorkQueue;
use transship_messages::CopyRequested;
use transship_model::{Failure, Stage};
use transship_stage::{Context, Outcome, Verb};
use transship_storage::{Access, Containers, ReadContainer, WriteContainer};

use crate::CopySettings;
use crate::error::Side;
use crate::job::Job;
use crate::pairs::Pairs;

/// The blob-copier: takes `copy.requested`, and leaves a bundle in the target container that is the bundle in
/// the source container, block for block and with its metadata.
pub struct Copier {
    containers: Arc<Containers>,
    settings: CopySettings,
    pairs: Pairs,
}

impl Copier {
    /// A copier that finds the SAS tokens of both sides by way of `containers`.
    pub fn new(containers: Arc<Containers>, settings: CopySettings) -> Self {
        Self { containers, settings, pairs: Pairs::default() }
    }

    /// Copies the bundle that `work` names from `source` to `target`, whatever containers the work's route
    /// names. What [`Verb::handle`] does once both are open.
    ///
    /// # Errors
    /// See [`crate::CopyError`]; [`Failure::interrupted`] where the process shuts down.
    pub async fn copy(
        &self,
        source: Arc<dyn ReadContainer>,
        target: Arc<dyn WriteContainer>,
        work: &CopyRequested,
        context: &Context,
    ) -> Result<Outcome<CopyRequested>, Failure> {
        let job = Job::new(source, target, work, context, &self.settings, &self.pairs);
        context.progress.begin(work.blob.as_str());
        // Wherever this is cut off, the next attempt finds what is staged or committed.
        let result = context.unless_cancelled(job.run()).await;
        context.progress.end(work.blob.as_str());
        result
    }
}

#[async_trait]
impl Verb for Copier {
    type Work = CopyRequested;
    const STAGE: Stage = Stage::BlobCopier;
    const QUEUE: WorkQueue = WorkQueue::BlobCopierCopies;

    async fn handle(
        &self,
        work: &CopyRequested,
        context: &Context,
    ) -> Result<Outcome<CopyRequested>, Failure> {
        let route = &work.route;
        let opening = |side: Side| {
            move |failure: Failure| failure.while_doing(format_args!("open the {side} container"))
        };
        let source = self.containers.open(&route.source, work.source_secret.as_ref(), Access::READ);
        let source = source.await.map_err(opening(Side::Source))?;
        let target = self.containers.open(&route.target, route.target_secret.as_ref(), Access::WRITE);
        let target = target.await.map_err(opening(Side::Target))?;
        self.copy(source, target, work, context).await
    }
}
