//! The schedules of all export pipelines, as one service of the process.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use transship_api::{Kind, ResourceId};
use transship_model::{Code, Failure};

use super::Catalogs;
use super::carry::{Again, Carrier};
use super::decide::pause_before_look;
use super::find::{Found, find_all, find_tags};
use super::pending::{Pending, Tags, Waiting};
use super::scheduled::Scheduled;
use crate::clock::now_ms;
use crate::dispatch::Wake;
use crate::notify::PushHint;
use crate::random::hex;
use crate::recent::Recent;
use crate::registries::Registries;
use crate::state::{Store, StoreError};
use crate::trigger::{Board, WatchStatus, jittered};

/// How many registries' pipelines are looked at in parallel.
const PARALLEL: usize = 4;

/// How long nothing is looked at, at most: a pipeline that was made meanwhile is found then.
const TICK: Duration = Duration::from_secs(1);

/// The most pushes that wait to be sorted.
const PUSHES: usize = 20_000;

/// The shortest interval, whatever a schedule says.
const SHORTEST: u32 = 1;

/// How schedules work.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScheduleSettings {
    /// The most artifacts of one run; 0 is no limit.
    pub max_artifacts: usize,
}

/// What was pushed and not sorted yet.
#[derive(Debug, Default)]
struct Pushed {
    /// The pushes, and when each was heard of.
    waiting: Vec<(i64, PushHint)>,
    /// Whether there were more than are kept.
    overflow: bool,
}

/// What is to be looked at of one pipeline.
#[derive(Debug, Default)]
struct Due {
    /// Everything, where this replica leads.
    round: bool,
    /// Everything, whoever leads: more was pushed than is kept.
    overflow: bool,
    /// What was pushed, or is looked at again.
    tags: Tags,
}

/// How a look ended.
#[derive(Debug)]
struct Ended {
    /// The pipeline's key.
    key: String,
    /// Whether everything is to be looked at once more, soon.
    everything: bool,
    /// The tags that are to be looked at once more, soon.
    tags: Tags,
}

/// When everything of each pipeline is looked at next, and how often in a row a look at it came to nothing.
#[derive(Debug, Default)]
struct Rounds {
    next: HashMap<String, Instant>,
    failures: HashMap<String, u32>,
}

/// The schedules of all export pipelines.
pub struct Schedules {
    store: Store,
    registries: Arc<Registries>,
    catalogs: Arc<dyn Catalogs>,
    carrier: Carrier,
    holder: String,
    board: Board,
    pending: Mutex<Pending>,
    pushed: Mutex<Pushed>,
    wake: Notify,
    list: Recent<Scheduled>,
}

impl Schedules {
    /// Schedules of the pipelines of `store`. Nothing happens before [`Schedules::run`].
    pub fn new(
        store: Store,
        registries: Arc<Registries>,
        catalogs: Arc<dyn Catalogs>,
        settings: ScheduleSettings,
    ) -> Self {
        let holder = hex::<8>();
        let carrier =
            Carrier::new(store.clone(), Arc::clone(&registries), settings.max_artifacts, holder.clone());
        Self {
            store,
            registries,
            catalogs,
            carrier,
            holder,
            board: Board::default(),
            pending: Mutex::default(),
            pushed: Mutex::default(),
            wake: Notify::new(),
            list: Recent::default(),
        }
    }

    /// The same with somebody who is told when a run was put.
    #[must_use]
    pub fn with_wake(mut self, dispatch: Wake) -> Self {
        self.carrier.dispatch = dispatch;
        self
    }

    /// Tags are said to have been pushed: those that a schedule selects are looked at once its time of gathering is
    /// over.
    pub fn pushed(&self, pushes: Vec<PushHint>) {
        let mut pushed = self.pushed.lock().unwrap_or_else(PoisonError::into_inner);
        let room = PUSHES.saturating_sub(pushed.waiting.len());
        // What has no room makes everything be looked at.
        pushed.overflow |= pushes.len() > room;
        pushed.waiting.extend(pushes.into_iter().take(room).map(|push| (now_ms(), push)));
        drop(pushed);
        self.wake.notify_one();
    }

