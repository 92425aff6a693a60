//! A registry as a configuration file names it, and the client that follows from it: the same section in every
//! process that speaks to registries.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use transship_model::{Code, Failure, RegistryName, SecretName};
use transship_secrets::Secrets;

use crate::{CredentialError, CredentialSource, Credentials, DockerConfig, RegistryClient, RegistrySettings};

/// How to reach a registry, and as whom. Without a user here its credentials come from the Docker configuration
/// file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// `https://HOST[:PORT]`; `http://` for this machine, or where `insecure` is set.
    pub url: String,
    /// Whether plain HTTP is meant, though the registry is not on this machine. Default false.
    #[serde(default)]
    pub insecure: bool,
    /// Hosts that belong to the registry: `host`, `host:port`, or `.suffix` for a host and all hosts below it.
    #[serde(default)]
    pub allowed_hosts: Vec<String>,
    /// Certificate authorities in PEM that are trusted beside the platform's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The user; `password_secret` holds the password.
    #[serde(default)]
    pub username: Option<String>,
    /// The secret with the user's password.
    #[serde(default)]
    pub password_secret: Option<SecretName>,
    /// Another Docker configuration file (`auths` and credential helpers) than that of the process.
    #[serde(default)]
    pub docker_config: Option<PathBuf>,
}

impl RegistryConfig {
    /// A registry at this address with nothing else set.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            insecure: false,
            allowed_hosts: Vec::new(),
            ca_file: None,
            username: None,
            password_secret: None,
            docker_config: None,
        }
    }

    /// What is wrong with the section `key`, as key and problem.
    pub fn check(&self, key: &str) -> Vec<(String, String)> {
        let pair = self.username.is_some() == self.password_secret.is_some();
        let one = self.username.is_none() || self.docker_config.is_none();
        let rules = [
            (pair, "set both of username and password_secret, or neither"),
            (one, "set username and password_secret, or docker_config, not both"),
        ];
        let broken = rules.into_iter().filter(|(holds, _)| !holds);
        broken.map(|(_, problem)| (key.to_owned(), problem.to_owned())).collect()
    }

    /// A client of the registry, which the configuration calls `name`. Nothing is sent yet, and the password is
    /// read anew each time that it is needed.
    ///
    /// # Errors
    /// [`Code::ConfigurationInvalid`] where the settings contradict themselves or a file cannot be read.
    pub fn client(&self, name: &RegistryName, secrets: &Arc<dyn Secrets>) -> Result<RegistryClient, Failure> {
        let settings = RegistrySettings {
            insecure: self.insecure,
            allowed_hosts: self.allowed_hosts.clone(),
            ca_bundle: self.ca_file.clone(),
            ..RegistrySettings::new(self.url.clone())
        };
        RegistryClient::new(settings.with_credentials(self.credentials(secrets))).map_err(|error| {
            Failure::permanent(Code::ConfigurationInvalid, error.to_string())
                .while_doing(format_args!("registries.{name}"))
        })
    }

    fn credentials(&self, secrets: &Arc<dyn Secrets>) -> Arc<dyn CredentialSource> {
        match (&self.username, &self.password_secret, &self.docker_config) {
            (Some(username), Some(password), _) => Arc::new(SecretCredentials {
                secrets: Arc::clone(secrets),
                username: username.clone(),
                password: password.clone(),
            }),
            (_, _, Some(path)) => Arc::new(DockerConfig::at(path)),
            _ => Arc::new(DockerConfig::from_environment()),
        }
    }
}

/// Clients of all these registries by name, each as the port that the process may hold: `|client| Arc::new(client)`
/// makes an `Arc<dyn Source>` of it, or an `Arc<dyn Target>`.
///
/// # Errors
/// See [`RegistryConfig::client`].
pub fn registry_clients<P: ?Sized>(
    registries: &BTreeMap<RegistryName, RegistryConfig>,
    secrets: &Arc<dyn Secrets>,
    as_port: impl Fn(RegistryClient) -> Arc<P>,
) -> Result<BTreeMap<RegistryName, Arc<P>>, Failure> {
    let client = |(name, config): (&RegistryName, &RegistryConfig)| {
        Ok((name.clone(), as_port(config.client(name, secrets)?)))
    };
    registries.iter().map(client).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Source;
    use transship_model::Secret;
    use transship_secrets::FixedSecrets;

    fn config(json: serde_json::Value) -> RegistryConfig {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_user_without_a_password_and_two_sources_of_credentials_are_faults() {
        let url = "https://r.example";
        for (json, faults) in [
            (serde_json::json!({"url": url}), 0),
            (serde_json::json!({"url": url, "username": "u", "password_secret": "p"}), 0),
            (serde_json::json!({"url": url, "docker_config": "/d"}), 0),
            (serde_json::json!({"url": url, "username": "u"}), 1),
            (serde_json::json!({"url": url, "password_secret": "p"}), 1),
            (serde_json::json!({"url": url, "username": "u", "docker_config": "/d"}), 2),
        ] {
            assert_eq!(config(json.clone()).check("registries.r").len(), faults, "{json}");
        }
        assert!(serde_json::from_value::<RegistryConfig>(serde_json::json!({"url": url, "no": 1})).is_err());
        assert_eq!(config(serde_json::json!({"url": url})), RegistryConfig::new(url));
    }

    #[test]
    fn every_registry_has_a_client_and_an_address_that_is_none_is_named() {
        let secrets: Arc<dyn Secrets> = Arc::new(FixedSecrets::default());
        let mut registries: BTreeMap<RegistryName, RegistryConfig> =
            [("a".parse().unwrap(), RegistryConfig::new("https://r.example"))].into();
        let sources = |registries: &BTreeMap<_, _>| {
            registry_clients(registries, &secrets, |client| -> Arc<dyn Source> { Arc::new(client) })
        };
        assert_eq!(sources(&registries).unwrap()[&"a".parse().unwrap()].host(), "r.example");
        registries.insert("b".parse().unwrap(), RegistryConfig::new("http://r.example"));
        let failure = sources(&registries).err().unwrap();
        assert!(failure.message.contains("registries.b"), "{failure}");
    }

    #[tokio::test]
    async fn the_password_is_read_at_each_use_and_a_missing_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Arc::new(transship_secrets::SecretDirectory::new(folder.path()));
        let credentials = SecretCredentials {
            secrets,
            username: "u".to_owned(),
            password: "registry-password".parse().unwrap(),
        };
        let error = credentials.credentials("r.example").await.unwrap_err().to_string();
        assert!(error.contains("registry-password"), "{error}");
        for password in ["one", "two"] {
            std::fs::write(folder.path().join("registry-password"), password).unwrap();
            let expected = Credentials::basic("u", &Secret::new(password));
            assert!(credentials.credentials("r.example").await.unwrap() == expected);
        }
    }
}
