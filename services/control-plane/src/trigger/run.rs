//! Runs that start by themselves: their names, their claims, and how they are put.

use jiff::Timestamp;
use transship_api::{ErrorDetail, Kind, ResourceId, RunEnd, RunRequest};
use transship_model::{BlobName, ContainerUrl};

use crate::random::{self, hex};
use crate::state::{
    Claim, ClaimedPut, ImportClaim, NewExecution, NewRun, Origin, PipelineSnapshot, PutOutcome, RunDecision,
    RunKind, RunRecord, Store, StoreError,
};

/// The name of a run that starts by itself: `{pipeline}_{yyyyMMddHHmmss}_{4 hex}`, as Azure's own triggers name
/// theirs. Clients know such a run by the `_`.
pub(crate) fn run_name(pipeline: &str, now_ms: i64, suffix: &str) -> String {
    let at = Timestamp::from_millisecond(now_ms).unwrap_or_default();
    format!("{pipeline}_{}_{suffix}", at.strftime("%Y%m%d%H%M%S"))
}

/// What an import is known by, whatever started it: see [`Store::claim_import`].
fn blob_url(container: &ContainerUrl, blob: &BlobName) -> String {
    format!("{container}/{blob}")
}

/// Claims the import of one blob for `run`, which somebody asked for, so that the source trigger of its pipeline
/// leaves the blob alone. A run of several parts claims each. Where another run has it already, that one is told; a
/// run that a person asked for goes on all the same, and what is at the target already is skipped.
///
/// # Errors
/// Where the store fails.
pub async fn claim_for_run(
    store: &Store,
    run: &RunRecord,
    blob: &BlobName,
    etag: &str,
) -> Result<Claim, StoreError> {
    let pipeline = run.pipeline.id.to_ascii_lowercase();
    store.claim_import(&pipeline, &blob_url(&run.pipeline.container, blob), etag, &run.id).await
}

/// The version of a blob whose import `run` has; `None` where it has none.
///
/// # Errors
/// Where the store fails.
pub async fn claimed_etag(
    store: &Store,
    run: &RunRecord,
    blob: &BlobName,
) -> Result<Option<String>, StoreError> {
    let pipeline = run.pipeline.id.to_ascii_lowercase();
    store.claimed_etag(&pipeline, &blob_url(&run.pipeline.container, blob), &run.id).await
}

/// Which run imports a blob.
pub(super) enum Imported {
    /// This one, which was put for it.
    By(ResourceId),
    /// The one that has it already; it may be deleted since.
    ByAnother(String),
}

/// A run that is to be put under a name that is free.
#[derive(Debug, Clone)]
pub(crate) struct Automatic {
    /// The pipeline's resource id.
    pub(crate) pipeline: ResourceId,
    /// The pipeline as it is.
    pub(crate) snapshot: PipelineSnapshot,
    /// The blob.
    pub(crate) blob: BlobName,
    /// Of an export, what it carries.
    pub(crate) artifacts: Vec<String>,
    /// What started it.
    pub(crate) origin: Origin,
    /// What it carries out.
    pub(crate) execution: NewExecution,
    /// Who starts it.
    pub(crate) by: &'static str,
    /// Now, in milliseconds since the Unix epoch.
    pub(crate) now_ms: i64,
}

impl Automatic {
    /// An execution of its own.
    pub(crate) fn own_execution() -> NewExecution {
        NewExecution::Own(random::execution())
    }

    /// A resource id for it that nobody else is likely to have.
    fn fresh_id(&self) -> ResourceId {
        let name = run_name(self.pipeline.name(), self.now_ms, &hex::<2>());
        self.pipeline.parent().child(Kind::PipelineRun, &name)
    }

    /// Puts it under a name that is free.
    pub(crate) async fn put(mut self, store: &Store) -> Result<ResourceId, StoreError> {
        loop {
            let (id, decide) = self.attempt();
            if let Some(put) = put_id(store.put_run(&id, decide).await?) {
                return Ok(put);
            }
            self.next_second();
        }
    }

    /// Puts it under a name that is free, and claims its blob in the version `etag`. The claim of the run
    /// `instead_of` is taken over.
    pub(super) async fn put_import(
        mut self,
        store: &Store,
        etag: &str,
        instead_of: Option<String>,
    ) -> Result<Imported, StoreError> {
        let claim = ImportClaim {
            pipeline: self.pipeline.key(),
            blob_url: blob_url(&self.snapshot.container, &self.blob),
            etag: etag.to_owned(),
            instead_of,
        };
        loop {
            let (id, decide) = self.attempt();
            match store.put_claimed_run(&id, claim.clone(), decide).await? {
                ClaimedPut::Taken { run } => return Ok(Imported::ByAnother(run)),
                ClaimedPut::Put(outcome) => {
                    if let Some(put) = put_id(*outcome) {
                        return Ok(Imported::By(put));
                    }
                }
            }
            self.next_second();
        }
    }

    /// Another name is tried: of 65,536 names a second few are taken.
    fn next_second(&mut self) {
        self.now_ms += 1000;
    }

    /// A fresh id, and what is decided about it: a run that has it already stays.
    fn attempt(&self) -> (ResourceId, impl FnOnce(Option<&RunRecord>) -> RunDecision + Send + 'static) {
        let id = self.fresh_id();
        let new = self.new_run(id.clone());
        let decide = move |existing: Option<&RunRecord>| match existing {
            None => RunDecision::Start(Box::new(new)),
            Some(_) => RunDecision::Refuse(409, ErrorDetail::default()),
        };
        (id, decide)
    }

    fn new_run(&self, id: ResourceId) -> NewRun {
        let end = || {
            Some(RunEnd {
                storage_type: Some("AzureStorageBlob".to_owned()),
                name: Some(self.blob.to_string()),
            })
        };
        let kind = match self.pipeline.resource {
            Some((Kind::ExportPipeline, _)) => RunKind::Export,
            _ => RunKind::Import,
        };
        let request = RunRequest {
            pipeline_resource_id: Some(self.pipeline.to_string()),
            artifacts: self.artifacts.clone(),
            source: (kind == RunKind::Import).then(end).flatten(),
            target: (kind == RunKind::Export).then(end).flatten(),
            catalog_digest: None,
        };
        NewRun {
            id,
            kind,
            location: None,
            execution: self.execution.clone(),
            operation: random::operation(),
            request,
            force_update_tag: None,
            origin: self.origin.clone(),
            pipeline: self.snapshot.clone(),
            blob: self.blob.clone(),
            traceparent: random::traceparent(),
            by: self.by.to_owned(),
            now_ms: self.now_ms,
        }
    }
}

/// The run that was put; `None` where its name is taken.
fn put_id(outcome: PutOutcome) -> Option<ResourceId> {
    match outcome {
        PutOutcome::Started(run) | PutOutcome::Unchanged(run) => Some(run.id),
        PutOutcome::Refused { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_starts_by_itself_is_named_after_pipeline_and_time() {
        assert_eq!(run_name("Inbox", 1_767_225_661_000, "0af3"), "Inbox_20260101000101_0af3");
    }
}
