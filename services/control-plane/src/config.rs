//! The settings of the service, in TOML.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use transship_host::{HostSettings, ServiceSettings};
use transship_model::{Part, RegistryName, Secret};
use transship_stage::{BrokerConfig, SecretsConfig};

use crate::IdentityConfig;
use crate::api::LimitsConfig;
use crate::dispatch::DispatchSettings;
use crate::http::{AuthConfig, Listen};
use crate::registries::RegistryEntry;
use crate::runtime::RuntimeSettings;
use crate::trigger::TriggerSettings;
use crate::watchdog::WatchSettings;

/// The settings of the control plane.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The process: endpoints, drain, log.
    #[serde(default)]
    pub host: HostSettings,
    /// The broker that work goes to and that facts come from.
    pub broker: BrokerConfig,
    /// Where SAS tokens are: a directory, vaults, identities.
    #[serde(default)]
    pub secrets: SecretsConfig,
    /// Where the interface answers.
    #[serde(default)]
    pub api: Listen,
    /// Who may use it.
    #[serde(default)]
    pub auth: AuthConfig,
    /// Where state is kept.
    pub state: StateConfig,
    /// The registries by the names that resource ids hold. `contoso` without an entry means `contoso.azurecr.io`.
    #[serde(default)]
    pub registries: BTreeMap<RegistryName, RegistryEntry>,
    /// The identities that the control plane and the stages run as.
    #[serde(default)]
    pub identity: IdentityConfig,
    /// The bounds of what clients may ask for.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// How import pipelines watch their containers.
    #[serde(default)]
    pub trigger: TriggerConfig,
    /// How runs are started.
    #[serde(default)]
    pub dispatch: DispatchConfig,
    /// When a run counts as lost sight of.
    #[serde(default)]
    pub watchdog: WatchdogConfig,
}

/// Where state is kept. One of `url` and `url_file` must be set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateConfig {
    /// `sqlite:///PATH` for one control plane, `postgres://USER:PASSWORD@HOST/DATABASE` for several.
    #[serde(default)]
    pub url: Option<Secret>,
    /// A file that holds such a URL and nothing else. It is read when the process starts.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// How long runs are kept that are over, in days; 0 (the default) keeps them until somebody deletes them.
    #[serde(default)]
    pub retention_days: u32,
}

/// How import pipelines watch their containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TriggerConfig {
    /// How often each container is listed, in seconds. Default 30.
    pub interval_seconds: u64,
    /// Blobs that were changed longer ago are left alone, in days; 0 is no limit. Default 60.
    pub max_age_days: u32,
    /// How long a blob is left to the pipeline that a copier will announce it to, in seconds. Default 600.
    pub announce_grace_seconds: u64,
}

impl Default for TriggerConfig {
    fn default() -> Self {
        let TriggerSettings { interval, max_age_days, announce_grace } = TriggerSettings::default();
        Self {
            interval_seconds: interval.as_secs(),
            max_age_days,
            announce_grace_seconds: announce_grace.as_secs(),
        }
    }
}

/// How runs are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DispatchConfig {
    /// Runs that are started at once. Default 16.
    pub starts: usize,
    /// The most references of a part. Default 250, which is also the most.
    pub part_size: usize,
    /// How long a run waits for a vault or a storage service that is away, in seconds. Default 600.
    pub patience_seconds: u64,
    /// How long an import waits for a blob that nothing is known to bring, in seconds. Default 30.
    pub blob_wait_seconds: u64,
}

impl Default for DispatchConfig {
    fn default() -> Self {
        let DispatchSettings { starts, part_size, patience, blob_wait } = DispatchSettings::default();
        Self {
            starts,
            part_size,
            patience_seconds: patience.as_secs(),
            blob_wait_seconds: blob_wait.as_secs(),
        }
    }
}

/// When a run counts as lost sight of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatchdogConfig {
    /// How often runs are looked at, in seconds. Default 15.
    pub interval_seconds: u64,
    /// How long a run may be silent while its queue is empty, in seconds. Default 2700 (45 minutes).
    pub lost_after_seconds: u64,
    /// How often its work is dispatched again before it fails. Default 3.
    pub again: u32,
}

impl Default for WatchdogConfig {
    fn default() -> Self {
        let WatchSettings { interval, lost_after, again, .. } = WatchSettings::default();
        Self { interval_seconds: interval.as_secs(), lost_after_seconds: lost_after.as_secs(), again }
    }
}

impl Config {
    /// What the hosts of vaults end with, where a template puts one together: the first suffix of those that are asked.
    pub(crate) fn secrets_suffix(&self) -> String {
        let suffix = self.secrets.vault_suffixes.iter().find_map(|host| host.strip_prefix('.'));
        suffix.unwrap_or("vault.azure.net").to_owned()
    }

