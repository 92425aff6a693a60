//! The triggers of all import pipelines, as one service of the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use transship_api::{ImportPipeline, Kind, ResourceId};
use transship_messages::{Fact, FactBody};
use transship_model::{BlobName, Code, ContainerUrl, Failure, Stage};
use transship_storage::{Access, Containers};

use super::decide::Rules;
use super::memory::Memory;
use super::scan::Scan;
use super::{Board, WatchStatus};
use crate::clock::now_ms;
use crate::dispatch::Wake;
use crate::facts::Adopt;
use crate::notify::BlobHint;
use crate::random::hex;
use crate::registries::Registries;
use crate::snapshot::import_snapshot;
use crate::state::{PipelineSnapshot, ResourceRecord, Store, StoreError};

/// The most hints that wait; beyond it everything is listed instead.
const HINTS: usize = 1_000;

/// How many pipelines are looked at in parallel, and hints.
const PARALLEL: usize = 4;

/// The most pipelines that are read at a time.
const PAGE: u32 = 500;

/// How often a container is listed at most because of facts of an import that nobody here asked for.
const ADOPTION_PAUSE: Duration = Duration::from_secs(5);

/// How long facts wait for that.
const ADOPTION_PATIENCE: Duration = Duration::from_secs(30);

/// How the triggers work.
#[derive(Debug, Clone, Copy)]
pub struct TriggerSettings {
    /// How often each container is listed.
    pub interval: Duration,
    /// Blobs that were changed longer ago are left alone; 0 is no limit. In days.
    pub max_age_days: u32,
    /// How long a blob is left to the pipeline that a copier will announce it to.
    pub announce_grace: Duration,
}

impl Default for TriggerSettings {
    fn default() -> Self {
        let announce_grace = Duration::from_secs(600);
        Self { interval: Duration::from_secs(30), max_age_days: 60, announce_grace }
    }
}

/// The triggers of all import pipelines.
pub struct SourceTrigger {
    store: Store,
    registries: Arc<Registries>,
    containers: Arc<Containers>,
    settings: TriggerSettings,
    /// Tells this process from other replicas.
    holder: String,
    board: Board,
    memories: Mutex<HashMap<String, Arc<Mutex<Memory>>>>,
    looked: Mutex<HashMap<ContainerUrl, Instant>>,
    adopting: tokio::sync::Mutex<()>,
    dispatch: Wake,
    wake: Notify,
    hints: mpsc::Sender<Hint>,
    hinted: tokio::sync::Mutex<mpsc::Receiver<Hint>>,
}

/// What somebody says has arrived.
#[derive(Debug)]
enum Hint {
    /// A blob, for every pipeline of its container.
    Blob(BlobHint),
    /// A blob for one pipeline, by its key, or anything.
    For(String, Option<BlobName>),
}

impl SourceTrigger {
    /// Triggers for the pipelines of `store`. Nothing happens before [`SourceTrigger::run`].
    pub fn new(
        store: Store,
        registries: Arc<Registries>,
        containers: Arc<Containers>,
        settings: TriggerSettings,
    ) -> Self {
        let (hints, hinted) = mpsc::channel(HINTS);
        Self {
            store,
            registries,
            containers,
            settings,
            holder: hex::<8>(),
            board: Board::default(),
            memories: Mutex::default(),
            looked: Mutex::default(),
            adopting: tokio::sync::Mutex::default(),
            dispatch: Wake::default(),
            wake: Notify::new(),
            hints,
            hinted: tokio::sync::Mutex::new(hinted),
        }
    }

    /// The same with somebody who is told when a run was put.
    #[must_use]
    pub fn with_wake(self, dispatch: Wake) -> Self {
        Self { dispatch, ..self }
    }

    /// Blobs are said to have arrived: they are looked at at once, for every pipeline of their container.
    pub fn blobs_created(&self, blobs: Vec<BlobHint>) {
        blobs.into_iter().for_each(|blob| self.hint(Hint::Blob(blob)));
    }

    /// A pipeline is said to have something to import: this blob, or nobody says which. One whose trigger is switched
    /// off imports nothing all the same.
    pub fn look(&self, pipeline: &ResourceId, blob: Option<BlobName>) {
        self.hint(Hint::For(pipeline.key(), blob));
    }

