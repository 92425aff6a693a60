//! What the facts of a run add up to: how far each stage is, what became of each artifact, and whether the run
//! is over. Pure: facts in, state out. A fact may come twice and in any order.

use std::collections::{BTreeMap, BTreeSet};

use transship_messages::{ArtifactResult, CopyMode, Fact, FactBody, RouteTaken};
use transship_model::{ArtifactReference, BlobName, ContainerUrl, Counters, Digest, Execution, Part, Stage};

use crate::exit::{Exit, Problem};

/// Which stages a command waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// The bundles are in the source container.
    Exported,
    /// The bundles are imported.
    Imported,
    /// The bundles are exported, and copied and imported on every route that they take.
    Everywhere,
}

/// The ledger of one execution.
#[derive(Debug)]
pub(crate) struct Ledger {
    execution: Execution,
    goal: Goal,
    parts: BTreeMap<u32, PartState>,
}

/// What is known of one part.
#[derive(Debug, Default)]
pub(crate) struct PartState {
    /// The bundle in the source container.
    pub(crate) exported: Option<Exported>,
    /// The target containers that have the bundle, and how it came there.
    pub(crate) copied: BTreeMap<ContainerUrl, CopyMode>,
    /// The containers whose bundle is imported, with what a person should know.
    pub(crate) imported: BTreeMap<ContainerUrl, Option<String>>,
    /// What became of each artifact, by the container that it was imported from.
    pub(crate) results: BTreeMap<(ContainerUrl, ArtifactReference), ArtifactResult>,
    /// Failures after which nobody tries again, by stage and, where one route of several failed, container.
    pub(crate) failures: BTreeMap<(Stage, Option<ContainerUrl>), Problem>,
    counters: BTreeMap<(Stage, Option<ContainerUrl>), Counters>,
    in_flight: BTreeMap<Stage, Vec<String>>,
    ended: BTreeSet<Stage>,
}

/// A bundle that was written.
#[derive(Debug, Clone)]
pub(crate) struct Exported {
    /// Its name.
    pub(crate) blob: BlobName,
    /// Its length in bytes.
    pub(crate) length: u64,
    /// The SHA-256 of its `index.json`.
    pub(crate) catalog_digest: Digest,
    /// The artifacts that are not in it.
    pub(crate) failed: Vec<ArtifactResult>,
    /// Where it goes.
    pub(crate) routes: Vec<RouteTaken>,
}

/// How far one stage is, over all parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StageRow {
    /// The stage.
    pub(crate) stage: Stage,
    /// The sum of its counters.
    pub(crate) counters: Counters,
    /// How many parts it is done with, and of how many.
    pub(crate) parts: (usize, usize),
    /// What it is moving, a few of them.
    pub(crate) in_flight: Vec<String>,
}

/// Something that a person should hear while the run goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// A stage failed and tries again.
    Retrying(String),
}

impl Ledger {
    /// The ledger of `execution`, which has parts with these numbers.
    pub(crate) fn new(execution: Execution, goal: Goal, parts: impl IntoIterator<Item = Part>) -> Self {
        let parts = parts.into_iter().map(|part| (part.number, PartState::default())).collect();
        Self { execution, goal, parts }
    }

    /// The parts by their numbers.
    pub(crate) fn parts(&self) -> &BTreeMap<u32, PartState> {
        &self.parts
    }

    /// Takes one fact. Facts of other executions, generations and parts say nothing here.
    pub(crate) fn apply(&mut self, fact: Fact) -> Option<News> {
        let Fact { execution, part, stage, body, .. } = fact;
        // A message that could not be decoded is reported with generation 0.
        let is_ours = execution.id == self.execution.id
            && (execution.generation == self.execution.generation || execution.generation == 0);
        let state = self.parts.get_mut(&part.number).filter(|_| is_ours)?;
        state.apply(stage, part, body)
    }

    /// Whether nothing more will happen that the goal needs.
    pub(crate) fn is_over(&self) -> bool {
        self.parts.values().all(|part| part.is_over(self.goal))
    }

    /// Whether the result of every artifact that an importer counted was heard too. The facts of one stage may
    /// overtake each other, so the end of an import may be known before its results.
    pub(crate) fn is_told(&self) -> bool {
        self.parts.values().all(PartState::is_told)
    }

    /// The numbers of the parts that are not over.
    pub(crate) fn open_parts(&self) -> Vec<u32> {
        self.parts.iter().filter(|(_, part)| !part.is_over(self.goal)).map(|(number, _)| *number).collect()
    }

    /// The first failure after which nobody tries again.
    pub(crate) fn failure(&self) -> Option<&Problem> {
        self.parts.values().find_map(|part| part.failures.values().next())
    }

    /// What an importer says of an import that is done: what of the bundle it left out, for example.
    pub(crate) fn remark(&self) -> Option<&str> {
        self.parts.values().flat_map(|part| part.imported.values()).find_map(Option::as_deref)
    }

