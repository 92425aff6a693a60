//! The sections of the configuration that every stage service has.

use std::path::PathBuf;

use serde::Deserialize;
use transship_model::Secret;

use crate::ByteBudget;

/// The smallest byte budget in bytes: a block of 8 MiB and what stands around it.
const SMALLEST_BUDGET: u32 = 16 << 20;

/// The longest slice in seconds: RabbitMQ takes a delivery away after thirty minutes without an acknowledgement.
const LONGEST_SLICE: u64 = 1500;

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

impl BrokerConfig {
    /// What is wrong with the section `key`, as key and problem.
    pub fn check(&self, key: &str) -> Vec<(String, String)> {
        let is_one = self.url.is_some() != self.url_file.is_some();
        let fault = || (key.to_owned(), "set one of url and url_file".to_owned());
        (!is_one).then(fault).into_iter().collect()
    }
}

/// How much the process does at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerConfig {
    /// Parts at a time; also the prefetch. Default 4.
    pub slots: u16,
    /// How long one slice of work lasts, in seconds, before the rest goes back to the queue. Default 600.
    pub slice_seconds: u64,
    /// The bytes of all buffers of the process together. Default 32 MiB.
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

impl WorkerConfig {
    /// What is wrong with the section, as key and problem.
    pub fn check(&self) -> Vec<(String, String)> {
        let rules = [
            (self.slots > 0, "worker.slots", "must be at least 1"),
            (
                (1..=LONGEST_SLICE).contains(&self.slice_seconds),
                "worker.slice_seconds",
                "must be from 1 to 1500",
            ),
            (
                self.byte_budget_bytes >= SMALLEST_BUDGET,
                "worker.byte_budget_bytes",
                "must be at least 16777216 (16 MiB)",
            ),
        ];
        let broken = rules.into_iter().filter(|(holds, ..)| !holds);
        broken.map(|(_, key, problem)| (key.to_owned(), problem.to_owned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_reported_with_its_key() {
        let worker =
            WorkerConfig { slots: 0, slice_seconds: 0, byte_budget_bytes: 1, facts_mandatory: false };
        let keys: Vec<String> = worker.check().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["worker.slots", "worker.slice_seconds", "worker.byte_budget_bytes"]);
        assert!(WorkerConfig::default().check().is_empty());
        let neither = BrokerConfig { url: None, url_file: None, declare: true, ca_file: None };
        assert_eq!(neither.check("broker")[0].0, "broker");
    }
}
