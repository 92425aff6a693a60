//! The content of the twin: pure, without faults.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use transship_model::{BlobName, ContainerUrl};

use crate::{BlobPage, BlobProperties, Block, BlockId, Condition, ETag, ListedBlob, Metadata, StorageError};

/// The most entries of a page, as on Azure.
const PAGE: usize = 5_000;

#[derive(Debug, Default)]
pub(super) struct State {
    committed: BTreeMap<BlobName, Committed>,
    staged: BTreeMap<BlobName, HashMap<BlockId, Bytes>>,
    stagings: HashMap<(BlobName, BlockId), u64>,
    commits: u64,
    is_removed: bool,
}

#[derive(Debug)]
struct Committed {
    /// In their order. A blob that was put in one piece has one without an identifier.
    pieces: Vec<(Option<BlockId>, Bytes)>,
    etag: ETag,
    metadata: Metadata,
    modified: Timestamp,
}

impl Committed {
    fn length(&self) -> u64 {
        self.pieces.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }

    /// The bytes of `range`, which is inside.
    fn slice(&self, range: &Range<u64>) -> Bytes {
        let mut bytes = BytesMut::with_capacity((range.end - range.start) as usize);
        let mut begin = 0;
        for (_, piece) in &self.pieces {
            let end = begin + piece.len() as u64;
            let (from, to) = (range.start.max(begin), range.end.min(end));
            if from < to {
                bytes.extend_from_slice(&piece[(from - begin) as usize..(to - begin) as usize]);
            }
            begin = end;
        }
        bytes.freeze()
    }
}

impl State {
    pub(super) fn is_removed(&self) -> bool {
        self.is_removed
    }

    pub(super) fn remove(&mut self) {
        *self = Self { is_removed: true, ..Self::default() };
    }

    pub(super) fn forget_staged(&mut self) {
        self.staged.clear();
    }

    pub(super) fn staged_count(&self) -> u64 {
        self.stagings.values().sum()
    }

    pub(super) fn staged_count_of(&self, blob: &BlobName, id: &BlockId) -> u64 {
        self.stagings.get(&(blob.clone(), id.clone())).copied().unwrap_or_default()
    }

    pub(super) fn content(&self, blob: &BlobName) -> Option<Bytes> {
        self.committed.get(blob).map(|committed| committed.slice(&(0..committed.length())))
    }

    pub(super) fn put(&mut self, blob: &BlobName, content: Bytes) {
        // Put Blob drops the staged blocks, too.
        self.replace(blob, vec![(None, content)], Metadata::new());
    }

    fn replace(
        &mut self,
        blob: &BlobName,
        pieces: Vec<(Option<BlockId>, Bytes)>,
        metadata: Metadata,
    ) -> ETag {
        self.commits += 1;
        let etag = ETag(format!("\"memory-{}\"", self.commits));
        self.committed.insert(
            blob.clone(),
            Committed { pieces, etag: etag.clone(), metadata, modified: Timestamp::now() },
        );
        self.staged.remove(blob);
        etag
    }

    pub(super) fn properties(&self, blob: &BlobName) -> Option<BlobProperties> {
        self.committed.get(blob).map(|committed| BlobProperties {
            length: committed.length(),
            etag: committed.etag.clone(),
            metadata: committed.metadata.clone(),
            content_md5: None,
            modified: Some(committed.modified),
            copying: false,
        })
    }

    pub(super) fn read(
        &self,
        container: &ContainerUrl,
        blob: &BlobName,
        range: Range<u64>,
        etag: Option<&ETag>,
    ) -> Result<Bytes, StorageError> {
        if range.start == range.end {
            return Ok(Bytes::new());
        }
        let (container, blob) = (container.clone(), blob.clone());
        let Some(committed) = self.committed.get(&blob) else {
            return Err(StorageError::BlobNotFound { container, blob });
        };
        if etag.is_some_and(|etag| *etag != committed.etag) {
            return Err(StorageError::ConditionFailed { container, blob });
        }
        if range.start > range.end || range.end > committed.length() {
            return Err(StorageError::RangeNotSatisfiable { container, blob });
        }
        Ok(committed.slice(&range))
    }

