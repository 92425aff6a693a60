//! The surroundings of one import: what every step of it needs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::stream::{BufferUnordered, Iter};
use futures::{StreamExt, stream};
use tokio::sync::Semaphore;
use transship_messages::ImportRequested;
use transship_model::{ArtifactReference, Digest, Failure, Repository, Selector};
use transship_registry::{Target, UploadSession};
use transship_stage::{ByteBudget, Context};

use crate::bundle::ArrivedBundle;
use crate::memory::Memory;
use crate::seal::{Seal, Standing};
use crate::{Contents, ImportError, ImportPipeline, ImportPlan, ImportSettings};

/// One import.
pub(crate) struct Import<'a> {
    pub(crate) work: &'a ImportRequested,
    pub(crate) context: &'a Context,
    pub(crate) pipeline: &'a ImportPipeline,
    pub(crate) target: &'a dyn Target,
    pub(crate) memory: &'a Memory,
    pub(crate) settings: &'a ImportSettings,
    /// Small blobs are read many at a time before the registry has room for them, and large ones after it has. From one
    /// budget, each could wait for what the other holds.
    pub(crate) stretches: &'a ByteBudget,
    pub(crate) bundle: Arc<ArrivedBundle>,
    pub(crate) contents: Contents,
    pub(crate) plan: ImportPlan,
    pub(crate) questions: Semaphore,
    pub(crate) seal: Option<Seal>,
    pub(crate) held: Held,
}

/// Uploads that the slice before ended inside, until somebody takes them up.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<Vec<Standing>>);

impl Held {
    pub(crate) fn new(uploads: Vec<Standing>) -> Self {
        Self(Mutex::new(uploads))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an upload of the blob is held.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.lock().iter().any(|upload| upload.digest == *digest)
    }

    /// Takes the upload of the blob into the repository, where there is one.
    pub(crate) fn take(&self, digest: &Digest, repository: &Repository) -> Option<Standing> {
        let mut uploads = self.lock();
        let wanted = |upload: &Standing| upload.digest == *digest && upload.repository == *repository;
        let at = uploads.iter().position(wanted)?;
        Some(uploads.swap_remove(at))
    }

    /// Takes all that nobody took.
    pub(crate) fn drain(&self) -> Vec<Standing> {
        std::mem::take(&mut *self.lock())
    }
}

/// Answers as they come.
pub(crate) type Answers<F> = BufferUnordered<Iter<std::vec::IntoIter<F>>>;

impl Import<'_> {
    /// Asks what a tag or digest is at the target.
    pub(crate) async fn resolve(
        &self,
        repository: &Repository,
        selector: &Selector,
    ) -> Result<Option<Digest>, Failure> {
        let _turn = self.questions.acquire().await;
        Ok(self.target.resolve(repository, selector).await?)
    }

    /// Asks whether the target has a manifest.
    pub(crate) async fn has_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, Failure> {
        let found = self.resolve(repository, &Selector::Digest(digest.clone())).await?;
        Ok(found.is_some())
    }

    /// Asks whether a repository of the target has a blob.
    pub(crate) async fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, Failure> {
        let _turn = self.questions.acquire().await;
        Ok(self.target.has_blob(repository, digest).await?)
    }

    /// A name that is something else at the target, and may not be moved.
    pub(crate) fn tag_exists(&self, name: ArtifactReference, existing: Digest, wanted: &Digest) -> Failure {
        let (host, wanted) = (self.target.host().to_owned(), wanted.clone());
        ImportError::TagExists { host, name, existing, wanted }.into()
    }

    /// Gives uploads up, so that the registry need not keep them. Best effort.
    pub(crate) async fn abandon(&self, uploads: Vec<Standing>) {
        let Some(target) = self.target.resumable() else { return };
        for Standing { repository, location, offset, minimum, .. } in uploads {
            target.cancel_upload(&UploadSession::restore(repository, location, offset, minimum)).await;
        }
    }

    /// Does something with each of `things`, as many at a time as there may be questions. Answers come as they
    /// come.
    pub(crate) fn each<T, F: Future>(
        &self,
        things: impl IntoIterator<Item = T>,
        ask: impl FnMut(T) -> F,
    ) -> Answers<F> {
        // Made at once and begun later: a closure that is kept would make the whole import's future not `Send`.
        let asks: Vec<F> = things.into_iter().map(ask).collect();
        stream::iter(asks).buffer_unordered(self.settings.parallel_questions)
    }
}
