//! The composition: secrets, containers, brokers, the verb, the worker.

use std::sync::Arc;

use transship_host::Process;
use transship_model::Failure;
use transship_stage::{Brokers, serve};
use transship_storage::Containers;

use crate::{Config, Copier};

/// Runs the service until the process is asked to stop, then gives back what it holds.
///
/// # Errors
/// Where the configuration cannot be used. A broker that is away is waited for, and shows in the readiness.
pub async fn run(config: Config, process: Process) -> Result<(), Failure> {
    let containers = Containers::with_keyring(config.secrets.keyring()?);
    let copier = Copier::new(Arc::new(containers), config.copy);
    let brokers = Brokers { own: config.broker, next: config.target_broker };
    serve(copier, brokers, config.worker, process).await
}
