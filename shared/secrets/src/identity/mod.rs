//! Tokens of the identities that the platform gives to a process: managed identities of machines, of App
//! Service and Container Apps, and workload identities of pods.

mod error;
mod platform;
mod request;
mod tokens;

use async_trait::async_trait;
pub use error::IdentityError;
pub use platform::{PUBLIC_AUTHORITY, Platform, PlatformError};
pub use tokens::PlatformTokens;
use transship_model::{Identity, Secret};

/// Tokens of identities.
#[async_trait]
pub trait Tokens: Send + Sync {
    /// A token of `identity` that the service `audience` takes (`https://storage.azure.com`, without a slash at
    /// the end), good for some minutes at least. Cheap to ask: tokens are kept until shortly before they expire.
    ///
    /// # Errors
    /// [`IdentityError`], which names the identity and says what to do.
    async fn token(&self, identity: &Identity, audience: &str) -> Result<Secret, IdentityError>;

    /// Drops `token`, which the service refused, so that the next call gets another one.
    async fn forget(&self, identity: &Identity, audience: &str, token: &Secret);
}
