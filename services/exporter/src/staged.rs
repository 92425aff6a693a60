//! The bundle that is being staged: what the container has already, and one way to stage a block.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use transship_bundle::BLOCK_ID_BYTES;
use transship_model::{BlobName, Failure};
use transship_storage::{BlockId, WriteContainer};

/// The identifier of a block of a bundle.
pub(crate) type Id = [u8; BLOCK_ID_BYTES];

/// A blob that is being staged.
pub(crate) struct Staging {
    container: Arc<dyn WriteContainer>,
    blob: BlobName,
    listed: BTreeMap<Box<[u8]>, u64>,
    staged_bytes: AtomicU64,
    has_gone_on: AtomicBool,
}

impl Staging {
    /// Lists what an earlier attempt has staged.
    pub(crate) async fn open(container: Arc<dyn WriteContainer>, blob: BlobName) -> Result<Self, Failure> {
        let blocks = container.staged_blocks(&blob).await?;
        let listed = blocks.into_iter().map(|block| (block.id.as_bytes().into(), block.length)).collect();
        Ok(Self {
            container,
            blob,
            listed,
            staged_bytes: AtomicU64::new(0),
            has_gone_on: AtomicBool::new(false),
        })
    }

    /// Identifiers and lengths of the blocks that were there when this attempt began.
    pub(crate) fn listed(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.listed.iter().map(|(id, length)| (&**id, *length))
    }

    /// The length of a block that was there when this attempt began.
    pub(crate) fn listed_length(&self, id: &Id) -> Option<u64> {
        self.listed.get(id.as_slice()).copied()
    }

    /// Stages a block.
    pub(crate) async fn stage(&self, id: &Id, bytes: Bytes) -> Result<(), Failure> {
        let length = bytes.len() as u64;
        self.container.stage(&self.blob, &BlockId::new(id.as_slice()), bytes).await?;
        self.staged_bytes.fetch_add(length, Ordering::Relaxed);
        if self.listed_length(id) != Some(length) {
            self.has_gone_on.store(true, Ordering::Relaxed);
        }
        fail::fail_point!("exporter.block_staged");
        Ok(())
    }

    /// Puts a block of a length that none has in the place of what may be staged under an identifier, until the right
    /// one comes.
    pub(crate) async fn displace(&self, id: &Id) -> Result<(), Failure> {
        Ok(self.container.stage(&self.blob, &BlockId::new(id.as_slice()), Bytes::from_static(&[0])).await?)
    }

    /// Stages a block that vouches for itself, unless it is there. Returns whether it was staged now.
    pub(crate) async fn stage_once(&self, id: &Id, bytes: Bytes) -> Result<bool, Failure> {
        match self.listed_length(id) {
            Some(length) if length == bytes.len() as u64 => Ok(false),
            _ => self.stage(id, bytes).await.map(|()| true),
        }
    }

    /// Whether this attempt has staged something that was not there when it began. A slice that ended before would
    /// leave the next one where it began itself.
    pub(crate) fn has_gone_on(&self) -> bool {
        self.has_gone_on.load(Ordering::Relaxed)
    }

    /// The bytes that this attempt has staged.
    pub(crate) fn staged_bytes(&self) -> u64 {
        self.staged_bytes.load(Ordering::Relaxed)
    }
}
