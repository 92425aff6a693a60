//! Secrets of vaults, by their address: Azure Key Vault, and directories that stand for vaults.

mod answer;
mod directories;
mod error;
mod key_vault;

use async_trait::async_trait;
pub use directories::VaultDirectories;
pub use error::VaultError;
pub use key_vault::{KeyVault, VAULT_SUFFIXES, VaultSettings};
use transship_model::{Secret, VaultSecret};

use crate::SecretError;

/// Secrets of vaults. Each call reads anew, so that a secret that was rotated works at once.
#[async_trait]
pub trait Vaults: Send + Sync {
    /// The secret at this address, without the white space around it; never empty.
    ///
    /// # Errors
    /// [`SecretError`], which names the secret, never its value, and says what to do.
    async fn vault_secret(&self, secret: &VaultSecret) -> Result<Secret, SecretError>;
}