    /// How far the stages are that said anything yet, in their order.
    pub(crate) fn rows(&self) -> Vec<StageRow> {
        [Stage::Exporter, Stage::BlobCopier, Stage::Importer]
            .into_iter()
            .filter_map(|s| self.row(s))
            .collect()
    }

    fn row(&self, stage: Stage) -> Option<StageRow> {
        let mut counters = Counters::default();
        let (mut done, mut heard) = (0, false);
        let mut in_flight = Vec::new();
        for part in self.parts.values() {
            for ((_, _), more) in part.counters.iter().filter(|((of, _), _)| *of == stage) {
                counters += *more;
                heard = true;
            }
            if part.ended.contains(&stage) {
                (done, heard) = (done + 1, true);
            } else {
                in_flight.extend(part.in_flight.get(&stage).into_iter().flatten().cloned());
            }
        }
        in_flight.truncate(4);
        heard.then_some(StageRow { stage, counters, parts: (done, self.parts.len()), in_flight })
    }

    /// The sum of one stage's counters.
    pub(crate) fn counters(&self, stage: Stage) -> Counters {
        self.row(stage).map(|row| row.counters).unwrap_or_default()
    }
}

impl PartState {
    fn apply(&mut self, stage: Stage, part: Part, body: FactBody) -> Option<News> {
        match body {
            FactBody::PartPlanned { counters } => self.count(stage, None, counters),
            FactBody::Progress { counters, in_flight } => {
                self.in_flight.insert(stage, in_flight);
                self.count(stage, None, counters);
            }
            FactBody::BundleExported { blob, length, catalog_digest, counters, failed, routes, .. } => {
                self.end(stage, None, counters);
                self.exported = Some(Exported { blob, length, catalog_digest, failed, routes });
            }
            FactBody::BundleCopied { container, mode, counters, .. } => {
                self.end(stage, Some(container.clone()), counters);
                self.copied.insert(container, mode);
            }
            FactBody::ArtifactImported { container, results } => {
                let name = |result: ArtifactResult| ((container.clone(), result.reference.clone()), result);
                self.results.extend(results.into_iter().map(name));
            }
            FactBody::BundleImported { container, counters, message, .. } => {
                self.end(stage, Some(container.clone()), counters);
                self.imported.insert(container, message);
            }
            FactBody::Failed { code, message, hint, terminal, container } => {
                let problem =
                    Problem { exit: Exit::of(code), code: Some(code), message, causes: Vec::new(), hint };
                return self.fail(stage, part, problem, terminal, container);
            }
        }
        None
    }

    fn fail(
        &mut self,
        stage: Stage,
        part: Part,
        problem: Problem,
        terminal: bool,
        container: Option<ContainerUrl>,
    ) -> Option<News> {
        if !terminal {
            let of = if part.count > 1 { format!(" (part {part})") } else { String::new() };
            return Some(News::Retrying(format!("{stage}{of} failed and tries again: {}", problem.message)));
        }
        self.in_flight.remove(&stage);
        self.failures.entry((stage, container)).or_insert(problem);
        None
    }

    fn count(&mut self, stage: Stage, target: Option<ContainerUrl>, counters: Counters) {
        // What a stage says at its end stands; a report of progress may arrive after it.
        if !self.ended.contains(&stage) {
            self.counters.insert((stage, target), counters);
        }
    }

    fn end(&mut self, stage: Stage, target: Option<ContainerUrl>, counters: Counters) {
        self.ended.insert(stage);
        self.in_flight.remove(&stage);
        self.counters.remove(&(stage, None));
        self.counters.insert((stage, target), counters);
    }

    fn is_told(&self) -> bool {
        self.imported.keys().all(|container| {
            let key = (Stage::Importer, Some(container.clone()));
            let counted = self.counters.get(&key).map_or(0, |counters| counters.artifacts_discovered);
            let told = self.results.keys().filter(|(from, _)| from == container).count();
            told as u64 >= counted
        })
    }

    /// Whether the part is over: each of its ways has come to its end or to a failure.
    fn is_over(&self, goal: Goal) -> bool {
        let failed = |stage, target: Option<&ContainerUrl>| {
            self.failures.contains_key(&(stage, target.cloned()))
                || self.failures.contains_key(&(stage, None))
        };
        match goal {
            Goal::Exported => self.exported.is_some() || failed(Stage::Exporter, None),
            Goal::Imported => {
                !self.imported.is_empty() || self.failures.keys().any(|(stage, _)| *stage == Stage::Importer)
            }
            Goal::Everywhere => {
                let Some(exported) = &self.exported else { return failed(Stage::Exporter, None) };
                exported.routes.iter().all(|route| {
                    let target = Some(&route.target);
                    let imported =
                        route.import_pipeline.is_none() || self.imported.contains_key(&route.target);
                    failed(Stage::BlobCopier, target)
                        || failed(Stage::Importer, target)
                        || (self.copied.contains_key(&route.target) && imported)
                })
            }
        }
    }
}

#[cfg(test)]
mod tests;