    fn hint(&self, hint: Hint) {
        if self.hints.try_send(hint).is_err() {
            // More than are kept: a look at everything stands for all of them.
            self.wake.notify_one();
        }
    }

    /// Lists every container now, as after a pipeline was made or changed.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// What the trigger of a pipeline is doing; `None` where it was not looked at yet, or is switched off.
    pub fn status(&self, pipeline: &ResourceId) -> Option<WatchStatus> {
        self.board.of(&pipeline.key())
    }

    /// Watches until `stop`. What it is doing then is given up: whatever was half done is done again by the next one.
    pub async fn run(&self, stop: CancellationToken) {
        let work = async { tokio::join!(self.poll(), self.serve_hints()) };
        stop.run_until_cancelled(work).await;
    }

    async fn poll(&self) {
        loop {
            self.pass().await;
            tokio::select! {
                () = tokio::time::sleep(jittered(self.settings.interval)) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// Looks at the containers of all pipelines whose trigger is on, once.
    pub async fn pass(&self) {
        let pipelines = match self.enabled().await {
            Ok(pipelines) => pipelines,
            Err(error) => return tracing::warn!(%error, "the pipelines cannot be read; they are read again"),
        };
        let keys: std::collections::HashSet<String> =
            pipelines.iter().map(|record| record.id.key()).collect();
        self.board.retain(|pipeline| keys.contains(pipeline));
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| keys.contains(key));
        stream::iter(&pipelines).for_each_concurrent(PARALLEL, |record| self.everything_of(record)).await;
    }

    async fn everything_of(&self, record: &ResourceRecord) {
        let key = record.id.key();
        let seconds = u32::try_from(self.settings.interval.as_secs()).unwrap_or(u32::MAX).saturating_mul(2);
        let lease = self
            .store
            .lease(&format!("trigger:{key}"), &self.holder, now_ms(), seconds.saturating_add(30))
            .await;
        match lease {
            Ok(true) => {}
            Ok(false) => return self.board.elsewhere(&key),
            Err(error) => return self.board.failed(&key, &error.into()),
        }
        match self.scan(record, None).await {
            Ok(()) => {}
            Err(failure) => self.board.failed(&key, &failure),
        }
    }

    /// Lists one container. `heard` is an import of it that is known to be under way.
    async fn scan(&self, record: &ResourceRecord, heard: Option<&Fact>) -> Result<(), Failure> {
        let key = record.id.key();
        let snapshot = import_snapshot(&self.registries, record)?;
        let container =
            self.containers.open(&snapshot.container, snapshot.credential.as_ref(), Access::LIST).await?;
        let memory = self.memory(&key);
        let heard = heard.map(|fact| (fact.execution.clone(), fact.part));
        let scan = Scan { heard, ..self.scan_of(record, &key, &snapshot, container, &memory) };
        let outcome = scan.everything().await?;
        self.board.checked(&key, now_ms(), outcome.seen, outcome.problem);
        Ok(())
    }

    fn scan_of<'a>(
        &'a self,
        record: &'a ResourceRecord,
        key: &'a str,
        snapshot: &'a PipelineSnapshot,
        container: Arc<dyn transship_storage::Container>,
        memory: &'a Mutex<Memory>,
    ) -> Scan<'a> {
        let rules = Rules {
            max_age_days: self.settings.max_age_days,
            announce_grace_ms: i64::try_from(self.settings.announce_grace.as_millis()).unwrap_or(i64::MAX),
            now_ms: now_ms(),
        };
        let (store, dispatch, pipeline) = (&self.store, &self.dispatch, &record.id);
        Scan { store, dispatch, pipeline, key, snapshot, container, rules, memory, heard: None }
    }

    fn memory(&self, key: &str) -> Arc<Mutex<Memory>> {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        memories.entry(key.to_owned()).or_default().clone()
    }

    async fn serve_hints(&self) {
        let mut hinted = self.hinted.lock().await;
        let hints = stream::poll_fn(|context| hinted.poll_recv(context));
        hints.for_each_concurrent(PARALLEL, |hint| async move { self.look_at(&hint).await }).await;
    }

