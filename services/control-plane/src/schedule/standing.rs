//! How the runs stand that last carried the tags of a schedule.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use transship_api::ResourceId;
use transship_model::Failure;

use super::decide::{Standing, retry_at};
use crate::state::{RunState, Store, TagState};

/// The most runs and tags that are remembered in the process.
const REMEMBERED: usize = 100_000;

/// What is remembered of runs and tags while the process lives.
#[derive(Debug, Default)]
pub(super) struct Standings {
    /// Of runs that are over, copies included, and did not fail: the artifacts that they did not deliver.
    over: Mutex<HashMap<String, Arc<BTreeSet<String>>>>,
    /// How often each tag failed, by pipeline and name.
    failures: Mutex<HashMap<(String, String), u32>>,
}

/// How a run stands.
#[derive(Debug, Clone)]
enum Run {
    Gone,
    Open,
    Failed { ended_ms: i64 },
    Succeeded { ended_ms: i64, is_copying: bool, left_out: Arc<BTreeSet<String>> },
}

/// What one look has read of runs: each is read once, however many tags it carried.
pub(super) struct Look<'a> {
    standings: &'a Standings,
    store: &'a Store,
    /// The pipeline's key.
    pipeline: &'a str,
    runs: HashMap<String, Run>,
}

impl Standings {
    /// A look at the tags of the pipeline with the key `pipeline`.
    pub(super) fn look<'a>(&'a self, store: &'a Store, pipeline: &'a str) -> Look<'a> {
        Look { standings: self, store, pipeline, runs: HashMap::new() }
    }

    /// A run is about to carry a tag, once more where the last one failed.
    pub(super) fn count(&self, pipeline: &str, name: String, failed: bool) {
        let mut failures = self.failures();
        if !failed {
            failures.remove(&(pipeline.to_owned(), name));
            return;
        }
        if failures.len() >= REMEMBERED {
            failures.clear();
        }
        *failures.entry((pipeline.to_owned(), name)).or_default() += 1;
    }

    fn over(&self) -> MutexGuard<'_, HashMap<String, Arc<BTreeSet<String>>>> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<(String, String), u32>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Look<'_> {
    /// How the run that last carried `name` stands.
    pub(super) async fn standing(&mut self, state: &TagState, name: &str) -> Result<Standing, Failure> {
        if self.standings.over().get(&state.run).is_some_and(|left_out| !left_out.contains(name)) {
            return Ok(Standing::Done);
        }
        let run = match self.runs.get(&state.run) {
            Some(run) => run.clone(),
            None => {
                let run = self.read(&state.run).await?;
                self.runs.insert(state.run.clone(), run.clone());
                run
            }
        };
        let key = || (self.pipeline.to_owned(), name.to_owned());
        let ended_ms = match run {
            Run::Gone => return Ok(Standing::Done),
            Run::Open => return Ok(Standing::OnItsWay),
            Run::Succeeded { is_copying: true, left_out, .. } if !left_out.contains(name) => {
                return Ok(Standing::Copying);
            }
            Run::Succeeded { left_out, .. } if !left_out.contains(name) => {
                self.standings.failures().remove(&key());
                return Ok(Standing::Done);
            }
            Run::Succeeded { ended_ms, .. } | Run::Failed { ended_ms } => ended_ms,
        };
        let failures = self.standings.failures().get(&key()).copied().unwrap_or_default();
        Ok(Standing::Failed { retry_ms: retry_at(ended_ms, failures + 1) })
    }

    async fn read(&self, name: &str) -> Result<Run, Failure> {
        let Ok(id) = name.parse::<ResourceId>() else { return Ok(Run::Gone) };
        let Some(run) = self.store.run_stands(&id).await? else { return Ok(Run::Gone) };
        let ended_ms = run.finished_ms.unwrap_or(run.heard_ms);
        let left_out = match &run.state {
            RunState::Waiting { .. } | RunState::Running => return Ok(Run::Open),
            RunState::Failed { .. } => return Ok(Run::Failed { ended_ms }),
            RunState::Succeeded { message: Some(_) } => self.store.undelivered(&run.execution).await?,
            RunState::Succeeded { message: None } => BTreeSet::new(),
        };
        let (left_out, is_copying) = (Arc::new(left_out), run.is_copying);
        // A copy that is under way may still be given up.
        if !is_copying {
            let mut over = self.standings.over();
            if over.len() >= REMEMBERED {
                over.clear();
            }
            over.insert(name.to_owned(), Arc::clone(&left_out));
        }
        Ok(Run::Succeeded { ended_ms, is_copying, left_out })
    }
}
