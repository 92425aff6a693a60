//! The verb: one part becomes one bundle.

use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::time::Instant;
use transship_bundle::{
    ContentPlan, Opened, PlannedBlob, Precedence, Segment, open, plan_content, precedence,
};
use transship_bus::WorkQueue;
use transship_messages::{CopyRequested, ExportPart, FactBody, RouteTaken};
use transship_model::{BlobName, Code, Counters, Digest, Failure, Route, Stage};
use transship_registry::{RegistryClients, Source, Walked};
use transship_stage::{Context, FollowUp, Outcome, Verb};
use transship_storage::{Access, BlobProperties, Condition, Container, Containers, ETag};

use crate::assemble::wanted_blobs;
use crate::commit::refuse_too_many_blocks;
use crate::content::{Lookup, SliceOver, attempt_ends, content_ends, stage_content};
use crate::left_out::{results, told_again};
use crate::staged::Staging;
use crate::walking::walk;

/// Bounds of one export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExportSettings {
    /// Questions to the registry at once while walking.
    pub parallel_asks: usize,
    /// Blobs, or groups of small ones, at once.
    pub parallel_blobs: usize,
    /// Ranges of one blob that are read at once.
    pub parallel_reads: usize,
    /// Blocks of one blob that are staged at once.
    pub parallel_stages: usize,
}

impl Default for ExportSettings {
    fn default() -> Self {
        Self { parallel_asks: 16, parallel_blobs: 4, parallel_reads: 3, parallel_stages: 3 }
    }
}

impl ExportSettings {
    /// What is wrong with the section `export`, as key and problem.
    pub(crate) fn check(&self) -> Vec<(String, String)> {
        let Self { parallel_asks, parallel_blobs, parallel_reads, parallel_stages } = *self;
        let bounds = [
            ("export.parallel_asks", parallel_asks),
            ("export.parallel_blobs", parallel_blobs),
            ("export.parallel_reads", parallel_reads),
            ("export.parallel_stages", parallel_stages),
        ];
        let zero = bounds.into_iter().filter(|(_, value)| *value == 0);
        zero.map(|(key, _)| (key.to_owned(), "must be at least 1".to_owned())).collect()
    }
}

/// The exporter.
pub struct Exporter {
    sources: RegistryClients<dyn Source>,
    containers: Arc<Containers>,
    routes: Vec<Route>,
    settings: ExportSettings,
}

/// A bundle that is committed.
pub(crate) struct Committed {
    pub(crate) etag: ETag,
    pub(crate) length: u64,
    pub(crate) catalog_digest: Digest,
    pub(crate) artifacts: u64,
    pub(crate) failed: Vec<transship_messages::ArtifactResult>,
    pub(crate) counters: Counters,
}

/// What one attempt came to.
pub(crate) enum Attempt {
    Committed(Committed),
    Superseded,
    SliceOver,
}

#[async_trait]
impl Verb for Exporter {
    type Work = ExportPart;
    const STAGE: Stage = Stage::Exporter;
    const QUEUE: WorkQueue = WorkQueue::ExporterParts;

    async fn handle(&self, work: &ExportPart, context: &Context) -> Result<Outcome<ExportPart>, Failure> {
        let blob = work
            .blob
            .of_part(work.part)
            .map_err(|error| Failure::permanent(Code::ConfigurationInvalid, error.to_string()))?;
        let unknown = || {
            Failure::permanent(
                Code::ConfigurationInvalid,
                format!("the exporter has no registry {}", work.registry),
            )
            .with_hint("add it to [registries] in the exporter's configuration")
        };
        let source = self.sources.get(&work.registry)?.ok_or_else(unknown)?;
        let container =
            self.containers.open(&work.container, work.container_secret.as_ref(), Access::WRITE).await?;
        let began = Instant::now();
        let part = PartExport { work, blob, source, container, context, settings: &self.settings, began };
        match part
            .run()
            .await
            .map_err(|failure| failure.while_doing(format_args!("export to {}", part.blob)))?
        {
            Attempt::Committed(committed) => Ok(self.done(work, &part.blob, committed)),
            Attempt::Superseded => Ok(Outcome::Superseded),
            Attempt::SliceOver => Ok(Outcome::Continue { rest: next_slice(work, context) }),
        }
    }
}

