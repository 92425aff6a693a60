//! Staged blocks: a file each.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};

use bytes::Bytes;
use transship_model::BlobName;

use crate::{Block, BlockId, StorageError};

use super::layout::{Layout, block_of_name, name_of_block};

/// How often a folder is made again that another process removes with its commit.
const TRIES: u32 = 5;

impl Layout {
    pub(super) fn staged_blocks(&self, blob: &BlobName) -> Result<Vec<Block>, StorageError> {
        let mut blocks = Vec::new();
        let entries = match fs::read_dir(self.staged_folder(blob)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return self.check_root().map(|()| blocks),
            Err(error) => return Err(self.fault(&error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| self.fault(&error))?;
            let id = entry.file_name().to_str().and_then(block_of_name);
            // One that is gone again was dropped by a commit.
            if let (Some(id), Ok(metadata)) = (id, entry.metadata()) {
                blocks.push(Block { id, length: metadata.len() });
            }
        }
        Ok(blocks)
    }

    /// Writes the block beside its place, and puts it there in one step: a block that is listed is whole. It is
    /// on the disk before it is said to be staged, since a restart trusts what is listed.
    pub(super) fn stage(&self, blob: &BlobName, id: &BlockId, bytes: &Bytes) -> Result<(), StorageError> {
        // Names that cannot be written are refused before the bytes are.
        self.path_of(blob)?;
        self.make_folder(&self.temp_folder())?;
        self.check_id_length(blob, id)?;
        let temp = self.temp_path();
        let staged = write_whole(&temp, bytes).and_then(|()| self.put_block(blob, id, &temp));
        staged.map_err(|error| {
            let _ = fs::remove_file(&temp);
            self.fault(&error)
        })
    }

    fn put_block(&self, blob: &BlobName, id: &BlockId, temp: &std::path::Path) -> io::Result<()> {
        let folder = self.staged_folder(blob);
        let mut tries = 0;
        loop {
            fs::create_dir_all(&folder)?;
            match fs::rename(temp, folder.join(name_of_block(id))) {
                Err(error) if error.kind() == ErrorKind::NotFound && tries < TRIES => tries += 1,
                ended => return ended,
            }
        }
    }

    /// All identifiers of a blob's staged blocks have one length, as the service demands it; so one is enough
    /// to compare with.
    fn check_id_length(&self, blob: &BlobName, id: &BlockId) -> Result<(), StorageError> {
        let mut entries = fs::read_dir(self.staged_folder(blob)).into_iter().flatten().flatten();
        let other = entries.find_map(|entry| entry.file_name().to_str().and_then(block_of_name));
        match other {
            Some(other) if other.as_bytes().len() != id.as_bytes().len() => {
                Err(StorageError::InvalidBlockList { container: self.url.clone(), blob: blob.clone() })
            }
            _ => Ok(()),
        }
    }
}

fn write_whole(path: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_data()
}
