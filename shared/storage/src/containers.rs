//! Opens containers by address and by the name of their secret, and keeps them open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use transship_model::{Class, Code, ContainerUrl, Digest, Failure, StorageCredential};
use transship_secrets::Secrets;

use crate::{Container, SasToken, open};

/// The most containers that are kept open; beyond that the memory starts anew.
const KEPT: usize = 256;

/// What a stage is going to do with a container: the letters that a SAS token must grant, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    letters: &'static str,
    purpose: &'static str,
}

impl Access {
    /// Reading blobs.
    pub const READ: Self = Self { letters: "r", purpose: "reading blobs" };
    /// Reading blobs and deleting them when they are imported.
    pub const READ_DELETE: Self =
        Self { letters: "rd", purpose: "reading blobs and deleting them once imported" };
    /// Watching for blobs that arrive.
    pub const WATCH: Self = Self { letters: "rl", purpose: "listing blobs and reading them" };
    /// Looking for blobs and writing them.
    pub const WRITE: Self = Self { letters: "rw", purpose: "looking for blobs and writing them" };
}

/// A container, and a digest of the token that it was opened with.
type Key = (ContainerUrl, Option<Digest>);

/// The containers of a process. The secret is read each time, so a token that was rotated works at once, and
/// connections are kept for as long as the token stays the same.
pub struct Containers {
    secrets: Arc<dyn Secrets>,
    open: Mutex<HashMap<Key, Arc<dyn Container>>>,
}

impl Containers {
    /// Containers whose SAS tokens are among `secrets`.
    pub fn new(secrets: Arc<dyn Secrets>) -> Self {
        Self { secrets, open: Mutex::new(HashMap::new()) }
    }

    /// Has `container` answer for its address where no secret is named, as a twin in memory does.
    pub fn insert(&self, container: Arc<dyn Container>) {
        let mut kept = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert((container.url().clone(), None), container);
    }

    /// The container at `url`, with the token that `credential` stands for now. The token is checked for expiry and for
    /// what `access` needs; nothing is sent.
    ///
    /// # Errors
    /// A [`Failure`] that says what is wrong with the secret or the token.
    pub async fn open(
        &self,
        url: &ContainerUrl,
        credential: Option<&StorageCredential>,
        access: Access,
    ) -> Result<Arc<dyn Container>, Failure> {
        let token = match credential {
            Some(StorageCredential::Secret(name)) => Some(self.secrets.secret(name).await?),
            Some(other) => {
                let message = format!("{other} cannot be used: this process knows secrets by name only");
                return Err(Failure::permanent(Code::ConfigurationInvalid, message));
            }
            None => None,
        };
        if let Some(token) = token.as_ref().filter(|_| url.directory().is_none()) {
            let sas = SasToken::parse(token).map_err(|error| {
                Failure::new(Class::Parked, Code::ConfigurationInvalid, error.to_string())
                    .while_doing(format_args!("the SAS token for {url}"))
                    .with_hint("put a SAS token of the container into the secret")
            })?;
            sas.check(Timestamp::now(), access.letters, access.purpose, url)?;
        }
        let key = (url.clone(), token.as_ref().map(|token| Digest::sha256(token.expose().as_bytes())));
        let mut kept = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(container) = kept.get(&key) {
            return Ok(Arc::clone(container));
        }
        if kept.len() >= KEPT {
            kept.clear();
        }
        let container = open(url, token)?;
        kept.insert(key, Arc::clone(&container));
        Ok(container)
    }
}