/// The same part, one slice later, with what was moved so far.
fn next_slice(work: &ExportPart, context: &Context) -> ExportPart {
    let mut rest = work.clone();
    rest.slice += 1;
    rest.carried.bytes_moved += context.progress.counters().bytes_moved;
    rest.carried.blobs_moved += context.progress.counters().blobs_moved;
    rest
}

impl Exporter {
    /// An exporter that knows these registries and routes.
    pub fn new(
        sources: impl Into<RegistryClients<dyn Source>>,
        containers: Arc<Containers>,
        routes: Vec<Route>,
        settings: ExportSettings,
    ) -> Self {
        Self { sources: sources.into(), containers, routes, settings }
    }

    /// The facts and the next work of a bundle that is there.
    fn done(&self, work: &ExportPart, blob: &BlobName, committed: Committed) -> Outcome<ExportPart> {
        let routes = work.routes.as_ref().unwrap_or(&self.routes);
        let routes: Vec<&Route> =
            routes.iter().filter(|route| route.applies(&work.container, blob)).collect();
        let taken = routes.iter().map(|route| RouteTaken {
            target: route.target.clone(),
            import_pipeline: route.import_pipeline.clone(),
        });
        let fact = FactBody::BundleExported {
            container: work.container.clone(),
            blob: blob.clone(),
            etag: committed.etag.0.clone(),
            length: committed.length,
            catalog_digest: committed.catalog_digest.clone(),
            counters: committed.counters,
            failed: committed.failed,
            routes: taken.collect(),
        };
        let copy = |route: &&Route| {
            FollowUp::Copy(CopyRequested {
                execution: work.execution.clone(),
                part: work.part,
                source_secret: work.container_secret.clone(),
                blob: blob.clone(),
                etag: committed.etag.0.clone(),
                length: committed.length,
                artifacts: committed.artifacts,
                catalog_digest: committed.catalog_digest.clone(),
                route: (*route).clone(),
                slice: 0,
                carried: Counters::default(),
            })
        };
        Outcome::Done { facts: vec![fact], next: routes.iter().map(copy).collect() }
    }
}

/// One export of one part.
pub(crate) struct PartExport<'a> {
    pub(crate) work: &'a ExportPart,
    pub(crate) blob: BlobName,
    source: Arc<dyn Source>,
    pub(crate) container: Arc<dyn Container>,
    pub(crate) context: &'a Context,
    settings: &'a ExportSettings,
    began: Instant,
}

