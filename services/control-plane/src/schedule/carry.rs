//! Starts the runs that carry what appeared and moved.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use transship_messages::ArtifactOutcome;
use transship_model::{BlobName, Code, Digest, Failure, Repository, Tag};

use super::decide::{Standing, TagDecision, decide_tag, retry_at};
use super::template::{DEFAULT, Filling, fill};
use super::watch::Scheduled;
use crate::clock::now_ms;
use crate::dispatch::Wake;
use crate::registries::Registries;
use crate::snapshot::snapshot;
use crate::state::{Origin, RunRecord, RunState, Store, TagState};
use crate::trigger::run::Automatic;

/// The most artifacts of one run where no limit is set.
const MAX_ARTIFACTS: usize = 5_000;

/// The most runs and tags that are remembered in the process.
const REMEMBERED: usize = 100_000;

/// How long a replica that starts runs may take before another one may.
const LEASE_SECONDS: u32 = 60;

/// Who starts the runs of schedules, as `systemData` shows it.
const BY: &str = "transship schedule";

/// How soon tags are looked at again whose run was just started, in milliseconds: whether it failed.
const CHECK_MS: i64 = 60_000;

/// What starts runs, and what it remembers of earlier ones.
pub(super) struct Carrier {
    pub(super) store: Store,
    pub(super) registries: std::sync::Arc<Registries>,
    /// The most artifacts of one run; 0 is no limit.
    pub(super) max_artifacts: usize,
    /// Tells this process from other replicas.
    pub(super) holder: String,
    /// Who is told when a run was put.
    pub(super) dispatch: Wake,
    /// Of runs that are over and did not fail: the artifacts that they left out.
    over: Mutex<HashMap<String, BTreeSet<String>>>,
    /// How often each tag failed, by pipeline and name.
    failures: Mutex<HashMap<(String, String), u32>>,
    /// Deciding and writing are one step: a second look would start the same run again.
    starting: tokio::sync::Mutex<()>,
}

/// Tags that are to be looked at again, and when, in milliseconds since the Unix epoch.
pub(super) type Again = Vec<(Repository, Tag, i64)>;

/// A tag that a run is to carry.
struct Wanted {
    repository: Repository,
    tag: Tag,
    digest: Digest,
}

impl Carrier {
    pub(super) fn new(
        store: Store,
        registries: std::sync::Arc<Registries>,
        max_artifacts: usize,
        holder: String,
    ) -> Self {
        Self {
            store,
            registries,
            max_artifacts,
            holder,
            dispatch: Wake::default(),
            over: Mutex::default(),
            failures: Mutex::default(),
            starting: tokio::sync::Mutex::default(),
        }
    }

