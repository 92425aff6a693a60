//! The bundle that is being staged: what the container has already, and one way to stage a block.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use tokio::time::Instant;
use transship_bundle::BLOCK_ID_BYTES;
use transship_model::{BlobName, Failure};
use transship_storage::{BlockId, Condition, Container};

/// The identifier of a block of a bundle.
pub(crate) type Id = [u8; BLOCK_ID_BYTES];

/// A blob that is being staged.
pub(crate) struct Staging {
    container: Arc<dyn Container>,
    blob: BlobName,
    listed: BTreeMap<Box<[u8]>, u64>,
    staged_bytes: AtomicU64,
    has_gone_on: AtomicBool,
    until: Option<Instant>,
}

impl Staging {
    /// Lists what is there: the blocks of the blob that is replaced, then what an earlier attempt has staged, which takes
    /// their place. Equal content has equal identifiers, whoever moved it.
    pub(crate) async fn open(
        container: Arc<dyn Container>,
        blob: BlobName,
        condition: &Condition,
    ) -> Result<Self, Failure> {
        let mut blocks = match condition {
            Condition::Matches(_) => container.committed_blocks(&blob).await?,
            _ => Vec::new(),
        };
        blocks.extend(container.staged_blocks(&blob).await?);
        let listed = blocks.into_iter().map(|block| (block.id.as_bytes().into(), block.length)).collect();
        let (staged_bytes, has_gone_on) = (AtomicU64::new(0), AtomicBool::new(false));
        Ok(Self { container, blob, listed, staged_bytes, has_gone_on, until: None })
    }

    /// Says until when the attempt may go on, whatever it has done: then the broker gives the work to somebody else.
    pub(crate) fn end_by(&mut self, until: Instant) {
        self.until = Some(until);
    }

    /// Whether the attempt must end now.
    pub(crate) fn is_overdue(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
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
