//! The composition: secrets, containers, brokers, the verb, the worker.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use transship_bus::{Bus, BusSettings, BusState, RabbitMq};
use transship_host::Process;
use transship_model::{Code, Failure, Secret};
use transship_secrets::SecretDirectory;
use transship_stage::{ByteBudget, RetryPolicy, Worker, WorkerSettings};
use transship_storage::Containers;
use transship_telemetry::{BusCondition, Metrics};

use crate::config::{BrokerConfig, Config};
use crate::{Copier, WorkerConfig};

/// How the connections are named at a broker.
const CONNECTION_NAME: &str = "transship-blob-copier";

/// Runs the service until the process is asked to stop, then gives back what it holds.
///
/// # Errors
/// Where the configuration cannot be used. A broker that is away is waited for, and shows in the readiness.
pub async fn run(config: Config, process: Process) -> Result<(), Failure> {
    let bus = connect("broker", &config.broker)?;
    let target_bus =
        config.target_broker.as_ref().map(|broker| connect("target_broker", broker)).transpose()?;
    process.readiness.watch("broker", bus.state(), judge);
    if let Some(target) = &target_bus {
        process.readiness.watch("target_broker", target.state(), judge);
    }
    let WorkerConfig { slots, slice_seconds, byte_budget_bytes, facts_mandatory } = config.worker;
    let containers = Containers::new(Arc::new(SecretDirectory::new(config.secrets.directory)));
    let copier = Copier::new(Arc::new(containers), config.copy);
    let settings = WorkerSettings {
        slots,
        slice: Duration::from_secs(slice_seconds),
        retry: RetryPolicy::BROKER,
        facts_mandatory,
    };
    let budget = ByteBudget::new(byte_budget_bytes);
    let mut worker = Worker::new(Arc::clone(&bus), copier, settings, budget, process.metrics.clone());
    if let Some(target) = &target_bus {
        worker = worker.with_next_bus(Arc::clone(target));
    }
    let worked = tokio::select! {
        worked = worker.run(process.shutdown) => worked,
        never = show(bus.state(), &process.metrics) => match never {},
    };
    for bus in [Some(bus), target_bus].into_iter().flatten() {
        bus.close().await;
    }
    worked.map_err(|error| Failure::transient(Code::BrokerUnavailable, error.to_string()))
}

/// The broker that the section `key` of the configuration describes. It connects in the background.
fn connect(key: &str, config: &BrokerConfig) -> Result<Arc<dyn Bus>, Failure> {
    let read = |what: &str, path: &Path| {
        std::fs::read_to_string(path).map_err(|error| {
            let message = format!("read {key}.{what} at {}: {error}", path.display());
            Failure::permanent(Code::ConfigurationInvalid, message)
                .with_hint("let the user of this process read the file")
        })
    };
    let url = match (&config.url, &config.url_file) {
        (Some(url), _) => url.clone(),
        (None, Some(path)) => Secret::new(&read("url_file", path)?),
        (None, None) => {
            return Err(Failure::permanent(
                Code::ConfigurationInvalid,
                format!("{key} has no url and no url_file"),
            ));
        }
    };
    let settings = BusSettings {
        declare: config.declare,
        ca_bundle: config.ca_file.as_deref().map(|path| read("ca_file", path)).transpose()?,
        ..BusSettings::new(url, CONNECTION_NAME)
    };
    settings.check().map_err(|error| {
        Failure::permanent(Code::ConfigurationInvalid, error.to_string())
            .while_doing(format_args!("{key}.url"))
    })?;
    Ok(Arc::new(RabbitMq::connect(settings)))
}

/// What the state of a broker means for readiness.
fn judge(state: &BusState) -> Result<(), String> {
    match state {
        BusState::Ready => Ok(()),
        BusState::Connecting { reason } if reason.is_empty() => Err("connecting".to_owned()),
        BusState::Connecting { reason } => Err(format!("connecting: {reason}")),
        BusState::Blocked { reason } => Err(format!("the broker takes no messages: {reason}")),
    }
}

/// Shows the state of the broker in the metrics, for ever.
async fn show(mut state: watch::Receiver<BusState>, metrics: &Metrics) -> std::convert::Infallible {
    loop {
        metrics.bus_state(match &*state.borrow_and_update() {
            BusState::Connecting { .. } => BusCondition::Connecting,
            BusState::Ready => BusCondition::Ready,
            BusState::Blocked { .. } => BusCondition::Blocked,
        });
        if state.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
