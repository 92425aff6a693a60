//! A registry whose writes are written down, in their order.

use std::ops::Range;
use std::sync::Mutex;

use async_trait::async_trait;
use transship_model::{Digest, MediaType, Repository, Selector, Tag};
use transship_registry::{
    BlobRead, Content, Manifest, MemoryRegistry, Mount, Referrers, RegistryError, ResumableTarget, Source,
    Target,
};

/// A write that had its effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Write {
    Uploaded(Repository, Digest),
    Mounted(Repository, Digest, Repository),
    Put(Repository, Selector, Digest),
}

/// The registry.
pub(crate) struct Recorder {
    registry: MemoryRegistry,
    writes: Mutex<Vec<Write>>,
}

impl Recorder {
    pub(crate) fn new(registry: MemoryRegistry) -> Self {
        Self { registry, writes: Mutex::default() }
    }

    /// The writes since the last call.
    pub(crate) fn take(&self) -> Vec<Write> {
        std::mem::take(&mut self.writes.lock().unwrap())
    }

    pub(crate) fn writes(&self) -> Vec<Write> {
        self.writes.lock().unwrap().clone()
    }

    pub(crate) fn tags_put(&self) -> usize {
        self.writes().iter().filter(|write| matches!(write, Write::Put(_, Selector::Tag(_), _))).count()
    }

    fn note(&self, write: Write) {
        self.writes.lock().unwrap().push(write);
    }
}

#[async_trait]
impl Source for Recorder {
    fn host(&self) -> &str {
        self.registry.host()
    }

    async fn manifest(
        &self,
        repository: &Repository,
        selector: &Selector,
    ) -> Result<Manifest, RegistryError> {
        self.registry.manifest(repository, selector).await
    }

    async fn blob_length(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Option<u64>>, RegistryError> {
        self.registry.blob_length(repository, digest).await
    }

    async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobRead, RegistryError> {
        self.registry.blob(repository, digest, range).await
    }

    async fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Referrers, RegistryError> {
        self.registry.referrers(repository, subject).await
    }

    async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>, RegistryError> {
        self.registry.tags(repository).await
    }
}

#[async_trait]
impl Target for Recorder {
    async fn resolve(
        &self,
        repository: &Repository,
        selector: &Selector,
    ) -> Result<Option<Digest>, RegistryError> {
        self.registry.resolve(repository, selector).await
    }

    async fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, RegistryError> {
        self.registry.has_blob(repository, digest).await
    }

    async fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: &Repository,
    ) -> Result<Mount, RegistryError> {
        let mount = self.registry.mount(repository, digest, from).await?;
        if mount == Mount::Mounted {
            self.note(Write::Mounted(repository.clone(), digest.clone(), from.clone()));
        }
        Ok(mount)
    }

    async fn upload(
        &self,
        repository: &Repository,
        digest: &Digest,
        content: &dyn Content,
    ) -> Result<(), RegistryError> {
        self.registry.upload(repository, digest, content).await?;
        self.note(Write::Uploaded(repository.clone(), digest.clone()));
        Ok(())
    }

    /// What goes in pieces is not written down here: the registry counts it.
    fn resumable(&self) -> Option<&dyn ResumableTarget> {
        Some(&self.registry)
    }

    async fn put_manifest(
        &self,
        repository: &Repository,
        selector: &Selector,
        media_type: &MediaType,
        manifest: &Manifest,
    ) -> Result<bool, RegistryError> {
        let kept = self.registry.put_manifest(repository, selector, media_type, manifest).await?;
        self.note(Write::Put(repository.clone(), selector.clone(), manifest.digest.clone()));
        Ok(kept)
    }
}
