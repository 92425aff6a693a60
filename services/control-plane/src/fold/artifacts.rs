//! What became of each artifact of a run.

use std::collections::BTreeSet;

use transship_api::ArtifactProgress;
use transship_messages::{ArtifactOutcome, ArtifactResult};
use transship_model::{ArtifactReference, ContainerUrl, Stage};

use super::part::{PartState, TargetResults};
use super::run::RunView;
use super::stage::StageState;
use super::with_hint;

/// Each artifact of a run, in the order in which they were asked for, then those that only the bundle knew.
pub fn artifacts(view: &RunView, parts: &[(u32, PartState)]) -> Vec<ArtifactProgress> {
    let covered = parts.iter().filter(|(number, _)| view.covers(*number));
    covered.flat_map(|(_, part)| of_part(view, part)).collect()
}

/// The names at the target of the artifacts that are there now, those that were there already included.
pub fn imported_artifacts(view: &RunView, parts: &[(u32, PartState)]) -> Vec<String> {
    let there = |artifact: &ArtifactProgress| matches!(&*artifact.result, "Succeeded" | "Skipped");
    let name = |artifact: ArtifactProgress| artifact.imported_as.unwrap_or(artifact.artifact);
    artifacts(view, parts).into_iter().filter(there).map(name).collect()
}

/// The artifacts of an export that are not where they were to go, and will not come there by it: left out of the
/// bundle, of a part that was not exported, or of one whose copy was given up.
pub fn undelivered(parts: &[PartState]) -> BTreeSet<String> {
    let of_part = |part: &PartState| -> Vec<String> {
        let is_lost = |stage: &StageState| match stage.stage {
            Stage::Importer => false,
            Stage::BlobCopier => stage.has_failed() && !has_arrived(part, stage.target.as_ref()),
            Stage::Exporter | Stage::ControlPlane => stage.has_failed(),
        };
        if part.stages.iter().any(is_lost) {
            return part.artifacts.requested.iter().map(ToString::to_string).collect();
        }
        let failed = |result: &&ArtifactResult| matches!(result.outcome, ArtifactOutcome::Failed { .. });
        part.artifacts.left_out.iter().filter(failed).map(|result| result.reference.to_string()).collect()
    };
    parts.iter().flat_map(of_part).collect()
}

/// Whether a part is known to be at `target`; without one, wherever its routes lead.
fn has_arrived(part: &PartState, target: Option<&ContainerUrl>) -> bool {
    let is_there = |target: &ContainerUrl| {
        part.stages.iter().any(|stage| stage.target.as_ref() == Some(target) && stage.end.is_some())
    };
    let ends = part.stages.iter().filter_map(|stage| stage.end.as_ref());
    let mut routes = ends.flat_map(|end| &end.routes).map(|route| &route.target).peekable();
    match target {
        Some(target) => is_there(target),
        None => routes.peek().is_some() && routes.all(is_there),
    }
}

fn of_part(view: &RunView, part: &PartState) -> Vec<ArtifactProgress> {
    match view.stage() {
        Stage::Importer => imported(view, part),
        _ => exported(part),
    }
}

fn exported(part: &PartState) -> Vec<ArtifactProgress> {
    let stage = part.stages.iter().find(|known| known.stage == Stage::Exporter);
    // What is in the bundle is wherever the bundle is.
    let furthest = part.stages.last().map_or(Stage::Exporter, |stage| stage.stage);
    let one = |reference: &ArtifactReference| {
        let left_out = part.artifacts.left_out.iter().find(|result| result.reference == *reference);
        match left_out {
            Some(result) => told(result, Stage::Exporter),
            None => pending(reference.to_string(), furthest, stage),
        }
    };
    part.artifacts.requested.iter().map(one).collect()
}

fn imported(view: &RunView, part: &PartState) -> Vec<ArtifactProgress> {
    let empty = std::collections::BTreeMap::new();
    let of_target = |known: &&TargetResults| Some(&known.container) == view.target.as_ref();
    let results = part.artifacts.imported.iter().find(of_target).map_or(&empty, |known| &known.results);
    let stage = part
        .stages
        .iter()
        .find(|known| known.stage == Stage::Importer && known.target.as_ref() == view.target.as_ref());
    let is_left_out = |name: &str| part.artifacts.left_out.iter().any(|r| r.reference.to_string() == name);
    let open = stage.is_none_or(|stage| stage.end.is_none());
    let requested = part.artifacts.requested.iter().map(ToString::to_string);
    let waiting = requested.filter(|name| open && !results.contains_key(name) && !is_left_out(name));
    let waiting = waiting.map(|name| {
        // Failures of the stage count for what it did not tell.
        let mut artifact = pending(name, Stage::Importer, stage);
        if part.stages.iter().all(|known| known.stage != Stage::Importer) {
            artifact.stage = Stage::Exporter.name().to_owned();
        }
        artifact
    });
    let told = results.values().map(|(_, result)| told(result, Stage::Importer));
    told.chain(waiting).collect()
}

fn told(result: &ArtifactResult, stage: Stage) -> ArtifactProgress {
    let mut artifact = ArtifactProgress {
        artifact: result.reference.to_string(),
        imported_as: result.imported_as.as_ref().map(ToString::to_string),
        digest: result.digest.as_ref().map(ToString::to_string),
        result: "Succeeded".to_owned(),
        stage: stage.name().to_owned(),
        ..ArtifactProgress::default()
    };
    match &result.outcome {
        ArtifactOutcome::Moved => {}
        ArtifactOutcome::Skipped { reason } => {
            artifact.result = "Skipped".to_owned();
            artifact.message = Some(reason.clone());
        }
        ArtifactOutcome::Failed { code, message, hint } => {
            artifact.result = "Failed".to_owned();
            artifact.code = Some(code.to_string());
            artifact.message = Some(message.clone());
            artifact.hint.clone_from(hint);
        }
    }
    artifact
}

/// An artifact that the stage said nothing particular of: it shares the fate of its part.
fn pending(artifact: String, of: Stage, stage: Option<&StageState>) -> ArtifactProgress {
    let trouble = stage.and_then(|stage| stage.trouble.as_ref()).filter(|trouble| trouble.terminal);
    let (result, trouble) = match (stage.and_then(|stage| stage.end.as_ref()), trouble) {
        (Some(_), _) => ("Succeeded", None),
        (None, Some(trouble)) => ("Failed", Some(trouble)),
        (None, None) => ("Pending", None),
    };
    ArtifactProgress {
        artifact,
        result: result.to_owned(),
        code: trouble.map(|trouble| trouble.code.to_string()),
        message: trouble.map(|trouble| with_hint(&trouble.message, None)),
        hint: trouble.and_then(|trouble| trouble.hint.clone()),
        stage: of.name().to_owned(),
        ..ArtifactProgress::default()
    }
}
