//! The settings of the service, in TOML.

use std::path::PathBuf;

use serde::Deserialize;
use transship_host::{HostSettings, ServiceSettings};
use transship_model::Secret;
use transship_stage::ByteBudget;

use crate::CopySettings;

/// The smallest byte budget in bytes: below it blocks become so small that a bundle would have too many.
const SMALLEST_BUDGET: u32 = 1 << 20;

/// The longest slice in seconds: RabbitMQ takes a delivery away after thirty minutes without an acknowledgement.
const LONGEST_SLICE: u64 = 1500;

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

/// How to reach a broker. One of `url` and `url_file` must be set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerConfig {
    /// `amqp://USER:PASSWORD@HOST:PORT/VHOST` or `amqps://…`, the virtual host percent-encoded.
    #[serde(default)]
    pub url: Option<Secret>,
    /// A file that holds such a URL and nothing else. It is read when the process starts.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// Whether the process declares queues and exchange. Default true; false where an operator owns them.
    #[serde(default = "yes")]
    pub declare: bool,
    /// Certificates in PEM that are trusted beside the platform's, for `amqps`.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

fn yes() -> bool {
    true
}

/// Where secrets are.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecretsConfig {
    /// A directory with one file for each secret, named like it. Default `/run/secrets/transship`.
    pub directory: PathBuf,
}

impl Default for SecretsConfig {
    fn default() -> Self {
        Self { directory: PathBuf::from("/run/secrets/transship") }
    }
}

/// How much the process does at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerConfig {
    /// Copies at a time; also the prefetch. Default 4.
    pub slots: u16,
    /// How long one slice of a copy lasts, in seconds, before the rest goes back to the queue. Default 600.
    pub slice_seconds: u64,
    /// The bytes of all buffers of the process together. Default 64 MiB.
    pub byte_budget_bytes: u32,
    /// Whether a fact that no queue takes is an error. Default false; true where there is a control plane.
    pub facts_mandatory: bool,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            slots: 4,
            slice_seconds: 600,
            byte_budget_bytes: ByteBudget::DEFAULT_BYTES,
            facts_mandatory: false,
        }
    }
}

impl ServiceSettings for Config {
    fn host(&self) -> &HostSettings {
        &self.host
    }

    fn check(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut demand = |holds: bool, key: &str, problem: &str| {
            if !holds {
                faults.push((key.to_owned(), problem.to_owned()));
            }
        };
        let one = |broker: &BrokerConfig| broker.url.is_some() != broker.url_file.is_some();
        demand(one(&self.broker), "broker", "set one of url and url_file");
        demand(self.target_broker.as_ref().is_none_or(one), "target_broker", "set one of url and url_file");
        let WorkerConfig { slots, slice_seconds, byte_budget_bytes, .. } = self.worker;
        demand(slots > 0, "worker.slots", "must be at least 1");
        demand(
            (1..=LONGEST_SLICE).contains(&slice_seconds),
            "worker.slice_seconds",
            "must be from 1 to 1500",
        );
        demand(
            byte_budget_bytes >= SMALLEST_BUDGET,
            "worker.byte_budget_bytes",
            "must be at least 1048576 (1 MiB)",
        );
        let CopySettings { parallel_server_side, parallel_streamed } = self.copy;
        demand(parallel_server_side > 0, "copy.parallel_server_side", "must be at least 1");
        demand(parallel_streamed > 0, "copy.parallel_streamed", "must be at least 1");
        faults
    }
}
