//! A control plane without its interface, and the other ends of its queues.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use transship_api::{Kind, ResourceId, RunRequest};
use transship_bus::{Bus, BusSettings, BusState, Deliveries, Delivery, RabbitMq, WorkQueue};
use transship_control_plane::dispatch::DispatchSettings;
use transship_control_plane::runtime::{Core, Runtime, RuntimeSettings};
use transship_control_plane::state::{
    Action, NewExecution, NewRun, Origin, PipelineSnapshot, PutOutcome, RunDecision, RunKind, RunRecord,
    RunState, Store, StoreError,
};
use transship_control_plane::watchdog::WatchSettings;
use transship_messages::{Fact, FactBody, RouteTaken, WorkItem};
use transship_model::{ContainerUrl, Counters, Digest, ImportDestination, Route, Secret, Stage};
use transship_rig::Side;
use transship_secrets::SecretDirectory;
use transship_stage::fact_message;
use transship_storage::{BlockId, Condition, Containers, Metadata};
use transship_telemetry::Metrics;

/// Nothing in these tests takes longer, unless something is wrong.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The name of the secret that holds the SAS token.
const SECRET: &str = "sas";

static BROKER: OnceCell<transship_rig::RabbitMq> = OnceCell::const_new();
static STORAGE: OnceCell<transship_rig::Azurite> = OnceCell::const_new();

/// The broker that the tests of this process share.
pub(crate) async fn broker() -> &'static transship_rig::RabbitMq {
    let start = || async { transship_rig::RabbitMq::shared().await.expect("a broker") };
    BROKER.get_or_init(start).await
}

/// A virtual host, a container, a state and secrets of its own.
pub(crate) struct Scene {
    pub(crate) broker: String,
    pub(crate) container: transship_rig::Container,
    folder: TempDir,
}

/// A control plane that runs.
pub(crate) struct Plane {
    pub(crate) core: Core,
    bus: Arc<RabbitMq>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

/// Settings with which tests need not wait.
pub(crate) fn quick() -> RuntimeSettings {
    let dispatch = DispatchSettings { part_size: 2, ..DispatchSettings::default() };
    let watch = WatchSettings { interval: Duration::from_millis(50), ..WatchSettings::default() };
    RuntimeSettings { dispatch, watch }
}

impl Scene {
    pub(crate) async fn start() -> Result<Self> {
        Self::at(broker().await.vhost().await?).await
    }

    /// At the broker of this URL.
    pub(crate) async fn at(broker: String) -> Result<Self> {
        let start =
            || async { transship_rig::Azurite::shared(Side::Source).await.expect("a storage account") };
        let container = STORAGE.get_or_init(start).await.container("runtime").await?;
        let scene = Self { broker, container, folder: tempfile::tempdir()? };
        scene.secret(&scene.container.full_sas())?;
        Ok(scene)
    }

    /// Puts a SAS token into the secret.
    pub(crate) fn secret(&self, token: &str) -> Result<()> {
        Ok(std::fs::write(self.folder.path().join(SECRET), token)?)
    }

    /// Puts a SAS token with these letters into the secret, which expires at this time.
    pub(crate) fn token(&self, letters: &str, expires: SystemTime) -> Result<()> {
        self.secret(&self.container.sas(letters, expires))
    }

    pub(crate) fn url(&self) -> ContainerUrl {
        self.container.url.parse().expect("a container")
    }

