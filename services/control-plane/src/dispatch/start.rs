//! Starting a run: its credential, its bundle, the broker; then its parts, in one transaction with what is to be
//! published for them.

use std::time::Duration;

use fail::fail_point;
use transship_bus::BusState;
use transship_model::Failure;
use transship_storage::{Access, ReadContainer};

use super::arrival::{Arrival, look_for};
use super::plan::{Bundle, plan_export, plan_import, publish_item};
use super::publish::later;
use super::{Dispatcher, Obstacle, StartVerdict, decide_on_its_way, decide_start};
use crate::clock::now_ms;
use crate::fold::PartState;
use crate::state::{
    Action, Claim, OutboxItem, OutboxRow, Queue, RunRecord, RunState, StartObstacle, StoreError,
};
use crate::trigger::claim_for_run;

/// How many exports of a name are looked at for one that brings a missing blob.
const EXPORTS: u32 = 16;

/// What a run comes to.
struct Planned {
    parts: Vec<(u32, PartState)>,
    publish: Vec<OutboxItem>,
}

/// Why it does not come to that now.
enum Halt {
    Obstacle(Obstacle),
    Store(StoreError),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Obstacle(Obstacle::Failure(failure))
    }
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Dispatcher {
    /// Does a `Start`. One whose run is gone, over or begun is done already.
    pub(super) async fn start(&self, row: OutboxRow) -> Result<(), StoreError> {
        let store = &self.core.store;
        let runs = store.runs_of_execution(&row.execution.id).await?;
        let waits = |run: &&RunRecord| {
            run.execution == row.execution && matches!(run.state, RunState::Waiting { .. })
        };
        let Some(run) = runs.iter().find(waits) else { return store.outbox_done(&[row.id]).await };
        let obstacle = match self.plan(run).await {
            Ok(planned) => {
                fail_point!("control.planned");
                store.begin_run(&run.execution, planned.parts, planned.publish, now_ms()).await?;
                fail_point!("control.started");
                self.core.wake.wake();
                return Ok(());
            }
            Err(Halt::Store(error)) => return Err(error),
            Err(Halt::Obstacle(obstacle)) => obstacle,
        };
        let (kind, now) = (obstacle.kind(), now_ms());
        let since_ms = row.obstacle.filter(|known| known.kind == kind).map_or(now, |known| known.since_ms);
        let waited = u64::try_from(now.saturating_sub(since_ms)).unwrap_or_default();
        match decide_start(obstacle, Duration::from_millis(waited), &self.settings) {
            StartVerdict::Wait { on, again_in } => {
                tracing::info!(run = %run.id, on, ?again_in, "a run waits");
                let obstacle = StartObstacle { kind: kind.to_owned(), since_ms };
                store.run_waits(&run.execution, on, obstacle, later(again_in)).await
            }
            StartVerdict::Fail(failure) => {
                tracing::warn!(run = %run.id, code = %failure.code, message = failure.message, "a run cannot start");
                // Another replica may have begun it meanwhile.
                if store.start_failed(&run.execution, run.kind, RunState::failed(&failure), now_ms()).await? {
                    fail_point!("control.ended");
                    self.core.ended.tell([run.id.clone()]);
                }
                Ok(())
            }
        }
    }

    async fn plan(&self, run: &RunRecord) -> Result<Planned, Halt> {
        let pipeline = &run.pipeline;
        let access = match &pipeline.action {
            Action::Export { .. } => Access::WRITE,
            Action::Import { destination, .. } if destination.options.delete_source_blob_on_success => {
                Access::READ_DELETE
            }
            Action::Import { .. } => Access::READ,
        };
        let container =
            self.preflight.open(&pipeline.container, pipeline.credential.as_ref(), access).await?;
        let planned = match &pipeline.action {
            Action::Export { .. } => self.plan_an_export(run)?,
            Action::Import { .. } => self.plan_an_import(run, &*container).await?,
        };
        // The last thing, since everything before can be told while the broker is away.
        match &*self.core.bus.state().borrow() {
            BusState::Ready => Ok(planned),
            BusState::Connecting { reason } if reason.is_empty() => {
                Err(Halt::Obstacle(Obstacle::Broker { reason: "it does not answer yet".to_owned() }))
            }
            BusState::Connecting { reason } | BusState::Blocked { reason } => {
                Err(Halt::Obstacle(Obstacle::Broker { reason: reason.clone() }))
            }
        }
    }

    fn plan_an_export(&self, run: &RunRecord) -> Result<Planned, Failure> {
        let work = plan_export(run, self.settings.part_size)?;
        let part = |work: &transship_messages::ExportPart| {
            (work.part.number, PartState::new(work.artifacts.iter().cloned()))
        };
        let publish = |work| publish_item(work, Queue::ExporterParts, &run.traceparent);
        Ok(Planned { parts: work.iter().map(part).collect(), publish: work.iter().map(publish).collect() })
    }

    async fn plan_an_import(&self, run: &RunRecord, container: &dyn ReadContainer) -> Result<Planned, Halt> {
        let bundles = self.bundles(run, container).await?;
        self.claim(run, &bundles).await?;
        let work = plan_import(run, &bundles)?;
        let part = |work: &transship_messages::ImportRequested| {
            (work.part.number, PartState::of_bundle(work.blob.clone(), work.etag.clone()))
        };
        let publish = |work| publish_item(work, Queue::ImporterImports, &run.traceparent);
        Ok(Planned { parts: work.iter().map(part).collect(), publish: work.iter().map(publish).collect() })
    }

    /// Claims the bundles, so that the trigger of the pipeline leaves them alone. A run that is not over and has one
    /// of them goes first. All runs claim the parts of an export in the same order and stop at the first that is
    /// taken, so no two wait for each other.
    async fn claim(&self, run: &RunRecord, bundles: &[Bundle]) -> Result<(), Halt> {
        let store = &self.core.store;
        for Bundle { blob, etag, .. } in bundles {
            let Some(etag) = etag else { continue };
            let Claim::Taken { run: by } = claim_for_run(store, run, blob, etag).await? else { continue };
            let Ok(id) = by.parse() else { continue };
            if store.run(&id).await?.is_some_and(|owner| !owner.state.is_terminal()) {
                return Err(Halt::Obstacle(Obstacle::Claimed { by }));
            }
        }
        Ok(())
    }

    async fn bundles(&self, run: &RunRecord, container: &dyn ReadContainer) -> Result<Vec<Bundle>, Halt> {
        let mut arrival = look_for(container, &run.blob).await?;
        let mut on_its_way = None;
        if let Arrival::Nothing { .. } | Arrival::Incomplete { .. } = arrival {
            on_its_way = self.on_its_way(run).await?;
            if on_its_way.is_none() {
                // A copy may have ended between the two.
                arrival = look_for(container, &run.blob).await?;
            }
        }
        let on_its_way = match arrival {
            Arrival::Complete(bundles) => return Ok(bundles),
            Arrival::Arriving => Some("the storage service is still copying it".to_owned()),
            Arrival::Nothing { .. } | Arrival::Incomplete { .. } => on_its_way,
        };
        let (what, container) = (arrival.missing(&run.blob), run.pipeline.container.to_string());
        Err(Halt::Obstacle(Obstacle::Missing { what, container, on_its_way }))
    }

    /// What brings the blob of an import, as far as this store knows.
    async fn on_its_way(&self, import: &RunRecord) -> Result<Option<String>, StoreError> {
        let store = &self.core.store;
        for export in store.exports_of(&import.blob, EXPORTS).await? {
            let parts = store.part_summaries(&export.execution).await?;
            if let Some(bringer) = decide_on_its_way(import, &export, &parts, now_ms()) {
                return Ok(Some(bringer));
            }
        }
        Ok(None)
    }
}
