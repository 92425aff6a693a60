//! The settings of the service, in TOML.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use transship_host::{HostSettings, ServiceSettings};
use transship_model::{Code, Failure, RegistryName, Route};
use transship_registry::{DockerConfig, RegistryClient, RegistrySettings, Source};
use transship_stage::{BrokerConfig, SecretsConfig, WorkerConfig};

use crate::ExportSettings;

/// The settings of the exporter.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The process: endpoints, drain, log.
    #[serde(default)]
    pub host: HostSettings,
    /// The broker that work comes from and that facts go to.
    pub broker: BrokerConfig,
    /// Where the SAS tokens are.
    #[serde(default)]
    pub secrets: SecretsConfig,
    /// How much the process does at a time.
    #[serde(default)]
    pub worker: WorkerConfig,
    /// How much of one export happens at a time.
    #[serde(default)]
    pub export: ExportSettings,
    /// The registries that may be exported from, by the names that messages carry.
    pub registries: BTreeMap<RegistryName, RegistryConfig>,
    /// Where bundles go next, unless a message says otherwise.
    #[serde(default)]
    pub routes: Vec<Route>,
}

/// How to reach a registry. Credentials come from the Docker configuration file of the process.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// `https://HOST[:PORT]`; `http://` for this machine, or where `insecure` is set.
    pub url: String,
    /// Whether plain HTTP is meant, though the registry is not on this machine. Default false.
    #[serde(default)]
    pub insecure: bool,
    /// Hosts that belong to the registry: `host`, `host:port`, or `.suffix`.
    #[serde(default)]
    pub allowed_hosts: Vec<String>,
    /// A PEM file with further certificate authorities.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

impl RegistryConfig {
    /// The registry `name`, as a source.
    pub(crate) fn source(&self, name: &RegistryName) -> Result<Arc<dyn Source>, Failure> {
        let settings = RegistrySettings {
            insecure: self.insecure,
            allowed_hosts: self.allowed_hosts.clone(),
            ca_bundle: self.ca_file.clone(),
            ..RegistrySettings::new(self.url.clone())
        };
        let settings = settings.with_credentials(Arc::new(DockerConfig::from_environment()));
        let client = RegistryClient::new(settings).map_err(|error| {
            Failure::permanent(Code::ConfigurationInvalid, error.to_string())
                .while_doing(format_args!("registries.{name}"))
        })?;
        Ok(Arc::new(client))
    }
}

impl ServiceSettings for Config {
    fn host(&self) -> &HostSettings {
        &self.host
    }

    fn check(&self) -> Vec<(String, String)> {
        let none = || ("registries".to_owned(), "name at least one registry".to_owned());
        let mut faults = self.broker.check("broker");
        faults.extend(self.worker.check());
        faults.extend(self.export.check());
        faults.extend(self.registries.is_empty().then(none));
        faults
    }
}
