//! A commit: the blocks are put together beside the blob's place, and take it in one step.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use transship_model::BlobName;

use crate::{Block, BlockId, Condition, ETag, Metadata, StorageError};

use super::blob::Found;
use super::layout::{Layout, name_of_block};
use super::record::{Record, Stamp};

/// Where the bytes of a block are.
enum Source {
    /// A staged block's file.
    Staged(PathBuf),
    /// From this offset on in the blob that is there now.
    Committed(u64),
}

/// A commit that is under way.
struct Commit<'a> {
    blob: &'a BlobName,
    metadata: Metadata,
    condition: &'a Condition,
    /// The blocks in their order.
    sources: Vec<(Block, Source)>,
    /// The blob that was there when the sources were looked for.
    seen: Option<Found>,
}

impl Layout {
    pub(super) fn commit(
        &self,
        blob: &BlobName,
        blocks: &[BlockId],
        metadata: Metadata,
        condition: &Condition,
    ) -> Result<ETag, StorageError> {
        self.check_root()?;
        let seen = self.find(blob)?;
        // Checked again below under the lock; here it saves the copying.
        self.check(blob, condition, seen.as_ref())?;
        let sources = self.sources(blob, blocks, seen.as_ref())?;
        let commit = Commit { blob, metadata, condition, sources, seen };
        self.make_folder(&self.temp_folder())?;
        let temp = self.temp_path();
        let committed =
            self.assemble(&commit, &temp).and_then(|file| self.put_in_place(&commit, &temp, &file));
        if committed.is_err() {
            let _ = fs::remove_file(&temp);
        }
        committed
    }

    fn check(
        &self,
        blob: &BlobName,
        condition: &Condition,
        current: Option<&Found>,
    ) -> Result<(), StorageError> {
        let holds = match condition {
            Condition::Absent => current.is_none(),
            Condition::Matches(etag) => current.is_some_and(|found| found.etag() == *etag),
        };
        if holds {
            return Ok(());
        }
        Err(StorageError::ConditionFailed { container: self.url.clone(), blob: blob.clone() })
    }

    fn invalid(&self, blob: &BlobName) -> StorageError {
        StorageError::InvalidBlockList { container: self.url.clone(), blob: blob.clone() }
    }

    /// Finds each block: the staged one first, else the committed one, as `Latest` means it in Put Block List.
    fn sources(
        &self,
        blob: &BlobName,
        blocks: &[BlockId],
        current: Option<&Found>,
    ) -> Result<Vec<(Block, Source)>, StorageError> {
        let folder = self.staged_folder(blob);
        let staged: HashMap<_, _> =
            self.staged_blocks(blob)?.into_iter().map(|block| (block.id, block.length)).collect();
        let mut committed = HashMap::new();
        let mut offset = 0;
        for block in current.map(Found::blocks).unwrap_or_default() {
            committed.insert(block.id, (block.length, offset));
            offset += block.length;
        }
        let mut sources = Vec::with_capacity(blocks.len());
        for id in blocks {
            let (length, source) = match (staged.get(id), committed.get(id)) {
                (Some(length), _) => (*length, Source::Staged(folder.join(name_of_block(id)))),
                (None, Some((length, offset))) => (*length, Source::Committed(*offset)),
                (None, None) => return Err(self.invalid(blob)),
            };
            sources.push((Block { id: id.clone(), length }, source));
        }
        Ok(sources)
    }

    /// Copies the blocks into one file, on the disk before it gets its name. Between files the standard
    /// library lets the kernel copy, and on some file systems only references.
    fn assemble(&self, commit: &Commit<'_>, temp: &Path) -> Result<File, StorageError> {
        let mut target = File::create_new(temp).map_err(|error| self.fault(&error))?;
        for (block, source) in &commit.sources {
            let copied = match (source, &commit.seen) {
                (Source::Staged(path), _) => copy(File::open(path), 0, block.length, &mut target),
                (Source::Committed(offset), Some(seen)) => {
                    copy(seen.file.try_clone(), *offset, block.length, &mut target)
                }
                (Source::Committed(_), None) => return Err(self.invalid(commit.blob)),
            };
            match copied {
                Ok(length) if length == block.length => {}
                // Somebody replaced or dropped the block meanwhile: another writer committed.
                Ok(_) => return Err(self.invalid(commit.blob)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(self.invalid(commit.blob));
                }
                Err(error) => return Err(self.fault(&error)),
            }
        }
        target.sync_all().map_err(|error| self.fault(&error))?;
        Ok(target)
    }

    /// The moment of the commit, under the lock: condition, record, name.
    fn put_in_place(&self, commit: &Commit<'_>, temp: &Path, file: &File) -> Result<ETag, StorageError> {
        let Commit { blob, metadata, condition, sources, seen } = commit;
        let _locked = self.lock()?;
        let current = self.find(blob)?;
        self.check(blob, condition, current.as_ref())?;
        let takes_committed = sources.iter().any(|(_, source)| matches!(source, Source::Committed(_)));
        if takes_committed && current.as_ref().map(Found::etag) != seen.as_ref().map(Found::etag) {
            return Err(self.invalid(blob));
        }
        let stamp = self.stamp(file, current.as_ref())?;
        let etag = fresh_etag(temp, stamp);
        let blocks: Vec<_> = sources.iter().map(|(block, _)| block.clone()).collect();
        self.write_record(&Record::new((*blob).clone(), etag.0.clone(), metadata.clone(), &blocks), stamp)?;
        let path = self.path_of(blob)?;
        let parent = path.parent().unwrap_or(&self.root);
        self.make_folder(parent)?;
        fs::rename(temp, &path)
            .and_then(|()| File::open(parent)?.sync_all())
            .map_err(|error| self.fault(&error))?;
        // The blob is committed. What follows may fail or not happen: it is swept later.
        self.forget_records(blob, Some(stamp));
        let _ = fs::remove_dir_all(self.staged_folder(blob));
        self.sweep();
        Ok(etag)
    }

    /// The stamp of the new content, which must not be that of the old one: its record would be found. On a
    /// file system with a coarse clock the mtime is moved on.
    fn stamp(&self, file: &File, current: Option<&Found>) -> Result<Stamp, StorageError> {
        let of = |file: &File| {
            file.metadata().map(|metadata| Stamp::of(&metadata)).map_err(|error| self.fault(&error))
        };
        let stamp = of(file)?;
        if current.is_none_or(|current| current.stamp != stamp) {
            return Ok(stamp);
        }
        // FAT counts in steps of two seconds.
        file.set_modified(SystemTime::now() + Duration::from_secs(2)).map_err(|error| self.fault(&error))?;
        file.sync_all().map_err(|error| self.fault(&error))?;
        of(file)
    }
}

fn copy(source: io::Result<File>, offset: u64, length: u64, target: &mut File) -> io::Result<u64> {
    let mut source = source?;
    source.seek(SeekFrom::Start(offset))?;
    io::copy(&mut source.take(length), target)
}

/// An entity tag that no other content has: the path of the temporary file is never used twice.
fn fresh_etag(temp: &Path, stamp: Stamp) -> ETag {
    let hash = Sha256::digest(format!("{} {} {}", temp.display(), stamp.length, stamp.modified).as_bytes());
    ETag(format!("\"{}\"", hash[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}
