//! What a run needs to know of a part: small, so that a run of many parts can be put together again and again.

use serde::{Deserialize, Serialize};
use transship_messages::{ArtifactOutcome, ArtifactResult};
use transship_model::{Code, ContainerUrl, Counters, Digest, Stage};

use super::part::PartState;
use super::stage::StageState;
use super::{cut, with_hint};

/// How many failed artifacts a part names.
const NAMED: usize = 10;

/// The longest text about one failed artifact, and about a stage, in characters.
const TEXT: usize = 500;
const MESSAGE: usize = 4 << 10;

/// How many names of what is being moved a part shows.
const IN_FLIGHT: usize = 4;

/// What a run needs to know of a part.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PartSummary {
    /// Its stages, in the order of the way.
    pub stages: Vec<StageSummary>,
}

/// How a stage stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StageStatus {
    /// It is its turn, or will be; nothing was heard of it.
    Waiting,
    /// It works.
    Running,
    /// It failed and tries again.
    Retrying,
    /// It is done.
    Succeeded,
    /// It failed, and nobody tries again.
    Failed,
}

impl StageStatus {
    /// Whether nothing more will come of it.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// One stage of a part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageSummary {
    /// Which.
    pub stage: Stage,
    /// The container at the end of its way, where it is one of several.
    pub target: Option<ContainerUrl>,
    /// How it stands.
    pub status: StageStatus,
    /// Its highest attempt.
    pub attempt: u32,
    /// What it did. They reconcile once it is over.
    pub counters: Counters,
    /// What it is moving.
    pub in_flight: Vec<String>,
    /// The code of its failure.
    pub code: Option<Code>,
    /// How it failed, or what a person should know of its success.
    pub message: Option<String>,
    /// The SHA-256 of the bundle's `index.json`.
    pub catalog_digest: Option<Digest>,
    /// Whether the result of each artifact that it counted was heard as well.
    pub told: bool,
}

impl StageSummary {
    /// A stage that nothing was heard of.
    fn waiting(stage: Stage, target: Option<ContainerUrl>) -> Self {
        Self {
            stage,
            target,
            status: StageStatus::Waiting,
            attempt: 0,
            counters: Counters::default(),
            in_flight: Vec::new(),
            code: None,
            message: None,
            catalog_digest: None,
            told: true,
        }
    }
}

impl PartState {
    /// What a run needs to know of this part.
    pub fn summary(&self) -> PartSummary {
        let mut stages: Vec<_> = self.stages.iter().map(|stage| self.summary_of(stage)).collect();
        let routes = self.stages.iter().filter_map(|stage| stage.end.as_ref()).flat_map(|end| &end.routes);
        for route in routes {
            let imports = route.import_pipeline.is_some().then_some(Stage::Importer);
            for stage in [Some(Stage::BlobCopier), imports].into_iter().flatten() {
                let key = (stage, Some(&route.target));
                if let Err(place) = stages.binary_search_by(|row| (row.stage, row.target.as_ref()).cmp(&key))
                {
                    stages.insert(place, StageSummary::waiting(stage, Some(route.target.clone())));
                }
            }
        }
        PartSummary { stages }
    }

    fn summary_of(&self, state: &StageState) -> StageSummary {
        let failed = state.trouble.as_ref().filter(|_| state.end.is_none());
        let status = match (&state.end, failed) {
            (Some(_), _) => StageStatus::Succeeded,
            (None, Some(trouble)) if trouble.terminal => StageStatus::Failed,
            (None, Some(_)) => StageStatus::Retrying,
            (None, None) => StageStatus::Running,
        };
        let end = state.end.as_ref();
        let trouble = failed.map(|trouble| with_hint(&trouble.message, trouble.hint.as_deref()));
        let message = trouble.or_else(|| match state.stage {
            Stage::Exporter => self.left_out(),
            _ => end.and_then(|end| end.message.clone()),
        });
        let mut in_flight = if status.is_over() { Vec::new() } else { state.in_flight.names.clone() };
        in_flight.truncate(IN_FLIGHT);
        StageSummary {
            stage: state.stage,
            target: state.target.clone(),
            status,
            attempt: state.attempt.max(end.map_or(0, |end| end.rank.attempt)),
            counters: self.counters(state, status),
            in_flight,
            code: failed.map(|trouble| trouble.code),
            message: message.map(|message| cut(&message, MESSAGE)),
            catalog_digest: end.and_then(|end| end.catalog_digest.clone()),
            told: end.is_none_or(|end| self.is_told(state, end.counters.artifacts_discovered)),
        }
    }

    /// What a stage did. Before its end, what was moved and what was found there may overlap after a restart; a
    /// stage that failed for good has failed with what is left, one that succeeded found there what it did not move.
    fn counters(&self, state: &StageState, status: StageStatus) -> Counters {
        let mut counters = state.end.as_ref().map_or(state.counters, |end| end.counters);
        if state.stage == Stage::Exporter && state.end.is_none() {
            let requested = self.artifacts.requested.len() as u64;
            counters.artifacts_discovered = counters.artifacts_discovered.max(requested);
        }
        reconciled(counters, status)
    }

    /// Facts of one stage may overtake each other: the end of an import may be known before its results.
    fn is_told(&self, state: &StageState, counted: u64) -> bool {
        if state.stage != Stage::Importer {
            return true;
        }
        let Some(target) = &state.target else { return true };
        let results = self.artifacts.imported.iter().find(|known| known.container == *target);
        results.map_or(0, |known| known.told.values().sum()) >= counted
    }

    /// The artifacts that are not in the bundle, for a person.
    fn left_out(&self) -> Option<String> {
        let left_out = &self.artifacts.left_out;
        let mut names: Vec<String> = left_out.iter().filter_map(name).take(NAMED).collect();
        if left_out.len() > NAMED {
            names.push(format!("and {} more", left_out.len() - NAMED));
        }
        (!names.is_empty()).then(|| names.join("; "))
    }
}

fn name(result: &ArtifactResult) -> Option<String> {
    let ArtifactOutcome::Failed { message, hint, .. } = &result.outcome else { return None };
    let text = cut(&with_hint(message, hint.as_deref()), TEXT);
    let reference = result.reference.to_string();
    // A message may name its artifact already.
    Some(if text.starts_with(&reference) { text } else { format!("{reference}: {text}") })
}

/// Never more moved, skipped and failed than discovered, whatever overlaps; once a stage is over, exactly as much.
fn reconciled(mut counters: Counters, status: StageStatus) -> Counters {
    let fit = |discovered: &mut u64, moved: &mut u64, skipped: &mut u64, failed: &mut u64| {
        if status == StageStatus::Succeeded {
            *discovered = (*discovered).max(*moved + *failed);
        }
        *moved = (*moved).min(*discovered);
        *failed = (*failed).min(*discovered - *moved);
        let rest = *discovered - *moved - *failed;
        match status {
            StageStatus::Succeeded => *skipped = rest,
            StageStatus::Failed => {
                *skipped = (*skipped).min(rest);
                *failed += rest - *skipped;
            }
            StageStatus::Waiting | StageStatus::Running | StageStatus::Retrying => {
                *skipped = (*skipped).min(rest);
            }
        }
    };
    let c = &mut counters;
    fit(&mut c.bytes_discovered, &mut c.bytes_moved, &mut c.bytes_skipped, &mut c.bytes_failed);
    fit(
        &mut c.artifacts_discovered,
        &mut c.artifacts_moved,
        &mut c.artifacts_skipped,
        &mut c.artifacts_failed,
    );
    counters
}
