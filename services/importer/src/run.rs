//! The surroundings of one import: what every step of it needs.

use std::sync::Arc;

use futures::stream::{BufferUnordered, Iter};
use futures::{StreamExt, stream};
use tokio::sync::Semaphore;
use transship_messages::ImportRequested;
use transship_model::{Digest, Failure, Repository, Selector};
use transship_registry::Target;
use transship_stage::Context;

use crate::bundle::ArrivedBundle;
use crate::memory::Memory;
use crate::{Contents, ImportPipeline, ImportPlan, ImportSettings};

/// One import.
pub(crate) struct Import<'a> {
    pub(crate) work: &'a ImportRequested,
    pub(crate) context: &'a Context,
    pub(crate) pipeline: &'a ImportPipeline,
    pub(crate) target: &'a dyn Target,
    pub(crate) memory: &'a Memory,
    pub(crate) settings: &'a ImportSettings,
    pub(crate) bundle: Arc<ArrivedBundle>,
    pub(crate) contents: Contents,
    pub(crate) plan: ImportPlan,
    pub(crate) questions: Semaphore,
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