    async fn look_at(&self, hint: &Hint) {
        let pipelines = match self.enabled().await {
            Ok(pipelines) => pipelines,
            Err(error) => return tracing::warn!(%error, "the pipelines cannot be read, and a hint is lost"),
        };
        for record in &pipelines {
            let looked = match hint {
                Hint::Blob(blob) => self.look_for(record, |container| blob.blob_in(container)).await,
                Hint::For(key, _) if *key != record.id.key() => continue,
                Hint::For(_, Some(blob)) => self.look_for(record, |_| Some(blob.clone())).await,
                Hint::For(_, None) => self.scan(record, None).await,
            };
            if let Err(failure) = looked {
                self.board.failed(&record.id.key(), &failure);
            }
        }
    }

    async fn look_for(
        &self,
        record: &ResourceRecord,
        blob: impl Fn(&ContainerUrl) -> Option<BlobName>,
    ) -> Result<(), Failure> {
        let snapshot = import_snapshot(&self.registries, record)?;
        let Some(blob) = blob(&snapshot.container) else { return Ok(()) };
        // A hint needs no right to list.
        let container =
            self.containers.open(&snapshot.container, snapshot.credential.as_ref(), Access::READ).await?;
        let key = record.id.key();
        let memory = self.memory(&key);
        self.scan_of(record, &key, &snapshot, container, &memory).one(&blob).await
    }

    async fn is_known(&self, fact: &Fact) -> Result<bool, StoreError> {
        let runs = self.store.runs_of_execution(&fact.execution.id).await?;
        Ok(runs.iter().any(|run| run.execution == fact.execution && run.view.covers(fact.part.number)))
    }

    fn may_look(&self, container: &ContainerUrl) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        looked.retain(|_, at| now.duration_since(*at) < ADOPTION_PAUSE);
        if looked.contains_key(container) {
            return false;
        }
        looked.insert(container.clone(), now);
        true
    }

    /// The import pipelines whose trigger is on.
    async fn enabled(&self) -> Result<Vec<ResourceRecord>, StoreError> {
        let mut found: Vec<ResourceRecord> = Vec::new();
        let mut after = 0;
        loop {
            let page = self.store.all_resources(Kind::ImportPipeline, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(found) };
            after = last.seq;
            found.extend(page.into_iter().filter(is_enabled));
        }
    }
}

/// The import of a bundle that was announced to a pipeline whose trigger is on, such as by a copier of another cloud,
/// becomes a run.
#[async_trait]
impl Adopt for SourceTrigger {
    async fn adopt(&self, fact: &Fact) -> Result<bool, Failure> {
        let container = fact.target.as_ref().or(match &fact.body {
            FactBody::ArtifactImported { container, .. } | FactBody::BundleImported { container, .. } => {
                Some(container)
            }
            FactBody::Failed { container, .. } => container.as_ref(),
            _ => None,
        });
        let Some(container) = container.filter(|_| fact.stage == Stage::Importer) else { return Ok(false) };
        // Facts of one import come together: the others wait for what the first one finds.
        let _adopting = self.adopting.lock().await;
        if self.is_known(fact).await? {
            return Ok(true);
        }
        if self.may_look(container) {
            for record in self.enabled().await? {
                let snapshot = import_snapshot(&self.registries, &record);
                if snapshot.is_ok_and(|found| found.container == *container) {
                    let scan = self.scan(&record, Some(fact));
                    tokio::time::timeout(ADOPTION_PATIENCE, scan).await.map_err(|_| slow(container))??;
                }
            }
        }
        Ok(self.is_known(fact).await?)
    }
}

fn slow(container: &ContainerUrl) -> Failure {
    let message = format!("{container} was not listed within {} s", ADOPTION_PATIENCE.as_secs());
    Failure::transient(Code::StorageUnavailable, message)
}

/// A pipeline that cannot be read is looked at, so that its trigger says what is wrong.
fn is_enabled(record: &ResourceRecord) -> bool {
    let pipeline: Option<ImportPipeline> = serde_json::from_str(&record.body).ok();
    let status = pipeline.and_then(|pipeline| pipeline.properties.trigger?.source_trigger?.status);
    !status.is_some_and(|status| status.eq_ignore_ascii_case("Disabled"))
}

/// Between nine and eleven tenths of `interval`, so that replicas and pipelines do not ask in step.
pub(crate) fn jittered(interval: Duration) -> Duration {
    let random = u32::from_str_radix(&hex::<2>(), 16).unwrap_or_default();
    interval.mul_f64(0.9 + 0.2 * f64::from(random) / 65_535.0)
}
