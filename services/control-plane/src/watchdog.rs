//! A run never hangs: what was dispatched and not heard of is dispatched again under the same message ids, and
//! fails with its reason where that does not help. A run that waits says for what.

use std::collections::HashMap;
use std::time::Duration;

use fail::fail_point;
use tokio_util::sync::CancellationToken;
use transship_bus::{BusState, HoldDelay, Inbox, QueueLook, WorkQueue};
use transship_model::{Code, Failure, Stage};

use crate::clock::now_ms;
use crate::dispatch::{bundles_of, plan_export, plan_import, publish_item};
use crate::fold::{PartSummary, RunSummary, StageStatus};
use crate::random;
use crate::runtime::Core;
use crate::state::{OutboxItem, PartRecord, Queue, RunKind, RunRecord, RunState, StoreError};

/// How many runs are read at a time.
const PAGE: u32 = 200;

/// A stage that works says so every second, unless it waits: a slice takes ten minutes, and the broker gives work
/// that was not settled for half an hour to somebody else.
const LOST_AFTER: Duration = Duration::from_secs(45 * 60);

/// When a run counts as lost sight of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchSettings {
    /// How often runs are looked at. Default 15 s.
    pub interval: Duration,
    /// How long a run may be silent while its queue is empty. Default 45 min: longer than a slice and the broker's
    /// consumer timeout together. Holds between two attempts come on top.
    pub lost_after: Duration,
    /// How often its work is dispatched again before it fails. Default 3.
    pub again: u32,
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self { interval: Duration::from_secs(15), lost_after: LOST_AFTER, again: 3 }
    }
}

/// What the broker shows of the queue that a run's work is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// It does not answer, and why.
    Away(String),
    /// The queue.
    Queue(QueueLook),
}

/// What a run's silence means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// There is a reason for it, which the run says where it is one to wait for.
    Excused(Option<String>),
    /// There is none: it counts.
    Counts,
}

/// What to do about a run whose silence counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchAction {
    /// Nothing yet.
    Nothing,
    /// Dispatch these parts again.
    DispatchAgain(Vec<u32>),
    /// It fails.
    Fail(Failure),
}

/// What a run's silence means, by what the broker shows.
pub fn decide_silence(run: &RunRecord, sight: &Sight) -> Silence {
    let stage = run.view.stage();
    match sight {
        Sight::Away(reason) => Silence::Excused(Some(format!("the broker: {reason}"))),
        Sight::Queue(look) if look.consumers == 0 => {
            Silence::Excused(Some(format!("no {stage} is connected to the broker")))
        }
        Sight::Queue(look) if look.ready > 0 => {
            let heard = serde_json::from_str::<RunSummary>(&run.summary);
            let is_new =
                heard.is_ok_and(|summary| summary.stages.iter().all(|row| row.stage != stage.name()));
            let turn = || format!("its turn: {} messages wait for the {stage}s", look.ready);
            Silence::Excused(is_new.then(turn))
        }
        Sight::Queue(_) => Silence::Counts,
    }
}

/// What to do about a run that was silent for so long, and whose work was dispatched again `times` times since it
/// was last heard of.
pub fn decide_watch(
    run: &RunRecord,
    parts: &[PartRecord],
    silent: Duration,
    times: u32,
    settings: &WatchSettings,
) -> WatchAction {
    let stage = run.view.stage();
    let covered = parts.iter().filter(|part| run.view.covers(part.number));
    let open: Vec<&PartRecord> = covered.filter(|part| is_open(run, &part.summary)).collect();
    let held = open.iter().filter_map(|part| hold(run, &part.summary)).max().unwrap_or_default();
    if open.is_empty() || silent < settings.lost_after + held {
        return WatchAction::Nothing;
    }
    let numbers: Vec<u32> = open.iter().map(|part| part.number).collect();
    if times < settings.again {
        return WatchAction::DispatchAgain(numbers);
    }
    let what = match (&numbers[..], run.parts) {
        (_, 0 | 1) => "the work".to_owned(),
        ([one], count) => format!("part {one} of {count}"),
        (many, count) => format!("{} of {count} parts, the first is part {},", many.len(), many[0]),
    };
    let message = format!(
        "{what} was sent to the {stage}s {} times and not heard of for {} min each time, though their queue is empty",
        times + 1,
        settings.lost_after.as_secs() / 60
    );
    let hint = format!(
        "look at the logs of the {stage}s, and whether their facts reach {}; then run again with another forceUpdateTag",
        transship_bus::FACTS_QUEUE
    );
    WatchAction::Fail(Failure::permanent(Code::Internal, message).with_hint(hint))
}

fn rows<'a>(
    run: &'a RunRecord,
    part: &'a PartSummary,
) -> impl Iterator<Item = &'a crate::fold::StageSummary> {
    let about = |row: &&crate::fold::StageSummary| {
        row.stage == run.view.stage() && (row.target.is_none() || row.target == run.view.target)
    };
    part.stages.iter().filter(about)
}

fn is_open(run: &RunRecord, part: &PartSummary) -> bool {
    !rows(run, part).any(|row| row.status.is_over() && row.told)
}

