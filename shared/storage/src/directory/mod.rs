//! A container in a local directory, for `file:` addresses: a laptop, a share, a medium that is carried.
//!
//! Committed blobs are plain files under their names, so that any other tool can bring or take one. What a
//! plain file cannot hold is in `.transship` inside the directory:
//!
//! ```text
//! .transship/lock                            held while a blob is replaced or deleted
//! .transship/temp/…                          files that are being written
//! .transship/blobs/KEY/staged/ID             a staged block, ID in hexadecimal
//! .transship/blobs/KEY/committed/LEN-MTIME   the record of the file with this length and this mtime
//! ```
//!
//! KEY is a hash of the blob's name. A record is found by length and mtime of the file, and written before the
//! file is put in place, so a crash leaves the old blob with its record or the new one with its own; a file
//! that somebody put there has none. Symbolic links are not followed. This guards against accidents, not
//! against a local attacker who exchanges folders while they are walked.

mod blob;
mod commit;
mod fault;
mod layout;
mod lock;
mod record;
mod staged;
mod sweep;
mod walk;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use transship_model::{BlobName, ContainerUrl, Secret};

use self::layout::Layout;
use crate::limits::{check_block, check_id, check_metadata};
use crate::{
    BlobPage, BlobProperties, Block, BlockId, Condition, CopySource, DeleteBlob, ETag, Metadata,
    ReadContainer, StorageError, WriteContainer,
};

/// A directory as a container. It must exist; transship makes folders inside it, never itself.
#[derive(Debug, Clone)]
pub struct DirectoryContainer {
    layout: Arc<Layout>,
}

impl DirectoryContainer {
    /// The container at a `file:` address. The disk is not touched.
    ///
    /// # Errors
    /// [`StorageError::Refused`] where the address is not a directory's.
    pub fn new(url: ContainerUrl) -> Result<Self, StorageError> {
        match url.directory() {
            Some(root) => Ok(Self { layout: Arc::new(Layout::new(url, root)) }),
            None => Err(StorageError::Refused { container: url, code: "not a file: address".to_owned() }),
        }
    }

    /// Runs `work` where it may block. It is not cancelled with its caller: what it began, it ends.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Layout) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let layout = Arc::clone(&self.layout);
        match tokio::task::spawn_blocking(move || work(&layout)).await {
            Ok(result) => result,
            // It panicked, or the runtime ends.
            Err(_) => Err(StorageError::Unavailable {
                container: self.layout.url.clone(),
                reason: "the work on the directory was interrupted".to_owned(),
                retry_after: None,
            }),
        }
    }
}

#[async_trait]
impl ReadContainer for DirectoryContainer {
    fn url(&self) -> &ContainerUrl {
        &self.layout.url
    }

    async fn properties(&self, blob: &BlobName) -> Result<Option<BlobProperties>, StorageError> {
        let blob = blob.clone();
        self.blocking(move |layout| Ok(layout.find(&blob)?.map(|found| found.properties()))).await
    }

    async fn read(
        &self,
        blob: &BlobName,
        range: Range<u64>,
        etag: Option<&ETag>,
    ) -> Result<Bytes, StorageError> {
        if range.start == range.end {
            return Ok(Bytes::new());
        }
        let (blob, etag) = (blob.clone(), etag.cloned());
        self.blocking(move |layout| layout.read(&blob, range, etag.as_ref())).await
    }

    async fn committed_blocks(&self, blob: &BlobName) -> Result<Vec<Block>, StorageError> {
        let blob = blob.clone();
        self.blocking(move |layout| {
            Ok(layout.find(&blob)?.map(|found| found.into_blocks()).unwrap_or_default())
        })
        .await
    }

    async fn list(&self, prefix: &str, marker: Option<&str>) -> Result<BlobPage, StorageError> {
        let (prefix, marker) = (prefix.to_owned(), marker.map(str::to_owned));
        self.blocking(move |layout| layout.list(&prefix, marker.as_deref())).await
    }

    fn copy_source(&self, _blob: &BlobName) -> Option<Secret> {
        None
    }
}

#[async_trait]
impl WriteContainer for DirectoryContainer {
    async fn staged_blocks(&self, blob: &BlobName) -> Result<Vec<Block>, StorageError> {
        let blob = blob.clone();
        self.blocking(move |layout| layout.staged_blocks(&blob)).await
    }

    async fn stage(&self, blob: &BlobName, id: &BlockId, bytes: Bytes) -> Result<(), StorageError> {
        check_block(&self.layout.url, id, bytes.len() as u64)?;
        let (blob, id) = (blob.clone(), id.clone());
        self.blocking(move |layout| layout.stage(&blob, &id, &bytes)).await
    }

    async fn stage_from(
        &self,
        _blob: &BlobName,
        _id: &BlockId,
        _source: &CopySource,
    ) -> Result<(), StorageError> {
        Err(StorageError::CopyUnsupported {
            container: self.layout.url.clone(),
            code: "a directory has no service that copies".to_owned(),
        })
    }

    async fn commit(
        &self,
        blob: &BlobName,
        blocks: &[BlockId],
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag, StorageError> {
        blocks.iter().try_for_each(|id| check_id(&self.layout.url, id))?;
        let metadata = check_metadata(&self.layout.url, metadata)?;
        let (blob, blocks, condition) = (blob.clone(), blocks.to_vec(), condition.clone());
        self.blocking(move |layout| layout.commit(&blob, &blocks, metadata, &condition)).await
    }
}

#[async_trait]
impl DeleteBlob for DirectoryContainer {
    async fn delete(&self, blob: &BlobName, etag: &ETag) -> Result<(), StorageError> {
        let (blob, etag) = (blob.clone(), etag.clone());
        self.blocking(move |layout| layout.delete(&blob, &etag)).await
    }
}
