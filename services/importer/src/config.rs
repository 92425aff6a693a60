//! The settings of the service, in TOML.

use std::collections::BTreeMap;

use serde::Deserialize;
use transship_host::{HostSettings, ServiceSettings};
use transship_model::{
    ArtifactReference, ContainerUrl, ImportOptions, PipelineName, RegistryName, RenameRules, Repository,
    StorageCredential,
};
use transship_registry::RegistryConfig;
use transship_stage::{BrokerConfig, SecretsConfig, WorkerConfig};

use crate::{ImportPipeline, ImportSettings};

/// The settings of the importer.
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
    /// How much of one import happens at a time.
    #[serde(default)]
    pub import: ImportSettings,
    /// Whether a name that is not in `registries` means `NAME.azurecr.io`, where a registry in Azure can have it.
    /// Default true.
    #[serde(default = "yes")]
    pub azure_registries: bool,
    /// The target registries, by name.
    #[serde(default)]
    pub registries: BTreeMap<RegistryName, RegistryConfig>,
    /// The import pipelines, by name. None is needed where messages describe theirs.
    #[serde(default)]
    pub pipelines: BTreeMap<PipelineName, PipelineConfig>,
}

/// An import pipeline.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineConfig {
    /// The target registry, by its name in `registries`.
    pub registry: RegistryName,
    /// The container that bundles arrive in.
    pub container: ContainerUrl,
    /// How the container is accessed. A local directory needs nothing.
    #[serde(default)]
    pub secret: Option<StorageCredential>,
    /// `overwrite_tags`, `delete_source_blob_on_success`, `continue_on_errors`; each false by default.
    #[serde(default)]
    pub options: ImportOptions,
    /// Rules that give imported repositories other names; the first that matches decides.
    #[serde(default)]
    pub rename: RenameRules,
    /// Repositories of the target that blobs may be mounted from, beside those of the bundle itself.
    #[serde(default)]
    pub mount_from: Vec<Repository>,
    /// The name of the artifact of every bundle here: for archives that hold exactly one and do not name it.
    #[serde(default)]
    pub name_as: Option<ArtifactReference>,
}

impl From<PipelineConfig> for ImportPipeline {
    fn from(config: PipelineConfig) -> Self {
        let PipelineConfig { registry, container, secret, options, rename, mount_from, name_as } = config;
        Self { registry, container, secret, options, rename, mount_from, name_as }
    }
}

fn yes() -> bool {
    true
}

impl ServiceSettings for Config {
    fn host(&self) -> &HostSettings {
        &self.host
    }

    fn check(&self) -> Vec<(String, String)> {
        let mut faults = self.broker.check("broker");
        faults.extend(self.secrets.check());
        faults.extend(self.worker.check());
        faults.extend(self.import.check());
        for (name, registry) in &self.registries {
            faults.extend(registry.check(&format!("registries.{name}")));
        }
        let mut demand = |holds: bool, key: String, problem: &str| {
            if !holds {
                faults.push((key, problem.to_owned()));
            }
        };
        let some = self.import.pipelines_from_messages || !self.pipelines.is_empty();
        demand(some, "pipelines".to_owned(), "name one, or set import.pipelines_from_messages");
        for (name, pipeline) in &self.pipelines {
            let known = self.registries.contains_key(&pipeline.registry);
            demand(known, format!("pipelines.{name}.registry"), "is not a name in registries");
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_of_a_service_are_read_and_faults_are_found() {
        let json = serde_json::json!({
            "broker": { "url": "amqp://u:CANARY@127.0.0.1/v" },
            "registries": { "target": { "url": "https://r.example", "username": "u" } },
            "pipelines": {
                "default": {
                    "registry": "target",
                    "container": "https://a.blob.core.windows.net/c",
                    "secret": "sas",
                    "options": { "overwrite_tags": true },
                    "rename": [{ "from": "team", "to": "mirror" }],
                    "mount_from": ["base"],
                },
                "other": { "registry": "nowhere", "container": "file:///c" },
            },
            "import": { "parallel_blobs": 0 },
        });
        let config: Config = serde_json::from_value(json).unwrap();
        assert!(!format!("{config:?}").contains("CANARY"));
        let pipeline = ImportPipeline::from(config.pipelines[&"default".parse().unwrap()].clone());
        assert!(pipeline.options.overwrite_tags && !pipeline.options.continue_on_errors);
        assert_eq!(pipeline.rename.apply(&"team/a".parse().unwrap()).unwrap().as_str(), "mirror/a");
        let faults: Vec<String> = config.check().into_iter().map(|(key, _)| key).collect();
        assert_eq!(faults, ["import.parallel_blobs", "registries.target", "pipelines.other.registry"]);
    }

    #[test]
    fn an_importer_without_pipelines_must_take_them_from_messages() {
        for (may, faults) in [(true, vec![]), (false, vec!["pipelines".to_owned()])] {
            let json = serde_json::json!({
                "broker": { "url": "amqp://u:p@127.0.0.1/v" },
                "registries": { "target": { "url": "https://r.example" } },
                "import": { "pipelines_from_messages": may },
            });
            let config: Config = serde_json::from_value(json).unwrap();
            assert_eq!(config.check().into_iter().map(|(key, _)| key).collect::<Vec<_>>(), faults);
        }
    }
}
