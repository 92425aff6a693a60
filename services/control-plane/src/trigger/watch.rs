//! The triggers of all import pipelines, as one service of the process.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use transship_api::{ImportPipeline, Kind, ResourceId};
use transship_model::{BlobName, Execution, Failure, Part};
use transship_storage::{Access, Containers};

use super::adopt::Adoptions;
use super::decide::Rules;
use super::memory::Memory;
use super::scan::Scan;
use super::{Board, WatchStatus};
use crate::clock::now_ms;
use crate::dispatch::Wake;
use crate::notify::BlobHint;
use crate::random::hex;
use crate::recent::Recent;
use crate::registries::Registries;
use crate::snapshot::import_snapshot;
use crate::state::{PipelineSnapshot, ResourceRecord, Store, StoreError};

/// The most hints that wait; beyond it everything is listed instead.
const HINTS: usize = 1_000;

/// How many pipelines are looked at in parallel, and hints.
const PARALLEL: usize = 4;

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
    pub(super) store: Store,
    registries: Arc<Registries>,
    containers: Arc<Containers>,
    settings: TriggerSettings,
    /// Tells this process from other replicas.
    holder: String,
    board: Board,
    memories: Mutex<HashMap<String, Arc<Mutex<Memory>>>>,
    /// The pipelines that hints and facts are compared with.
    list: Recent<Watched>,
    pub(super) adoptions: Adoptions,
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
    /// A blob for one pipeline, or anything.
    For(ResourceId, Option<BlobName>),
}

/// A pipeline whose trigger is on.
pub(super) struct Watched {
    pub(super) record: ResourceRecord,
    key: String,
    /// The pipeline as it is, or why it cannot be used.
    pub(super) snapshot: Result<PipelineSnapshot, Failure>,
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
            list: Recent::default(),
            adoptions: Adoptions::default(),
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

    /// A pipeline is said to have something to import: this blob, or nobody says which. A blob whose run failed or was
    /// deleted is imported once more. A pipeline whose trigger is switched off imports nothing all the same.
    pub fn look(&self, pipeline: &ResourceId, blob: Option<BlobName>) {
        self.hint(Hint::For(pipeline.clone(), blob));
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
        let keys: HashSet<&str> = pipelines.iter().map(|watched| &*watched.key).collect();
        self.board.retain(|pipeline| keys.contains(pipeline));
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| keys.contains(&**key));
        stream::iter(&pipelines).for_each_concurrent(PARALLEL, |watched| self.everything_of(watched)).await;
    }

    async fn everything_of(&self, watched: &Watched) {
        let key = &watched.key;
        let seconds = u32::try_from(self.settings.interval.as_secs()).unwrap_or(u32::MAX).saturating_mul(2);
        let lease = self
            .store
            .lease(&format!("trigger:{key}"), &self.holder, now_ms(), seconds.saturating_add(30))
            .await;
        match lease {
            Ok(true) => {}
            Ok(false) => return self.board.elsewhere(key),
            Err(error) => return self.board.failed(key, &error.into()),
        }
        match self.scan(watched, &[]).await {
            Ok(()) => {}
            Err(failure) => self.board.failed(key, &failure),
        }
    }

    /// Lists one container. `heard` are imports of it that are known to be under way.
    pub(super) async fn scan(&self, watched: &Watched, heard: &[(Execution, Part)]) -> Result<(), Failure> {
        let (key, snapshot) = (&watched.key, watched.snapshot.as_ref().map_err(Clone::clone)?);
        let container =
            self.containers.open(&snapshot.container, snapshot.credential.as_ref(), Access::LIST).await?;
        let memory = self.memory(key);
        let scan = self.scan_of(watched, snapshot, container, &memory, heard);
        let outcome = scan.everything().await?;
        self.board.checked(key, now_ms(), outcome.seen, outcome.problem);
        Ok(())
    }

    fn scan_of<'a>(
        &'a self,
        watched: &'a Watched,
        snapshot: &'a PipelineSnapshot,
        container: Arc<dyn transship_storage::Container>,
        memory: &'a Mutex<Memory>,
        heard: &'a [(Execution, Part)],
    ) -> Scan<'a> {
        let rules = Rules {
            max_age_days: self.settings.max_age_days,
            announce_grace_ms: i64::try_from(self.settings.announce_grace.as_millis()).unwrap_or(i64::MAX),
            now_ms: now_ms(),
        };
        let (store, dispatch, pipeline, key) =
            (&self.store, &self.dispatch, &watched.record.id, &*watched.key);
        Scan { store, dispatch, pipeline, key, snapshot, container, rules, memory, heard, again: false }
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
        let read = match hint {
            Hint::Blob(_) => self.recent().await,
            // As it is now: it may have been made a moment ago.
            Hint::For(pipeline, _) => self.only(pipeline).await.map(Arc::new),
        };
        let pipelines = match read {
            Ok(pipelines) => pipelines,
            Err(error) => return tracing::warn!(%error, "the pipelines cannot be read, and a hint is lost"),
        };
        for watched in pipelines.iter() {
            let looked = match hint {
                Hint::Blob(blob) => match &watched.snapshot {
                    Ok(snapshot) => match blob.blob_in(&snapshot.container) {
                        Some(blob) => self.look_for(watched, &blob, &[], false).await,
                        None => Ok(()),
                    },
                    Err(failure) => Err(failure.clone()),
                },
                Hint::For(_, Some(blob)) => self.look_for(watched, blob, &[], true).await,
                Hint::For(_, None) => self.scan(watched, &[]).await,
            };
            if let Err(failure) = looked {
                self.board.failed(&watched.key, &failure);
            }
        }
    }

    /// Looks at one blob, for which no right to list is needed. `heard` are imports that are known to be under way;
    /// `again`, whether it is imported once more where its run failed.
    pub(super) async fn look_for(
        &self,
        watched: &Watched,
        blob: &BlobName,
        heard: &[(Execution, Part)],
        again: bool,
    ) -> Result<(), Failure> {
        let snapshot = watched.snapshot.as_ref().map_err(Clone::clone)?;
        let container =
            self.containers.open(&snapshot.container, snapshot.credential.as_ref(), Access::READ).await?;
        let memory = self.memory(&watched.key);
        Scan { again, ..self.scan_of(watched, snapshot, container, &memory, heard) }.one(blob).await
    }

    /// The pipelines whose trigger is on, as they are or were a moment ago.
    pub(super) async fn recent(&self) -> Result<Arc<Vec<Watched>>, StoreError> {
        self.list.get(self.enabled()).await
    }

    /// This pipeline, where its trigger is on.
    async fn only(&self, pipeline: &ResourceId) -> Result<Vec<Watched>, StoreError> {
        let record = self.store.resource(pipeline).await?;
        Ok(record.into_iter().filter_map(|record| self.watched(record)).collect())
    }

    fn watched(&self, record: ResourceRecord) -> Option<Watched> {
        let key = record.id.key();
        (record.kind == Kind::ImportPipeline && is_enabled(&record)).then(|| Watched {
            key,
            snapshot: import_snapshot(&self.registries, &record),
            record,
        })
    }

    /// The import pipelines whose trigger is on.
    async fn enabled(&self) -> Result<Vec<Watched>, StoreError> {
        let records = self.store.every_resource(Kind::ImportPipeline, None).await?;
        Ok(records.into_iter().filter_map(|record| self.watched(record)).collect())
    }
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