impl PartExport<'_> {
    async fn run(&self) -> Result<Attempt, Failure> {
        match self.standing().await? {
            ControlFlow::Continue(condition) => self.stage_and_commit(condition).await,
            ControlFlow::Break(attempt) => Ok(attempt),
        }
    }

    /// Under which condition the bundle may be committed; or what this attempt comes to, by the blob that is there.
    pub(crate) async fn standing(&self) -> Result<ControlFlow<Attempt, Condition>, Failure> {
        let Some(properties) = self.container.properties(&self.blob).await? else {
            return Ok(ControlFlow::Continue(Condition::Absent));
        };
        match precedence(&properties.metadata, &self.work.execution, self.work.options.overwrite_blobs) {
            Precedence::Done => {
                Ok(ControlFlow::Break(Attempt::Committed(self.already_there(properties).await?)))
            }
            Precedence::Superseded => Ok(ControlFlow::Break(Attempt::Superseded)),
            Precedence::Replace => Ok(ControlFlow::Continue(Condition::Matches(properties.etag))),
            Precedence::Exists => {
                let (container, blob) = (self.container.url(), &self.blob);
                Err(Failure::permanent(Code::BlobExists, format!("{container} already has a blob {blob}"))
                    .with_hint("choose another name, or set OverwriteBlobs to replace it"))
            }
        }
    }

    /// This execution's bundle is there: an earlier attempt committed it. What it says of itself is told again.
    async fn already_there(&self, properties: BlobProperties) -> Result<Committed, Failure> {
        let read = |range| self.container.read(&self.blob, range, Some(&properties.etag));
        let opened = open(properties.length, read).await.map_err(|error| match error {
            transship_bundle::OpenError::Read(error) => error.into(),
            other => Failure::permanent(Code::BundleInvalid, other.to_string()),
        })?;
        let Opened { catalog, .. } = opened;
        let left_out = told_again(&self.work.artifacts, &catalog.artifacts, catalog.bill.as_ref());
        let artifacts = catalog.artifacts.len() as u64;
        let length = properties.length;
        Ok(Committed {
            etag: properties.etag,
            length,
            catalog_digest: catalog.catalog_digest,
            artifacts,
            failed: results(left_out),
            counters: Counters {
                artifacts_discovered: self.work.artifacts.len() as u64,
                artifacts_moved: artifacts,
                artifacts_failed: (self.work.artifacts.len() as u64).saturating_sub(artifacts),
                bytes_discovered: length,
                bytes_skipped: length,
                ..Counters::default()
            },
        })
    }

    async fn stage_and_commit(&self, condition: Condition) -> Result<Attempt, Failure> {
        let (work, context) = (self.work, self.context);
        context.progress.count(|c| c.artifacts_discovered = work.artifacts.len() as u64);
        let (container, blob) = (Arc::clone(&self.container), self.blob.clone());
        let mut staging = Staging::open(container, blob, &condition).await?;
        let asks = self.settings.parallel_asks;
        let (walked, manifests) =
            walk(work.artifacts.clone(), &*self.source, &staging, context, asks).await?;
        self.refuse_failed(&walked)?;
        fail::fail_point!("exporter.walked");
        let now = Instant::now();
        staging.end_by(attempt_ends(self.began, now));
        let staging = Arc::new(staging);
        let slice_ends = content_ends(self.began, context.slice_ends, now);
        let context = &Context { slice_ends, ..context.clone() };
        let plan = plan(&walked);
        refuse_too_many_blocks(planned_blocks(&plan) + manifests.ids.len() as u64)?;
        self.announce_plan(&plan);
        let lookup = Lookup {
            source: Arc::clone(&self.source),
            blobs: walked.blobs.clone(),
            continue_on_errors: work.options.continue_on_errors,
        };
        let shared = Arc::clone(&staging);
        let units = match stage_content(plan, lookup, shared, context, self.settings).await? {
            Ok(units) => units,
            Err(SliceOver) => return Ok(Attempt::SliceOver),
        };
        fail::fail_point!("exporter.content_staged");
        self.commit(&walked, &manifests, &units, &staging, &condition).await
    }

    /// Without `ContinueOnErrors` the first artifact that cannot be carried fails the part; with it, only the
    /// lack of any other does.
    fn refuse_failed(&self, walked: &Walked) -> Result<(), Failure> {
        for warning in &walked.warnings {
            tracing::warn!(blob = %self.blob, "{warning}");
        }
        let failed = || {
            walked
                .artifacts
                .iter()
                .filter_map(|(reference, result)| Some((reference, result.as_ref().err()?)))
        };
        let Some((reference, failure)) = failed().next() else { return Ok(()) };
        if self.work.options.continue_on_errors && failed().count() < walked.artifacts.len() {
            return Ok(());
        }
        let others = failed().count() - 1;
        let more = if others == 0 { String::new() } else { format!(" (and {others} more)") };
        let mut failure = failure.clone().while_doing(reference);
        failure.message.push_str(&more);
        Err(failure)
    }

    fn announce_plan(&self, plan: &ContentPlan) {
        let progress = &self.context.progress;
        for blob in plan.groups.iter().flatten().chain(&plan.large) {
            progress.count(|c| {
                c.blobs_discovered += 1;
                c.bytes_discovered = c.bytes_discovered.saturating_add(blob.declared);
            });
        }
        progress.announce(FactBody::PartPlanned { counters: progress.counters() });
    }
}

/// Only what carried artifacts need is moved.
fn plan(walked: &Walked) -> ContentPlan {
    let wanted = wanted_blobs(walked);
    let blobs = walked.blobs.iter().filter(|(digest, _)| wanted.contains(digest));
    plan_content(blobs.map(|(digest, blob)| PlannedBlob { digest: digest.clone(), declared: blob.declared }))
}

/// How many blocks the content takes where the declared sizes are right.
fn planned_blocks(plan: &ContentPlan) -> u64 {
    let large =
        plan.large.iter().map(|blob| u64::from(Segment::new(&blob.digest, blob.declared).block_count()));
    plan.groups.len() as u64 + large.sum::<u64>()
}
