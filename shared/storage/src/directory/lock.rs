//! The lock of the directory. It is held for the moment in which a condition is checked and a file put in
//! place, not while bytes are copied; so one for all blobs is enough.

use std::fs::{File, TryLockError};
use std::time::{Duration, Instant};

use crate::StorageError;

use super::layout::Layout;

/// How long another holder is waited for. It holds the lock for milliseconds, unless its disk hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// Held while this lives. The operating system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Locked {
    _file: File,
}

impl Layout {
    pub(super) fn lock(&self) -> Result<Locked, StorageError> {
        self.lock_within(PATIENCE)
    }

    fn lock_within(&self, patience: Duration) -> Result<Locked, StorageError> {
        self.make_folder(&self.own())?;
        let file = File::options().create(true).append(true).open(self.own().join("lock"));
        let file = file.map_err(|error| self.fault(&error))?;
        let deadline = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Locked { _file: file }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => {
                    return Err(StorageError::Unavailable {
                        container: self.url.clone(),
                        reason: "another process holds the lock of the directory".to_owned(),
                        retry_after: None,
                    });
                }
                Err(TryLockError::Error(error)) => return Err(self.fault(&error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use transship_model::ContainerUrl;

    use super::*;

    #[test]
    fn a_lock_that_another_holds_is_not_waited_for_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let url = ContainerUrl::of_directory(folder.path()).unwrap();
        let layout = Layout::new(url, folder.path().to_owned());
        let held = layout.lock().unwrap();
        let refused = layout.lock_within(Duration::from_millis(30)).unwrap_err();
        assert!(matches!(refused, StorageError::Unavailable { .. }), "{refused}");
        drop(held);
        layout.lock_within(Duration::from_millis(30)).unwrap();
    }
}
