//! The credential of a run is read and checked before anything is sent: what is wrong with it is said in the
//! run, and not found out by a stage later.

use std::sync::Arc;

use async_trait::async_trait;
use transship_model::{ContainerUrl, Failure, StorageCredential};
use transship_storage::{Access, Containers, ReadContainer};

/// Opens the container of a run with its credential. Cut by permission: whoever starts a run only reads.
#[async_trait]
pub trait Preflight: Send + Sync {
    /// Reads the secret as it is now, and checks that the token in it has not expired and grants what `access`
    /// needs.
    ///
    /// # Errors
    /// What is wrong with the secret or the token, with a hint.
    async fn open(
        &self,
        container: &ContainerUrl,
        credential: Option<&StorageCredential>,
        access: Access,
    ) -> Result<Arc<dyn ReadContainer>, Failure>;
}

#[async_trait]
impl Preflight for Containers {
    async fn open(
        &self,
        container: &ContainerUrl,
        credential: Option<&StorageCredential>,
        access: Access,
    ) -> Result<Arc<dyn ReadContainer>, Failure> {
        Ok(Containers::open(self, container, credential, access).await?)
    }
}
