//! A registry as a configuration file names it, and the client that follows from it: the same section in every
//! process that speaks to registries.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::Mutex;
use transship_model::{Code, Failure, Identity, RegistryName, Secret, SecretName};
use transship_secrets::{Keyring, Secrets, Tokens, is_loopback};
use url::Url;

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
    /// The managed or workload identity that speaks to a registry in Azure: its token goes to `url`, which exchanges
    /// it for its own.
    #[serde(default)]
    pub identity: Option<Identity>,
    /// The service that tokens of `identity` are for. Default [`REGISTRY_AUDIENCE`].
    #[serde(default)]
    pub identity_audience: Option<String>,
}

/// The service that registries in the public cloud take tokens of identities for.
pub const REGISTRY_AUDIENCE: &str = "https://containerregistry.azure.net";

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
            identity: None,
            identity_audience: None,
        }
    }

    /// What is wrong with the section `key`, as key and problem.
    pub fn check(&self, key: &str) -> Vec<(String, String)> {
        let pair = self.username.is_some() == self.password_secret.is_some();
        let sources = [self.username.is_some(), self.docker_config.is_some(), self.identity.is_some()];
        let one = sources.into_iter().filter(|set| *set).count() <= 1;
        // Whoever reads the token of an identity may use it at every registry that the identity may.
        let sealed = self.identity.is_none() || self.url.starts_with("https://") || self.is_on_this_machine();
        let rules = [
            (pair, "set both of username and password_secret, or neither"),
            (one, "set one of username with password_secret, docker_config, and identity"),
            (sealed, "an identity needs a url with https"),
            (self.identity.is_some() || self.identity_audience.is_none(), "identity_audience needs identity"),
        ];
        let broken = rules.into_iter().filter(|(holds, _)| !holds);
        broken.map(|(_, problem)| (key.to_owned(), problem.to_owned())).collect()
    }

    fn is_on_this_machine(&self) -> bool {
        Url::parse(&self.url).is_ok_and(|url| is_loopback(&url))
    }

    /// A client of the registry, which the configuration calls `name`. Nothing is sent yet, and the password is
    /// read anew each time that it is needed.
    ///
    /// # Errors
    /// [`Code::ConfigurationInvalid`] where the settings contradict themselves or a file cannot be read.
    pub fn client(&self, name: &RegistryName, keyring: &Keyring) -> Result<RegistryClient, Failure> {
        let settings = RegistrySettings {
            insecure: self.insecure,
            allowed_hosts: self.allowed_hosts.clone(),
            ca_bundle: self.ca_file.clone(),
            ..RegistrySettings::new(self.url.clone())
        };
        RegistryClient::new(settings.with_credentials(self.credentials(keyring))).map_err(|error| {
            Failure::permanent(Code::ConfigurationInvalid, error.to_string())
                .while_doing(format_args!("registries.{name}"))
        })
    }

    fn credentials(&self, keyring: &Keyring) -> Arc<dyn CredentialSource> {
        if let Some(identity) = &self.identity {
            let audience = self.identity_audience.as_deref().unwrap_or(REGISTRY_AUDIENCE);
            return Arc::new(IdentityCredentials {
                tokens: Arc::clone(&keyring.tokens),
                identity: identity.clone(),
                audience: audience.trim_end_matches('/').to_owned(),
                given: Mutex::default(),
            });
        }
        match (&self.username, &self.password_secret, &self.docker_config) {
            (Some(username), Some(password), _) => Arc::new(SecretCredentials {
                secrets: Arc::clone(&keyring.secrets),
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
    keyring: &Keyring,
    as_port: impl Fn(RegistryClient) -> Arc<P>,
) -> Result<BTreeMap<RegistryName, Arc<P>>, Failure> {
    let client = |(name, config): (&RegistryName, &RegistryConfig)| {
        Ok((name.clone(), as_port(config.client(name, keyring)?)))
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

/// An identity, whose token the registry exchanges for its own.
struct IdentityCredentials {
    tokens: Arc<dyn Tokens>,
    identity: Identity,
    audience: String,
    /// The token that was given last. To be asked again means that the registry refused it, or what came of it.
    given: Mutex<Option<Secret>>,
}

#[async_trait]
impl CredentialSource for IdentityCredentials {
    async fn credentials(&self, _host: &str) -> Result<Credentials, CredentialError> {
        let mut given = self.given.lock().await;
        if let Some(refused) = given.take() {
            self.tokens.forget(&self.identity, &self.audience, &refused).await;
        }
        let unavailable =
            |error| CredentialError::Unreadable(format!("a token of {}", self.identity), format!("{error}"));
        let token = self.tokens.token(&self.identity, &self.audience).await.map_err(unavailable)?;
        *given = Some(token.clone());
        Ok(Credentials::entra_access_token(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Source;
    use transship_secrets::{FixedSecrets, IdentityError};

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
            (serde_json::json!({"url": url, "identity": "identity:system", "identity_audience": "a"}), 0),
            (serde_json::json!({"url": "http://127.0.0.1:1", "identity": "identity:client:c"}), 0),
            (serde_json::json!({"url": "http://r.example", "identity": "identity:system"}), 1),
            (serde_json::json!({"url": url, "identity": "identity:system", "docker_config": "/d"}), 1),
            (serde_json::json!({"url": url, "identity_audience": "a"}), 1),
        ] {
            assert_eq!(config(json.clone()).check("registries.r").len(), faults, "{json}");
        }
        assert!(serde_json::from_value::<RegistryConfig>(serde_json::json!({"url": url, "no": 1})).is_err());
        assert_eq!(config(serde_json::json!({"url": url})), RegistryConfig::new(url));
    }

    #[test]
    fn every_registry_has_a_client_and_an_address_that_is_none_is_named() {
        let keyring = Keyring::of_secrets(Arc::new(FixedSecrets::default()));
        let mut registries: BTreeMap<RegistryName, RegistryConfig> =
            [("a".parse().unwrap(), RegistryConfig::new("https://r.example"))].into();
        let sources = |registries: &BTreeMap<_, _>| {
            registry_clients(registries, &keyring, |client| -> Arc<dyn Source> { Arc::new(client) })
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

    /// Tokens with a number, which goes up with each that is forgotten.
    #[derive(Default)]
    struct Numbered(Mutex<u32>);

    #[async_trait]
    impl Tokens for Numbered {
        async fn token(&self, identity: &Identity, audience: &str) -> Result<Secret, IdentityError> {
            Ok(Secret::new(&format!("{identity} {audience} {}", self.0.lock().await)))
        }

        async fn forget(&self, _identity: &Identity, _audience: &str, _token: &Secret) {
            *self.0.lock().await += 1;
        }
    }

    #[tokio::test]
    async fn an_identity_gives_its_token_for_the_registry_and_another_one_once_that_was_refused() {
        let secrets = Arc::new(FixedSecrets::default());
        let keyring = Keyring { tokens: Arc::new(Numbered::default()), ..Keyring::of_secrets(secrets) };
        let json = serde_json::json!({"url": "https://contoso.azurecr.io", "identity": "identity:system"});
        let source = config(json).credentials(&keyring);
        for number in 0..2 {
            let token = format!("identity:system {REGISTRY_AUDIENCE} {number}");
            let given = source.credentials("contoso.azurecr.io").await.unwrap();
            assert!(given == Credentials::entra_access_token(Secret::new(&token)), "{number}");
        }
    }
}
