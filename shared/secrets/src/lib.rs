//! **Owns** where secrets come from: by name, out of a directory of files, read at each use.
//! **May know** the file system and the names of secrets.
//! **Never knows** what a secret is for.

mod directory;
mod error;
mod fixed;

use async_trait::async_trait;
pub use directory::{MAX_SECRET_BYTES, SecretDirectory};
pub use error::SecretError;
pub use fixed::FixedSecrets;
use transship_model::{Secret, SecretName};

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
