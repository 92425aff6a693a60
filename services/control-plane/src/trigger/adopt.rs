//! Imports that nobody here asked for: which facts tell of one that a pipeline of ours was promised, such as by a
//! copier of another cloud. It becomes a run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use transship_messages::{Fact, FactBody};
use transship_model::{BlobName, Code, ContainerUrl, Execution, Failure, Part, Stage};

use super::watch::{SourceTrigger, Watched};
use crate::facts::Adopt;
use crate::state::StoreError;

/// How often a container is listed at most because of facts of imports that nobody here asked for. Facts that come
/// meanwhile wait for the next listing, which is for all of them.
const PAUSE: Duration = Duration::from_secs(5);

/// How long a look because of a fact may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long an import of which a listing said nothing is taken for one of somebody else.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// The most imports that are remembered of a container; beyond it the container is listed more often.
const REMEMBERED: usize = 10_000;

/// An import of one part.
type Import = (Execution, Part);

/// The imports that facts tell of, by the container of their bundles.
#[derive(Debug, Default)]
pub(super) struct Adoptions(Mutex<HashMap<ContainerUrl, Arc<Adoption>>>);

/// Those of one container.
#[derive(Debug, Default)]
struct Adoption {
    /// For whose sake the container is listed next.
    waiting: Mutex<Vec<Import>>,
    /// Held by whoever lists it.
    looking: tokio::sync::Mutex<Looked>,
}

/// What listings came to.
#[derive(Debug, Default)]
struct Looked {
    last: Option<Instant>,
    /// The imports that were looked for, and when.
    imports: HashMap<Import, Instant>,
}

impl Adoptions {
    fn of(&self, container: &ContainerUrl) -> Arc<Adoption> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(container.clone()).or_default())
    }
}

impl Adoption {
    fn waiting(&self) -> MutexGuard<'_, Vec<Import>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, import: &Import) {
        let mut waiting = self.waiting();
        if !waiting.contains(import) {
            waiting.push(import.clone());
        }
    }
}

impl Looked {
    /// Whether a listing was for `import`, not long ago.
    fn knows(&self, import: &Import, now: Instant) -> bool {
        self.imports.get(import).is_some_and(|at| now.duration_since(*at) < FORGOTTEN)
    }

    fn remember(&mut self, imports: Vec<Import>, now: Instant) {
        self.imports.retain(|_, at| now.duration_since(*at) < FORGOTTEN);
        if self.imports.len() + imports.len() > REMEMBERED {
            self.imports.clear();
        }
        self.imports.extend(imports.into_iter().map(|import| (import, now)));
    }
}

/// Where the bundle of a fact is, and which blob it is where the fact says so.
fn bundle_of(fact: &Fact) -> Option<(&ContainerUrl, Option<&BlobName>)> {
    let (container, blob) = match &fact.body {
        FactBody::BundleImported { container, blob, .. } => (Some(container), Some(blob)),
        FactBody::ArtifactImported { container, .. } => (Some(container), None),
        FactBody::Failed { container, .. } => (container.as_ref(), None),
        _ => (None, None),
    };
    let container = fact.target.as_ref().or(container)?;
    (fact.stage == Stage::Importer).then_some((container, blob))
}

#[async_trait]
impl Adopt for SourceTrigger {
    /// False only where a look that was for this import found nothing.
    async fn adopt(&self, fact: &Fact) -> Result<bool, Failure> {
        let Some((container, blob)) = bundle_of(fact) else { return Ok(false) };
        if self.is_known(fact).await? {
            return Ok(true);
        }
        let all = self.recent().await?;
        let ours = |watched: &&Watched| {
            watched.snapshot.as_ref().is_ok_and(|snapshot| snapshot.container == *container)
        };
        let pipelines: Vec<&Watched> = all.iter().filter(ours).collect();
        if pipelines.is_empty() {
            return Ok(false);
        }
        let import = (fact.execution.clone(), fact.part);
        let slow = |_| {
            let message = format!("{container} was not read within {} s", PATIENCE.as_secs());
            Failure::transient(Code::StorageUnavailable, message)
        };
        if let Some(blob) = blob {
            let look = async {
                for watched in pipelines {
                    self.look_for(watched, blob, std::slice::from_ref(&import), false).await?;
                }
                Ok::<_, Failure>(())
            };
            tokio::time::timeout(PATIENCE, look).await.map_err(slow)??;
            return Ok(self.is_known(fact).await?);
        }
        let adoption = self.adoptions.of(container);
        adoption.wait(&import);
        let mut looked = adoption.looking.lock().await;
        // Whoever listed meanwhile did it for this one too.
        if self.is_known(fact).await? {
            return Ok(true);
        }
        if looked.knows(&import, Instant::now()) {
            return Ok(false);
        }
        if let Some(last) = looked.last {
            tokio::time::sleep_until(last + PAUSE).await;
        }
        looked.last = Some(Instant::now());
        let imports = std::mem::take(&mut *adoption.waiting());
        let look = async {
            for watched in pipelines {
                self.scan(watched, &imports).await?;
            }
            Ok::<_, Failure>(())
        };
        tokio::time::timeout(PATIENCE, look).await.map_err(slow)??;
        looked.remember(imports, Instant::now());
        Ok(self.is_known(fact).await?)
    }
}

impl SourceTrigger {
    async fn is_known(&self, fact: &Fact) -> Result<bool, StoreError> {
        let runs = self.store.runs_of_execution(&fact.execution.id).await?;
        Ok(runs.iter().any(|run| run.execution == fact.execution && run.view.covers(fact.part.number)))
    }
}