    /// Starts runs for those of `found` that need one: a run for all of them, or several where they are many. Returns
    /// what is to be looked at again.
    pub(super) async fn carry(
        &self,
        scheduled: &Scheduled,
        found: BTreeMap<Repository, BTreeMap<Tag, Digest>>,
    ) -> Result<Again, Failure> {
        let _starting = self.starting.lock().await;
        let lease = format!("schedule-start:{}", scheduled.key);
        while !self.store.lease(&lease, &self.holder, now_ms(), LEASE_SECONDS).await? {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let carried = self.decided(scheduled, found).await;
        // Gives the lease back: it is over now.
        self.store.lease(&lease, &self.holder, now_ms(), 0).await?;
        carried
    }

    async fn decided(
        &self,
        scheduled: &Scheduled,
        found: BTreeMap<Repository, BTreeMap<Tag, Digest>>,
    ) -> Result<Again, Failure> {
        let (mut wanted, mut again) = (Vec::new(), Vec::new());
        let now_ms = now_ms();
        for (repository, tags) in found {
            let known = self.store.tag_state(&scheduled.key, repository.as_str()).await?;
            for (tag, digest) in tags {
                let name = format!("{repository}:{tag}");
                let state = known.get(tag.as_str());
                let standing = match state {
                    Some(state) => Some((state, self.standing(scheduled, state, &name).await?)),
                    None => None,
                };
                match decide_tag(&digest, standing, now_ms) {
                    TagDecision::Leave => {
                        // Without an interval nobody else looks whether the run fails.
                        let unsure = matches!(standing, Some((_, Standing::OnItsWay)));
                        if unsure && scheduled.schedule.interval_seconds.is_none() {
                            again.push((repository.clone(), tag, now_ms + CHECK_MS));
                        }
                    }
                    TagDecision::Later(at_ms) => again.push((repository.clone(), tag, at_ms)),
                    decision => {
                        self.count_failure(scheduled, name, decision == TagDecision::CarryAgain);
                        wanted.push(Wanted { repository: repository.clone(), tag, digest });
                    }
                }
            }
        }
        let limit = if self.max_artifacts == 0 { MAX_ARTIFACTS } else { self.max_artifacts };
        for batch in wanted.chunks(limit) {
            self.start(scheduled, batch).await?;
            if scheduled.schedule.interval_seconds.is_none() {
                let tags = batch.iter().map(|w| (w.repository.clone(), w.tag.clone(), now_ms + CHECK_MS));
                again.extend(tags);
            }
        }
        Ok(again)
    }

    /// How the run that last carried `name` stands.
    async fn standing(
        &self,
        scheduled: &Scheduled,
        state: &TagState,
        name: &str,
    ) -> Result<Standing, Failure> {
        if self.over().get(&state.run).is_some_and(|left_out| !left_out.contains(name)) {
            return Ok(Standing::Done);
        }
        let Ok(id) = state.run.parse() else { return Ok(Standing::Done) };
        let Some(run) = self.store.run(&id).await? else { return Ok(Standing::Done) };
        let failed = match &run.state {
            RunState::Waiting { .. } | RunState::Running => return Ok(Standing::OnItsWay),
            RunState::Failed { .. } => true,
            RunState::Succeeded { message } => {
                let left_out = match message {
                    Some(_) => self.left_out(&run).await?,
                    None => BTreeSet::new(),
                };
                let failed = left_out.contains(name);
                let mut over = self.over();
                if over.len() >= REMEMBERED {
                    over.clear();
                }
                over.insert(state.run.clone(), left_out);
                failed
            }
        };
        if !failed {
            self.failures().remove(&(scheduled.key.clone(), name.to_owned()));
            return Ok(Standing::Done);
        }
        let failures =
            self.failures().get(&(scheduled.key.clone(), name.to_owned())).copied().unwrap_or_default();
        let ended_ms = run.finished_ms.unwrap_or(run.heard_ms);
        Ok(Standing::Failed { retry_ms: retry_at(ended_ms, failures + 1) })
    }

    /// What a run that succeeded all the same did not carry (`ContinueOnErrors`).
    async fn left_out(&self, run: &RunRecord) -> Result<BTreeSet<String>, Failure> {
        let parts = self.store.parts(&run.execution).await?;
        let results = parts.iter().flat_map(|part| &part.state.artifacts.left_out);
        let failed = results.filter(|result| matches!(result.outcome, ArtifactOutcome::Failed { .. }));
        Ok(failed.map(|result| result.reference.to_string()).collect())
    }

    fn count_failure(&self, scheduled: &Scheduled, name: String, failed: bool) {
        let mut failures = self.failures();
        if !failed {
            failures.remove(&(scheduled.key.clone(), name));
            return;
        }
        if failures.len() >= REMEMBERED {
            failures.clear();
        }
        *failures.entry((scheduled.key.clone(), name)).or_default() += 1;
    }

    /// Starts one run, and remembers what it carries. A crash between the two makes a second run, which finds at the
    /// target what the first one brought; the other order would lose the tags.
    async fn start(&self, scheduled: &Scheduled, batch: &[Wanted]) -> Result<(), Failure> {
        let now_ms = now_ms();
        let pipeline = &scheduled.record.id;
        let generation = self.store.next_generation(now_ms).await?;
        let filling = Filling { pipeline: pipeline.name(), now_ms, generation };
        let template = scheduled.schedule.blob_name.as_deref().unwrap_or(DEFAULT);
        let unusable = |problem: String| {
            let message = format!("the blob name of the schedule of {pipeline} cannot be used: {problem}");
            Failure::permanent(Code::ConfigurationInvalid, message).with_hint("PUT the pipeline again")
        };
        let blob = fill(template, &filling).map_err(unusable)?;
        let blob: BlobName = blob.parse().map_err(|error| unusable(format!("{error}")))?;
        let automatic = Automatic {
            pipeline: pipeline.clone(),
            snapshot: snapshot(&self.store, &self.registries, &scheduled.record).await?,
            blob,
            artifacts: batch.iter().map(|wanted| format!("{}:{}", wanted.repository, wanted.tag)).collect(),
            origin: Origin::Schedule,
            execution: Automatic::own_execution(),
            by: BY,
            now_ms,
        };
        let run = automatic.put(&self.store, automatic.fresh_id()).await?;
        self.dispatch.wake();
        tracing::info!(%pipeline, run = run.name(), artifacts = batch.len(), "a schedule starts a run");
        let mut states: BTreeMap<&Repository, Vec<(String, TagState)>> = BTreeMap::new();
        for Wanted { repository, tag, digest } in batch {
            let state = TagState { digest: digest.to_string(), run: run.to_string() };
            states.entry(repository).or_default().push((tag.to_string(), state));
        }
        for (repository, tags) in states {
            self.store.put_tag_states(&scheduled.key, repository.as_str(), tags).await?;
        }
        Ok(())
    }

    fn over(&self) -> std::sync::MutexGuard<'_, HashMap<String, BTreeSet<String>>> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), u32>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