    /// Puts what was pushed to the tags that are to be looked at, each for the pipelines that select it.
    fn sort(&self, all: &[Scheduled]) {
        let Pushed { waiting, overflow } =
            std::mem::take(&mut *self.pushed.lock().unwrap_or_else(PoisonError::into_inner));
        for scheduled in all.iter().filter(|scheduled| overflow && scheduled.schedule.notifications) {
            self.pending().add_everything(&scheduled.key, now_ms());
        }
        for (at_ms, PushHint { repository, tag, host, .. }) in waiting {
            // A registry behind a proxy may call itself by a name that nobody here knows: then every one is looked at.
            let host = host.filter(|host| all.iter().any(|scheduled| scheduled.is_at(host)));
            let fits = |scheduled: &&Scheduled| {
                host.as_ref().is_none_or(|host| scheduled.is_at(host))
                    && scheduled.hears_of(&repository, &tag)
            };
            for scheduled in all.iter().filter(fits) {
                let due_ms = at_ms + i64::from(scheduled.schedule.batch_seconds) * 1000;
                self.pending().add(&scheduled.key, repository.clone(), tag.clone(), due_ms);
            }
        }
    }

    /// What the schedule of a pipeline is doing; `None` where it was not looked at yet, or has none.
    pub fn status(&self, pipeline: &ResourceId) -> Option<WatchStatus> {
        self.board.of(&pipeline.key())
    }

    /// Watches until `stop`. What it is doing then is given up: whatever was half done is done again by the next one.
    pub async fn run(&self, stop: CancellationToken) {
        stop.run_until_cancelled(self.watch()).await;
    }

