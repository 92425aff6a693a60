//! One copy: look at both sides, plan, move, look again, commit.

use std::sync::Arc;

use transship_bundle::{announce, bundle_metadata, execution_of};
use transship_messages::{CopyMode, CopyRequested, FactBody, ImportRequested};
use transship_model::{Counters, Secret};
use transship_stage::{Context, FollowUp, Outcome as Ended};
use transship_storage::{BlobProperties, Block, Condition, ETag, Metadata, ReadContainer, WriteContainer};
use transship_telemetry::{CopyMode as CountedMode, Outcome};

use crate::decide::{SourceDecision, TargetDecision, decide_source, decide_target};
use crate::error::{CopyError, Side};
use crate::pairs::{Pair, Pairs};
use crate::tally::Tally;
use crate::transfer::{self, Ends, Way, stage_blocks};
use crate::{CopyPlan, CopySettings, PlannedBlock, SourceVersion, plan_copy};

/// How often a copy begins anew after something changed under it, within one delivery.
const LOOKS_AGAIN: u32 = 2;

/// The longest URL that a service reads from, in bytes ("Put Block From URL", `x-ms-copy-source`).
const LONGEST_COPY_SOURCE: usize = 2048;

/// One copy that is under way.
pub(crate) struct Job<'a> {
    pub(crate) ends: Ends,
    pub(crate) work: &'a CopyRequested,
    pub(crate) context: &'a Context,
    pub(crate) settings: &'a CopySettings,
    pub(crate) pairs: &'a Pairs,
    pub(crate) tally: Tally,
    /// Whether the target's service said of this copy that it cannot read the source itself.
    pub(crate) unsupported: bool,
}

