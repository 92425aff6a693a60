//! Why there is no secret, and what to do about it.

use std::io;
use std::path::PathBuf;

use transship_model::{Class, Code, Failure, SecretName};

use crate::{MAX_SECRET_BYTES, VaultError};

/// Why a secret cannot be had. It names the secret and where it was looked for, never a value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There is no file of this name.
    #[error("secret {name} is missing")]
    Missing {
        /// The secret.
        name: SecretName,
        /// The directory of secrets.
        directory: PathBuf,
    },
    /// The directory of secrets itself is not there.
    #[error("secret {name} is missing: there is no directory {}", directory.display())]
    NoDirectory {
        /// The secret.
        name: SecretName,
        /// The directory of secrets.
        directory: PathBuf,
    },
    /// The process was not given this secret.
    #[error("secret {name} is missing")]
    NotGiven {
        /// The secret.
        name: SecretName,
    },
    /// The process may not read the file.
    #[error("secret {name} may not be read")]
    Forbidden {
        /// The secret.
        name: SecretName,
        /// The directory of secrets.
        directory: PathBuf,
    },
    /// A directory, a pipe or a device.
    #[error("secret {name} is not a regular file")]
    NotAFile {
        /// The secret.
        name: SecretName,
    },
    /// More than [`MAX_SECRET_BYTES`].
    #[error("secret {name} has more than {MAX_SECRET_BYTES} bytes")]
    TooLarge {
        /// The secret.
        name: SecretName,
    },
    /// The file has nothing in it but white space.
    #[error("secret {name} is empty")]
    Empty {
        /// The secret.
        name: SecretName,
    },
    /// The file is not UTF-8.
    #[error("secret {name} is not text in UTF-8")]
    NotText {
        /// The secret.
        name: SecretName,
    },
    /// The file system failed.
    #[error("secret {name} could not be read")]
    Unreadable {
        /// The secret.
        name: SecretName,
        /// What the file system said.
        source: io::Error,
    },
    /// A vault does not give it.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl SecretError {
    /// What to do, for the person who configures the process.
    pub fn hint(&self) -> String {
        match self {
            Self::Vault(error) => error.hint().unwrap_or_default(),
            Self::Missing { name, directory } => format!(
                "write the secret, and nothing else, into the file {name} in the directory of secrets ({}); it is \
                 read at each use, so no restart is needed",
                directory.display()
            ),
            Self::NoDirectory { name, directory } => format!(
                "make or mount the directory of secrets at {}, with the secret in the file {name}",
                directory.display()
            ),
            Self::NotGiven { name } => {
                format!("give the secret {name} to this process by file or environment")
            }
            Self::Forbidden { name, directory } => format!(
                "let the user of this process read the file {name} in {}, and enter that directory",
                directory.display()
            ),
            Self::NotAFile { name } => format!("put a regular file, or a link to one, where {name} is"),
            Self::TooLarge { name } => format!("the file {name} must hold the secret and nothing else"),
            Self::Empty { name } => format!("write the secret into the file {name}"),
            Self::NotText { name } => {
                format!(
                    "write the secret as plain text into the file {name}, without a byte-order mark of UTF-16"
                )
            }
            Self::Unreadable { name, .. } => format!("check the volume that holds the file {name}"),
        }
    }
}

/// Work that needs the secret waits for a person: whoever puts it in place need not send the work again.
impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        let message = match &error {
            SecretError::Vault(error) => return error.clone().into(),
            SecretError::Unreadable { source, .. } => format!("{error}: {source}"),
            _ => error.to_string(),
        };
        Self::new(Class::Parked, Code::ConfigurationInvalid, message).with_hint(error.hint())
    }
}
