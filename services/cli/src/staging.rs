//! The place of a transfer that names none: a directory of transship's own in the user's cache. It stays while the
//! transfer is unfinished, so that a repeated command resumes, and is removed once everything is imported.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::exit::Problem;

/// How long an unfinished transfer is kept that nobody repeats: as long as Azure keeps staged blocks.
const LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The directory of one transfer.
pub(crate) struct Staging {
    folder: PathBuf,
}

impl Staging {
    /// The directory of the transfer `name`, which is made where it is missing. Others that nobody came back
    /// to are removed.
    ///
    /// # Errors
    /// Where there is no home, or the directory cannot be made.
    pub(crate) fn open(name: &str) -> Result<Self, Problem> {
        let cache = cache_home().ok_or_else(|| {
            Problem::usage("there is no place for the bundle: neither XDG_CACHE_HOME nor HOME is set")
                .hint("name a place with --via")
        })?;
        Self::open_in(&cache.join("transship/transfers"), name)
    }

    fn open_in(transfers: &Path, name: &str) -> Result<Self, Problem> {
        let staging = Self { folder: transfers.join(name) };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(staging.place());
        // The mark says when the transfer was last begun.
        let marked = made.and_then(|()| fs::write(staging.folder.join("used"), ""));
        marked.map_err(|error| {
            Problem::usage(format!("the directory {} cannot be made", staging.folder.display()))
                .caused_by(&error)
                .hint("name another place with --via")
        })?;
        remove_old(transfers);
        Ok(staging)
    }

    /// Where the bundles go.
    pub(crate) fn place(&self) -> PathBuf {
        self.folder.join("bundles")
    }

    /// Removes everything: the transfer is done. What cannot be removed goes a week later.
    pub(crate) fn remove(self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn cache_home() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // The XDG Base Directory Specification: a relative path is to be ignored.
    set("XDG_CACHE_HOME").filter(|path| path.is_absolute()).or_else(|| Some(set("HOME")?.join(".cache")))
}

fn remove_old(transfers: &Path) {
    for entry in fs::read_dir(transfers).into_iter().flatten().flatten() {
        let used = fs::metadata(entry.path().join("used")).and_then(|mark| mark.modified());
        let age = used.ok().and_then(|used| SystemTime::now().duration_since(used).ok());
        if age.is_some_and(|age| age > LIFETIME) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_keeps_its_directory_until_it_is_done_and_old_ones_go() {
        let home = tempfile::tempdir().unwrap();
        let old = Staging::open_in(home.path(), "old").unwrap();
        let week_ago = SystemTime::now() - LIFETIME - Duration::from_secs(60);
        fs::File::options()
            .write(true)
            .open(old.folder.join("used"))
            .unwrap()
            .set_modified(week_ago)
            .unwrap();
        let ours = Staging::open_in(home.path(), "ours").unwrap();
        fs::write(ours.place().join("bundle"), "x").unwrap();
        assert!(!old.folder.exists());
        let again = Staging::open_in(home.path(), "ours").unwrap();
        assert!(again.place().join("bundle").exists());
        again.remove();
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }
}
