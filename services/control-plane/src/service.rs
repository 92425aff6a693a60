//! The composition: state, broker, interface, and what runs beside it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use transship_api::{Kind, ResourceId};
use transship_bus::{Bus, BusState, Inbox, WorkQueue};
use transship_host::Process;
use transship_model::{BlobName, Code, Failure, Secret};
use transship_storage::Containers;

use crate::api::Api;
use crate::config::{Config, StateConfig};
use crate::http::{Authenticator, Hints, Server, ServerParts, serve};
use crate::notify::{BlobHint, PushHint};
use crate::registries::Registries;
use crate::runtime::{Core, Runtime};
use crate::schedule::{RegistryCatalogs, ScheduleSettings, Schedules};
use crate::state::Store;
use crate::trigger::{SourceTrigger, WatchStatus};

/// How often the state is asked whether it answers.
const PROBE: Duration = Duration::from_secs(5);

/// How often the broker is asked who consumes its queues.
const ATTEND: Duration = Duration::from_secs(15);

/// Runs the service until the process is asked to stop, then gives back what it holds.
///
/// # Errors
/// Where the configuration cannot be used, or the state cannot be opened. A broker that is away is waited for, and
/// shows in the readiness.
pub async fn run(config: Config, process: Process) -> Result<(), Failure> {
    let auth = Authenticator::new(&config.auth).map_err(|error| wrong(error.to_string()))?;
    if auth.is_open() {
        tracing::warn!(
            listen = %config.api.listen,
            "no authentication is configured: whoever reaches this loopback address may do anything"
        );
    }
    let mut keyring = config.secrets.clone().keyring()?;
    // Here it is the interface that lets directories in, by its own setting.
    keyring.storage.directories |= config.limits.local_containers;
    let containers = Arc::new(Containers::with_keyring(keyring.clone()));
    let store = Store::open(&state_url(&config.state)?).await?;
    let bus = transship_stage::connect("broker", &config.broker, "transship-control-plane")?;
    process.readiness.watch("broker", bus.state(), transship_stage::judge);
    let (told, answers) = watch::channel(Ok(()));
    process.readiness.watch("state", answers, Clone::clone);
    let core = Core::new(store.clone(), Arc::clone(&bus), process.metrics.clone());
    let registries = Registries::new(config.registries.clone());
    let shared = Arc::new(registries.clone());
    let trigger = SourceTrigger::new(
        store.clone(),
        Arc::clone(&shared),
        Arc::clone(&containers),
        config.trigger_settings(),
    );
    let trigger = Arc::new(trigger.with_wake(core.wake.clone()));
    let core = core.with_adopter(Arc::<SourceTrigger>::clone(&trigger));
    let schedules = Schedules::new(
        store.clone(),
        Arc::clone(&shared),
        Arc::new(RegistryCatalogs::new(shared, keyring)),
        ScheduleSettings { max_artifacts: config.limits.artifacts_per_run },
    );
    let schedules = Arc::new(schedules.with_wake(core.wake.clone()));
    let bound = config.api.bind().await.map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        wrong(format!("{error}{cause}"))
    })?;
    tracing::info!(address = %bound.address, tls = bound.is_tls, "the interface answers");
    let api = Api {
        store: store.clone(),
        registries,
        identity: config.identity.clone(),
        limits: config.limits,
        wake: core.wake.clone(),
    };
    let (unattended_now, unattended) = watch::channel(Vec::new());
    let hints = Arc::new(Listeners { trigger: Arc::clone(&trigger), schedules: Arc::clone(&schedules) });
    let parts = ServerParts {
        auth,
        hints,
        readiness: process.readiness.clone(),
        public_url: config.api.public_url.clone(),
        is_tls: bound.is_tls,
        address: bound.address,
        vault_suffix: config.secrets_suffix(),
        unattended,
    };
    let router = Server::new(api, parts).router();
    let runtime = Runtime { core, preflight: containers, settings: config.runtime_settings() };
    let stop = process.shutdown.clone();
    let work = async {
        tokio::join!(
            serve(bound, router, config.limits, stop.clone()),
            runtime.run(stop.clone()),
            trigger.run(stop.clone()),
            schedules.run(stop.clone()),
        );
    };
    tokio::select! {
        () = work => {}
        never = transship_stage::show(bus.state(), &process.metrics) => match never {},
        never = probe(&store, told) => match never {},
        never = attend(bus.as_ref(), unattended_now) => match never {},
    }
    close(bus.as_ref(), &store, stop).await;
    Ok(())
}

/// Asks the state now and then whether it answers, for ever.
async fn probe(store: &Store, told: watch::Sender<Result<(), String>>) -> Infallible {
    loop {
        let answer = store.unfinished_runs(0, 1).await;
        let state = answer.map(drop).map_err(|error| error.to_string());
        told.send_modify(|told| *told = state);
        tokio::time::sleep(PROBE).await;
    }
}

/// Asks the broker now and then which queues of work nobody consumes, for ever. A broker that does not say is another
/// problem, which the readiness tells.
async fn attend(bus: &dyn Bus, told: watch::Sender<Vec<String>>) -> Infallible {
    loop {
        let mut unattended = Vec::new();
        if *bus.state().borrow() == BusState::Ready {
            for queue in WorkQueue::ALL {
                let looked = bus.look(Inbox::Work(queue)).await;
                if looked.is_ok_and(|look| look.consumers == 0) {
                    unattended.push(queue.name().to_owned());
                }
            }
        }
        told.send_replace(unattended);
        tokio::time::sleep(ATTEND).await;
    }
}

/// Gives back what the process holds. What was not done stands in the store.
async fn close(bus: &dyn Bus, store: &Store, stop: CancellationToken) {
    stop.cancel();
    bus.close().await;
    store.close().await;
}

fn wrong(message: String) -> Failure {
    Failure::permanent(Code::ConfigurationInvalid, message)
}

fn state_url(config: &StateConfig) -> Result<Secret, Failure> {
    match (&config.url, &config.url_file) {
        (Some(url), _) => Ok(url.clone()),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                wrong(format!("read state.url_file at {}: {error}", path.display()))
                    .with_hint("let the user of this process read the file")
            })?;
            Ok(Secret::new(&text))
        }
        (None, None) => Err(wrong("state has no url and no url_file".to_owned())),
    }
}

/// Those who take hints.
struct Listeners {
    trigger: Arc<SourceTrigger>,
    schedules: Arc<Schedules>,
}

impl Hints for Listeners {
    fn blobs_created(&self, blobs: Vec<BlobHint>) {
        self.trigger.blobs_created(blobs);
    }

    fn look(&self, pipeline: &ResourceId, blob: Option<BlobName>) {
        self.trigger.look(pipeline, blob);
    }

    fn pushed(&self, pushes: Vec<PushHint>) {
        self.schedules.pushed(pushes);
    }

    fn watching(&self, pipeline: &ResourceId) -> Option<WatchStatus> {
        match pipeline.resource {
            Some((Kind::ImportPipeline, _)) => self.trigger.status(pipeline),
            _ => self.schedules.status(pipeline),
        }
    }
}
