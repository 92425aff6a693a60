//! Removes what nobody will commit: temporary files after a day, blocks and stale records after a week, which
//! is how long Azure keeps staged blocks.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::layout::Layout;

/// How long a staged block lives without a commit.
const LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How long a temporary file lives. A commit that was killed leaves one as large as its blob; none takes so long.
const TEMP_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// How long between two sweeps: each walks every blob's folder.
const INTERVAL: Duration = Duration::from_secs(60 * 60);

impl Layout {
    /// Sweeps where it is due. Called under the lock. Nothing depends on it, so its failures are silent.
    pub(super) fn sweep(&self) {
        let mark = self.own().join("swept");
        if age(&mark).is_some_and(|age| age < INTERVAL) {
            return;
        }
        let _ = fs::write(&mark, "");
        remove_old_files(&self.temp_folder(), TEMP_LIFETIME);
        for folder in fs::read_dir(self.own().join("blobs")).into_iter().flatten().flatten() {
            let (staged, committed) = (folder.path().join("staged"), folder.path().join("committed"));
            remove_old_files(&staged, LIFETIME);
            self.remove_stale_records(&committed);
            for empty in [staged, committed, folder.path()] {
                // Fails where something is in it, which is the wish.
                let _ = fs::remove_dir(empty);
            }
        }
    }

    /// Removes old records of contents that are not there any more: deleted or replaced by hand.
    fn remove_stale_records(&self, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let is_old = age(&entry.path()).is_some_and(|age| age > LIFETIME);
            if !is_old {
                continue;
            }
            let record = fs::read(entry.path()).ok().and_then(|text| serde_json::from_slice(&text).ok());
            let Some(super::record::Record { blob, .. }) = record else { continue };
            if let Ok(found) = self.find(&blob)
                && found.is_none_or(|found| !found.has_record())
            {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn remove_old_files(folder: &Path, lifetime: Duration) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if age(&entry.path()).is_some_and(|age| age > lifetime) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// How long ago the file was written. One from the future has no age.
fn age(path: &Path) -> Option<Duration> {
    SystemTime::now().duration_since(fs::symlink_metadata(path).ok()?.modified().ok()?).ok()
}
