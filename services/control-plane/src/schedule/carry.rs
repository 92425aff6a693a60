//! Starts the runs that carry what appeared and moved.

use std::collections::BTreeMap;

use transship_model::{BlobName, Code, Digest, Failure, Repository, Tag};

use super::decide::{Standing, TagDecision, decide_tag, halves};
use super::lease::Lease;
use super::scheduled::Scheduled;
use super::standing::Standings;
use super::template::{DEFAULT, Filling, fill};
use crate::clock::now_ms;
use crate::dispatch::Wake;
use crate::registries::Registries;
use crate::snapshot::snapshot;
use crate::state::{Action, Origin, Store, TagState};
use crate::trigger::run::Automatic;

/// The most artifacts of one run where no limit is set.
const MAX_ARTIFACTS: usize = 5_000;

/// How soon another replica may start runs after the one that does died, in seconds.
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
    standings: Standings,
}

/// Tags that are to be looked at again, and when, in milliseconds since the Unix epoch.
pub(super) type Again = Vec<(Repository, Tag, i64)>;

/// A tag that a run is to carry.
struct Wanted {
    repository: Repository,
    tag: Tag,
    digest: Digest,
}

/// What is to be carried.
#[derive(Default)]
struct Plan {
    /// For the first time.
    fresh: Vec<Wanted>,
    /// Once more, by the run that failed to carry it.
    failed: BTreeMap<String, Vec<Wanted>>,
    /// What is to be looked at again.
    again: Again,
}

impl Carrier {
    pub(super) fn new(
        store: Store,
        registries: std::sync::Arc<Registries>,
        max_artifacts: usize,
        holder: String,
    ) -> Self {
        let (dispatch, standings) = (Wake::default(), Standings::default());
        Self { store, registries, max_artifacts, holder, dispatch, standings }
    }

    /// Starts runs for those of `found` that need one: a run for all of them, or several where they are many. Returns
    /// what is to be looked at again. The pipeline is looked at once at a time in this process; other replicas are
    /// kept out by a lease, since deciding and writing are one step: a second look would start the same run again.
    pub(super) async fn carry(
        &self,
        scheduled: &Scheduled,
        found: BTreeMap<Repository, BTreeMap<Tag, Digest>>,
    ) -> Result<Again, Failure> {
        let (store, holder, seconds) = (&self.store, &*self.holder, LEASE_SECONDS);
        let lease = Lease { store, name: format!("schedule-start:{}", scheduled.key), holder, seconds };
        let work = async {
            let plan = self.plan(scheduled, found).await?;
            self.start_all(scheduled, plan).await
        };
        lease.during(work).await
    }

    /// Decides on every tag.
    async fn plan(
        &self,
        scheduled: &Scheduled,
        found: BTreeMap<Repository, BTreeMap<Tag, Digest>>,
    ) -> Result<Plan, Failure> {
        let (mut plan, now_ms) = (Plan::default(), now_ms());
        let mut look = self.standings.look(&self.store, &scheduled.key);
        for (repository, tags) in found {
            let known = self.store.tag_state(&scheduled.key, repository.as_str()).await?;
            for (tag, digest) in tags {
                let name = format!("{repository}:{tag}");
                let state = known.get(tag.as_str());
                let standing = match state {
                    Some(state) => Some((state, look.standing(state, &name).await?)),
                    None => None,
                };
                let wanted = |tag| Wanted { repository: repository.clone(), tag, digest: digest.clone() };
                match decide_tag(&digest, standing, now_ms) {
                    TagDecision::Leave => {
                        // Without an interval nobody else looks whether the run fails.
                        let unsure = matches!(standing, Some((_, Standing::OnItsWay | Standing::Copying)));
                        if unsure && scheduled.schedule.interval_seconds.is_none() {
                            plan.again.push((repository.clone(), tag, now_ms + CHECK_MS));
                        }
                    }
                    TagDecision::Later(at_ms) => plan.again.push((repository.clone(), tag, at_ms)),
                    TagDecision::Carry => {
                        self.standings.count(&scheduled.key, name, false);
                        plan.fresh.push(wanted(tag));
                    }
                    TagDecision::CarryAgain => {
                        self.standings.count(&scheduled.key, name, true);
                        let run = state.map(|state| state.run.clone()).unwrap_or_default();
                        plan.failed.entry(run).or_default().push(wanted(tag));
                    }
                }
            }
        }
        Ok(plan)
    }

    /// Starts the runs. What failed before is not put together with what did not, and its runs go on past artifacts
    /// that cannot be carried: one of them must not keep the others back.
    async fn start_all(&self, scheduled: &Scheduled, plan: Plan) -> Result<Again, Failure> {
        let Plan { fresh, failed, mut again } = plan;
        let limit = if self.max_artifacts == 0 { MAX_ARTIFACTS } else { self.max_artifacts };
        let fresh = fresh.chunks(limit).map(|batch| (batch, false));
        let failed = halves(failed, limit);
        for (batch, continues) in fresh.chain(failed.iter().map(|batch| (&**batch, true))) {
            self.start(scheduled, batch, continues).await?;
            if scheduled.schedule.interval_seconds.is_none() {
                let due_ms = now_ms() + CHECK_MS;
                again.extend(batch.iter().map(|w| (w.repository.clone(), w.tag.clone(), due_ms)));
            }
        }
        Ok(again)
    }

    /// Starts one run, and remembers what it carries. A crash between the two makes a second run, which finds at the
    /// target what the first one brought; the other order would lose the tags.
    async fn start(&self, scheduled: &Scheduled, batch: &[Wanted], continues: bool) -> Result<(), Failure> {
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
        let mut snapshot = snapshot(&self.store, &self.registries, &scheduled.record).await?;
        if let Action::Export { options, .. } = &mut snapshot.action {
            options.continue_on_errors |= continues;
        }
        let automatic = Automatic {
            pipeline: pipeline.clone(),
            snapshot,
            blob,
            artifacts: batch.iter().map(|wanted| format!("{}:{}", wanted.repository, wanted.tag)).collect(),
            origin: Origin::Schedule,
            execution: Automatic::own_execution(),
            by: BY,
            now_ms,
        };
        let run = automatic.put(&self.store).await?;
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
}