    pub(super) fn committed_blocks(&self, blob: &BlobName) -> Vec<Block> {
        let pieces =
            self.committed.get(blob).map(|committed| committed.pieces.as_slice()).unwrap_or_default();
        let block = |(id, bytes): &(Option<BlockId>, Bytes)| {
            Some(Block { id: id.clone()?, length: bytes.len() as u64 })
        };
        pieces.iter().filter_map(block).collect()
    }

    pub(super) fn staged_blocks(&self, blob: &BlobName) -> Vec<Block> {
        let staged = self.staged.get(blob).into_iter().flatten();
        staged.map(|(id, bytes)| Block { id: id.clone(), length: bytes.len() as u64 }).collect()
    }

    pub(super) fn list(&self, prefix: &str, marker: Option<&str>) -> BlobPage {
        let after = |name: &str| marker.is_none_or(|marker| name > marker);
        let mut names = self
            .committed
            .iter()
            .filter(|(name, _)| name.as_str().starts_with(prefix) && after(name.as_str()))
            .map(|(name, committed)| ListedBlob {
                name: name.clone(),
                length: committed.length(),
                etag: Some(committed.etag.clone()),
                modified: Some(committed.modified),
                copying: false,
            });
        let blobs: Vec<_> = names.by_ref().take(PAGE).collect();
        let has_more = names.next().is_some();
        let next = blobs.last().filter(|_| has_more).map(|blob| blob.name.to_string());
        BlobPage { blobs, next }
    }

    pub(super) fn stage(
        &mut self,
        container: &ContainerUrl,
        blob: &BlobName,
        id: &BlockId,
        bytes: Bytes,
    ) -> Result<(), StorageError> {
        let staged = self.staged.entry(blob.clone()).or_default();
        if staged.keys().any(|other| other.as_bytes().len() != id.as_bytes().len()) {
            return Err(StorageError::InvalidBlockList { container: container.clone(), blob: blob.clone() });
        }
        staged.insert(id.clone(), bytes);
        *self.stagings.entry((blob.clone(), id.clone())).or_default() += 1;
        Ok(())
    }

    pub(super) fn commit(
        &mut self,
        container: &ContainerUrl,
        blob: &BlobName,
        blocks: &[BlockId],
        metadata: Metadata,
        condition: &Condition,
    ) -> Result<ETag, StorageError> {
        let current = self.committed.get(blob);
        let holds = match condition {
            Condition::Absent => current.is_none(),
            Condition::Matches(etag) => current.is_some_and(|current| current.etag == *etag),
        };
        if !holds {
            return Err(StorageError::ConditionFailed { container: container.clone(), blob: blob.clone() });
        }
        let staged = |id: &BlockId| self.staged.get(blob)?.get(id).cloned();
        let committed = |id: &BlockId| {
            let mut pieces = current?.pieces.iter();
            pieces.find(|(other, _)| other.as_ref() == Some(id)).map(|(_, bytes)| bytes.clone())
        };
        let piece = |id: &BlockId| Some((Some(id.clone()), staged(id).or_else(|| committed(id))?));
        let Some(pieces) = blocks.iter().map(piece).collect::<Option<Vec<_>>>() else {
            return Err(StorageError::InvalidBlockList { container: container.clone(), blob: blob.clone() });
        };
        Ok(self.replace(blob, pieces, metadata))
    }

    pub(super) fn delete(
        &mut self,
        container: &ContainerUrl,
        blob: &BlobName,
        etag: &ETag,
    ) -> Result<(), StorageError> {
        match self.committed.get(blob) {
            Some(committed) if committed.etag != *etag => {
                Err(StorageError::ConditionFailed { container: container.clone(), blob: blob.clone() })
            }
            _ => {
                self.committed.remove(blob);
                Ok(())
            }
        }
    }
}
