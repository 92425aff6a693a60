//! The end of an export: the head is made of what was staged, and the blocks become the bundle.

use std::ops::ControlFlow;

use transship_bundle::{
    Bill, LeftOut, MAX_BLOCKS, bundle_metadata, encode_head, end_block, end_block_id, head_blocks,
};
use transship_model::{Code, Counters, Failure};
use transship_registry::Walked;
use transship_storage::{BlockId, Condition, ETag, StorageError};
use transship_telemetry::{BlobResult, Direction, Outcome as ArtifactOutcome};

use crate::assemble::{Assembled, assemble};
use crate::content::Unit;
use crate::export::{Attempt, Committed, PartExport};
use crate::left_out::results;
use crate::manifests::StagedManifests;
use crate::staged::{Id, Staging};

impl PartExport<'_> {
    /// Stages what is left, and commits. Where the blob has changed meanwhile, it decides what this attempt comes to.
    pub(crate) async fn commit(
        &self,
        walked: &Walked,
        manifests: &StagedManifests,
        units: &[Unit],
        staging: &Staging,
        condition: &Condition,
    ) -> Result<Attempt, Failure> {
        let work = self.work;
        let Assembled { mut table, failed } = assemble(walked, manifests, units);
        if table.artifacts.is_empty() {
            let (reference, failure) = failed.first().cloned().ok_or_else(|| {
                Failure::permanent(Code::ConfigurationInvalid, "the part names no artifact")
            })?;
            return Err(failure.while_doing(reference));
        }
        let left_out: Vec<LeftOut> =
            failed.into_iter().map(|(reference, failure)| LeftOut::new(reference, &failure)).collect();
        for LeftOut { reference, code, message, .. } in &left_out {
            tracing::warn!(blob = %self.blob, %reference, %code, message, "the artifact is left out");
        }
        let bill =
            Bill::new(&work.execution, work.part, self.context.traceparent.clone()).leaving_out(&left_out);
        let (head, catalog_digest) = encode_head(&mut table, &bill, manifests.length);
        let ids = self.stage_frame(&head, manifests, units, staging).await?;
        refuse_too_many_blocks(ids.len() as u64)?;
        fail::fail_point!("exporter.head_staged");
        let metadata = bundle_metadata(&work.execution, work.part, &catalog_digest);
        let committed = self.container.commit(&self.blob, &ids, &metadata, condition).await;
        fail::fail_point!("exporter.committed");
        let etag = match committed {
            Ok(etag) => etag,
            // Somebody else committed meanwhile, or the answer to our own commit was lost: look again.
            Err(StorageError::ConditionFailed { .. } | StorageError::InvalidBlockList { .. }) => {
                return match self.standing().await? {
                    ControlFlow::Break(attempt) => Ok(attempt),
                    ControlFlow::Continue(_) => Err(self.changed()),
                };
            }
            Err(error) => return Err(error.into()),
        };
        let content: u64 = units.iter().map(|unit| unit.length).sum();
        let length = head.len() as u64 + manifests.length + content + end_block().len() as u64;
        self.verify(&etag, length).await?;
        let counters = self.counters(manifests, units, table.artifacts.len(), left_out.len());
        self.measure(&counters);
        let artifacts = table.artifacts.len() as u64;
        let failed = results(left_out);
        Ok(Attempt::Committed(Committed { etag, length, catalog_digest, artifacts, failed, counters }))
    }

    /// Compares the length of the bundle that was committed: another worker that held the same part, and was told so
    /// too late, may have staged other blocks under the same identifiers.
    async fn verify(&self, etag: &ETag, length: u64) -> Result<(), Failure> {
        let properties = self.container.properties(&self.blob).await?;
        match properties.filter(|properties| properties.etag == *etag) {
            Some(properties) if properties.length != length => {
                let (container, blob, actual) = (self.container.url(), &self.blob, properties.length);
                let message = format!("the blob {blob} in {container} has {actual} bytes, not {length}");
                Err(Failure::permanent(Code::BundleInvalid, message)
                    .with_hint("delete the blob, and run the export again"))
            }
            // Replaced or deleted since: what that is is not for this attempt to judge.
            _ => Ok(()),
        }
    }

    fn changed(&self) -> Failure {
        let (container, blob) = (self.container.url(), &self.blob);
        let message = format!("the blob {blob} in {container} changed while it was staged");
        Failure::transient(Code::SourceChanged, message)
            .with_hint("something else writes to this name: give each run a name of its own")
    }

    /// Stages head and end, and returns every identifier in the order of the blob.
    async fn stage_frame(
        &self,
        head: &[u8],
        manifests: &StagedManifests,
        units: &[Unit],
        staging: &Staging,
    ) -> Result<Vec<BlockId>, Failure> {
        let mut ids: Vec<Id> = Vec::new();
        staging.stage_once(&end_block_id(), end_block().into()).await?;
        for (id, block) in head_blocks(head) {
            staging.stage_once(&id, bytes::Bytes::copy_from_slice(block)).await?;
            ids.push(id);
        }
        ids.extend(&manifests.ids);
        ids.extend(units.iter().flat_map(|unit| &unit.ids));
        ids.push(end_block_id());
        self.context.metrics.bytes(Direction::Written, staging.staged_bytes());
        Ok(ids.iter().map(|id| BlockId::new(id.as_slice())).collect())
    }

    fn measure(&self, counters: &Counters) {
        let metrics = &self.context.metrics;
        metrics.artifacts(ArtifactOutcome::Moved, counters.artifacts_moved);
        metrics.artifacts(ArtifactOutcome::Failed, counters.artifacts_failed);
        metrics.blobs(BlobResult::Moved, counters.blobs_moved);
        metrics.blobs(BlobResult::Skipped, counters.blobs_skipped);
        metrics.bytes(Direction::Read, counters.bytes_moved);
    }

    /// The final counts, which reconcile: what was neither moved nor failed was there already.
    fn counters(
        &self,
        manifests: &StagedManifests,
        units: &[Unit],
        carried: usize,
        failed: usize,
    ) -> Counters {
        let members = || units.iter().flat_map(|unit| &unit.members);
        let stored = |m: &&crate::content::Member| m.place.is_some();
        let manifest_bytes: u64 = manifests.stored.iter().map(|manifest| manifest.size).sum();
        let stored_bytes: u64 = members().filter_map(|member| Some(member.place?.size)).sum();
        let bytes_failed: u64 = members().filter(|m| m.place.is_none()).map(|m| m.blob.declared).sum();
        let now = self.context.progress.counters();
        let bytes_moved =
            (self.work.carried.bytes_moved + now.bytes_moved).min(manifest_bytes + stored_bytes);
        let blobs = (manifests.stored.len() + members().filter(stored).count()) as u64;
        let blobs_moved = (self.work.carried.blobs_moved + now.blobs_moved).min(blobs);
        Counters {
            artifacts_discovered: (carried + failed) as u64,
            artifacts_moved: carried as u64,
            artifacts_skipped: 0,
            artifacts_failed: failed as u64,
            blobs_discovered: (manifests.stored.len() + members().count()) as u64,
            blobs_moved,
            blobs_mounted: 0,
            blobs_skipped: blobs - blobs_moved,
            bytes_discovered: manifest_bytes + stored_bytes + bytes_failed,
            bytes_moved,
            bytes_skipped: manifest_bytes + stored_bytes - bytes_moved,
            bytes_failed,
        }
    }
}

/// Refuses a bundle of more blocks than a blob can have: before its bytes move, and again where declared sizes were wrong.
pub(crate) fn refuse_too_many_blocks(blocks: u64) -> Result<(), Failure> {
    // The head, which is not encoded yet, and the end take few.
    const SPARE: u64 = 64;
    if blocks + SPARE <= MAX_BLOCKS {
        return Ok(());
    }
    let message = format!("the bundle would have {blocks} blocks, and a blob has at most {MAX_BLOCKS}");
    Err(Failure::permanent(Code::LimitExceeded, message)
        .with_hint("split the run: fewer or smaller artifacts a part"))
}
