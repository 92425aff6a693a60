//! **Owns** where secrets come from: by name out of a directory of files, by address out of Key Vault, read at
//! each use; tokens of managed and workload identities, kept until shortly before they expire; the list of
//! hosts that get a token.
//! **May know** the file system, the platform's identity endpoints, and the names of secrets.
//! **Never knows** what a secret is for.

mod directory;
mod error;
mod fixed;
mod hosts;
mod http;
mod identity;
mod keyring;
mod vault;

use async_trait::async_trait;
pub use directory::{MAX_SECRET_BYTES, SecretDirectory};
pub use error::SecretError;
pub use fixed::FixedSecrets;
pub use hosts::{AllowedHosts, HostEntryError, host_of, is_loopback};
pub use identity::{IdentityError, PUBLIC_AUTHORITY, Platform, PlatformError, PlatformTokens, Tokens};
pub use keyring::{Keyring, STORAGE_AUDIENCE, STORAGE_SUFFIXES, StorageReach};
use transship_model::{Secret, SecretName};
pub use vault::{KeyVault, VAULT_SUFFIXES, VaultDirectories, VaultError, VaultSettings, Vaults};

/// Secrets by name. Each call reads anew, so that a secret that was rotated works at once: hold what is
/// returned for one operation, not for the life of a process.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// The secret of this name, without the white space around it; never empty.
    ///
    /// # Errors
    /// [`SecretError`], which names the secret, never its value, and says what to do.
    async fn secret(&self, name: &SecretName) -> Result<Secret, SecretError>;
}
