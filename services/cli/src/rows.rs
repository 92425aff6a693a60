//! The rows of a report, from what the ledger and the bundles say.

use std::collections::BTreeMap;

use transship_messages::{ArtifactOutcome, ArtifactResult};
use transship_model::{ArtifactReference, Code, ContainerUrl};

use crate::bundle::Artifact;
use crate::exit::{Exit, Problem};
use crate::ledger::{Exported, PartState};
use crate::plan::RunPlan;
use crate::report::ArtifactRow;
use crate::split::PlannedPart;

/// What the bundle of each part holds, by the part's number, as far as it was read.
pub(crate) type BundleContents = BTreeMap<u32, Vec<Artifact>>;

/// One row for each artifact of a run that ends with bundles.
pub(crate) fn export_rows(
    plan: &RunPlan,
    parts: &BTreeMap<u32, PartState>,
    contents: &BundleContents,
) -> Vec<ArtifactRow> {
    let mut rows = Vec::new();
    for planned in &plan.parts {
        let number = planned.part.number;
        let held = Held::new(contents.get(&number));
        let Some(state) = parts.get(&number) else { continue };
        let already = plan.already.contains(&number);
        for reference in &planned.artifacts {
            let result = match (&state.exported, held.named(reference)) {
                (Some(_), Some(_)) if already => skipped(reference, "the bundle with it was there already"),
                (Some(_), Some(_)) => moved(reference),
                (Some(exported), None) => left_out(reference, exported, already),
                (None, _) => unfinished(reference, state),
            };
            rows.push(ArtifactRow::of(&result).described(held.named(reference)));
        }
    }
    rows
}

/// One row for each artifact of a run that ends in a registry, and for each route that it takes.
pub(crate) fn transfer_rows(
    plan: &RunPlan,
    parts: &BTreeMap<u32, PartState>,
    contents: &BundleContents,
) -> Vec<ArtifactRow> {
    let several = parts.values().any(|state| state.exported.as_ref().is_some_and(|e| e.routes.len() > 1));
    let mut rows = Vec::new();
    for planned in &plan.parts {
        let Some(state) = parts.get(&planned.part.number) else { continue };
        let held = Held::new(contents.get(&planned.part.number));
        let routes: Vec<&ContainerUrl> =
            state.exported.iter().flat_map(|exported| &exported.routes).map(|route| &route.target).collect();
        for reference in &planned.artifacts {
            let row = |result: &ArtifactResult, route: Option<&ContainerUrl>| ArtifactRow {
                route: route.filter(|_| several).map(ToString::to_string),
                ..ArtifactRow::of(result).described(held.named(reference))
            };
            match &state.exported {
                Some(exported) if is_left_out(reference, exported, &held) => {
                    rows.push(row(
                        &left_out(reference, exported, plan.already.contains(&planned.part.number)),
                        None,
                    ));
                }
                Some(exported) if routes.is_empty() => {
                    debug_assert!(exported.routes.is_empty());
                    rows.push(row(&moved(reference), None));
                }
                Some(_) => rows.extend(routes.iter().map(|route| {
                    let result = on_route(reference, state, route);
                    row(&result, Some(route))
                })),
                None => rows.push(row(&unfinished(reference, state), None)),
            }
        }
    }
    rows
}

/// One row for each artifact of bundles that were imported.
pub(crate) fn import_rows(parts: &BTreeMap<u32, PartState>, contents: &BundleContents) -> Vec<ArtifactRow> {
    let mut rows = Vec::new();
    for (number, state) in parts {
        let held = Held::new(contents.get(number));
        rows.extend(state.results.values().map(|result| ArtifactRow::of(result).described(held.of(result))));
        if state.results.is_empty() && state.imported.is_empty() {
            let named =
                contents.get(number).into_iter().flatten().filter_map(|artifact| artifact.reference.as_ref());
            rows.extend(named.map(|reference| {
                ArtifactRow::of(&unfinished(reference, state)).described(held.named(reference))
            }));
        }
    }
    rows
}

/// The artifacts of one bundle, by name and by digest.
struct Held<'a> {
    by_name: BTreeMap<&'a ArtifactReference, &'a Artifact>,
    by_digest: BTreeMap<&'a str, &'a Artifact>,
    is_known: bool,
}

impl<'a> Held<'a> {
    fn new(artifacts: Option<&'a Vec<Artifact>>) -> Self {
        let all = || artifacts.into_iter().flatten();
        Self {
            by_name: all().filter_map(|artifact| Some((artifact.reference.as_ref()?, artifact))).collect(),
            by_digest: all().map(|artifact| (artifact.digest.as_str(), artifact)).collect(),
            is_known: artifacts.is_some(),
        }
    }

