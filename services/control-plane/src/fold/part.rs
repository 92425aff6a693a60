//! One part: its stages, and what became of its artifacts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use transship_messages::{ArtifactOutcome, ArtifactResult, Fact, FactBody};
use transship_model::{ArtifactReference, BlobName, ContainerUrl, Counters, Digest, Stage};

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
    /// Of an import that was begun here: its bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<BundleFound>,
}

/// The bundle of an import, as it was found when it was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleFound {
    /// Its blob.
    pub blob: BlobName,
    /// Its entity tag, where it was known.
    pub etag: Option<String>,
}

/// What became of artifacts in the registry behind one container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetResults {
    /// The container of the bundle.
    pub container: ContainerUrl,
    /// By the artifact's name in the bundle: the attempt that said so, and what it said.
    pub results: BTreeMap<String, (u32, ArtifactResult)>,
    /// How many results each fact told. Of two results with the same name one is shown, and both are counted.
    pub told: BTreeMap<String, u64>,
}

/// What a fact changed of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changed {
    /// Its stages.
    pub stages: bool,
    /// Its artifacts.
    pub artifacts: bool,
}

impl Changed {
    fn stages(stages: bool) -> Self {
        Self { stages, artifacts: false }
    }

    /// Whether anything changed.
    pub fn any(self) -> bool {
        self.stages || self.artifacts
    }

    /// What this and another fact changed.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { stages: self.stages || other.stages, artifacts: self.artifacts || other.artifacts }
    }
}

impl PartState {
    /// A part of which nothing was heard, with the artifacts that it was asked to carry; none for an import, whose
    /// bundle says what it holds.
    pub fn new(requested: impl IntoIterator<Item = ArtifactReference>) -> Self {
        let requested = requested.into_iter().collect();
        Self { stages: Vec::new(), artifacts: Artifacts { requested, ..Artifacts::default() } }
    }

    /// A part of an import of which nothing was heard.
    pub fn of_bundle(blob: BlobName, etag: Option<String>) -> Self {
        let bundle = Some(BundleFound { blob, etag });
        Self { stages: Vec::new(), artifacts: Artifacts { bundle, ..Artifacts::default() } }
    }

    /// Takes one fact of this part; what it changed.
    pub fn apply(&mut self, fact: &Fact) -> Changed {
        let attempt = fact.attempt;
        match &fact.body {
            FactBody::PartPlanned { counters } => self.progress(fact, counters, None),
            FactBody::Progress { counters, in_flight } => self.progress(fact, counters, Some(in_flight)),
            FactBody::BundleExported {
                blob, etag, length, catalog_digest, counters, failed, routes, ..
            } => {
                let end = End {
                    etag: Some(etag.clone()),
                    length: Some(*length),
                    catalog_digest: Some(catalog_digest.clone()),
                    routes: routes.clone(),
                    ..end(fact, counters, blob)
                };
                let mut stands = false;
                let stages = self.change(fact, None, |stage| stands = stage.succeed(end));
                let artifacts = stands && self.artifacts.left_out != *failed;
                if artifacts {
                    self.artifacts.left_out.clone_from(failed);
                }
                Changed { stages, artifacts }
            }
            FactBody::BundleCopied { container, blob, etag, length, counters, .. } => {
                let end =
                    End { etag: Some(etag.clone()), length: Some(*length), ..end(fact, counters, blob) };
                Changed::stages(self.change(fact, Some(container), |stage| {
                    stage.succeed(end);
                }))
            }
            FactBody::ArtifactImported { container, results } => Changed {
                stages: self.change(fact, Some(container), |stage| {
                    if !stage.is_forgotten(fact.at_ms) {
                        stage.turn_to(attempt);
                    }
                }),
                artifacts: self.artifacts.import(container, attempt, results, fingerprint(&fact.body)),
            },
            FactBody::BundleImported { container, blob, catalog_digest, counters, message, .. } => {
                let end = End {
                    catalog_digest: catalog_digest.clone(),
                    message: message.clone(),
                    ..end(fact, counters, blob)
                };
                Changed::stages(self.change(fact, Some(container), |stage| {
                    stage.succeed(end);
                }))
            }
            FactBody::Failed { code, message, hint, terminal, container } => {
                let (code, message, hint) = (*code, message.clone(), hint.clone());
                let trouble = Trouble { terminal: *terminal, at_ms: fact.at_ms, code, message, hint };
                Changed::stages(self.change(fact, container.as_ref(), |stage| {
                    if !stage.is_forgotten(fact.at_ms) && stage.turn_to(attempt) {
                        stage.fail(trouble);
                    }
                }))
            }
        }
    }

