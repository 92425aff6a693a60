//! A run: what it looks at of its execution's parts, what lists show of it, and when it is over.

use serde::{Deserialize, Serialize};
use transship_api::{ByteTotals, StageProgress};
use transship_model::{Code, ContainerUrl, Counters, Stage};

use super::cut;
use super::summary::{PartSummary, StageStatus, StageSummary};
use crate::state::{RunKind, RunState};

/// The longest message of a run, in characters.
const MESSAGE: usize = 8 << 10;

/// How many parts' messages a run shows, and names of what is being moved.
const SHOWN_PARTS: usize = 10;
const IN_FLIGHT: usize = 16;

/// What a run looks at: several runs may share the parts of one execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunView {
    /// Whether it exports or imports.
    pub kind: RunKind,
    /// Of an import: the container whose bundles it imports.
    pub target: Option<ContainerUrl>,
    /// The only part that it is about, where it is not about all of them.
    pub part: Option<u32>,
    /// Whether artifacts that fail leave the others alone (`ContinueOnErrors`).
    pub continues: bool,
}

/// What lists show of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunSummary {
    /// 0 to 100; 100 only where the run succeeded.
    pub percentage: u8,
    /// Each stage, and for each target its own.
    pub stages: Vec<StageProgress>,
    /// Bytes of the stage that the run ends with.
    pub bytes: ByteTotals,
    /// Artifacts of that stage.
    pub artifacts: ArtifactTotals,
    /// The highest attempt of that stage.
    pub attempts: u32,
    /// The failure that the run met so far, or what a person should know of it.
    pub message: Option<String>,
    /// The catalog digest of the first bundle that has one.
    pub catalog_digest: Option<String>,
    /// Whether copies of an export's bundles are under way.
    pub is_copying: bool,
}

/// Artifacts of a run: discovered = moved + skipped + failed, once it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ArtifactTotals {
    /// That the run is about.
    pub discovered: u64,
    /// That were moved.
    pub moved: u64,
    /// That were there already.
    pub skipped: u64,
    /// That failed.
    pub failed: u64,
}

impl RunView {
    /// The stage that the run ends with.
    pub fn stage(&self) -> Stage {
        match self.kind {
            RunKind::Export => Stage::Exporter,
            RunKind::Import => Stage::Importer,
        }
    }

    /// Whether the run is about this part.
    pub fn covers(&self, part: u32) -> bool {
        self.part.is_none_or(|only| only == part)
    }

    /// How many parts the run has, of an execution that has `parts`.
    pub fn parts(&self, parts: u32) -> u32 {
        if self.part.is_some() { parts.min(1) } else { parts }
    }

    /// How the stage that the run ends with stands for a part. A failure without a target concerns each of them that
    /// is not over.
    pub(crate) fn row<'a>(&self, part: &'a PartSummary) -> Option<&'a StageSummary> {
        let of = |target: Option<&ContainerUrl>| {
            part.stages.iter().find(|row| row.stage == self.stage() && row.target.as_ref() == target)
        };
        let (Some(target), RunKind::Import) = (&self.target, self.kind) else { return of(None) };
        match (of(Some(target)), of(None)) {
            (Some(open), Some(failed)) if !open.status.is_over() && failed.status == StageStatus::Failed => {
                Some(failed)
            }
            (known, other) => known.or(other),
        }
    }

    /// Whether nothing more will come of a part for this run.
    pub(crate) fn is_over(&self, part: &PartSummary) -> bool {
        self.row(part).is_some_and(|row| row.status.is_over() && row.told)
    }

    /// Whether the run shows this row: an export shows its whole way, an import what becomes of its bundles.
    fn shows(&self, row: &StageSummary) -> bool {
        match self.kind {
            RunKind::Export => true,
            RunKind::Import => {
                row.stage == Stage::Importer && (row.target.is_none() || row.target == self.target)
            }
        }
    }
}

/// Whether the run is over, and how. `parts` is how many parts the execution has, `known` what is known of them by
/// number.
///
/// A run ends only when each of its parts has ended, so that nothing of it moves any more when it has failed. It
/// then fails with the failure of its first part that did; with `ContinueOnErrors` a part whose artifacts were all
/// refused is artifacts left out, as long as another part carried some.
pub fn run_state(view: &RunView, parts: u32, known: &[(u32, PartSummary)]) -> Option<RunState> {
    let rows = rows(view, known);
    let over = |row: &&StageSummary| row.status.is_over() && row.told;
    let ended = rows.iter().filter(|(_, row)| over(row)).count();
    if ended == 0 || ended < view.parts(parts) as usize {
        return None;
    }
    let succeeded = rows.iter().any(|(_, row)| row.status == StageStatus::Succeeded);
    let forgiven = |row: &StageSummary| view.continues && succeeded && row.code.is_some_and(concerns_content);
    let failures = || rows.iter().filter(|(_, row)| row.status == StageStatus::Failed && !forgiven(row));
    let Some((_, first)) = failures().next() else {
        return Some(RunState::Succeeded { message: message(view, parts, known) });
    };
    let more = match failures().count() - 1 {
        0 => String::new(),
        1 => "; another part failed too".to_owned(),
        more => format!("; {more} other parts failed too"),
    };
    let message = format!("{}{more}", first.message.as_deref().unwrap_or_default());
    Some(RunState::Failed { code: first.code.unwrap_or(Code::Internal), message: cut(&message, MESSAGE) })
}

