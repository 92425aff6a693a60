//! A worker as a process: connects the brokers, says how they are, works until it is asked to stop.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use transship_bus::{Bus, BusSettings, BusState, RabbitMq};
use transship_host::Process;
use transship_model::{Code, Failure, Secret};
use transship_telemetry::{BusCondition, Metrics};

use crate::{BrokerConfig, ByteBudget, RetryPolicy, Verb, Worker, WorkerConfig, WorkerSettings};

/// The brokers of a service.
#[derive(Debug, Clone)]
pub struct Brokers {
    /// The broker that work comes from and that facts go to.
    pub own: BrokerConfig,
    /// The broker that the next work goes to, where it has its own.
    pub next: Option<BrokerConfig>,
}

/// Runs `verb` until the process is asked to stop, then gives back what it holds.
///
/// # Errors
/// Where the configuration cannot be used. A broker that is away is waited for, and shows in the readiness.
pub async fn serve<V: Verb>(
    verb: V,
    brokers: Brokers,
    worker: WorkerConfig,
    process: Process,
) -> Result<(), Failure> {
    let name = format!("transship-{}", V::STAGE);
    let bus = connect("broker", &brokers.own, &name)?;
    let next = brokers.next.as_ref().map(|broker| connect("target_broker", broker, &name)).transpose()?;
    process.readiness.watch("broker", bus.state(), judge);
    if let Some(next) = &next {
        process.readiness.watch("target_broker", next.state(), judge);
    }
    let settings = WorkerSettings {
        slots: worker.slots,
        slice: Duration::from_secs(worker.slice_seconds),
        retry: RetryPolicy::BROKER,
        facts_mandatory: worker.facts_mandatory,
    };
    let budget = ByteBudget::new(worker.byte_budget_bytes);
    let mut worker = Worker::new(Arc::clone(&bus), verb, settings, budget, process.metrics.clone());
    if let Some(next) = &next {
        worker = worker.with_next_bus(Arc::clone(next));
    }
    let worked = tokio::select! {
        worked = worker.run(process.shutdown) => worked,
        never = show(bus.state(), &process.metrics) => match never {},
    };
    for bus in [Some(bus), next].into_iter().flatten() {
        bus.close().await;
    }
    worked.map_err(|error| Failure::transient(Code::BrokerUnavailable, error.to_string()))
}

/// The broker that the section `key` of the configuration describes. It connects in the background, and calls
/// itself `name` there.
///
/// # Errors
/// Where the section cannot be used.
pub fn connect(key: &str, config: &BrokerConfig, name: &str) -> Result<Arc<dyn Bus>, Failure> {
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
        ..BusSettings::new(url, name)
    };
    settings.check().map_err(|error| {
        Failure::permanent(Code::ConfigurationInvalid, error.to_string())
            .while_doing(format_args!("{key}.url"))
    })?;
    Ok(Arc::new(RabbitMq::connect(settings)))
}

/// What the state of a broker means for readiness.
///
/// # Errors
/// Why it is not ready.
pub fn judge(state: &BusState) -> Result<(), String> {
    match state {
        BusState::Ready => Ok(()),
        BusState::Connecting { reason } if reason.is_empty() => Err("connecting".to_owned()),
        BusState::Connecting { reason } => Err(format!("connecting: {reason}")),
        BusState::Blocked { reason } => Err(format!("the broker takes no messages: {reason}")),
    }
}

/// Shows the state of the broker in the metrics, for ever.
pub async fn show(mut state: watch::Receiver<BusState>, metrics: &Metrics) -> std::convert::Infallible {
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