impl Job<'_> {
    /// Copies the bundle, or as much of it as fits into the slice.
    pub(crate) async fn run(mut self) -> Result<Ended<CopyRequested>, CopyError> {
        let mut looks = 0;
        loop {
            match self.look().await {
                Ok(Some(ended)) => return Ok(ended),
                Ok(None) => self.unsupported = true,
                Err(error) if error.is_change() && looks < LOOKS_AGAIN => {
                    tracing::info!(%error, "something changed under the copy; looking again");
                    looks += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Looks at the work, and does what is left of it. `None` where the rest of the bytes must go another way.
    async fn look(&mut self) -> Result<Option<Ended<CopyRequested>>, CopyError> {
        let (ends, blob) = (self.ends.clone(), &self.work.blob);
        let found = ends.target.properties(blob).await.map_err(ends.failed(Side::Target, "look for"))?;
        let condition = match decide_target(found.as_ref(), self.work) {
            TargetDecision::Done(etag) => {
                let mode = self.tally.mode_when_found(self.streams());
                return Ok(Some(self.copied(&etag, mode)));
            }
            TargetDecision::Superseded => return Ok(Some(Ended::Superseded)),
            TargetDecision::Copying => {
                return Err(CopyError::TargetCopying {
                    container: ends.target.url().clone(),
                    blob: blob.clone(),
                });
            }
            TargetDecision::Exists => {
                return Err(CopyError::exists(ends.target.url(), blob, found.as_ref()));
            }
            TargetDecision::Write(condition) => condition,
        };
        let Some(source) = self.look_at_source().await? else { return Ok(Some(Ended::Superseded)) };
        let way = self.way();
        let plan = self.plan(&way, &condition).await?;
        match self.stage(plan.missing, &way).await? {
            transfer::Ended::Staged => {}
            transfer::Ended::SliceOver => return Ok(Some(self.next_slice())),
            transfer::Ended::Unsupported => return Ok(None),
        }
        fail::fail_point!("copier.staged");
        // Every block was read under the entity tag; this says that the metadata is of the same version.
        if self.look_at_source().await?.is_none() {
            return Ok(Some(Ended::Superseded));
        }
        let metadata = self.metadata(source);
        let committed = ends.target.commit(blob, &plan.order, &metadata, &condition).await;
        let etag = committed.map_err(ends.failed(Side::Target, "commit"))?;
        fail::fail_point!("copier.committed");
        Ok(Some(self.copied(&etag, self.tally.mode(self.streams()))))
    }

    /// The properties of the bundle that was exported; `None` where a newer execution took its name.
    async fn look_at_source(&self) -> Result<Option<BlobProperties>, CopyError> {
        let (ends, work) = (&self.ends, self.work);
        let found =
            ends.source.properties(&work.blob).await.map_err(ends.failed(Side::Source, "look for"))?;
        let (container, blob) = (|| ends.source.url().clone(), || work.blob.clone());
        match decide_source(found.as_ref(), work) {
            SourceDecision::Copy => Ok(found),
            SourceDecision::Superseded => Ok(None),
            SourceDecision::Missing => Err(CopyError::SourceMissing { container: container(), blob: blob() }),
            SourceDecision::Changed => {
                let found = found.map(|found| (found.etag.0, found.length)).unwrap_or_default();
                let difference = format!(
                    "expected entity tag {} and {} bytes, found {} and {}",
                    work.etag, work.length, found.0, found.1
                );
                Err(CopyError::SourceChanged { container: container(), blob: blob(), difference })
            }
        }
    }

    /// Whether the bytes must go through this process.
    fn streams(&self) -> bool {
        matches!(self.way(), Way::Streamed)
    }

    fn pair(&self) -> Pair {
        Pair::of(self.ends.source.url(), self.ends.target.url())
    }

    fn way(&self) -> Way {
        let fits = |url: &Secret| url.expose().len() <= LONGEST_COPY_SOURCE;
        // A service that no credential opens is given none of the source's either: the URL that it reads from has one.
        if self.work.route.target_secret.is_none() {
            return Way::Streamed;
        }
        match self.ends.source.copy_source(&self.work.blob).filter(fits) {
            Some(url) if !self.unsupported && !self.pairs.must_stream(&self.pair()) => Way::ServerSide(url),
            _ => Way::Streamed,
        }
    }

    async fn plan(&mut self, way: &Way, condition: &Condition) -> Result<CopyPlan, CopyError> {
        let (ends, work) = (&self.ends, self.work);
        let listed = ends.source.committed_blocks(&work.blob).await;
        let listed = listed.map_err(ends.failed(Side::Source, "list the blocks of"))?;
        let present = self.present(condition).await?;
        let largest = match way {
            Way::ServerSide(_) => u64::MAX,
            Way::Streamed => u64::from(self.context.budget.limit()),
        };
        let version = SourceVersion {
            container: ends.source.url(),
            blob: &work.blob,
            etag: &ends.etag,
            length: work.length,
        };
        let plan = plan_copy(&version, &listed, &present, largest)
            .map_err(|source| CopyError::Plan { blob: work.blob.clone(), source })?;
        self.tally.found(plan.present_bytes);
        self.context.progress.count(|counters| *counters = self.tally.under_way());
        Ok(plan)
    }

    /// The blocks that the target has: those of the blob that is replaced, then what is staged, which takes
    /// their place.
    async fn present(&self, condition: &Condition) -> Result<Vec<Block>, CopyError> {
        let (ends, blob) = (&self.ends, &self.work.blob);
        let mut present = Vec::new();
        if matches!(condition, Condition::Matches(_)) {
            let committed = ends.target.committed_blocks(blob).await;
            present = committed.map_err(ends.failed(Side::Target, "list the blocks of"))?;
        }
        let staged = ends.target.staged_blocks(blob).await;
        present.extend(staged.map_err(ends.failed(Side::Target, "list the staged blocks of"))?);
        Ok(present)
    }

    async fn stage(&mut self, missing: Vec<PlannedBlock>, way: &Way) -> Result<transfer::Ended, CopyError> {
        let ended =
            stage_blocks(&self.ends, missing, way, self.settings, self.context, &mut self.tally).await?;
        // Only after reading worked: the target's service also refuses where the source's token has expired,
        // which says nothing about the two services.
        if self.unsupported {
            self.pairs.remember(self.pair());
        }
        Ok(ended)
    }

    /// All of the source's metadata, and the import pipeline that the copy will be announced to. Where it names no
    /// execution, as on a bundle that came by hand, ours is named beside it, so that a repetition knows its own
    /// copy.
    fn metadata(&self, source: BlobProperties) -> Metadata {
        let mut metadata = source.metadata;
        if execution_of(&metadata).is_none() {
            let work = self.work;
            for (key, value) in bundle_metadata(&work.execution, work.part, &work.catalog_digest) {
                metadata.entry(key).or_insert(value);
            }
        }
        announce(&mut metadata, self.work.route.import_pipeline.as_ref());
        metadata
    }

    /// The same copy, one slice later.
    fn next_slice(&self) -> Ended<CopyRequested> {
        let mut rest = self.work.clone();
        rest.slice += 1;
        rest.carried = Counters { bytes_moved: self.tally.under_way().bytes_moved, ..Counters::default() };
        Ended::Continue { rest }
    }

    /// The copy is at the target with this entity tag.
    fn copied(&self, etag: &ETag, mode: CopyMode) -> Ended<CopyRequested> {
        let (work, metrics) = (self.work, &self.context.metrics);
        let counters = self.tally.at_end(mode);
        self.context.progress.count(|shown| *shown = counters);
        metrics.artifacts(Outcome::Moved, counters.artifacts_moved);
        metrics.artifacts(Outcome::Skipped, counters.artifacts_skipped);
        match mode {
            CopyMode::ServerSide => metrics.copy_mode(CountedMode::ServerSide),
            CopyMode::Streamed => metrics.copy_mode(CountedMode::Streamed),
            CopyMode::Present => {}
        }
        let fact = FactBody::BundleCopied {
            container: work.route.target.clone(),
            blob: work.blob.clone(),
            etag: etag.0.clone(),
            length: work.length,
            mode,
            counters,
        };
        let import = work.route.import_pipeline.as_ref().map(|pipeline| {
            FollowUp::Import(ImportRequested {
                execution: work.execution.clone(),
                part: work.part,
                pipeline: pipeline.clone(),
                destination: work.route.import_destination.clone(),
                container: work.route.target.clone(),
                blob: work.blob.clone(),
                etag: Some(etag.0.clone()),
                catalog_digest: Some(work.catalog_digest.clone()),
                slice: 0,
                carried: Counters::default(),
                sealed_upload: None,
            })
        });
        Ended::Done { facts: vec![fact], next: import.into_iter().collect() }
    }
}

impl<'a> Job<'a> {
    /// A copy that has not begun.
    pub(crate) fn new(
        source: Arc<dyn ReadContainer>,
        target: Arc<dyn WriteContainer>,
        work: &'a CopyRequested,
        context: &'a Context,
        settings: &'a CopySettings,
        pairs: &'a Pairs,
    ) -> Self {
        let ends = Ends { source, target, blob: work.blob.clone(), etag: ETag(work.etag.clone()) };
        Self { ends, work, context, settings, pairs, tally: Tally::of(work), unsupported: false }
    }
}
