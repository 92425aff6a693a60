//! The ports: what the stages see of a registry. Cut by permission: the exporter holds only a [`Source`].

use std::ops::Range;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use transship_model::{Descriptor, Digest, MediaType, Repository, Selector, Tag};

use crate::{RegistryError, ResumableTarget};

/// A manifest as it is in the registry. The digest was computed from the bytes, and compared where it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// The media type that the registry answered with, without parameters, where it is one.
    pub content_type: Option<MediaType>,
    /// The bytes, as they came.
    pub bytes: Bytes,
}

/// Bytes of a blob as they arrive. Errors end the stream.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, RegistryError>> + Send>>;

/// A blob, or a range of it, that is being read. Nothing here is verified: the reader hashes.
pub struct BlobRead {
    /// The length of the whole blob where the registry says it (`Content-Length` or `Content-Range`).
    pub total: Option<u64>,
    /// Where in the blob the stream begins: the start that was asked for, or 0 where the registry ignores ranges.
    pub start: u64,
    /// The bytes from `start`.
    pub bytes: ByteStream,
}

/// The manifests that refer to a subject.
#[derive(Debug, Clone, Default)]
pub struct Referrers {
    /// Their descriptors, of the referrers API and of the fallback tag together.
    pub descriptors: Vec<Descriptor>,
    /// The index under the fallback tag, where the registry has one.
    pub fallback: Option<Manifest>,
}

/// Reads from a registry.
#[async_trait]
pub trait Source: Send + Sync {
    /// The registry's name for messages: its host.
    fn host(&self) -> &str;

    /// A manifest with its bytes, at most 4 MiB; by a tag it is what the tag points to now.
    ///
    /// # Errors
    /// [`RegistryError::ManifestNotFound`], [`RegistryError::DigestMismatch`], …
    async fn manifest(&self, repository: &Repository, selector: &Selector)
    -> Result<Manifest, RegistryError>;

    /// The length of a blob in bytes by `HEAD`; the inner option is `None` where the registry does not say.
    /// `Ok(None)` where there is no such blob.
    async fn blob_length(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Option<u64>>, RegistryError>;

    /// Opens a blob, or the given range of it. Redirects are followed within the guard, without credentials.
    ///
    /// # Errors
    /// [`RegistryError::BlobNotFound`], …
    async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobRead, RegistryError>;

    /// The referrers of a manifest: by the API, and by the fallback tag. Pages are followed (at most 10,000
    /// descriptors).
    async fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Referrers, RegistryError>;

    /// The same for a manifest without a fallback tag, as the list of tags says: saves a question where the
    /// registry has the API.
    async fn referrers_of_untagged(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Referrers, RegistryError> {
        self.referrers(repository, subject).await
    }

    /// All tags of a repository, sorted; pages are followed (at most 1,000,000 tags). A repository that does
    /// not exist has none.
    async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>, RegistryError>;
}

/// What a mount came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mount {
    /// The blob is in the repository now.
    Mounted,
    /// The registry did not mount it; the upload session that it may have opened is cancelled.
    NotMounted,
}

/// Gives the bytes of a blob from an offset, as often as an upload needs them.
pub trait Content: Send + Sync {
    /// The length in bytes.
    fn length(&self) -> u64;

    /// The bytes from `offset` to the end. The last piece is handed out only once the digest of the whole
    /// is verified, so a body that is complete is right.
    fn open(&self, offset: u64) -> Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;
}

/// Writes to a registry, and asks what is there.
#[async_trait]
pub trait Target: Source {
    /// The digest that a tag or digest has now (`HEAD`, or `GET` and computed where the header is missing), or `None`.
    async fn resolve(
        &self,
        repository: &Repository,
        selector: &Selector,
    ) -> Result<Option<Digest>, RegistryError>;

    /// Whether the repository has the blob.
    async fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, RegistryError>;

    /// Asks to mount a blob from another repository of the same registry.
    async fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: &Repository,
    ) -> Result<Mount, RegistryError>;

    /// Uploads a blob: POST and one streaming PUT by default; another form where the registry refuses that,
    /// remembered. Retried from the start within bounds. The registry verifies the digest, and so does `content`.
    async fn upload(
        &self,
        repository: &Repository,
        digest: &Digest,
        content: &dyn Content,
    ) -> Result<(), RegistryError>;

    /// The same registry for uploads that outlive a process, where it can have them.
    fn resumable(&self) -> Option<&dyn ResumableTarget> {
        None
    }

    /// Puts a manifest under its digest or a tag, with its media type, and verifies that the registry has that
    /// digest. Returns whether the registry keeps the list of referrers itself (`OCI-Subject`).
    async fn put_manifest(
        &self,
        repository: &Repository,
        selector: &Selector,
        media_type: &MediaType,
        manifest: &Manifest,
    ) -> Result<bool, RegistryError>;
}
