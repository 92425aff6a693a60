//! Everything by which a process gets at what it names.

use std::sync::Arc;

use async_trait::async_trait;
use transship_model::{Identity, Secret, VaultSecret};

use crate::{AllowedHosts, IdentityError, SecretError, Secrets, Tokens, VaultError, Vaults};

/// Secrets by name, vaults by address, tokens by identity, and where those may be sent. Cheap to clone.
#[derive(Clone)]
pub struct Keyring {
    /// Secrets by name.
    pub secrets: Arc<dyn Secrets>,
    /// Secrets by the address of a vault.
    pub vaults: Arc<dyn Vaults>,
    /// Tokens of identities.
    pub tokens: Arc<dyn Tokens>,
    /// Where credentials for blobs may be sent.
    pub storage: StorageReach,
}

/// Which storage services get a credential.
#[derive(Debug, Clone)]
pub struct StorageReach {
    /// The hosts that get tokens of any kind. `None`: a SAS token goes to whatever host is named, as where a
    /// person gives both, and a token of an identity to none.
    pub hosts: Option<AllowedHosts>,
    /// The service that tokens of an identity are for, without a slash at the end.
    pub audience: String,
    /// Whether tokens of an identity may go to a listed host on this machine over plain http: for tests.
    pub plain_http_to_loopback: bool,
    /// Whether a container may be a directory of this machine (`file:`).
    pub directories: bool,
}

/// Hosts of storage accounts in the public cloud, in US Government, in China, and in DNS zones.
pub const STORAGE_SUFFIXES: [&str; 4] = [
    ".blob.core.windows.net",
    ".blob.core.usgovcloudapi.net",
    ".blob.core.chinacloudapi.cn",
    ".blob.storage.azure.net",
];

/// The service that storage accounts of every cloud take tokens for.
pub const STORAGE_AUDIENCE: &str = "https://storage.azure.com";

impl Keyring {
    /// A process that knows secrets by name and nothing else: no vault, no identity.
    pub fn of_secrets(secrets: Arc<dyn Secrets>) -> Self {
        Self {
            secrets,
            vaults: Arc::new(Nothing),
            tokens: Arc::new(Nothing),
            storage: StorageReach {
                hosts: None,
                audience: STORAGE_AUDIENCE.to_owned(),
                plain_http_to_loopback: false,
                directories: true,
            },
        }
    }
}

/// No vault and no identity.
struct Nothing;

#[async_trait]
impl Vaults for Nothing {
    async fn vault_secret(&self, secret: &VaultSecret) -> Result<Secret, SecretError> {
        let allowed = "no host: it knows secrets by name only".to_owned();
        Err(VaultError::NotAllowed { secret: secret.clone(), allowed }.into())
    }
}

#[async_trait]
impl Tokens for Nothing {
    async fn token(&self, identity: &Identity, _audience: &str) -> Result<Secret, IdentityError> {
        let reason = "this process knows secrets by name only".to_owned();
        Err(IdentityError::NoIdentity { identity: identity.clone(), reason })
    }

    async fn forget(&self, _identity: &Identity, _audience: &str, _token: &Secret) {}
}
