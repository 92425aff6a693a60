//! A run never hangs: what was dispatched and not heard of is dispatched again under the same message ids, and
//! fails with its reason where that does not help. A run that waits says for what. The same holds for the copies of an
//! export that is over. Runs that are over for long are deleted where that is asked for.

mod decide;
mod settings;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use fail::fail_point;
use tokio_util::sync::CancellationToken;
use transship_bus::{BusState, DELIVERED_BEFORE, Inbox, WorkQueue};
use transship_messages::{Fact, FactBody, WorkItem};
use transship_model::{Failure, Part, Stage};

pub use self::decide::{Sight, Silence, WatchAction, decide_silence, decide_watch};
pub use self::settings::WatchSettings;
use crate::clock::now_ms;
use crate::dispatch::{bundles_of, plan_copies, plan_import, plan_parts, publish_item};
use crate::fold::copies;
use crate::random;
use crate::runtime::Core;
use crate::state::{OutboxItem, PartRecord, Queue, RunKind, RunRecord, RunState, StoreError};
use crate::trigger::claimed_etag;

/// How many runs are read at a time.
const PAGE: u32 = 200;

/// How many runs are deleted in one look that are over for long. What is deleted together waits for one commit.
const SWEPT: u32 = 100;

/// How often what runs leave behind is forgotten.
const TIDY: Duration = Duration::from_secs(3600);

/// What is remembered of a run between two looks. It is lost with the process, which then looks anew for as long.
#[derive(Debug, Clone, Copy)]
struct Watched {
    /// When its silence was last excused.
    excused_ms: i64,
    /// When other work was last seen in its queue.
    busy_ms: i64,
    /// How often its work was dispatched again since it was heard of.
    times: u32,
    /// When that was.
    dispatched_ms: i64,
}

/// Which runs are looked at.
#[derive(Clone, Copy)]
enum Which {
    /// Those that are not over: by the stage that they end with.
    Open,
    /// Exports that are over and whose bundles are still copied: by the copier.
    Copying,
}

/// What the broker shows of the queues.
struct Sights {
    exports: Sight,
    copies: Sight,
    imports: Sight,
}

impl Sights {
    fn of(&self, stage: Stage) -> &Sight {
        match stage {
            Stage::Exporter | Stage::ControlPlane => &self.exports,
            Stage::BlobCopier => &self.copies,
            Stage::Importer => &self.imports,
        }
    }
}

/// A run's silence that has lasted for too long.
struct Lost {
    silent: Duration,
    is_busy: bool,
}

/// Looks at every run that is not over, and at every copy, again and again.
pub struct Watchdog {
    core: Core,
    settings: WatchSettings,
    holder: String,
    /// By the place of the run, and the stage that it is watched by.
    watched: HashMap<(i64, Stage), Watched>,
    /// When what runs leave behind was last forgotten.
    tidied: Option<Instant>,
    /// When this process began to look: what was silent before may have been said to a queue.
    since_ms: i64,
}

impl Watchdog {
    /// A watchdog for the runs of `core`.
    pub fn new(core: Core, settings: WatchSettings) -> Self {
        let (holder, since_ms) = (random::hex::<8>(), now_ms());
        Self { core, settings, holder, watched: HashMap::new(), tidied: None, since_ms }
    }

