//! Vaults that are directories of files: for one machine, for a cloud without Key Vault, and for secrets that
//! a volume driver brings from a vault.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use transship_model::{Secret, SecretName, VaultSecret};

use super::{VaultError, Vaults};
use crate::{SecretDirectory, SecretError, Secrets as _};

/// Hosts of vaults, each with a directory that has one file for each secret, named like it; `NAME.VERSION` for
/// one version, which is the newest where there is no such file. All other vaults are somebody else's.
pub struct VaultDirectories {
    directories: BTreeMap<String, SecretDirectory>,
    others: Arc<dyn Vaults>,
}

impl VaultDirectories {
    /// The vaults at the hosts of `directories` are those directories; `others` has the rest.
    pub fn new(directories: BTreeMap<String, PathBuf>, others: Arc<dyn Vaults>) -> Self {
        let directory =
            |(host, path): (String, PathBuf)| (host.to_ascii_lowercase(), SecretDirectory::new(path));
        Self { directories: directories.into_iter().map(directory).collect(), others }
    }
}

#[async_trait]
impl Vaults for VaultDirectories {
    async fn vault_secret(&self, secret: &VaultSecret) -> Result<Secret, SecretError> {
        let Some(directory) = self.directories.get(secret.host()) else {
            return self.others.vault_secret(secret).await;
        };
        let file = |name: String| {
            name.parse::<SecretName>().map_err(|_| VaultError::NotFound { secret: secret.clone() })
        };
        if let Some(version) = secret.version()
            && let Ok(name) = file(format!("{}.{version}", secret.name()))
        {
            match directory.secret(&name).await {
                Err(SecretError::Missing { .. }) => {}
                found => return found,
            }
        }
        directory.secret(&file(secret.name().to_owned())?).await
    }
}
