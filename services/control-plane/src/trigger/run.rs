//! Runs that start by themselves: their names, their claims, and how they are put.

use jiff::Timestamp;
use transship_api::{ErrorDetail, Kind, ResourceId, RunEnd, RunRequest};
use transship_model::{BlobName, ContainerUrl};

use crate::random::{guid, hex};
use crate::state::{
    Claim, NewExecution, NewRun, Origin, PipelineSnapshot, PutOutcome, RunDecision, RunKind, RunRecord,
    Store, StoreError,
};

/// How often another name is tried where one is taken: of 65,536 names a second few are.
const NAMES: u32 = 8;

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
        let id = format!("run-{}", hex::<12>());
        NewExecution::Own(id.parse().expect("hexadecimal digits are fine in an identity"))
    }

    /// A resource id for it that nobody else is likely to have.
    pub(crate) fn fresh_id(&self) -> ResourceId {
        let name = run_name(self.pipeline.name(), self.now_ms, &hex::<2>());
        self.pipeline.parent().child(Kind::PipelineRun, &name)
    }

    /// Puts it under `id`, or under a fresh one where another run has that. Put twice under one id it is one run.
    pub(crate) async fn put(&self, store: &Store, id: ResourceId) -> Result<ResourceId, StoreError> {
        let mut id = id;
        let mut tries = 0;
        loop {
            let new = self.new_run(id.clone());
            let outcome = store
                .put_run(&id, move |existing| match existing {
                    None => RunDecision::Start(Box::new(new)),
                    Some(run) if run.request == new.request && run.origin != Origin::Request => {
                        RunDecision::Same
                    }
                    Some(_) => RunDecision::Refuse(409, ErrorDetail::default()),
                })
                .await?;
            match outcome {
                PutOutcome::Started(run) | PutOutcome::Unchanged(run) => return Ok(run.id),
                PutOutcome::Refused { .. } if tries < NAMES => {
                    tries += 1;
                    id = self.fresh_id();
                }
                PutOutcome::Refused { .. } => {
                    // Every name of this second is taken: the next second has others.
                    return Box::pin(
                        Self { now_ms: self.now_ms + 1000, ..self.clone() }.put(store, self.fresh_id()),
                    )
                    .await;
                }
            }
        }
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
            operation: format!("pipelineruns-{}", guid(&hex::<16>())),
            request,
            force_update_tag: None,
            origin: self.origin.clone(),
            pipeline: self.snapshot.clone(),
            blob: self.blob.clone(),
            traceparent: format!("00-{}-{}-01", hex::<16>(), hex::<8>()),
            by: self.by.to_owned(),
            now_ms: self.now_ms,
        }
    }
}

/// Whose import a blob is: claims it for a run with the id `id`.
pub(super) async fn claim(
    store: &Store,
    automatic: &Automatic,
    etag: &str,
    id: &ResourceId,
) -> Result<Claim, StoreError> {
    let url = blob_url(&automatic.snapshot.container, &automatic.blob);
    store.claim_import(&automatic.pipeline.key(), &url, etag, id).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_starts_by_itself_is_named_after_pipeline_and_time() {
        assert_eq!(run_name("Inbox", 1_767_225_661_000, "0af3"), "Inbox_20260101000101_0af3");
    }
}