    /// The state, once whoever had it before has let go of it.
    pub(crate) async fn store(&self) -> Result<Store> {
        let url = Secret::new(&format!("sqlite://{}", self.folder.path().join("state.db").display()));
        within(async {
            loop {
                match Store::open(&url).await {
                    Err(StoreError::Taken { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
                    opened => return Ok(opened?),
                }
            }
        })
        .await?
    }

    pub(crate) fn containers(&self) -> Arc<Containers> {
        Arc::new(Containers::new(Arc::new(SecretDirectory::new(self.folder.path()))))
    }

    /// A connection to the broker, as a stage has one.
    pub(crate) fn bus(&self) -> Arc<RabbitMq> {
        let settings = BusSettings {
            publish_timeout: Duration::from_secs(5),
            longest_backoff: Duration::from_secs(1),
            ..BusSettings::new(Secret::new(&self.broker), "runtime")
        };
        Arc::new(RabbitMq::connect(settings))
    }

    /// A control plane on what this scene has, whatever came before.
    pub(crate) async fn plane(&self, settings: RuntimeSettings) -> Result<Plane> {
        self.plane_with(settings, self.containers()).await
    }

    pub(crate) async fn plane_with(
        &self,
        settings: RuntimeSettings,
        preflight: Arc<dyn transship_control_plane::dispatch::Preflight>,
    ) -> Result<Plane> {
        let bus = self.bus();
        let core = Core::new(self.store().await?, bus.clone(), Metrics::new(Stage::ControlPlane));
        let cancel = CancellationToken::new();
        let runtime = Runtime { core: core.clone(), preflight, settings };
        let task = tokio::spawn(runtime.run(cancel.clone()));
        Ok(Plane { core, bus, cancel, task })
    }

    /// Writes a small blob.
    pub(crate) async fn put_blob(&self, name: &str) -> Result<()> {
        let container = transship_storage::open(&self.url(), Some(Secret::new(&self.container.full_sas())))?;
        let (name, id) = (name.parse()?, BlockId::new(*b"0001"));
        container.stage(&name, &id, Bytes::from_static(b"a bundle")).await?;
        container.commit(&name, &[id], &Metadata::new(), &Condition::Absent).await?;
        Ok(())
    }

    /// An export of these artifacts to the blob `bundle`.
    pub(crate) fn export(&self, name: &str, artifacts: usize) -> NewRun {
        let artifacts = (0..artifacts).map(|n| format!("team/app:{n}")).collect();
        let action = Action::Export { options: Default::default(), routes: None };
        let request = RunRequest { artifacts, ..RunRequest::default() };
        self.new_run(name, RunKind::Export, request, action)
    }

    /// The same, with a route from its container to `target`.
    pub(crate) fn routed_export(&self, name: &str, target: &ContainerUrl) -> NewRun {
        let mut run = self.export(name, 1);
        let route = Route {
            source: self.url(),
            pattern: Default::default(),
            target: target.clone(),
            target_secret: None,
            overwrite: false,
            import_pipeline: None,
            import_destination: None,
        };
        run.pipeline.action = Action::Export { options: Default::default(), routes: Some(vec![route]) };
        run
    }

    /// An import of the blob `bundle`.
    pub(crate) fn import(&self, name: &str) -> NewRun {
        let registry = "target".parse().expect("a name");
        let destination = ImportDestination { registry, credential: None, options: Default::default() };
        let action = Action::Import { pipeline: "target.inbox".parse().expect("a name"), destination };
        self.new_run(name, RunKind::Import, RunRequest::default(), action)
    }

    fn new_run(&self, name: &str, kind: RunKind, request: RunRequest, action: Action) -> NewRun {
        NewRun {
            id: run_id(name),
            kind,
            location: None,
            execution: NewExecution::Own(format!("run-{name}").parse().expect("an identity")),
            operation: format!("pipelineruns-{name}"),
            request,
            force_update_tag: None,
            origin: Origin::Request,
            pipeline: PipelineSnapshot {
                id: "pipeline".to_owned(),
                registry: "source".parse().expect("a name"),
                container: self.url(),
                credential: Some(SECRET.parse().expect("a name")),
                action,
            },
            blob: "bundle".parse().expect("a name"),
            traceparent: TRACE.to_owned(),
            by: "somebody".to_owned(),
            now_ms: now_ms(),
        }
    }
}

pub(crate) const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

pub(crate) fn run_id(name: &str) -> ResourceId {
    ResourceId::registry("s", "g", "source").child(Kind::PipelineRun, name)
}

pub(crate) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_millis()).expect("before the year 292 million")
}

/// Makes a run as a PUT does.
pub(crate) async fn put(store: &Store, new: NewRun) -> Result<RunRecord> {
    match store.put_run(&new.id.clone(), |_| RunDecision::Start(Box::new(new))).await? {
        PutOutcome::Started(run) => Ok(run),
        other => bail!("the run was not started: {other:?}"),
    }
}

impl Plane {
    pub(crate) fn store(&self) -> &Store {
        &self.core.store
    }

    /// Makes a run, and wakes the dispatcher.
    pub(crate) async fn put(&self, new: NewRun) -> Result<RunRecord> {
        let run = put(self.store(), new).await?;
        self.core.wake.wake();
        Ok(run)
    }

