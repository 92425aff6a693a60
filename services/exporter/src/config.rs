//! The settings of the service, in TOML.

use std::collections::BTreeMap;

use serde::Deserialize;
use transship_host::{HostSettings, ServiceSettings};
use transship_model::{RegistryName, Route};
use transship_registry::RegistryConfig;
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
    /// Where the SAS tokens and the registries' passwords are.
    #[serde(default)]
    pub secrets: SecretsConfig,
    /// How much the process does at a time.
    #[serde(default)]
    pub worker: WorkerConfig,
    /// How much of one export happens at a time.
    #[serde(default)]
    pub export: ExportSettings,
    /// Whether a name that is not in `registries` means `NAME.azurecr.io`, where a registry in Azure can have it.
    /// Default true.
    #[serde(default = "yes")]
    pub azure_registries: bool,
    /// The registries that may be exported from, by the names that messages carry.
    #[serde(default)]
    pub registries: BTreeMap<RegistryName, RegistryConfig>,
    /// Where bundles go next, unless a message says otherwise.
    #[serde(default)]
    pub routes: Vec<Route>,
}

fn yes() -> bool {
    true
}

impl ServiceSettings for Config {
    fn host(&self) -> &HostSettings {
        &self.host
    }

    fn check(&self) -> Vec<(String, String)> {
        let none = || ("registries".to_owned(), "name at least one registry".to_owned());
        let mut faults = self.broker.check("broker");
        faults.extend(self.secrets.check());
        faults.extend(self.worker.check());
        faults.extend(self.export.check());
        faults.extend(
            self.registries.iter().flat_map(|(name, registry)| registry.check(&format!("registries.{name}"))),
        );
        faults.extend((self.registries.is_empty() && !self.azure_registries).then(none));
        faults
    }
}
