//! The schedules of all export pipelines, as one service of the process.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use transship_api::{ExportPipeline, Kind, ResourceId, Schedule};
use transship_model::{Code, Failure, Repository, Tag};

use super::carry::Carrier;
use super::find::{Found, find_all, find_tags};
use super::pending::{Pending, Tags, Waiting};
use super::{Catalogs, Selector};
use crate::clock::now_ms;
use crate::dispatch::Wake;
use crate::notify::PushHint;
use crate::random::hex;
use crate::registries::{Registries, Resolved};
use crate::state::{ResourceRecord, Store, StoreError};
use crate::trigger::{Board, WatchStatus, jittered};

/// The most pipelines that are read at a time.
const PAGE: u32 = 500;

/// How many registries' pipelines are looked at in parallel.
const PARALLEL: usize = 4;

/// How old the list of pipelines may be.
const LIST_AGE: Duration = Duration::from_secs(2);

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

/// A pipeline with a schedule.
#[derive(Debug)]
pub(super) struct Scheduled {
    pub(super) record: ResourceRecord,
    pub(super) key: String,
    pub(super) schedule: Schedule,
    /// `None` where the schedule cannot be used.
    selector: Option<Selector>,
    /// The registry, where the configuration has it.
    registry: Option<Resolved>,
}

impl Scheduled {
    /// Whether its registry is called `host` by clients, or reached there.
    fn is_at(&self, host: &str) -> bool {
        self.registry.as_ref().is_some_and(|registry| {
            let reached = registry.url.split_once("://").map_or("", |(_, host)| host);
            registry.login_server.eq_ignore_ascii_case(host) || reached.eq_ignore_ascii_case(host)
        })
    }

    /// Whether a push of this tag concerns it.
    fn hears_of(&self, repository: &Repository, tag: &Tag) -> bool {
        self.schedule.notifications
            && self
                .selector
                .as_ref()
                .is_some_and(|selector| selector.selects_repository(repository) && selector.selects_tag(tag))
    }
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
    /// What was pushed and not sorted yet, and when it was heard of.
    pushed: Mutex<Vec<(i64, PushHint)>>,
    wake: Notify,
    list: tokio::sync::Mutex<Option<(Instant, Arc<Vec<Scheduled>>)>>,
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
            list: tokio::sync::Mutex::default(),
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
        let room = PUSHES.saturating_sub(pushed.len());
        // What has no room is found at the next interval.
        pushed.extend(pushes.into_iter().take(room).map(|push| (now_ms(), push)));
        drop(pushed);
        self.wake.notify_one();
    }

    /// Puts what was pushed to the tags that are to be looked at, each for the pipelines that select it.
    fn sort(&self, all: &[Scheduled]) {
        let pushed = std::mem::take(&mut *self.pushed.lock().unwrap_or_else(PoisonError::into_inner));
        for (at_ms, PushHint { repository, tag, host, .. }) in pushed {
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
        let mut next: HashMap<String, Instant> = HashMap::new();
        let mut busy: HashSet<String> = HashSet::new();
        let mut looks = FuturesUnordered::new();
        loop {
            match self.all().await {
                Ok(all) => {
                    self.sort(&all);
                    next.retain(|key, _| all.iter().any(|scheduled| scheduled.key == *key));
                    self.board.retain(|key| all.iter().any(|scheduled| scheduled.key == *key));
                    for (index, due) in self.due(&all, &mut next, &busy) {
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
                Some(key) = looks.next(), if !looks.is_empty() => { busy.remove(&key); }
                () = tokio::time::sleep(pause) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// What is to be looked at now: by its place in `all`, everything or some tags. A pipeline is looked at once at a
    /// time.
    fn due(
        &self,
        all: &[Scheduled],
        next: &mut HashMap<String, Instant>,
        busy: &HashSet<String>,
    ) -> Vec<(usize, Option<Tags>)> {
        let now = Instant::now();
        let mut found: HashMap<usize, Option<Tags>> = HashMap::new();
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
            found.insert(index, None);
        }
        let pushed = self.pending().due(now_ms());
        for (key, Waiting { tags, everything, .. }) in pushed {
            let Some(index) = all.iter().position(|scheduled| scheduled.key == key) else { continue };
            if busy.contains(&key) || (found.len() + busy.len() >= PARALLEL && !found.contains_key(&index)) {
                let soon = now_ms();
                let mut pending = self.pending();
                tags.into_iter().for_each(|(repository, tag)| pending.add(&key, repository, tag, soon));
            } else {
                let tags = (!everything).then_some(tags);
                found.entry(index).or_insert(tags);
            }
        }
        found.into_iter().collect()
    }

    /// Looks at one pipeline, at some tags or at everything. Its key comes back.
    async fn look(&self, all: Arc<Vec<Scheduled>>, index: usize, tags: Option<Tags>) -> String {
        let scheduled = &all[index];
        let key = scheduled.key.clone();
        let everything = tags.is_none();
        if everything && !self.leads(scheduled).await {
            return key;
        }
        let looked = match self.find(scheduled, tags).await {
            Ok(Found { tags, seen, problem }) => {
                self.carrier.carry(scheduled, tags).await.map(|again| (again, seen, problem))
            }
            Err(failure) => Err(failure),
        };
        match looked {
            Ok((again, seen, problem)) => {
                if everything {
                    self.board.checked(&key, now_ms(), seen, problem);
                }
                let mut pending = self.pending();
                again.into_iter().for_each(|(repository, tag, at)| pending.add(&key, repository, tag, at));
            }
            Err(failure) => self.board.failed(&key, &failure),
        }
        key
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
        let mut list = self.list.lock().await;
        if let Some((read, all)) = list.as_ref()
            && read.elapsed() < LIST_AGE
        {
            return Ok(Arc::clone(all));
        }
        let (mut found, mut after) = (Vec::new(), 0);
        loop {
            let page = self.store.all_resources(Kind::ExportPipeline, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            found.extend(page.into_iter().filter_map(|record| self.scheduled(record)));
        }
        let all = Arc::new(found);
        *list = Some((Instant::now(), Arc::clone(&all)));
        Ok(all)
    }

    fn scheduled(&self, record: ResourceRecord) -> Option<Scheduled> {
        let pipeline: ExportPipeline = serde_json::from_str(&record.body).ok()?;
        let schedule = pipeline.properties.schedule?;
        let registry = self.registries.resolve(&record.id.registry);
        Some(Scheduled {
            key: record.id.key(),
            selector: Selector::new(&schedule),
            registry,
            schedule,
            record,
        })
    }
}