    /// Waits until a run is in a state that `fits`.
    pub(crate) async fn until(&self, name: &str, fits: impl Fn(&RunState) -> bool) -> Result<RunRecord> {
        let mut last = None;
        let waiting = async {
            loop {
                let run = self.store().run(&run_id(name)).await?.context("the run is there")?;
                if fits(&run.state) {
                    return Ok(run);
                }
                last = Some(run.state);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(DEADLINE, waiting).await {
            Ok(run) => run,
            Err(_) => bail!("run {name} is still {last:?}"),
        }
    }

    pub(crate) async fn succeeded(&self, name: &str) -> Result<RunRecord> {
        let run = self.until(name, RunState::is_terminal).await?;
        anyhow::ensure!(matches!(run.state, RunState::Succeeded { .. }), "{:?}", run.state);
        Ok(run)
    }

    /// The code and message of a run that failed.
    pub(crate) async fn failed(&self, name: &str) -> Result<(transship_model::Code, String)> {
        match self.until(name, RunState::is_terminal).await?.state {
            RunState::Failed { code, message } => Ok((code, message)),
            other => bail!("{other:?}"),
        }
    }

    /// Waits until a run says that it waits for something that contains `on`.
    pub(crate) async fn waits(&self, name: &str, on: &str) -> Result<String> {
        let fits = |state: &RunState| matches!(state, RunState::Waiting { on: said } if said.contains(on));
        match self.until(name, fits).await?.state {
            RunState::Waiting { on } => Ok(on),
            other => bail!("{other:?}"),
        }
    }

    /// Waits until the broker answers, and the facts have their queue.
    pub(crate) async fn ready(&self) -> Result<()> {
        let mut state = self.bus.state();
        within(state.wait_for(|state| *state == BusState::Ready)).await??;
        Ok(())
    }

    /// Stops it as a process is stopped.
    pub(crate) async fn stop(self) -> Result<()> {
        self.cancel.cancel();
        within(self.task).await??;
        self.bus.close().await;
        self.core.store.close().await;
        Ok(())
    }

    /// Waits until it dies by itself; true where it did.
    pub(crate) async fn ended(self) -> bool {
        let ended = self.task.await;
        self.bus.close().await;
        ended.is_err_and(|error| error.is_panic())
    }

    /// Ends it in the middle of whatever it does: nothing is finished, and nobody is told.
    pub(crate) async fn kill(self) {
        let Self { core, bus, task, .. } = self;
        task.abort();
        let _cancelled = task.await;
        drop(core);
        // Its connections go with it.
        bus.close().await;
    }
}

pub(crate) async fn within<T>(waiting: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(DEADLINE, waiting).await.context("it takes too long")
}

/// A stage, as far as the control plane sees it.
pub(crate) struct Stub {
    pub(crate) bus: Arc<RabbitMq>,
    deliveries: Box<dyn Deliveries>,
}

impl Stub {
    pub(crate) async fn of(scene: &Scene, queue: WorkQueue) -> Result<Self> {
        let bus = scene.bus();
        let deliveries = bus.consume(queue.into(), 8).await?;
        Ok(Self { bus, deliveries })
    }

    pub(crate) async fn next(&mut self) -> Result<Delivery> {
        within(self.deliveries.next()).await?.context("the bus is open")
    }

    /// The next work item, acknowledged without doing it.
    pub(crate) async fn take<W: WorkItem>(&mut self) -> Result<W> {
        let delivery = self.next().await?;
        let work = W::decode(&delivery.message.body)?;
        delivery.settle.ack().await?;
        Ok(work)
    }

    /// Nothing comes for a while.
    pub(crate) async fn is_idle(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(500), self.deliveries.next()).await.is_err()
    }

    pub(crate) async fn tell(&self, fact: &Fact, number: u64) -> Result<()> {
        within(tell(&*self.bus, fact, number)).await
    }
}

/// Publishes a fact until somebody hears it.
pub(crate) async fn tell(bus: &dyn Bus, fact: &Fact, number: u64) {
    while bus.publish(vec![fact_message(fact, number, true, Default::default())]).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The fact of a stage about a work item.
pub(crate) fn fact_of<W: WorkItem>(work: &W, stage: Stage, attempt: u32, body: FactBody) -> Fact {
    let (execution, part, target) = (work.execution().clone(), work.part(), work.target().cloned());
    Fact { execution, part, stage, attempt, target, at_ms: 1, body }
}

pub(crate) fn counters(artifacts: u64) -> Counters {
    Counters { artifacts_discovered: artifacts, artifacts_moved: artifacts, ..Counters::default() }
}

/// What an exporter says when it is done.
pub(crate) fn exported(work: &transship_messages::ExportPart) -> Fact {
    let body = FactBody::BundleExported {
        container: work.container.clone(),
        blob: work.blob.of_part(work.part).expect("a name"),
        etag: "0x1".to_owned(),
        length: 1,
        catalog_digest: Digest::sha256(b"index"),
        counters: counters(work.artifacts.len() as u64),
        failed: Vec::new(),
        routes: work.routes.iter().flatten().map(taken).collect(),
    };
    fact_of(work, Stage::Exporter, 1, body)
}

fn taken(route: &Route) -> RouteTaken {
    RouteTaken { target: route.target.clone(), import_pipeline: route.import_pipeline.clone() }
}

/// The same where the exporter's own configuration has a route to `target`.
pub(crate) fn exported_to(work: &transship_messages::ExportPart, target: &ContainerUrl) -> Fact {
    let mut fact = exported(work);
    if let FactBody::BundleExported { routes, .. } = &mut fact.body {
        routes.push(RouteTaken { target: target.clone(), import_pipeline: None });
    }
    fact
}

/// How a stage fails.
pub(crate) fn failed(message: &str, terminal: bool) -> FactBody {
    FactBody::Failed {
        code: transship_model::Code::RegistryUnavailable,
        message: message.to_owned(),
        hint: None,
        terminal,
        container: None,
    }
}
