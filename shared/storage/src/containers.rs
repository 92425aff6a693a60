//! Opens containers by address and by the name of their credential, and keeps them open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use transship_model::{ContainerUrl, Digest, Failure, Identity, StorageCredential};
use transship_secrets::{Keyring, Secrets};

use crate::access::{Admitted, admit};
use crate::{Access, AzureContainer, AzureSettings, Container, open};

/// The most containers that are kept open; beyond that the memory starts anew.
const KEPT: usize = 256;

/// A container, and what it was opened with.
type Key = (ContainerUrl, OpenedBy);

#[derive(PartialEq, Eq, Hash)]
enum OpenedBy {
    Anyone,
    /// A digest of the token.
    Sas(Digest),
    Identity(Identity),
}

/// The containers of a process. The secret is read each time, so a token that was rotated works at once, and
/// connections are kept for as long as the token stays the same.
pub struct Containers {
    keyring: Keyring,
    open: Mutex<HashMap<Key, Arc<dyn Container>>>,
}

impl Containers {
    /// Containers whose SAS tokens are among `secrets`, wherever they are. No vault is asked, and no identity.
    pub fn new(secrets: Arc<dyn Secrets>) -> Self {
        Self::with_keyring(Keyring::of_secrets(secrets))
    }

    /// Containers that are opened by secrets, vaults and identities of `keyring`, at the hosts that it lists.
    pub fn with_keyring(keyring: Keyring) -> Self {
        Self { keyring, open: Mutex::new(HashMap::new()) }
    }

    /// Has `container` answer for its address where no credential is named, as a twin in memory does.
    pub fn insert(&self, container: Arc<dyn Container>) {
        let mut kept = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert((container.url().clone(), OpenedBy::Anyone), container);
    }

    /// Whether this process could do `access` with the container at `url` by `credential`, as far as that is
    /// known without asking the container: that its host may get a token; that the secret is there; that the
    /// SAS token in it has not expired, and grants what is needed to a container of blobs; that the identity
    /// gives tokens.
    ///
    /// # Errors
    /// A [`Failure`] that says what to change.
    pub async fn check(
        &self,
        url: &ContainerUrl,
        credential: Option<&StorageCredential>,
        access: Access,
    ) -> Result<(), Failure> {
        admit(&self.keyring, url, credential, access).await.map(drop)
    }

    /// The container at `url`, with the token that `credential` stands for now, checked as by
    /// [`Containers::check`]. Nothing is sent to it.
    ///
    /// # Errors
    /// A [`Failure`] that says what is wrong with the secret, the token, the identity or the host.
    pub async fn open(
        &self,
        url: &ContainerUrl,
        credential: Option<&StorageCredential>,
        access: Access,
    ) -> Result<Arc<dyn Container>, Failure> {
        let admitted = admit(&self.keyring, url, credential, access).await?;
        let opened_by = match &admitted {
            Admitted::Anyone => OpenedBy::Anyone,
            Admitted::Sas(token) => OpenedBy::Sas(Digest::sha256(token.expose().as_bytes())),
            Admitted::Identity(access) => OpenedBy::Identity(access.identity.clone()),
        };
        let key = (url.clone(), opened_by);
        let mut kept = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(container) = kept.get(&key) {
            return Ok(Arc::clone(container));
        }
        if kept.len() >= KEPT {
            kept.clear();
        }
        let container: Arc<dyn Container> = match admitted {
            Admitted::Anyone => open(url, None)?,
            Admitted::Sas(token) => open(url, Some(token))?,
            Admitted::Identity(access) => {
                Arc::new(AzureContainer::with_identity(url.clone(), access, AzureSettings::default())?)
            }
        };
        kept.insert(key, Arc::clone(&container));
        Ok(container)
    }
}
