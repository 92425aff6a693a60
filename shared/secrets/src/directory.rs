//! A directory of files, one per secret: what Kubernetes, the secrets-store driver and Compose all mount.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use secrecy::zeroize::Zeroizing;
use transship_model::{Secret, SecretName};

use crate::{SecretError, Secrets};

/// The largest file that is read as a secret, in bytes.
pub const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// A directory with one file per secret, named like it. Nothing is kept: each use reads the file again.
#[derive(Debug, Clone)]
pub struct SecretDirectory {
    path: PathBuf,
}

impl SecretDirectory {
    /// The secrets in the directory `path`. It need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

#[async_trait]
impl Secrets for SecretDirectory {
    async fn secret(&self, name: &SecretName) -> Result<Secret, SecretError> {
        let (directory, wanted) = (self.path.clone(), name.clone());
        let reading = tokio::task::spawn_blocking(move || read(&directory, &wanted));
        reading.await.unwrap_or_else(|ended| {
            Err(SecretError::Unreadable { name: name.clone(), source: io::Error::other(ended) })
        })
    }
}

fn read(directory: &Path, name: &SecretName) -> Result<Secret, SecretError> {
    let failed = |error: io::Error| explain(error, directory, name);
    let path = directory.join(name.as_str());
    // Asked before the file is opened, since opening a pipe waits for its writer. Links are followed: mounted
    // secrets are links, which the platform turns over when it rotates them.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(SecretError::NotAFile { name: name.clone() });
    }
    // The room is taken at once: a buffer that grew would leave copies behind that nobody wipes.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES as usize + 1));
    File::open(&path).map_err(failed)?.take(MAX_SECRET_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_SECRET_BYTES {
        return Err(SecretError::TooLarge { name: name.clone() });
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| SecretError::NotText { name: name.clone() })?;
    if text.trim().is_empty() {
        return Err(SecretError::Empty { name: name.clone() });
    }
    Ok(Secret::new(text))
}

fn explain(error: io::Error, directory: &Path, name: &SecretName) -> SecretError {
    let (name, directory) = (name.clone(), directory.to_owned());
    match error.kind() {
        io::ErrorKind::NotFound if directory.is_dir() => SecretError::Missing { name, directory },
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            SecretError::NoDirectory { name, directory }
        }
        io::ErrorKind::PermissionDenied => SecretError::Forbidden { name, directory },
        _ => SecretError::Unreadable { name, source: error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The superuser may read every file, so the operating system's answer is put in by hand.
    #[test]
    fn a_file_that_may_not_be_read_is_told_from_one_that_is_missing() {
        let (directory, name) = (std::env::temp_dir(), "sas".parse().unwrap());
        let error = explain(io::ErrorKind::PermissionDenied.into(), &directory, &name);
        assert!(matches!(error, SecretError::Forbidden { .. }), "{error:?}");
        assert!(error.hint().contains("let the user of this process read the file sas"));
        let error = explain(io::ErrorKind::NotFound.into(), &directory, &name);
        assert!(matches!(error, SecretError::Missing { .. }), "{error:?}");
    }
}