    /// How the triggers work.
    pub(crate) fn trigger_settings(&self) -> TriggerSettings {
        let TriggerConfig { interval_seconds, max_age_days, announce_grace_seconds } = self.trigger;
        TriggerSettings {
            interval: Duration::from_secs(interval_seconds),
            max_age_days,
            announce_grace: Duration::from_secs(announce_grace_seconds),
        }
    }

    /// How runs are started and watched.
    pub(crate) fn runtime_settings(&self) -> RuntimeSettings {
        let DispatchConfig { starts, part_size, patience_seconds, blob_wait_seconds } = self.dispatch;
        let (patience, blob_wait) =
            (Duration::from_secs(patience_seconds), Duration::from_secs(blob_wait_seconds));
        let WatchdogConfig { interval_seconds, lost_after_seconds, again } = self.watchdog;
        RuntimeSettings {
            dispatch: DispatchSettings { starts, part_size, patience, blob_wait },
            watch: WatchSettings {
                interval: Duration::from_secs(interval_seconds),
                lost_after: Duration::from_secs(lost_after_seconds),
                again,
                retention: Duration::from_secs(u64::from(self.state.retention_days) * 24 * 3600),
            },
        }
    }
}

impl ServiceSettings for Config {
    fn host(&self) -> &HostSettings {
        &self.host
    }

    fn check(&self) -> Vec<(String, String)> {
        let mut faults = self.broker.check("broker");
        faults.extend(self.secrets.check());
        let is_open = self.auth.tokens_file.is_none() && self.auth.issuers.is_empty();
        faults.extend(self.api.check(is_open));
        faults.extend(self.limits.check());
        let rules = [
            (
                self.state.url.is_some() != self.state.url_file.is_some(),
                "state",
                "set one of url and url_file",
            ),
            (self.trigger.interval_seconds > 0, "trigger.interval_seconds", "must be at least 1"),
            (self.dispatch.starts > 0, "dispatch.starts", "must be at least 1"),
            (
                (1..=Part::MAX_ARTIFACTS).contains(&self.dispatch.part_size),
                "dispatch.part_size",
                "must be from 1 to 250",
            ),
            (self.watchdog.interval_seconds > 0, "watchdog.interval_seconds", "must be at least 1"),
        ];
        let broken = rules.into_iter().filter(|(holds, ..)| !holds);
        faults.extend(broken.map(|(_, key, problem)| (key.to_owned(), problem.to_owned())));
        for (name, entry) in &self.registries {
            faults.extend(entry.reach().check(&format!("registries.{name}")));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_settings_are_read_and_every_fault_is_found() {
        let good = json!({
            "broker": { "url": "amqp://u:CANARY@127.0.0.1/v" },
            "state": { "url": "sqlite:///tmp/state.db" },
            "registries": { "source": { "url": "http://127.0.0.1:5000", "export_policy": "disabled" } },
        });
        let config: Config = serde_json::from_value(good).unwrap();
        assert!(config.check().is_empty(), "{:?}", config.check());
        assert!(!format!("{config:?}").contains("CANARY"));
        assert_eq!(config.runtime_settings(), RuntimeSettings::default());
        assert_eq!(config.secrets_suffix(), "vault.azure.net");
        let kept = Config { state: StateConfig { retention_days: 30, ..config.state.clone() }, ..config };
        assert_eq!(kept.runtime_settings().watch.retention, Duration::from_secs(30 * 24 * 3600));
        let bad = json!({
            "broker": {},
            "api": { "listen": "0.0.0.0:80" },
            "state": {},
            "registries": { "source": { "url": "http://127.0.0.1:5000", "username": "u" } },
            "limits": { "page_size": 0 },
            "trigger": { "interval_seconds": 0 },
            "dispatch": { "starts": 0, "part_size": 251 },
            "watchdog": { "interval_seconds": 0 },
        });
        let config: Config = serde_json::from_value(bad).unwrap();
        let keys: Vec<String> = config.check().into_iter().map(|(key, _)| key).collect();
        let expected = [
            "broker",
            "auth",
            "api.tls",
            "limits.page_size",
            "state",
            "trigger.interval_seconds",
            "dispatch.starts",
            "dispatch.part_size",
            "watchdog.interval_seconds",
            "registries.source",
        ];
        assert_eq!(keys, expected);
    }

    #[test]
    fn vaults_of_templates_are_in_the_cloud_whose_vaults_are_asked() {
        for (suffixes, expected) in [
            (json!([".vault.azure.cn", ".vault.azure.net"]), "vault.azure.cn"),
            (json!(["kv.vault.azure.cn", ".vault.usgovcloudapi.net"]), "vault.usgovcloudapi.net"),
            (json!([]), "vault.azure.net"),
        ] {
            let settings = json!({ "broker": {}, "state": {}, "secrets": { "vault_suffixes": suffixes } });
            let config: Config = serde_json::from_value(settings).unwrap();
            assert_eq!(config.secrets_suffix(), expected);
        }
    }
}