    /// Watches until `cancel`.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut interval = tokio::time::interval(self.settings.interval.max(Duration::from_millis(10)));
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = interval.tick() => {}
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                looked = self.look() => if let Err(error) = looked {
                    tracing::error!(%error, hint = error.hint(), "the runs cannot be watched");
                },
            }
        }
    }

    /// One look at every run that is not over, and at every copy.
    async fn look(&mut self) -> Result<(), StoreError> {
        let seconds = u32::try_from(self.settings.interval.as_secs()).unwrap_or(u32::MAX).saturating_mul(3);
        if !self.core.store.lease("watchdog", &self.holder, now_ms(), seconds.max(30)).await? {
            self.since_ms = now_ms();
            self.watched.clear();
            return Ok(());
        }
        let sights = Sights {
            exports: self.see(WorkQueue::ExporterParts).await,
            copies: self.see(WorkQueue::BlobCopierCopies).await,
            imports: self.see(WorkQueue::ImporterImports).await,
        };
        let mut known = HashMap::new();
        for which in [Which::Open, Which::Copying] {
            self.look_at(which, &sights, &mut known).await?;
        }
        self.watched = known;
        self.sweep().await
    }

    async fn look_at(
        &self,
        which: Which,
        sights: &Sights,
        known: &mut HashMap<(i64, Stage), Watched>,
    ) -> Result<(), StoreError> {
        let mut after = 0;
        loop {
            let page = match which {
                Which::Open => self.core.store.unfinished_runs(after, PAGE).await?,
                Which::Copying => self.core.store.copying_runs(after, PAGE).await?,
            };
            // One that is not begun is the dispatcher's.
            for run in page.iter().filter(|run| run.parts > 0) {
                let stage = match which {
                    Which::Open => run.view.stage(),
                    Which::Copying => Stage::BlobCopier,
                };
                let key = (run.seq, stage);
                match self.watch(run, stage, sights.of(stage)).await {
                    Ok(watched) => drop(known.insert(key, watched)),
                    // The others are watched all the same.
                    Err(error) => {
                        tracing::error!(run = %run.id, %error, hint = error.hint(), "a run cannot be watched");
                        known.extend(self.watched.get(&key).map(|watched| (key, *watched)));
                    }
                }
            }
            match page.last() {
                Some(last) if page.len() >= PAGE as usize => after = last.seq,
                _ => return Ok(()),
            }
        }
    }

    /// Deletes some of the runs that are over for long, and what runs leave behind.
    async fn sweep(&mut self) -> Result<(), StoreError> {
        let retention = i64::try_from(self.settings.retention.as_millis()).unwrap_or(i64::MAX);
        if retention > 0 {
            let deleted = self.core.store.sweep_runs(now_ms().saturating_sub(retention), SWEPT).await?;
            if deleted > 0 {
                tracing::info!(deleted, "runs that were over for long were deleted");
            }
        }
        if self.tidied.is_none_or(|tidied| tidied.elapsed() >= TIDY) {
            self.core.store.sweep_traces(now_ms()).await?;
            self.tidied = Some(Instant::now());
        }
        Ok(())
    }

    async fn see(&self, queue: WorkQueue) -> Sight {
        match &*self.core.bus.state().borrow() {
            BusState::Ready => {}
            BusState::Connecting { reason } if reason.is_empty() => {
                return Sight::Away("no answer yet".to_owned());
            }
            BusState::Connecting { reason } | BusState::Blocked { reason } => {
                return Sight::Away(reason.clone());
            }
        }
        match self.core.bus.look(Inbox::Work(queue)).await {
            Ok(look) => Sight::Queue(look),
            Err(error) => Sight::Away(error.to_string()),
        }
    }

    async fn watch(&self, run: &RunRecord, stage: Stage, sight: &Sight) -> Result<Watched, StoreError> {
        let silence = decide_silence(run, stage, sight);
        let says = match &silence {
            Silence::Excused(says) | Silence::Busy(says) => says.clone(),
            Silence::Counts => None,
        };
        let (mut watched, lost) = self.listen(run, stage, &silence);
        if let Some(lost) = lost
            && self.act(run, stage, &lost, watched.times).await?
        {
            watched.times += 1;
            watched.dispatched_ms = now_ms();
        }
        let state = match says {
            Some(on) => RunState::Waiting { on },
            None => RunState::Running,
        };
        if !run.state.is_terminal() && run.state != state {
            self.core.store.run_says(&run.execution, run.kind, state).await?;
        }
        Ok(watched)
    }

    /// What is known of a run's silence after one more look, and whether it has lasted for too long.
    fn listen(&self, run: &RunRecord, stage: Stage, silence: &Silence) -> (Watched, Option<Lost>) {
        let now = now_ms();
        let mut watched = self.watched.get(&(run.seq, stage)).copied().unwrap_or(Watched {
            excused_ms: self.since_ms,
            busy_ms: 0,
            times: 0,
            dispatched_ms: 0,
        });
        if run.heard_ms > watched.dispatched_ms {
            watched.times = 0;
        }
        let (since_ms, is_busy) = match silence {
            Silence::Excused(_) => {
                watched.excused_ms = now;
                (now, false)
            }
            Silence::Busy(_) => {
                watched.busy_ms = now;
                (watched.excused_ms, true)
            }
            Silence::Counts => (watched.excused_ms.max(watched.busy_ms), false),
        };
        let silent = now.saturating_sub(since_ms.max(run.heard_ms).max(watched.dispatched_ms));
        let silent = Duration::from_millis(u64::try_from(silent).unwrap_or_default());
        let is_lost = silent >= self.settings.patience(is_busy);
        (watched, is_lost.then_some(Lost { silent, is_busy }))
    }

    /// Does what is to be done about a silent run; true where its work was dispatched again.
    async fn act(&self, run: &RunRecord, stage: Stage, lost: &Lost, times: u32) -> Result<bool, StoreError> {
        let Lost { silent, is_busy } = *lost;
        // Known before the parts are read, which may be many.
        if self.settings.waits_on(stage, is_busy, times) {
            return Ok(false);
        }
        let parts = self.core.store.parts(&run.execution).await?;
        match decide_watch(run, stage, &parts, silent, is_busy, times, &self.settings) {
            WatchAction::Nothing => Ok(false),
            WatchAction::Fail(failure) => self.give_up(run, stage, &parts, &failure).await.map(|()| false),
            WatchAction::DispatchAgain(numbers) => match self.items(run, stage, &parts, &numbers).await? {
                Ok(items) => {
                    tracing::warn!(run = %run.id, %stage, parts = ?numbers, ?silent, times, "nothing is heard of a run: dispatched again");
                    self.core.store.dispatch_again(&run.execution, items, now_ms()).await?;
                    fail_point!("control.dispatched_again");
                    self.core.wake.wake();
                    Ok(true)
                }
                // Behind other work its turn may still come.
                Err(_) if is_busy => Ok(false),
                Err(failure) => self.give_up(run, stage, &parts, &failure).await.map(|()| false),
            },
        }
    }

    /// Has the run fail, or of one that is over the copies. Such an export stays what it was; its message tells.
    async fn give_up(
        &self,
        run: &RunRecord,
        stage: Stage,
        parts: &[PartRecord],
        failure: &Failure,
    ) -> Result<(), StoreError> {
        tracing::error!(run = %run.id, %stage, message = failure.message, "a run was lost sight of");
        match stage {
            Stage::BlobCopier => self.give_up_copies(run, parts, failure).await,
            _ => self.core.end(run, RunState::failed(failure)).await,
        }
    }

    async fn give_up_copies(
        &self,
        run: &RunRecord,
        parts: &[PartRecord],
        failure: &Failure,
    ) -> Result<(), StoreError> {
        for part in parts.iter().filter(|part| run.view.covers(part.number)) {
            for copy in copies(&part.summary) {
                let fact = Fact {
                    execution: run.execution.clone(),
                    part: Part { number: part.number, count: run.parts },
                    stage: Stage::BlobCopier,
                    attempt: copy.attempt.max(1),
                    target: copy.target.clone(),
                    // Without a time, as of a letter: it counts whatever was forgotten.
                    at_ms: 0,
                    body: FactBody::Failed {
                        code: failure.code,
                        message: failure.message.clone(),
                        hint: failure.hint.clone(),
                        terminal: true,
                        container: copy.target.clone(),
                    },
                };
                self.core.fold(fact).await?;
            }
        }
        Ok(())
    }

    /// The work of the parts `numbers`, as it was dispatched before: of an export with what each part was given then,
    /// however exports are split by now, of an import with the version of the bundle that it was begun with.
    async fn items(
        &self,
        run: &RunRecord,
        stage: Stage,
        parts: &[PartRecord],
        numbers: &[u32],
    ) -> Result<Result<Vec<OutboxItem>, Failure>, StoreError> {
        if stage == Stage::BlobCopier {
            let meant = parts.iter().filter(|part| numbers.contains(&part.number));
            let work = meant.map(|part| plan_copies(run, part)).collect::<Result<Vec<_>, _>>();
            return Ok(work.map(|work| again(run, Queue::BlobCopierCopies, &work.concat(), numbers)));
        }
        if run.kind == RunKind::Export {
            let given = parts.iter().map(|part| &part.state.artifacts.requested[..]);
            return Ok(plan_parts(run, given).map(|work| again(run, Queue::ExporterParts, &work, numbers)));
        }
        let mut bundles = match bundles_of(run, parts) {
            Ok(bundles) => bundles,
            Err(failure) => return Ok(Err(failure)),
        };
        for bundle in bundles.iter_mut().filter(|bundle| bundle.etag.is_none()) {
            bundle.etag = claimed_etag(&self.core.store, run, &bundle.blob).await?;
        }
        Ok(plan_import(run, &bundles).map(|work| again(run, Queue::ImporterImports, &work, numbers)))
    }
}

/// Of `work` that of the parts `numbers`. What is lost to us may have been done: an importer that finds its bundle
/// deleted has to know.
fn again<W: WorkItem>(run: &RunRecord, queue: Queue, work: &[W], numbers: &[u32]) -> Vec<OutboxItem> {
    let meant = work.iter().filter(|work| numbers.contains(&work.part().number));
    let mut items: Vec<_> = meant.map(|work| publish_item(work, queue, &run.traceparent)).collect();
    for item in &mut items {
        if let OutboxItem::Publish { headers, .. } = item {
            headers.insert(DELIVERED_BEFORE.to_owned(), "true".to_owned());
        }
    }
    items
}
