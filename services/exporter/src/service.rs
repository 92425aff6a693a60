//! The composition: secrets, containers, registries, the verb, the worker.

use std::sync::Arc;

use transship_host::Process;
use transship_model::Failure;
use transship_registry::{RegistryClients, Source};
use transship_stage::{Brokers, serve};
use transship_storage::Containers;

use crate::{Config, Exporter};

/// Runs the service until the process is asked to stop, then gives back what it holds.
///
/// # Errors
/// Where the configuration cannot be used. A broker that is away is waited for, and shows in the readiness.
pub async fn run(config: Config, process: Process) -> Result<(), Failure> {
    let keyring = config.secrets.keyring()?;
    let sources = RegistryClients::of(
        &config.registries,
        config.azure_registries,
        &keyring,
        |client| -> Arc<dyn Source> { Arc::new(client) },
    )?;
    let containers = Containers::with_keyring(keyring);
    let exporter = Exporter::new(sources, Arc::new(containers), config.routes, config.export);
    serve(exporter, Brokers { own: config.broker, next: None }, config.worker, process).await
}