/// Whether a failure is about the artifacts that were asked for, and not about a service or credential.
fn concerns_content(code: Code) -> bool {
    matches!(
        code,
        Code::ArtifactNotFound
            | Code::ContentNotFound
            | Code::TagExists
            | Code::DigestMismatch
            | Code::ManifestInvalid
            | Code::RegistryRefused
            | Code::EgressDenied
            | Code::LimitExceeded
    )
}

/// What lists show of a run that is in `state`.
pub fn summarise(view: &RunView, parts: u32, known: &[(u32, PartSummary)], state: &RunState) -> RunSummary {
    let rows = rows(view, known);
    let total = rows.iter().fold(Counters::default(), |mut total, (_, row)| {
        total += row.counters;
        total
    });
    RunSummary {
        percentage: percentage(&rows, view.parts(parts), state),
        stages: stages(view, parts, known),
        bytes: bytes(&total),
        artifacts: ArtifactTotals {
            discovered: total.artifacts_discovered,
            moved: total.artifacts_moved,
            skipped: total.artifacts_skipped,
            failed: total.artifacts_failed,
        },
        attempts: rows.iter().map(|(_, row)| row.attempt).max().unwrap_or_default(),
        message: message(view, parts, known),
        catalog_digest: rows.iter().find_map(|(_, row)| row.catalog_digest.as_ref()).map(ToString::to_string),
        is_copying: is_copying(view, known),
    }
}

/// Whether copies of an export's bundles are under way.
pub(crate) fn is_copying(view: &RunView, known: &[(u32, PartSummary)]) -> bool {
    export_parts(view, known).any(|(_, part)| copies(part).next().is_some())
}

/// The copies of a part that are not over. What names no target is about a message, and no copy. A bundle that was
/// imported where it was to be copied to is there, whoever has not said so.
pub(crate) fn copies(part: &PartSummary) -> impl Iterator<Item = &StageSummary> {
    let is_imported = |target: &Option<ContainerUrl>| {
        let mut imports = part.stages.iter().filter(|row| row.stage == Stage::Importer);
        imports.any(|row| row.target == *target && row.status == StageStatus::Succeeded)
    };
    let copies = part.stages.iter().filter(|row| row.stage == Stage::BlobCopier && row.target.is_some());
    copies.filter(move |row| !row.status.is_over() && !is_imported(&row.target))
}

/// The parts of an export.
fn export_parts<'a>(
    view: &'a RunView,
    known: &'a [(u32, PartSummary)],
) -> impl Iterator<Item = &'a (u32, PartSummary)> {
    known.iter().filter(|(number, _)| view.kind == RunKind::Export && view.covers(*number))
}

/// Of an export every row of its parts: its own, and those of where its bundles go.
fn export_rows<'a>(
    view: &'a RunView,
    known: &'a [(u32, PartSummary)],
) -> impl Iterator<Item = (u32, &'a StageSummary)> {
    export_parts(view, known).flat_map(|(number, part)| part.stages.iter().map(move |row| (*number, row)))
}

fn rows<'a>(view: &RunView, known: &'a [(u32, PartSummary)]) -> Vec<(u32, &'a StageSummary)> {
    let covered = known.iter().filter(|(number, _)| view.covers(*number));
    covered.filter_map(|(number, part)| Some((*number, view.row(part)?))).collect()
}

/// Of the bytes that the parts are known to have; a part that was not planned yet is taken to be like the others.
fn percentage(rows: &[(u32, &StageSummary)], parts: u32, state: &RunState) -> u8 {
    if matches!(state, RunState::Succeeded { .. }) {
        return 100;
    }
    let planned = rows.iter().filter(|(_, row)| row.counters.bytes_discovered > 0).count() as u128;
    let sum =
        |of: fn(&Counters) -> u64| rows.iter().map(|(_, row)| u128::from(of(&row.counters))).sum::<u128>();
    let discovered = sum(|c| c.bytes_discovered);
    let done = sum(|c| c.bytes_moved + c.bytes_skipped + c.bytes_failed);
    if planned == 0 || discovered == 0 {
        return 0;
    }
    let all = discovered * u128::from(parts).max(planned) / planned;
    u8::try_from(done * 100 / all.max(1)).unwrap_or(99).min(99)
}