    /// Forgets how a stage failed: its work was given to its queue again. A failure without a target concerned it as
    /// well.
    pub fn reopen(&mut self, stage: Stage, target: Option<&ContainerUrl>) {
        let same = |known: &&mut StageState| {
            known.stage == stage && (known.target.is_none() || known.target.as_ref() == target)
        };
        self.stages.iter_mut().filter(same).for_each(StageState::reopen);
    }

    fn progress(&mut self, fact: &Fact, counters: &Counters, names: Option<&Vec<String>>) -> Changed {
        Changed::stages(self.change(fact, None, |stage| {
            if stage.is_forgotten(fact.at_ms) || !stage.turn_to(fact.attempt) {
                return;
            }
            stage.count(counters);
            if let Some(names) = names {
                let heard = InFlight { at_ms: fact.at_ms, names: names.clone() };
                stage.in_flight = heard.max(std::mem::take(&mut stage.in_flight));
            }
        }))
    }

    /// Changes the stage that a fact is about; whether it is another one then. Facts of version 1 name the target in
    /// their body only.
    fn change(
        &mut self,
        fact: &Fact,
        container: Option<&ContainerUrl>,
        change: impl FnOnce(&mut StageState),
    ) -> bool {
        let target = match fact.stage {
            Stage::Exporter | Stage::ControlPlane => None,
            Stage::BlobCopier | Stage::Importer => fact.target.as_ref().or(container),
        };
        match self.stages.binary_search_by(|known| known.key().cmp(&(fact.stage, target))) {
            Ok(place) => {
                let before = self.stages[place].clone();
                change(&mut self.stages[place]);
                self.stages[place] != before
            }
            Err(place) => {
                let mut stage = StageState::new(fact.stage, target.cloned());
                change(&mut stage);
                self.stages.insert(place, stage);
                true
            }
        }
    }
}

/// The success that a fact tells, without what only some facts know.
fn end(fact: &Fact, counters: &Counters, blob: &BlobName) -> End {
    let saw_bundle = !matches!(&fact.body, FactBody::BundleImported { catalog_digest: None, .. });
    let rank = EndRank {
        saw_bundle,
        attempt: fact.attempt,
        bytes_moved: counters.bytes_moved,
        artifacts_moved: counters.artifacts_moved,
        fingerprint: fingerprint(&fact.body),
    };
    let blob = blob.clone();
    let (etag, length, catalog_digest, message) = (None, None, None, None);
    End { rank, counters: *counters, blob, etag, length, catalog_digest, message, routes: Vec::new() }
}

/// Tells facts apart that say different things.
fn fingerprint(body: &FactBody) -> String {
    // Numbers, text and lists of them always serialise.
    let body = serde_json::to_vec(body).unwrap_or_default();
    Digest::sha256(&body).hex()[..16].to_owned()
}

impl Artifacts {
    /// Takes the results of one fact; whether any was news.
    fn import(
        &mut self,
        container: &ContainerUrl,
        attempt: u32,
        results: &[ArtifactResult],
        fingerprint: String,
    ) -> bool {
        let place = match self.imported.binary_search_by(|known| known.container.cmp(container)) {
            Ok(place) => place,
            Err(place) => {
                let (container, results, told) = (container.clone(), BTreeMap::new(), BTreeMap::new());
                self.imported.insert(place, TargetResults { container, results, told });
                place
            }
        };
        let TargetResults { results: known, told, .. } = &mut self.imported[place];
        let mut news = told.insert(fingerprint, results.len() as u64).is_none();
        for result in results {
            let name = result.reference.to_string();
            if known.get(&name).is_none_or(|(at, known)| rank(*at, known) < rank(attempt, result)) {
                known.insert(name, (attempt, result.clone()));
                news = true;
            }
        }
        news
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
