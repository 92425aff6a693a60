//! What an error of the operating system means. Its text has no path.

use std::io::{Error, ErrorKind};

use crate::StorageError;

use super::layout::Layout;

impl Layout {
    /// The meaning of `error`. That something is not there is for the caller to interpret; here it means that
    /// the directory itself is gone, or else that somebody took away what was just there.
    pub(super) fn fault(&self, error: &Error) -> StorageError {
        let container = self.url.clone();
        match error.kind() {
            ErrorKind::NotFound if !self.root.is_dir() => StorageError::ContainerNotFound { container },
            // A person must make room or grant access, or choose another name or place.
            ErrorKind::StorageFull
            | ErrorKind::PermissionDenied
            | ErrorKind::QuotaExceeded
            | ErrorKind::FileTooLarge
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::InvalidFilename
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::DirectoryNotEmpty
            | ErrorKind::AlreadyExists
            | ErrorKind::CrossesDevices => StorageError::Refused { container, code: error.to_string() },
            _ => StorageError::Unavailable { container, reason: error.to_string(), retry_after: None },
        }
    }

    /// What cannot be done here, in words.
    pub(super) fn refused(&self, code: impl Into<String>) -> StorageError {
        StorageError::Refused { container: self.url.clone(), code: code.into() }
    }

    /// Fails where the directory is not there.
    pub(super) fn check_root(&self) -> Result<(), StorageError> {
        if self.root.is_dir() {
            Ok(())
        } else {
            Err(StorageError::ContainerNotFound { container: self.url.clone() })
        }
    }
}

#[cfg(test)]
mod tests {
    use transship_model::ContainerUrl;

    use super::*;

    #[test]
    fn what_a_person_must_repair_is_refused_with_the_words_of_the_operating_system() {
        let folder = tempfile::tempdir().unwrap();
        let layout =
            Layout::new(ContainerUrl::of_directory(folder.path()).unwrap(), folder.path().to_owned());
        // EACCES, ENOSPC, EROFS, ENAMETOOLONG, EDQUOT
        for number in [13, 28, 30, 36, 122] {
            let error = Error::from_raw_os_error(number);
            let StorageError::Refused { code, .. } = layout.fault(&error) else { panic!("{error}") };
            assert_eq!(code, error.to_string());
        }
        // EIO, EMFILE, ESTALE
        for number in [5, 24, 116] {
            let error = Error::from_raw_os_error(number);
            assert!(matches!(layout.fault(&error), StorageError::Unavailable { .. }), "{error}");
        }
        drop(folder);
        let gone = layout.fault(&Error::from(ErrorKind::NotFound));
        assert!(matches!(gone, StorageError::ContainerNotFound { .. }), "{gone}");
    }
}
