//! The settings of the service, in TOML.

use serde::Deserialize;
use transship_host::{HostSettings, ServiceSettings};
use transship_stage::{BrokerConfig, SecretsConfig, WorkerConfig};

use crate::CopySettings;

/// The settings of the blob-copier.
///
/// Routes and names of secrets come in the messages, so they are not set here: only where secrets are.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The process: endpoints, drain, log.
    #[serde(default)]
    pub host: HostSettings,
    /// The broker that work comes from and that facts go to: the source's.
    pub broker: BrokerConfig,
    /// The broker that `import.requested` goes to, where the importer has its own. Default: the same broker.
    #[serde(default)]
    pub target_broker: Option<BrokerConfig>,
    /// Where the SAS tokens of both sides are.
    #[serde(default)]
    pub secrets: SecretsConfig,
    /// How much the process does at a time.
    #[serde(default)]
    pub worker: WorkerConfig,
    /// How much of one copy happens at a time.
    #[serde(default)]
    pub copy: CopySettings,
}

impl ServiceSettings for Config {
    fn host(&self) -> &HostSettings {
        &self.host
    }

    fn check(&self) -> Vec<(String, String)> {
        let mut faults = self.broker.check("broker");
        faults.extend(self.target_broker.iter().flat_map(|broker| broker.check("target_broker")));
        faults.extend(self.secrets.check());
        faults.extend(self.worker.check());
        let CopySettings { parallel_server_side, parallel_streamed } = self.copy;
        for (key, value) in [
            ("copy.parallel_server_side", parallel_server_side),
            ("copy.parallel_streamed", parallel_streamed),
        ] {
            if value == 0 {
                faults.push((key.to_owned(), "must be at least 1".to_owned()));
            }
        }
        faults
    }
}
