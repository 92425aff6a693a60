//! Registries by name: what `registries/{name}` in a resource id stands for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use transship_api::{
    ExportPolicy, Registry, RegistryPolicies, RegistryProperties, ResourceId, is_registry_name,
};
use transship_model::{Identity, RegistryName, SecretName};
use transship_registry::RegistryConfig;

/// A registry of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryEntry {
    /// `https://HOST[:PORT]`; `http://` for this machine, or where `insecure` is set.
    pub url: String,
    /// The host that clients are told. Default: the host of `url`.
    #[serde(default)]
    pub login_server: Option<String>,
    /// The location that clients are told. Default `local`.
    #[serde(default)]
    pub location: Option<String>,
    /// `enabled` (the default) or `disabled`: whether artifacts may leave the registry.
    #[serde(default)]
    pub export_policy: Policy,
    /// Whether plain HTTP is meant, though the registry is not on this machine.
    #[serde(default)]
    pub insecure: bool,
    /// Hosts that belong to the registry: `host`, `host:port`, or `.suffix` for a host and all hosts below it.
    #[serde(default)]
    pub allowed_hosts: Vec<String>,
    /// Certificate authorities in PEM that are trusted beside the platform's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The user that schedules list tags as; `password_secret` holds the password.
    #[serde(default)]
    pub username: Option<String>,
    /// The secret with the user's password.
    #[serde(default)]
    pub password_secret: Option<SecretName>,
    /// Another Docker configuration file (`auths` and credential helpers) than that of the process.
    #[serde(default)]
    pub docker_config: Option<PathBuf>,
    /// The identity that speaks to a registry in Azure.
    #[serde(default)]
    pub identity: Option<Identity>,
    /// The service that tokens of `identity` are for.
    #[serde(default)]
    pub identity_audience: Option<String>,
}

/// Whether something is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// It is.
    #[default]
    Enabled,
    /// It is not.
    Disabled,
}

/// The registries of the configuration. A name without an entry means `NAME.azurecr.io`.
#[derive(Debug, Clone, Default)]
pub struct Registries(BTreeMap<RegistryName, RegistryEntry>);

/// What a name stands for.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The name that the stages know it by.
    pub name: RegistryName,
    /// Where it answers, without a slash at the end.
    pub url: String,
    /// The host that clients are told.
    pub login_server: String,
    /// The location that clients are told.
    pub location: String,
    /// Whether artifacts may leave it.
    pub export_policy: Policy,
    /// Its entry in the configuration, where there is one.
    pub config: Option<RegistryEntry>,
}

impl RegistryEntry {
    /// How the registry is reached.
    pub fn reach(&self) -> RegistryConfig {
        RegistryConfig {
            url: self.url.clone(),
            insecure: self.insecure,
            allowed_hosts: self.allowed_hosts.clone(),
            ca_file: self.ca_file.clone(),
            username: self.username.clone(),
            password_secret: self.password_secret.clone(),
            docker_config: self.docker_config.clone(),
            identity: self.identity.clone(),
            identity_audience: self.identity_audience.clone(),
        }
    }
}

impl Registries {
    /// The registries that `entries` describe.
    pub fn new(entries: BTreeMap<RegistryName, RegistryEntry>) -> Self {
        Self(entries)
    }

    /// What `name` stands for; names are compared without regard to case. `None` where it is neither in the
    /// configuration nor a name that a registry in Azure can have.
    pub fn resolve(&self, name: &str) -> Option<Resolved> {
        if let Some((name, config)) = self.0.iter().find(|(key, _)| key.as_str().eq_ignore_ascii_case(name)) {
            let url = config.url.trim_end_matches('/');
            let host = url.split_once("://").map_or(url, |(_, host)| host);
            return Some(Resolved {
                name: name.clone(),
                url: url.to_owned(),
                login_server: config.login_server.clone().unwrap_or_else(|| host.to_owned()),
                location: config.location.clone().unwrap_or_else(|| "local".to_owned()),
                export_policy: config.export_policy,
                config: Some(config.clone()),
            });
        }
        let host = format!("{}.azurecr.io", name.to_ascii_lowercase());
        let name = is_registry_name(name).then(|| name.to_ascii_lowercase().parse().ok()).flatten()?;
        Some(Resolved {
            name,
            url: format!("https://{host}"),
            login_server: host,
            location: "local".to_owned(),
            export_policy: Policy::Enabled,
            config: None,
        })
    }
}

impl Resolved {
    /// The registry as a resource.
    pub(crate) fn resource(&self, id: &ResourceId) -> Registry {
        let status = match self.export_policy {
            Policy::Enabled => "enabled",
            Policy::Disabled => "disabled",
        };
        Registry {
            id: id.parent().to_string(),
            name: id.registry.clone(),
            resource_type: format!("{}/registries", transship_api::PROVIDER),
            location: self.location.clone(),
            properties: RegistryProperties {
                login_server: self.login_server.clone(),
                provisioning_state: "Succeeded".to_owned(),
                policies: RegistryPolicies { export_policy: ExportPolicy { status: status.to_owned() } },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_an_entry_means_a_registry_in_azure() {
        let entry = serde_json::json!({ "url": "http://127.0.0.1:5000/" });
        let entries = BTreeMap::from([("source".parse().unwrap(), serde_json::from_value(entry).unwrap())]);
        let registries = Registries::new(entries);
        let source = registries.resolve("Source").unwrap();
        assert_eq!((source.name.as_str(), source.login_server.as_str()), ("source", "127.0.0.1:5000"));
        let contoso = registries.resolve("Contoso").unwrap();
        assert_eq!((contoso.name.as_str(), contoso.url.as_str()), ("contoso", "https://contoso.azurecr.io"));
        assert!(registries.resolve("a/../b").is_none() && registries.resolve("abc").is_none());
    }
}