/// What a person should know: of one part what it says, of many with the part before it.
fn message(view: &RunView, parts: u32, known: &[(u32, PartSummary)]) -> Option<String> {
    let several = view.parts(parts) > 1;
    // What stands in the way first, then what tries again, then what was left out.
    let worth = |row: &StageSummary| match row.status {
        StageStatus::Failed => 0_u8,
        StageStatus::Retrying => 1,
        StageStatus::Waiting | StageStatus::Running | StageStatus::Succeeded => 2,
    };
    let text = |row: &StageSummary| {
        let Counters { artifacts_failed, artifacts_discovered, .. } = row.counters;
        let message = row.message.as_deref()?;
        let left_out = row.stage == Stage::Exporter && row.status == StageStatus::Succeeded;
        Some(if left_out {
            format!("{artifacts_failed} of {artifacts_discovered} artifacts failed: {message}")
        } else {
            message.to_owned()
        })
    };
    let own = rows(view, known).into_iter();
    let mut told: Vec<_> = own.filter_map(|(number, row)| Some((worth(row), number, text(row)?))).collect();
    told.extend(failed_onward(view, known).map(|(number, text)| (0, number, text)));
    told.sort_by_key(|(worth, number, _)| (*worth, *number));
    let text = |(_, number, text): &(u8, u32, String)| {
        if several { format!("part {number}: {text}") } else { text.clone() }
    };
    let mut texts: Vec<String> = told.iter().take(SHOWN_PARTS).map(text).collect();
    if told.len() > SHOWN_PARTS {
        texts.push(format!("and {} more", told.len() - SHOWN_PARTS));
    }
    (!texts.is_empty()).then(|| cut(&texts.join("; "), MESSAGE))
}

/// What went wrong for good behind an export: its state is about its bundles, and says nothing of where they go.
fn failed_onward<'a>(
    view: &'a RunView,
    known: &'a [(u32, PartSummary)],
) -> impl Iterator<Item = (u32, String)> + 'a {
    let failed = export_rows(view, known).filter(|(_, row)| row.status == StageStatus::Failed);
    failed.filter_map(|(number, row)| {
        let what = match row.stage {
            Stage::BlobCopier => "the copy to",
            Stage::Importer => "the import from",
            Stage::Exporter | Stage::ControlPlane => return None,
        };
        let container = row.target.as_ref().map_or_else(|| "its target".to_owned(), ToString::to_string);
        Some((number, format!("{what} {container} failed: {}", row.message.as_deref().unwrap_or_default())))
    })
}

fn bytes(counters: &Counters) -> ByteTotals {
    ByteTotals {
        discovered: counters.bytes_discovered,
        moved: counters.bytes_moved,
        skipped: counters.bytes_skipped,
        failed: counters.bytes_failed,
    }
}

/// Each stage over all parts, first of all the one that the run ends with. Rows without a target are left out where the same stage has some with one.
fn stages(view: &RunView, parts: u32, known: &[(u32, PartSummary)]) -> Vec<StageProgress> {
    let covered = || known.iter().filter(|(number, _)| view.covers(*number));
    let shown = || covered().flat_map(|(_, part)| &part.stages).filter(|row| view.shows(row));
    let own = (view.stage(), view.target.as_ref());
    let mut keys: Vec<_> = shown().map(|row| (row.stage, row.target.as_ref())).chain([own]).collect();
    keys.sort();
    keys.dedup();
    let targeted: Vec<Stage> =
        keys.iter().filter(|(_, target)| target.is_some()).map(|(stage, _)| *stage).collect();
    keys.retain(|(stage, target)| target.is_some() || !targeted.contains(stage));
    let row = |(stage, target): (Stage, Option<&ContainerUrl>)| {
        let rows: Vec<&StageSummary> =
            shown().filter(|row| row.stage == stage && row.target.as_ref() == target).collect();
        stage_progress(stage, target, &rows, view.parts(parts))
    };
    keys.into_iter().map(row).collect()
}

fn stage_progress(
    stage: Stage,
    target: Option<&ContainerUrl>,
    rows: &[&StageSummary],
    parts: u32,
) -> StageProgress {
    let is = |status: StageStatus| rows.iter().any(|row| row.status == status);
    let done = rows.iter().filter(|row| row.status.is_over()).count();
    let over = done >= parts.max(1) as usize;
    let status = match () {
        () if over && is(StageStatus::Failed) => "Failed",
        () if over => "Succeeded",
        () if is(StageStatus::Retrying) => "Retrying",
        () if rows.iter().all(|row| row.status == StageStatus::Waiting) => "Waiting",
        () => "Running",
    };
    let mut total = Counters::default();
    rows.iter().for_each(|row| total += row.counters);
    let failure = |status: StageStatus| {
        rows.iter().find(|row| row.status == status).and_then(|row| row.message.clone())
    };
    StageProgress {
        stage: stage.name().to_owned(),
        target: target.map(ToString::to_string),
        status: status.to_owned(),
        parts_done: u32::try_from(done).unwrap_or(u32::MAX),
        parts,
        attempts: rows.iter().map(|row| row.attempt).max().unwrap_or_default(),
        bytes: bytes(&total),
        in_flight: rows.iter().flat_map(|row| row.in_flight.clone()).take(IN_FLIGHT).collect(),
        message: failure(StageStatus::Failed).or_else(|| failure(StageStatus::Retrying)),
    }
}
