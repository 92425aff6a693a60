//! Looking around in a registry: which repositories there are, and where their tags point.

use async_trait::async_trait;
use transship_model::{Digest, Repository, Selector, Tag};

use crate::{MemoryRegistry, Operation, RegistryClient, RegistryError, Source, Target as _};

/// What watches a registry for tags that appear and move sees of it.
#[async_trait]
pub trait Catalog: Source {
    /// All repositories that the credential may list (`/v2/_catalog`), sorted; pages are followed (at most 100,000
    /// repositories). `None` where the registry has no such list, as Docker Hub and GitHub's have none.
    async fn list_repositories(&self) -> Result<Option<Vec<Repository>>, RegistryError>;

    /// The digest that a tag has now (`HEAD`, or `GET` and computed where the header is missing); `None` where
    /// there is no such tag.
    async fn current(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, RegistryError>;
}

#[async_trait]
impl Catalog for RegistryClient {
    async fn list_repositories(&self) -> Result<Option<Vec<Repository>>, RegistryError> {
        self.inner.list_repositories().await
    }

    async fn current(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, RegistryError> {
        self.resolve(repository, &Selector::Tag(tag.clone())).await
    }
}

#[async_trait]
impl Catalog for MemoryRegistry {
    async fn list_repositories(&self) -> Result<Option<Vec<Repository>>, RegistryError> {
        self.begin(Operation::Repositories)?;
        Ok(Some(self.repositories()))
    }

    async fn current(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, RegistryError> {
        self.begin(Operation::Current)?;
        Ok(self.tagged(repository, tag))
    }
}
