//! The port: what the stages see of a container of blobs. Traits are cut by permission. The Azure adapter,
//! the directory and the twin in memory all run the contract in `tests/contract.rs`.

use std::collections::BTreeMap;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use transship_model::{BlobName, ContainerUrl, Secret};

use crate::StorageError;

/// The identifier of a block: at most 64 bytes before Base64, all of one blob of the same length.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId(Box<[u8]>);

impl BlockId {
    /// The identifier made of `raw`.
    pub fn new(raw: impl Into<Box<[u8]>>) -> Self {
        Self(raw.into())
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for BlockId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().take(64).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A block in a block list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its identifier.
    pub id: BlockId,
    /// Its length in bytes.
    pub length: u64,
}

/// An entity tag, opaque, as the service sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ETag(pub String);

/// The metadata of a blob. Keys are lower case.
pub type Metadata = BTreeMap<String, String>;

/// The properties of a committed blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobProperties {
    /// The length in bytes.
    pub length: u64,
    /// The entity tag: it changes with every commit.
    pub etag: ETag,
    /// The metadata.
    pub metadata: Metadata,
    /// The Content-MD5 property, raw, where the blob has one.
    pub content_md5: Option<Vec<u8>>,
    /// When the content or the metadata last changed, where the service says it.
    pub modified: Option<Timestamp>,
    /// Whether the service still copies the content from elsewhere (Copy Blob): the length is the final one, the
    /// bytes are not there yet.
    pub copying: bool,
}

/// A committed blob as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedBlob {
    /// The name.
    pub name: BlobName,
    /// The length in bytes.
    pub length: u64,
    /// The entity tag, in the form in which [`BlobProperties`] has it; `None` where the listing does not say it.
    pub etag: Option<ETag>,
    /// See [`BlobProperties::modified`].
    pub modified: Option<Timestamp>,
    /// See [`BlobProperties::copying`].
    pub copying: bool,
}

/// One page of a listing.
#[derive(Debug, Clone, Default)]
pub struct BlobPage {
    /// The blobs, in the lexical order of their names.
    pub blobs: Vec<ListedBlob>,
    /// Where the next page begins; `None` on the last page.
    pub next: Option<String>,
}

/// What must hold for a commit to take place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// There is no blob of this name (`If-None-Match: *`).
    Absent,
    /// The blob still has this entity tag (`If-Match`).
    Matches(ETag),
}

/// Where a server-side copy reads from: a URL with its SAS token, which is never shown, and the condition.
#[derive(Debug, Clone)]
pub struct CopySource {
    /// The whole URL, SAS token included.
    pub url: Secret,
    /// The range of bytes.
    pub range: Range<u64>,
    /// The entity tag that the source must still have.
    pub etag: ETag,
}

/// Reads blobs of one container.
#[async_trait]
pub trait ReadContainer: Send + Sync {
    /// The address, for messages.
    fn url(&self) -> &ContainerUrl;

    /// The properties of a committed blob, or `None` where there is none.
    async fn properties(&self, blob: &BlobName) -> Result<Option<BlobProperties>, StorageError>;

    /// Reads exactly `range` of a blob, of the version `etag` where one is given. The buffer is allocated once,
    /// at its final size. A range that reaches beyond the end is an error, a shorter answer too.
    async fn read(
        &self,
        blob: &BlobName,
        range: Range<u64>,
        etag: Option<&ETag>,
    ) -> Result<Bytes, StorageError>;

    /// The committed blocks of a blob in their order; empty where it was not written as blocks.
    async fn committed_blocks(&self, blob: &BlobName) -> Result<Vec<Block>, StorageError>;

    /// Lists committed blobs whose names begin with `prefix`, a page at a time (at most 5,000).
    async fn list(&self, prefix: &str, marker: Option<&str>) -> Result<BlobPage, StorageError>;

    /// The URL with which a storage service can read the blob itself; `None` where there is no such service, or
    /// where a URL alone does not do, as in a container that is opened by an identity: its blobs are streamed.
    fn copy_source(&self, blob: &BlobName) -> Option<Secret>;
}

/// Writes block blobs of one container.
#[async_trait]
pub trait WriteContainer: ReadContainer {
    /// The blocks that were staged and not committed, in no order; empty where there are none. Staged blocks
    /// live a week on Azure.
    async fn staged_blocks(&self, blob: &BlobName) -> Result<Vec<Block>, StorageError>;

    /// Stages a block. Staging the same identifier again replaces it.
    async fn stage(&self, blob: &BlobName, id: &BlockId, bytes: Bytes) -> Result<(), StorageError>;

    /// Has the service stage a block from another blob (Put Block From URL).
    ///
    /// # Errors
    /// [`StorageError::CopyUnsupported`] where this service, or this pair of services, cannot do it.
    async fn stage_from(
        &self,
        blob: &BlobName,
        id: &BlockId,
        source: &CopySource,
    ) -> Result<(), StorageError>;

    /// Makes the blob of the staged (or already committed) `blocks`, in this order, with `metadata`. Other
    /// staged blocks of the blob are dropped. Returns the new entity tag.
    ///
    /// # Errors
    /// [`StorageError::ConditionFailed`] where `condition` does not hold;
    /// [`StorageError::InvalidBlockList`] where a block is missing, as when another writer committed.
    async fn commit(
        &self,
        blob: &BlobName,
        blocks: &[BlockId],
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag, StorageError>;
}

/// Deletes blobs of one container.
#[async_trait]
pub trait DeleteBlob: Send + Sync {
    /// Deletes the blob where it still has `etag`. A blob that is gone already is a success.
    async fn delete(&self, blob: &BlobName, etag: &ETag) -> Result<(), StorageError>;
}
