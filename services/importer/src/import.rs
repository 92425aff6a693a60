//! The order of an import: tags are looked at, the target is surveyed, then blobs, manifests, referrers and
//! signatures, tags; and the bundle is deleted last, where the pipeline says so.

use serde_bytes::ByteBuf;
use transship_messages::ImportRequested;
use transship_model::Failure;
use transship_stage::Outcome;
use transship_telemetry::{BlobResult, Outcome as Became};

use crate::blobs::move_blobs;
use crate::counting::count;
use crate::fallback::put_fallbacks;
use crate::ledger::Ledger;
use crate::manifests::put_manifests;
use crate::report::{facts, failure, message};
use crate::run::Import;
use crate::survey::survey;
use crate::tags::{check_tags, put_cosign_tags, put_tags, wanted};

impl Import<'_> {
    /// Imports. Every step looks at the target first, so a repeated import ends in the same state.
    ///
    /// # Errors
    /// Without `ContinueOnErrors` the first failure; with it, that of the first artifact where all of them failed.
    pub(crate) async fn run(&self) -> Result<Outcome<ImportRequested>, Failure> {
        let mut ledger = Ledger::new(&self.plan, self.pipeline.options.continue_on_errors);
        self.announce();
        self.refuse(&ledger)?;
        check_tags(self, &mut ledger).await?;
        self.refuse(&ledger)?;
        let wanted = wanted(self, &mut ledger).await?;
        let surveys = survey(self, &wanted.roots, &mut ledger).await?;
        fail::fail_point!("importer.surveyed");
        if !move_blobs(self, &surveys, &mut ledger).await? {
            return Ok(Outcome::Continue { rest: self.next_slice(ledger).await });
        }
        fail::fail_point!("importer.blobs_moved");
        put_manifests(self, &surveys, &mut ledger).await?;
        fail::fail_point!("importer.manifests_put");
        self.go_on()?;
        put_fallbacks(self, &wanted, &mut ledger).await?;
        put_cosign_tags(self, &wanted, &mut ledger).await?;
        ledger.settle(&self.plan);
        self.refuse(&ledger)?;
        fail::fail_point!("importer.referrers_put");
        self.go_on()?;
        put_tags(self, &mut ledger).await?;
        self.refuse(&ledger)?;
        fail::fail_point!("importer.tags_put");
        self.delete(&mut ledger).await;
        Ok(self.done(&ledger))
    }

    /// A shutdown is seen between two steps too, however quick the target answers.
    fn go_on(&self) -> Result<(), Failure> {
        if self.context.cancel.is_cancelled() { Err(Failure::interrupted()) } else { Ok(()) }
    }

    /// Says what there is to do.
    fn announce(&self) {
        let (carried, everything) = (self.work.carried, &self.plan.everything);
        let bytes = everything.values().sum();
        self.context.progress.count(|c| {
            c.artifacts_discovered = self.plan.artifacts.len() as u64;
            c.blobs_discovered = everything.len() as u64;
            c.bytes_discovered = bytes;
            c.blobs_moved = carried.blobs_moved;
            c.blobs_mounted = carried.blobs_mounted;
            c.bytes_moved = carried.bytes_moved;
        });
    }

    /// Without `ContinueOnErrors` one failed artifact ends the import; with it, only all of them do.
    fn refuse(&self, ledger: &Ledger) -> Result<(), Failure> {
        let some_alive = (0..self.plan.artifacts.len()).any(|index| ledger.is_alive(index));
        if ledger.continues() && some_alive {
            return Ok(());
        }
        failure(&self.plan, ledger).map_or(Ok(()), Err)
    }

    /// The same work, one slice later, with what was moved so far and where the uploads stand. Uploads that the
    /// message cannot hold are given up.
    async fn next_slice(&self, ledger: Ledger) -> ImportRequested {
        let counters = count(&self.plan, &self.contents, &ledger, &self.work.carried);
        let mut rest = self.work.clone();
        rest.slice += 1;
        rest.carried.blobs_moved = counters.blobs_moved;
        rest.carried.blobs_mounted = counters.blobs_mounted;
        rest.carried.bytes_moved = counters.bytes_moved;
        let paused = ledger.paused;
        let (sealed, left) = match &self.seal {
            Some(seal) => seal.seal(&rest, self.target.host(), paused),
            None => (None, paused),
        };
        rest.sealed_upload = sealed.map(ByteBuf::from);
        self.abandon(left).await;
        rest
    }

    /// Deletes the bundle, where the pipeline says so and all of it is imported: every artifact, and whatever
    /// belongs to one. It is imported either way, so a deletion that fails is told and fails nothing.
    async fn delete(&self, ledger: &mut Ledger) {
        let all = (0..self.plan.artifacts.len()).all(|index| ledger.is_alive(index));
        if !(self.pipeline.options.delete_source_blob_on_success && all) {
            return;
        }
        if ledger.leaves_out {
            ledger
                .notes
                .push("the bundle is not deleted, since it holds more than the target has".to_owned());
            return;
        }
        match self.bundle.delete().await {
            Ok(()) => fail::fail_point!("importer.bundle_deleted"),
            Err(failure) => {
                tracing::warn!(%failure, "the bundle is imported and could not be deleted");
                ledger.notes.push(format!("the bundle could not be deleted: {failure}"));
            }
        }
    }

    fn done(&self, ledger: &Ledger) -> Outcome<ImportRequested> {
        let counters = count(&self.plan, &self.contents, ledger, &self.work.carried);
        self.context.progress.count(|c| *c = counters);
        let metrics = &self.context.metrics;
        metrics.artifacts(Became::Moved, counters.artifacts_moved);
        metrics.artifacts(Became::Skipped, counters.artifacts_skipped);
        metrics.artifacts(Became::Failed, counters.artifacts_failed);
        let carried = &self.work.carried;
        metrics.blobs(BlobResult::Moved, counters.blobs_moved);
        metrics.blobs(BlobResult::Mounted, counters.blobs_mounted);
        metrics.blobs(BlobResult::Skipped, counters.blobs_skipped);
        tracing::info!(blob = %self.work.blob, slices = self.work.slice + 1, carried = carried.bytes_moved, moved = counters.bytes_moved, skipped = counters.bytes_skipped, "imported");
        let message = message(&self.plan, ledger);
        let catalog = &self.contents.catalog().catalog_digest;
        let facts = facts(self.work, catalog, &self.plan, ledger, counters, message);
        Outcome::Done { facts, next: Vec::new() }
    }
}
