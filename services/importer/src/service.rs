//! The composition: secrets, containers, registries, the verb, the worker.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use transship_host::Process;
use transship_model::{Code, Failure, RegistryName, SecretName};
use transship_registry::{
    CredentialError, CredentialSource, Credentials, DockerConfig, RegistryClient, RegistrySettings, Target,
};
use transship_secrets::{SecretDirectory, Secrets};
use transship_stage::{Brokers, serve};
use transship_storage::Containers;

use crate::Importer;
use crate::config::{Config, RegistryConfig};

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
    serve(importer, Brokers { own: config.broker, next: None }, config.worker, process).await
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
        let credentials: Arc<dyn CredentialSource> =
            match (config.username, config.password_secret, config.docker_config) {
                (Some(username), Some(password), _) => {
                    Arc::new(SecretCredentials { secrets: Arc::clone(secrets), username, password })
                }
                (_, _, Some(path)) => Arc::new(DockerConfig::at(path)),
                _ => Arc::new(DockerConfig::from_environment()),
            };
        let settings = settings.with_credentials(credentials);
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
