//! The composition: secrets, containers, registries, the verb, the worker.

use std::sync::Arc;

use transship_host::Process;
use transship_model::Failure;
use transship_registry::{RegistryClients, Target};
use transship_stage::{Brokers, serve};
use transship_storage::Containers;

use crate::Importer;
use crate::config::Config;

/// Runs the service until the process is asked to stop, then gives back what it holds.
///
/// # Errors
/// Where the configuration cannot be used. A broker that is away is waited for, and shows in the readiness.
pub async fn run(config: Config, process: Process) -> Result<(), Failure> {
    let keyring = config.secrets.keyring()?;
    let secrets = Arc::clone(&keyring.secrets);
    let targets = RegistryClients::of(
        &config.registries,
        config.azure_registries,
        &keyring,
        |client| -> Arc<dyn Target> { Arc::new(client) },
    )?;
    let pipelines = config.pipelines.into_iter().map(|(name, pipeline)| (name, pipeline.into())).collect();
    let containers = Arc::new(Containers::with_keyring(keyring));
    let importer = Importer::new(targets, containers, pipelines, config.import).with_secrets(secrets);
    serve(importer, Brokers { own: config.broker, next: None }, config.worker, process).await
}
