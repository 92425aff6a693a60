//! Where things are in the directory.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};
use transship_model::{BlobName, ContainerUrl};

use crate::{BlockId, StorageError};

/// The folder of what a plain file cannot hold. No blob may be in it.
const RESERVED: &str = ".transship";

/// The directory and its address.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) url: ContainerUrl,
    pub(super) root: PathBuf,
}

impl Layout {
    pub(super) fn new(url: ContainerUrl, root: PathBuf) -> Self {
        Self { url, root }
    }

    /// The folder of transship's own files.
    pub(super) fn own(&self) -> PathBuf {
        self.root.join(RESERVED)
    }

    /// The folder of one blob's blocks and records.
    pub(super) fn folder_of(&self, blob: &BlobName) -> PathBuf {
        // A name may be longer than a file's, and has slashes; 16 bytes tell apart all that fit on a disk.
        let hash = Sha256::digest(blob.as_str().as_bytes());
        self.own().join("blobs").join(hex(&hash[..16]))
    }

    pub(super) fn staged_folder(&self, blob: &BlobName) -> PathBuf {
        self.folder_of(blob).join("staged")
    }

    pub(super) fn committed_folder(&self, blob: &BlobName) -> PathBuf {
        self.folder_of(blob).join("committed")
    }

    pub(super) fn temp_folder(&self) -> PathBuf {
        self.own().join("temp")
    }

    /// A path that no other writer has.
    pub(super) fn temp_path(&self) -> PathBuf {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let nanoseconds = jiff::Timestamp::now().as_nanosecond();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        self.temp_folder().join(format!("{}-{nanoseconds}-{number}", std::process::id()))
    }

    /// The path of a blob.
    ///
    /// # Errors
    /// Where the name is reserved, or a symbolic link stands in its way.
    pub(super) fn path_of(&self, blob: &BlobName) -> Result<PathBuf, StorageError> {
        let mut path = self.root.clone();
        let mut segments = blob.as_str().split('/').peekable();
        if segments.peek().is_some_and(|first| is_reserved(first)) {
            return Err(self.refused(format!("names that begin with {RESERVED} are reserved")));
        }
        let mut is_there = true;
        for segment in segments {
            path.push(segment);
            if !is_there {
                continue;
            }
            match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_symlink() => {
                    return Err(
                        self.refused(format!("{blob} leads through a symbolic link, which is not followed"))
                    );
                }
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                    is_there = false;
                }
                Err(error) => return Err(self.fault(&error)),
            }
        }
        Ok(path)
    }

    /// Makes a folder inside the directory, never the directory itself.
    pub(super) fn make_folder(&self, folder: &Path) -> Result<(), StorageError> {
        self.check_root()?;
        fs::create_dir_all(folder).map_err(|error| self.fault(&error))
    }
}

/// Whether the first segment of a name is ours. File systems that fold case must not open a way in.
pub(super) fn is_reserved(segment: &str) -> bool {
    segment.eq_ignore_ascii_case(RESERVED)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name of a block's file.
pub(super) fn name_of_block(id: &BlockId) -> String {
    hex(id.as_bytes())
}

/// The identifier in the name of a block's file.
pub(super) fn block_of_name(name: &str) -> Option<BlockId> {
    if name.is_empty() || !name.is_ascii() || !name.len().is_multiple_of(2) {
        return None;
    }
    let byte = |index: usize| u8::from_str_radix(&name[index..index + 2], 16).ok();
    (0..name.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>().map(BlockId::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_blocks_file_is_its_identifier() {
        for raw in [vec![0], vec![0xff; 64], (0..56).collect()] {
            let id = BlockId::new(raw);
            assert_eq!(block_of_name(&name_of_block(&id)), Some(id));
        }
        for bad in ["", "0", "zz", "ü", "lost+found"] {
            assert_eq!(block_of_name(bad), None, "{bad}");
        }
    }
}
