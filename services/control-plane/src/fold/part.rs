//! One part: its stages, and what became of its artifacts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use transship_messages::{ArtifactOutcome, ArtifactResult, Fact, FactBody};
use transship_model::{ArtifactReference, ContainerUrl, Counters, Digest, Stage};

use super::stage::{End, EndRank, InFlight, StageState, Trouble};

/// What is known of one part.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PartState {
    /// Its stages, in the order of the way.
    pub stages: Vec<StageState>,
    /// Its artifacts.
    pub artifacts: Artifacts,
}

/// What became of the artifacts of a part. Kept apart from the stages: it is large, and seldom changes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Artifacts {
    /// What was asked for; empty where only the bundle knows.
    pub requested: Vec<ArtifactReference>,
    /// What the exporter left out of the bundle, and why.
    pub left_out: Vec<ArtifactResult>,
    /// What importers said, by the container that they read.
    pub imported: Vec<TargetResults>,
}

/// What became of artifacts in the registry behind one container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetResults {
    /// The container of the bundle.
    pub container: ContainerUrl,
    /// By the artifact's name in the bundle: the attempt that said so, and what it said.
    pub results: BTreeMap<String, (u32, ArtifactResult)>,
}

impl PartState {
    /// A part of which nothing was heard, with the artifacts that it was asked to carry; none for an import, whose
    /// bundle says what it holds.
    pub fn new(requested: impl IntoIterator<Item = ArtifactReference>) -> Self {
        let requested = requested.into_iter().collect();
        Self { stages: Vec::new(), artifacts: Artifacts { requested, ..Artifacts::default() } }
    }

    /// Takes one fact of this part. True where it changed something.
    pub fn apply(&mut self, fact: &Fact) -> bool {
        let before = self.clone();
        match &fact.body {
            FactBody::PartPlanned { counters } => self.progress(fact, counters, None),
            FactBody::Progress { counters, in_flight } => self.progress(fact, counters, Some(in_flight)),
            FactBody::BundleExported { blob, etag, length, catalog_digest, counters, failed, .. } => {
                let end = End {
                    etag: Some(etag.clone()),
                    length: Some(*length),
                    catalog_digest: Some(catalog_digest.clone()),
                    ..end(fact, counters, blob)
                };
                if self.stage(fact, None).succeed(end) {
                    self.artifacts.left_out.clone_from(failed);
                }
            }
            FactBody::BundleCopied { container, blob, etag, length, counters, .. } => {
                let end =
                    End { etag: Some(etag.clone()), length: Some(*length), ..end(fact, counters, blob) };
                self.stage(fact, Some(container)).succeed(end);
            }
            FactBody::ArtifactImported { container, results } => {
                self.stage(fact, Some(container)).turn_to(fact.attempt);
                self.artifacts.import(container, fact.attempt, results);
            }
            FactBody::BundleImported { container, blob, catalog_digest, counters, message, .. } => {
                let end = End {
                    catalog_digest: catalog_digest.clone(),
                    message: message.clone(),
                    ..end(fact, counters, blob)
                };
                self.stage(fact, Some(container)).succeed(end);
            }
            FactBody::Failed { code, message, hint, terminal, container } => {
                let (code, message, hint) = (*code, message.clone(), hint.clone());
                let trouble = Trouble { terminal: *terminal, at_ms: fact.at_ms, code, message, hint };
                let stage = self.stage(fact, container.as_ref());
                if stage.turn_to(fact.attempt) {
                    stage.fail(trouble);
                }
            }
        }
        *self != before
    }

    /// Forgets how a stage failed: its work was given to its queue again.
    pub fn reopen(&mut self, stage: Stage, target: Option<&ContainerUrl>) {
        let same = |known: &&mut StageState| known.stage == stage && known.target.as_ref() == target;
        self.stages.iter_mut().filter(same).for_each(StageState::reopen);
    }

    fn progress(&mut self, fact: &Fact, counters: &Counters, names: Option<&Vec<String>>) {
        let stage = self.stage(fact, None);
        if !stage.turn_to(fact.attempt) {
            return;
        }
        stage.count(counters);
        if let Some(names) = names {
            let heard = InFlight { at_ms: fact.at_ms, names: names.clone() };
            stage.in_flight = heard.max(std::mem::take(&mut stage.in_flight));
        }
    }

    /// The stage that a fact is about. Facts of version 1 name the target in their body only.
    fn stage(&mut self, fact: &Fact, container: Option<&ContainerUrl>) -> &mut StageState {
        let target = match fact.stage {
            Stage::Exporter | Stage::ControlPlane => None,
            Stage::BlobCopier | Stage::Importer => fact.target.as_ref().or(container),
        };
        let place = match self.stages.binary_search_by(|known| known.key().cmp(&(fact.stage, target))) {
            Ok(place) => place,
            Err(place) => {
                self.stages.insert(place, StageState::new(fact.stage, target.cloned()));
                place
            }
        };
        &mut self.stages[place]
    }
}

/// The success that a fact tells, without what only some facts know.
fn end(fact: &Fact, counters: &Counters, blob: &transship_model::BlobName) -> End {
    let saw_bundle = !matches!(&fact.body, FactBody::BundleImported { catalog_digest: None, .. });
    // Numbers, text and lists of them always serialise.
    let body = serde_json::to_vec(&fact.body).unwrap_or_default();
    let rank = EndRank {
        saw_bundle,
        attempt: fact.attempt,
        bytes_moved: counters.bytes_moved,
        artifacts_moved: counters.artifacts_moved,
        fingerprint: Digest::sha256(&body).hex()[..16].to_owned(),
    };
    let blob = blob.clone();
    End { rank, counters: *counters, blob, etag: None, length: None, catalog_digest: None, message: None }
}

impl Artifacts {
    fn import(&mut self, container: &ContainerUrl, attempt: u32, results: &[ArtifactResult]) {
        let place = match self.imported.binary_search_by(|known| known.container.cmp(container)) {
            Ok(place) => place,
            Err(place) => {
                let results = BTreeMap::new();
                self.imported.insert(place, TargetResults { container: container.clone(), results });
                place
            }
        };
        let known = &mut self.imported[place].results;
        for result in results {
            let name = result.reference.to_string();
            if known.get(&name).is_none_or(|(at, known)| rank(*at, known) < rank(attempt, result)) {
                known.insert(name, (attempt, result.clone()));
            }
        }
    }
}

/// The order of results: the higher attempt, then success before failure; the text only tells them apart.
fn rank(attempt: u32, result: &ArtifactResult) -> (u32, u8, String) {
    let success = match result.outcome {
        ArtifactOutcome::Moved => 2,
        ArtifactOutcome::Skipped { .. } => 1,
        ArtifactOutcome::Failed { .. } => 0,
    };
    (attempt, success, format!("{result:?}"))
}
