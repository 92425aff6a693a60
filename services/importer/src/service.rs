//! The composition: secrets, containers, registries, the broker, the verb, the worker.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use transship_bus::{Bus, BusSettings, BusState, RabbitMq};
use transship_host::Process;
use transship_model::{Code, Failure, RegistryName, Secret, SecretName};
use transship_registry::{
    CredentialError, CredentialSource, Credentials, DockerConfig, RegistryClient, RegistrySettings, Target,
};
use transship_secrets::{SecretDirectory, Secrets};
use transship_stage::{ByteBudget, RetryPolicy, Worker, WorkerSettings};
use transship_storage::Containers;
use transship_telemetry::{BusCondition, Metrics};

use crate::Importer;
use crate::config::{BrokerConfig, Config, RegistryConfig, WorkerConfig};

/// How the connections are named at the broker.
const CONNECTION_NAME: &str = "transship-importer";

/// Runs the service until the process is asked to stop, then gives back what it holds.
///
/// # Errors
/// Where the configuration cannot be used. A broker that is away is waited for, and shows in the readiness.
pub async fn run(config: Config, process: Process) -> Result<(), Failure> {
    let secrets: Arc<dyn Secrets> = Arc::new(SecretDirectory::new(config.secrets.directory));
    let targets = targets(config.registries, &secrets)?;
    let pipelines = config.pipelines.into_iter().map(|(name, pipeline)| (name, pipeline.into())).collect();
    let containers = Arc::new(Containers::new(secrets));
    let importer = Importer::new(targets, containers, pipelines, config.import);

    let bus = connect(&config.broker)?;
    process.readiness.watch("broker", bus.state(), judge);
    let WorkerConfig { slots, slice_seconds, byte_budget_bytes, facts_mandatory } = config.worker;
    let slice = Duration::from_secs(slice_seconds);
    let settings = WorkerSettings { slots, slice, retry: RetryPolicy::BROKER, facts_mandatory };
    let budget = ByteBudget::new(byte_budget_bytes);
    let worker = Worker::new(Arc::clone(&bus), importer, settings, budget, process.metrics.clone());
    let worked = tokio::select! {
        worked = worker.run(process.shutdown) => worked,
        never = show(bus.state(), &process.metrics) => match never {},
    };
    bus.close().await;
    worked.map_err(|error| Failure::transient(Code::BrokerUnavailable, error.to_string()))
}

/// The clients of the target registries. Nothing is sent yet.
fn targets(
    registries: BTreeMap<RegistryName, RegistryConfig>,
    secrets: &Arc<dyn Secrets>,
) -> Result<BTreeMap<RegistryName, Arc<dyn Target>>, Failure> {
    let mut targets = BTreeMap::new();
    for (name, config) in registries {
        let settings = RegistrySettings {
            insecure: config.insecure,
            allowed_hosts: config.allowed_hosts,
            ca_bundle: config.ca_file,
            ..RegistrySettings::new(config.url)
        };
        let credentials: Option<Arc<dyn CredentialSource>> =
            match (config.username, config.password_secret, config.docker_config) {
                (Some(username), Some(password), _) => {
                    Some(Arc::new(SecretCredentials { secrets: Arc::clone(secrets), username, password }))
                }
                (_, _, Some(path)) => Some(Arc::new(DockerConfig::at(path))),
                _ => None,
            };
        let settings = credentials.into_iter().fold(settings, RegistrySettings::with_credentials);
        let client = RegistryClient::new(settings).map_err(|error| {
            Failure::permanent(Code::ConfigurationInvalid, error.to_string())
                .while_doing(format_args!("registries.{name}"))
        })?;
        let client: Arc<dyn Target> = Arc::new(client);
        targets.insert(name, client);
    }
    Ok(targets)
}

/// A user whose password is a secret, which is read anew each time.
struct SecretCredentials {
    secrets: Arc<dyn Secrets>,
    username: String,
    password: SecretName,
}

#[async_trait]
impl CredentialSource for SecretCredentials {
    async fn credentials(&self, _host: &str) -> Result<Credentials, CredentialError> {
        let password = self.secrets.secret(&self.password).await;
        let unreadable =
            |error| CredentialError::Unreadable(format!("secret {}", self.password), format!("{error}"));
        Ok(Credentials::basic(&self.username, &password.map_err(unreadable)?))
    }
}

/// The broker. It connects in the background.
fn connect(config: &BrokerConfig) -> Result<Arc<dyn Bus>, Failure> {
    let url = match (&config.url, &config.url_file) {
        (Some(url), _) => url.clone(),
        (None, Some(path)) => Secret::new(&read("broker.url_file", path)?),
        (None, None) => {
            let message = "broker has no url and no url_file";
            return Err(Failure::permanent(Code::ConfigurationInvalid, message));
        }
    };
    let settings = BusSettings {
        declare: config.declare,
        ca_bundle: config.ca_file.as_deref().map(|path| read("broker.ca_file", path)).transpose()?,
        ..BusSettings::new(url, CONNECTION_NAME)
    };
    settings.check().map_err(|error| {
        Failure::permanent(Code::ConfigurationInvalid, error.to_string()).while_doing("broker.url")
    })?;
    Ok(Arc::new(RabbitMq::connect(settings)))
}

fn read(key: &str, path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        let message = format!("read {key} at {}: {error}", path.display());
        Failure::permanent(Code::ConfigurationInvalid, message)
            .with_hint("let the user of this process read the file")
    })
}

/// What the state of the broker means for readiness.
fn judge(state: &BusState) -> Result<(), String> {
    match state {
        BusState::Ready => Ok(()),
        BusState::Connecting { reason } if reason.is_empty() => Err("connecting".to_owned()),
        BusState::Connecting { reason } => Err(format!("connecting: {reason}")),
        BusState::Blocked { reason } => Err(format!("the broker takes no messages: {reason}")),
    }
}

/// Shows the state of the broker in the metrics, for ever.
async fn show(mut state: watch::Receiver<BusState>, metrics: &Metrics) -> Infallible {
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