    fn named(&self, reference: &ArtifactReference) -> Option<&'a Artifact> {
        self.by_name.get(reference).copied()
    }

    fn of(&self, result: &ArtifactResult) -> Option<&'a Artifact> {
        let digest = result.digest.as_ref().map(ToString::to_string);
        digest.and_then(|digest| self.by_digest.get(digest.as_str()).copied())
    }
}

fn is_left_out(reference: &ArtifactReference, exported: &Exported, held: &Held<'_>) -> bool {
    let failed = exported.failed.iter().any(|result| result.reference == *reference);
    failed || (held.is_known && held.named(reference).is_none())
}

fn result(reference: &ArtifactReference, outcome: ArtifactOutcome) -> ArtifactResult {
    ArtifactResult { reference: reference.clone(), imported_as: None, digest: None, outcome }
}

fn moved(reference: &ArtifactReference) -> ArtifactResult {
    result(reference, ArtifactOutcome::Moved)
}

fn skipped(reference: &ArtifactReference, reason: &str) -> ArtifactResult {
    result(reference, ArtifactOutcome::Skipped { reason: reason.to_owned() })
}

fn failed(reference: &ArtifactReference, code: Code, message: &str, hint: Option<&str>) -> ArtifactResult {
    let (message, hint) = (message.to_owned(), hint.map(str::to_owned));
    result(reference, ArtifactOutcome::Failed { code, message, hint })
}

/// An artifact that the bundle lacks.
fn left_out(reference: &ArtifactReference, exported: &Exported, already: bool) -> ArtifactResult {
    if let Some(told) = exported.failed.iter().find(|result| result.reference == *reference) {
        return told.clone();
    }
    let (message, hint) = if already {
        (
            "the bundle was written without it, since it failed then",
            "repeat the command with --force to try again",
        )
    } else {
        ("the bundle was written without it", "export it alone to see why")
    };
    failed(reference, Code::ContentNotFound, message, Some(hint))
}

/// An artifact whose part did not come to its end.
fn unfinished(reference: &ArtifactReference, state: &PartState) -> ArtifactResult {
    match state.failures.values().next() {
        Some(problem) => of_problem(reference, problem),
        None => failed(reference, Code::Interrupted, "the command ended before", None),
    }
}

fn of_problem(reference: &ArtifactReference, problem: &Problem) -> ArtifactResult {
    let code = problem.code.unwrap_or(Code::Internal);
    failed(reference, code, &problem.message, problem.hint.as_deref())
}

/// What became of an artifact on one route.
fn on_route(reference: &ArtifactReference, state: &PartState, route: &ContainerUrl) -> ArtifactResult {
    if let Some(told) = state.results.get(&(route.clone(), reference.clone())) {
        return told.clone();
    }
    let mine = state.failures.iter().find(|((_, container), _)| container.as_ref() == Some(route));
    match mine {
        Some((_, problem)) => of_problem(reference, problem),
        None if state.imported.contains_key(route) => skipped(reference, "it was imported before"),
        None if state.copied.contains_key(route) && !imports(state, route) => moved(reference),
        None => unfinished(reference, state),
    }
}

fn imports(state: &PartState, route: &ContainerUrl) -> bool {
    let routes = state.exported.iter().flat_map(|exported| &exported.routes);
    routes.filter(|taken| taken.target == *route).any(|taken| taken.import_pipeline.is_some())
}

/// The problem that a run with failed artifacts ends with, beside its report: the first of them, and the hints.
pub(crate) fn failed_artifacts(rows: &[ArtifactRow]) -> Option<Problem> {
    const SHOWN: usize = 20;
    let failed: Vec<&ArtifactRow> = rows.iter().filter(|row| row.outcome == "failed").collect();
    let first = failed.first()?;
    let exit = if failed.len() < rows.len() { Exit::Partial } else { Exit::Failed };
    let mut causes: Vec<String> = failed
        .iter()
        .take(SHOWN)
        .map(|row| format!("{}: {}", row.reference, row.reason.as_deref().unwrap_or("unknown")))
        .collect();
    if failed.len() > SHOWN {
        causes.push(format!("and {} more", failed.len() - SHOWN));
    }
    let message = format!("{} of {} artifacts failed", failed.len(), rows.len());
    let hint = first.hint.clone();
    Some(Problem { exit, code: first.code, message, causes, hint })
}

/// The numbers of the parts whose bundles are in storage by now.
pub(crate) fn written(parts: &[PlannedPart], states: &BTreeMap<u32, PartState>) -> Vec<PlannedPart> {
    let is_written =
        |part: &&PlannedPart| states.get(&part.part.number).is_some_and(|s| s.exported.is_some());
    parts.iter().filter(is_written).cloned().collect()
}