    async fn watch(&self) {
        let mut rounds = Rounds::default();
        let mut busy: HashSet<String> = HashSet::new();
        let mut looks = FuturesUnordered::new();
        loop {
            match self.all().await {
                Ok(all) => {
                    self.sort(&all);
                    let keys: HashSet<&str> = all.iter().map(|scheduled| &*scheduled.key).collect();
                    rounds.next.retain(|key, _| keys.contains(&**key));
                    rounds.failures.retain(|key, _| keys.contains(&**key));
                    self.board.retain(|key| keys.contains(key));
                    for (index, due) in self.due(&all, &mut rounds.next, &busy) {
                        busy.insert(all[index].key.clone());
                        looks.push(self.look(Arc::clone(&all), index, due).boxed());
                    }
                }
                Err(error) => tracing::warn!(%error, "the pipelines cannot be read; they are read again"),
            }
            let pause = self.pending().next_ms().map_or(TICK, |due_ms| {
                TICK.min(Duration::from_millis(u64::try_from(due_ms - now_ms()).unwrap_or_default()))
            });
            // What is due and cannot begin yet waits for a look that ends.
            let pause = if busy.is_empty() { pause } else { pause.max(Duration::from_millis(100)) };
            tokio::select! {
                Some(ended) = looks.next(), if !looks.is_empty() => {
                    busy.remove(&ended.key);
                    self.end(ended, &mut rounds);
                }
                () = tokio::time::sleep(pause) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// What is to be looked at now, by its place in `all`. A pipeline is looked at once at a time.
    fn due(
        &self,
        all: &[Scheduled],
        next: &mut HashMap<String, Instant>,
        busy: &HashSet<String>,
    ) -> HashMap<usize, Due> {
        let now = Instant::now();
        let mut found: HashMap<usize, Due> = HashMap::new();
        for (index, scheduled) in all.iter().enumerate() {
            let idle = busy.len() + found.len() < PARALLEL && !busy.contains(&scheduled.key);
            if !idle || next.get(&scheduled.key).is_some_and(|due| *due > now) {
                continue;
            }
            // Without an interval everything is looked at once, for what was pushed while nobody listened.
            let seconds = scheduled.schedule.interval_seconds.map(|seconds| seconds.max(SHORTEST));
            let pause =
                seconds.map_or(Duration::MAX / 4, |seconds| jittered(Duration::from_secs(seconds.into())));
            let due = now.checked_add(pause).unwrap_or(now + Duration::from_secs(365 * 24 * 60 * 60));
            next.insert(scheduled.key.clone(), due);
            found.insert(index, Due { round: true, ..Due::default() });
        }
        let waiting = self.pending().due(now_ms());
        for (key, taken) in waiting {
            let Some(index) = all.iter().position(|scheduled| scheduled.key == key) else { continue };
            if busy.contains(&key) || (found.len() + busy.len() >= PARALLEL && !found.contains_key(&index)) {
                self.pending().put_back(&key, taken);
            } else {
                let due = found.entry(index).or_default();
                (due.tags, due.overflow) = (taken.tags, taken.everything);
            }
        }
        found
    }

    /// Looks at one pipeline, at some tags or at everything.
    async fn look(&self, all: Arc<Vec<Scheduled>>, index: usize, due: Due) -> Ended {
        let scheduled = &all[index];
        let (key, Due { round, overflow, tags }) = (scheduled.key.clone(), due);
        let leads = round && self.leads(scheduled).await;
        // Where another replica leads and dies of it, nobody else would look: without an interval there is one round.
        let left_to_others = round && !leads && scheduled.schedule.interval_seconds.is_none();
        let everything = leads || overflow;
        if !everything && tags.is_empty() {
            return Ended { key, everything: left_to_others, tags };
        }
        match self.carried(scheduled, (!everything).then(|| tags.clone())).await {
            Ok((again, found)) => {
                if everything {
                    self.board.checked(&key, now_ms(), found.seen, found.problem);
                }
                let mut pending = self.pending();
                again.into_iter().for_each(|(repository, tag, at)| pending.add(&key, repository, tag, at));
                let partial = found.is_partial && scheduled.schedule.interval_seconds.is_none();
                Ended { key, everything: partial || (left_to_others && !overflow), tags: found.unresolved }
            }
            Err(failure) => {
                self.board.failed(&key, &failure);
                Ended { key, everything: true, tags }
            }
        }
    }

    /// Finds out where tags point, and starts the runs that they need.
    async fn carried(&self, scheduled: &Scheduled, tags: Option<Tags>) -> Result<(Again, Found), Failure> {
        let mut found = self.find(scheduled, tags).await?;
        let again = self.carrier.carry(scheduled, std::mem::take(&mut found.tags)).await?;
        Ok((again, found))
    }

    /// What a look did not come to is looked at once more, after a pause that grows with each look in a row that came
    /// to nothing.
    fn end(&self, ended: Ended, rounds: &mut Rounds) {
        let Ended { key, everything, tags } = ended;
        if !everything && tags.is_empty() {
            rounds.failures.remove(&key);
            return;
        }
        let failures = rounds.failures.entry(key.clone()).or_default();
        *failures = failures.saturating_add(1);
        let pause = pause_before_look(*failures);
        if everything && let Some(due) = rounds.next.get_mut(&key) {
            *due = (*due).min(Instant::now() + pause);
        }
        if !tags.is_empty() {
            let due_ms = now_ms() + i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
            self.pending().put_back(&key, Waiting { due_ms, tags, everything: false });
        }
    }

    /// Whether this replica looks at everything of a pipeline.
    async fn leads(&self, scheduled: &Scheduled) -> bool {
        let seconds =
            scheduled.schedule.interval_seconds.unwrap_or_default().saturating_mul(2).saturating_add(30);
        let lease = format!("schedule:{}", scheduled.key);
        match self.store.lease(&lease, &self.holder, now_ms(), seconds).await {
            Ok(true) => return true,
            Ok(false) => self.board.elsewhere(&scheduled.key),
            Err(error) => self.board.failed(&scheduled.key, &error.into()),
        }
        false
    }

    async fn find(&self, scheduled: &Scheduled, tags: Option<Tags>) -> Result<Found, Failure> {
        let unusable = |what: &str| {
            let message = format!("the schedule of {} cannot be used: {what}", scheduled.record.id);
            Failure::permanent(Code::ConfigurationInvalid, message).with_hint("PUT the pipeline again")
        };
        let selector = scheduled.selector.as_ref().ok_or_else(|| unusable("its patterns are not right"))?;
        let registry = scheduled
            .registry
            .as_ref()
            .ok_or_else(|| unusable("its registry is not in the configuration"))?;
        let catalog = self.catalogs.catalog(&registry.name)?;
        match tags {
            Some(tags) => Ok(find_tags(&*catalog, tags).await),
            None => find_all(&*catalog, selector).await,
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pipelines with a schedule, as they are or were a moment ago.
    async fn all(&self) -> Result<Arc<Vec<Scheduled>>, StoreError> {
        let read = async {
            let records = self.store.every_resource(Kind::ExportPipeline, None).await?;
            let scheduled = |record| Scheduled::new(record, &self.registries);
            Ok(records.into_iter().filter_map(scheduled).collect())
        };
        self.list.get(read).await
    }
}
