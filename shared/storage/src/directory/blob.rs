//! A blob that is there: found, read, deleted.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use bytes::Bytes;
use transship_model::BlobName;

use crate::{BlobProperties, Block, ETag, StorageError};

use super::layout::Layout;
use super::record::{Record, Stamp};

/// A committed blob, opened: what is read is of one content, also when the name is given to another meanwhile.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) file: File,
    pub(super) stamp: Stamp,
    inode: u64,
    record: Option<Record>,
}

impl Found {
    /// The stored entity tag, or for a file that somebody put there one made of length, mtime and inode.
    pub(super) fn etag(&self) -> ETag {
        ETag(match &self.record {
            Some(record) => record.etag.clone(),
            None => format!("\"file-{:x}-{:x}-{:x}\"", self.stamp.length, self.stamp.modified, self.inode),
        })
    }

    pub(super) fn properties(&self) -> BlobProperties {
        BlobProperties {
            length: self.stamp.length,
            etag: self.etag(),
            metadata: self.record.as_ref().map(|record| record.metadata.clone()).unwrap_or_default(),
            content_md5: None,
            modified: self.stamp.time(),
            copying: false,
        }
    }

    /// Whether it was committed here, and not changed since.
    pub(super) fn has_record(&self) -> bool {
        self.record.is_some()
    }

    pub(super) fn into_blocks(self) -> Vec<Block> {
        self.record.map(|record| record.blocks()).unwrap_or_default()
    }

    pub(super) fn blocks(&self) -> Vec<Block> {
        self.record.as_ref().map(Record::blocks).unwrap_or_default()
    }
}

impl Layout {
    /// The blob of this name, or `None`.
    pub(super) fn find(&self, blob: &BlobName) -> Result<Option<Found>, StorageError> {
        let path = self.path_of(blob)?;
        let named = match fs::symlink_metadata(&path) {
            Ok(named) => named,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return self.check_root().map(|()| None);
            }
            Err(error) => return Err(self.fault(&error)),
        };
        if !named.is_file() {
            // A folder of other blobs, or no file at all.
            return Ok(None);
        }
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return self.check_root().map(|()| None),
            Err(error) => return Err(self.fault(&error)),
        };
        let opened = file.metadata().map_err(|error| self.fault(&error))?;
        if !opened.is_file() {
            return Err(self.refused(format!("{blob} is no longer a plain file")));
        }
        let stamp = Stamp::of(&opened);
        Ok(Some(Found { stamp, inode: opened.ino(), record: self.record(blob, stamp), file }))
    }

    pub(super) fn read(
        &self,
        blob: &BlobName,
        range: Range<u64>,
        etag: Option<&ETag>,
    ) -> Result<Bytes, StorageError> {
        let (container, blob_name) = (self.url.clone(), blob.clone());
        let Some(mut found) = self.find(blob)? else {
            return Err(StorageError::BlobNotFound { container, blob: blob_name });
        };
        if etag.is_some_and(|etag| *etag != found.etag()) {
            return Err(StorageError::ConditionFailed { container, blob: blob_name });
        }
        let short = StorageError::RangeNotSatisfiable { container, blob: blob_name };
        if range.start > range.end || range.end > found.stamp.length {
            return Err(short);
        }
        let length = range.end - range.start;
        let mut buffer = Vec::with_capacity(usize::try_from(length).map_err(|_| short.clone())?);
        found.file.seek(SeekFrom::Start(range.start)).map_err(|error| self.fault(&error))?;
        let read = (&found.file).take(length).read_to_end(&mut buffer).map_err(|error| self.fault(&error))?;
        if read as u64 == length { Ok(Bytes::from(buffer)) } else { Err(short) }
    }

    /// Deletes the blob where it still has this entity tag, with its records and the folders that it leaves
    /// empty. Staged blocks stay, as on Azure.
    pub(super) fn delete(&self, blob: &BlobName, etag: &ETag) -> Result<(), StorageError> {
        self.check_root()?;
        let _locked = self.lock()?;
        let Some(found) = self.find(blob)? else { return Ok(()) };
        if found.etag() != *etag {
            return Err(StorageError::ConditionFailed { container: self.url.clone(), blob: blob.clone() });
        }
        let path = self.path_of(blob)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(self.fault(&error)),
            _ => {}
        }
        self.forget_records(blob, None);
        self.remove_empty_parents(&path);
        Ok(())
    }

    fn remove_empty_parents(&self, path: &Path) {
        for parent in path.ancestors().skip(1).take_while(|parent| **parent != self.root) {
            // Fails where something else is in it, which is the wish.
            if fs::remove_dir(parent).is_err() {
                break;
            }
        }
    }
}