/// How long the next attempt of a part may be held. A failure that waits for a person is held half an hour from
/// its second attempt on, whatever the others are.
fn hold(run: &RunRecord, part: &PartSummary) -> Option<Duration> {
    let retrying = rows(run, part).find(|row| row.status == StageStatus::Retrying)?;
    let step = (retrying.attempt as usize).saturating_sub(1).min(HoldDelay::ALL.len() - 1);
    Some(HoldDelay::ALL[step].max(HoldDelay::HalfHour).duration())
}

/// What is remembered of a run between two looks. It is lost with the process, which then looks anew for as long.
#[derive(Debug, Clone, Copy)]
struct Watched {
    /// When its silence was last excused.
    excused_ms: i64,
    /// How often its work was dispatched again since it was heard of.
    times: u32,
    /// When that was.
    dispatched_ms: i64,
}

/// Looks at every run that is not over, again and again.
pub struct Watchdog {
    core: Core,
    settings: WatchSettings,
    part_size: usize,
    holder: String,
    watched: HashMap<i64, Watched>,
    /// When this process began to look: what was silent before may have been said to a queue.
    since_ms: i64,
}

impl Watchdog {
    /// A watchdog for the runs of `core`; `part_size` is the one that exports are split with.
    pub fn new(core: Core, settings: WatchSettings, part_size: usize) -> Self {
        let (holder, since_ms) = (random::hex::<8>(), now_ms());
        Self { core, settings, part_size, holder, watched: HashMap::new(), since_ms }
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

    /// One look at every run that is not over.
    async fn look(&mut self) -> Result<(), StoreError> {
        let seconds = u32::try_from(self.settings.interval.as_secs()).unwrap_or(u32::MAX).saturating_mul(3);
        if !self.core.store.lease("watchdog", &self.holder, now_ms(), seconds.max(30)).await? {
            self.since_ms = now_ms();
            self.watched.clear();
            return Ok(());
        }
        let exports = self.see(WorkQueue::ExporterParts).await;
        let imports = self.see(WorkQueue::ImporterImports).await;
        let mut known = HashMap::new();
        let mut after = 0;
        loop {
            let page = self.core.store.unfinished_runs(after, PAGE).await?;
            for run in &page {
                after = run.seq;
                // One that is not begun is the dispatcher's.
                if run.parts > 0 {
                    let sight = if run.kind == RunKind::Export { &exports } else { &imports };
                    known.insert(run.seq, self.watch(run, sight).await?);
                }
            }
            if page.len() < PAGE as usize {
                break;
            }
        }
        self.watched = known;
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

    async fn watch(&self, run: &RunRecord, sight: &Sight) -> Result<Watched, StoreError> {
        let now = now_ms();
        let mut watched = self.watched.get(&run.seq).copied().unwrap_or(Watched {
            excused_ms: self.since_ms,
            times: 0,
            dispatched_ms: 0,
        });
        if run.heard_ms > watched.dispatched_ms {
            watched.times = 0;
        }
        let says = match decide_silence(run, sight) {
            Silence::Excused(says) => {
                watched.excused_ms = now;
                says
            }
            Silence::Counts => {
                let silent = now.saturating_sub(watched.excused_ms.max(run.heard_ms));
                let silent = Duration::from_millis(u64::try_from(silent).unwrap_or_default());
                if silent >= self.settings.lost_after && self.act(run, silent, watched.times).await? {
                    watched.times += 1;
                    watched.dispatched_ms = now_ms();
                }
                None
            }
        };
        let state = match says {
            Some(on) => RunState::Waiting { on },
            None => RunState::Running,
        };
        if run.state != state {
            self.core.store.run_says(&run.execution, run.kind, state).await?;
        }
        Ok(watched)
    }

    /// Does what is to be done about a silent run; true where its work was dispatched again.
    async fn act(&self, run: &RunRecord, silent: Duration, times: u32) -> Result<bool, StoreError> {
        let parts = self.core.store.parts(&run.execution).await?;
        match decide_watch(run, &parts, silent, times, &self.settings) {
            WatchAction::Nothing => Ok(false),
            WatchAction::Fail(failure) => {
                tracing::error!(run = %run.id, message = failure.message, "a run was lost sight of");
                self.core.end(run, RunState::failed(&failure)).await.map(|()| false)
            }
            WatchAction::DispatchAgain(parts) => match self.items(run, &parts) {
                Ok(items) => {
                    tracing::warn!(run = %run.id, ?parts, ?silent, times, "nothing is heard of a run: dispatched again");
                    self.core.store.dispatch_again(&run.execution, items, now_ms()).await?;
                    fail_point!("control.dispatched_again");
                    self.core.wake.wake();
                    Ok(true)
                }
                Err(failure) => self.core.end(run, RunState::failed(&failure)).await.map(|()| false),
            },
        }
    }

    /// The work of these parts, as it was dispatched before.
    fn items(&self, run: &RunRecord, parts: &[u32]) -> Result<Vec<OutboxItem>, Failure> {
        let is_meant = |number: u32| parts.contains(&number);
        match run.view.stage() {
            Stage::Importer => {
                let work = plan_import(run, &bundles_of(run)?)?;
                let work = work.iter().filter(|work| is_meant(work.part.number));
                Ok(work.map(|work| publish_item(work, Queue::ImporterImports, &run.traceparent)).collect())
            }
            _ => {
                let work = plan_export(run, self.part_size)?;
                let work = work.iter().filter(|work| is_meant(work.part.number));
                Ok(work.map(|work| publish_item(work, Queue::ExporterParts, &run.traceparent)).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use transship_messages::{Fact, FactBody};
    use transship_model::{Counters, Part};

    use super::*;
    use crate::fold::PartState;
    use crate::testing::run_record;

    fn part(number: u32, told: Option<FactBody>, attempt: u32) -> PartRecord {
        let mut state = PartState::default();
        if let Some(body) = told {
            let (execution, part) = (run_record("nightly").execution, Part { number, count: 3 });
            state.apply(&Fact {
                execution,
                part,
                stage: Stage::Exporter,
                attempt,
                target: None,
                at_ms: 1,
                body,
            });
        }
        let summary = state.summary();
        PartRecord { number, state, summary }
    }

    fn failed(terminal: bool) -> Option<FactBody> {
        let (code, message) = (Code::RegistryUnavailable, "busy".to_owned());
        Some(FactBody::Failed { code, message, hint: None, terminal, container: None })
    }

    fn working() -> Option<FactBody> {
        Some(FactBody::Progress { counters: Counters::default(), in_flight: Vec::new() })
    }

    #[test]
    fn silence_is_excused_by_what_the_broker_shows() {
        let look = |ready, consumers| Sight::Queue(QueueLook { ready, consumers });
        let waits = |on: &str| Silence::Excused(Some(on.to_owned()));
        let unheard = || RunRecord { summary: "{}".to_owned(), ..run_record("nightly") };
        let mut heard = unheard();
        let state = part(1, working(), 1);
        let summary = crate::fold::summarise(&heard.view, 1, &[(1, state.summary)], &RunState::Running);
        heard.summary = serde_json::to_string(&summary).unwrap();
        for (run, sight, expected) in [
            (unheard(), Sight::Away("refused".to_owned()), waits("the broker: refused")),
            (unheard(), look(0, 0), waits("no exporter is connected to the broker")),
            (unheard(), look(7, 0), waits("no exporter is connected to the broker")),
            (unheard(), look(7, 1), waits("its turn: 7 messages wait for the exporters")),
            (heard.clone(), look(7, 1), Silence::Excused(None)),
            (unheard(), look(0, 1), Silence::Counts),
            (heard, look(0, 1), Silence::Counts),
        ] {
            assert_eq!(decide_silence(&run, &sight), expected, "{sight:?}");
        }
    }

    #[test]
    fn what_is_lost_is_dispatched_again_three_times_and_then_fails() {
        let run = RunRecord { parts: 3, ..run_record("nightly") };
        let settings = WatchSettings::default();
        let again = |parts: &[u32]| WatchAction::DispatchAgain(parts.to_vec());
        let unheard = || (1..=3).map(|number| part(number, None, 1)).collect::<Vec<_>>();
        for (parts, minutes, times, expected) in [
            (unheard(), 44, 0, WatchAction::Nothing),
            (unheard(), 45, 0, again(&[1, 2, 3])),
            (unheard(), 45, 2, again(&[1, 2, 3])),
            (vec![part(1, working(), 1), part(2, failed(true), 1)], 45, 0, again(&[1])),
            (vec![part(1, failed(true), 1)], 9_999, 0, WatchAction::Nothing),
            // The next attempt may be held.
            (vec![part(1, failed(false), 1)], 74, 0, WatchAction::Nothing),
            (vec![part(1, failed(false), 1)], 75, 0, again(&[1])),
            (vec![part(1, failed(false), 6)], 164, 0, WatchAction::Nothing),
            (vec![part(1, failed(false), 6)], 165, 0, again(&[1])),
        ] {
            let silent = Duration::from_secs(minutes * 60);
            let action = decide_watch(&run, &parts, silent, times, &settings);
            assert_eq!(action, expected, "{minutes} min, {times} times, {} parts", parts.len());
        }
        let silent = settings.lost_after;
        for (parts, expected) in [
            (unheard(), "3 of 3 parts, the first is part 1,"),
            (vec![part(2, None, 1)], "part 2 of 3 was sent to the exporters 4 times"),
        ] {
            let WatchAction::Fail(failure) = decide_watch(&run, &parts, silent, 3, &settings) else {
                panic!("a failure")
            };
            assert!(failure.message.contains(expected) && failure.hint.is_some(), "{failure}");
        }
    }

    #[test]
    fn a_run_about_one_part_watches_no_other() {
        let mut run = RunRecord { parts: 3, ..run_record("nightly") };
        run.view.part = Some(2);
        let parts: Vec<_> = (1..=3).map(|number| part(number, None, 1)).collect();
        let action = decide_watch(&run, &parts, LOST_AFTER, 0, &WatchSettings::default());
        assert_eq!(action, WatchAction::DispatchAgain(vec![2]));
    }
}
