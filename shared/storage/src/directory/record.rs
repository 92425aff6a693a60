//! The record of a committed blob: what a plain file cannot hold.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use transship_model::BlobName;

use crate::{Block, Metadata, StorageError};

use super::layout::{Layout, block_of_name, name_of_block};

/// The most bytes of a record: 50,000 blocks with identifiers of 64 bytes have 8 MiB.
const RECORD_BYTES: u64 = 16 * 1024 * 1024;

/// Which content of a file a record is about. A file that changed has another stamp, and so no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) length: u64,
    /// Nanoseconds since 1970.
    pub(super) modified: i128,
}

impl Stamp {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let modified = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        Self { length: metadata.len(), modified }
    }

    /// When the file was last changed.
    pub(super) fn time(self) -> Option<Timestamp> {
        Timestamp::from_nanosecond(self.modified).ok()
    }
}

/// What is remembered of a committed blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The blob's name, for people who look into the folder.
    pub(super) blob: BlobName,
    pub(super) etag: String,
    pub(super) metadata: Metadata,
    /// Identifiers in hexadecimal, with lengths in bytes.
    blocks: Vec<(String, u64)>,
}

impl Record {
    pub(super) fn new(blob: BlobName, etag: String, metadata: Metadata, blocks: &[Block]) -> Self {
        let blocks = blocks.iter().map(|block| (name_of_block(&block.id), block.length)).collect();
        Self { blob, etag, metadata, blocks }
    }

    /// The blocks in their order.
    pub(super) fn blocks(&self) -> Vec<Block> {
        let block =
            |(name, length): &(String, u64)| Some(Block { id: block_of_name(name)?, length: *length });
        self.blocks.iter().filter_map(block).collect()
    }
}

impl Layout {
    fn record_path(&self, blob: &BlobName, stamp: Stamp) -> PathBuf {
        self.committed_folder(blob).join(format!("{}-{}", stamp.length, stamp.modified))
    }

    /// The record of this content. None where there is none, or it cannot be read: the blob is then one that
    /// somebody put there.
    pub(super) fn record(&self, blob: &BlobName, stamp: Stamp) -> Option<Record> {
        let file = File::open(self.record_path(blob, stamp)).ok()?;
        let mut text = Vec::new();
        file.take(RECORD_BYTES).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok().filter(|record: &Record| record.blob == *blob)
    }

    /// Writes the record of a content that is about to be put in place.
    pub(super) fn write_record(&self, record: &Record, stamp: Stamp) -> Result<(), StorageError> {
        let text = serde_json::to_vec(record).map_err(|error| self.refused(format!("a record: {error}")))?;
        self.make_folder(&self.temp_folder())?;
        self.make_folder(&self.committed_folder(&record.blob))?;
        let temp = self.temp_path();
        let written = File::create_new(&temp)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&temp, self.record_path(&record.blob, stamp)))
            .and_then(|()| File::open(self.committed_folder(&record.blob))?.sync_all());
        written.map_err(|error| {
            let _ = fs::remove_file(&temp);
            self.fault(&error)
        })
    }

    /// Removes the records of every content but this one.
    pub(super) fn forget_records(&self, blob: &BlobName, except: Option<Stamp>) {
        let kept = except.map(|stamp| self.record_path(blob, stamp));
        for entry in fs::read_dir(self.committed_folder(blob)).into_iter().flatten().flatten() {
            if Some(entry.path()) != kept {
                // One that stays is of a content that is gone: it is never found again, and swept later.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}
