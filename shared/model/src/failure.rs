//! Failures that say of themselves what they are: what may be done about them, a stable code, a message that
//! names operation and subject, and a hint for the person who can act.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What may be done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It may pass by itself. The server may have said how long to wait.
    Transient {
        /// `Retry-After`, where the server sent it.
        retry_after: Option<Duration>,
    },
    /// It will not pass: the same work fails again.
    Permanent,
    /// It passes when a person acts, such as an expired credential: wait long, and alert.
    Parked,
    /// The message itself cannot be understood.
    Poison,
    /// The process is shutting down: nobody is to blame, and no attempt is burnt.
    Interrupted,
}

impl Class {
    /// Transient, without a time from the server.
    pub const TRANSIENT: Self = Self::Transient { retry_after: None };
}

macro_rules! codes {
    ($($(#[doc = $what:literal])+ $name:ident),+ $(,)?) => {
        /// The stable code of a failure: the same in the API, on the command line and in metrics.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Code { $($(#[doc = $what])+ $name),+ }

        impl Code {
            /// Every code, for the inventory of metrics.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The code as text.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }
        }
    };
}

codes! {
    /// The source registry has no such artifact.
    ArtifactNotFound,
    /// A manifest or blob below an artifact is not in the source registry.
    ContentNotFound,
    /// The container has no such blob.
    BlobNotFound,
    /// The storage account has no such container.
    ContainerNotFound,
    /// The blob exists, and `OverwriteBlobs` is not set.
    BlobExists,
    /// The tag exists with another digest, and `OverwriteTags` is not set.
    TagExists,
    /// Bytes do not have the digest that names them.
    DigestMismatch,
    /// A manifest cannot be carried.
    ManifestInvalid,
    /// A blob is not a bundle, or not an OCI archive.
    BundleInvalid,
    /// The SAS token has expired.
    SasExpired,
    /// The SAS token lacks a permission.
    SasPermission,
    /// The storage service refuses the credential.
    StorageForbidden,
    /// The storage service does not answer, or answers that it cannot now.
    StorageUnavailable,
    /// The vault refuses the identity.
    VaultForbidden,
    /// The vault does not answer, or answers that it cannot now.
    VaultUnavailable,
    /// The identity gives no token.
    IdentityUnavailable,
    /// The registry refuses the credential.
    RegistryForbidden,
    /// The registry refuses the content.
    RegistryRefused,
    /// The registry or its token endpoint does not answer, or answers that it cannot now.
    RegistryUnavailable,
    /// A redirect, realm or upload location leads where transship does not go.
    EgressDenied,
    /// The blob changed while it was read.
    SourceChanged,
    /// A newer execution owns the blob.
    Superseded,
    /// A bound of transship or of a service is exceeded.
    LimitExceeded,
    /// The configuration lacks what the work names.
    ConfigurationInvalid,
    /// A message cannot be understood.
    MessageInvalid,
    /// The broker does not take messages.
    BrokerUnavailable,
    /// The process is shutting down.
    Interrupted,
    /// An error that transship did not expect.
    Internal,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure with everything that a person needs. It never holds a secret: messages are made from typed
/// values that cannot show one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What may be done.
    pub class: Class,
    /// The stable code.
    pub code: Code,
    /// Operation and subject.
    pub message: String,
    /// What to do next, where a person can act.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(class: Class, code: Code, message: impl Into<String>) -> Self {
        Self { class, code, message: message.into(), hint: None }
    }

    /// A failure that will not pass.
    pub fn permanent(code: Code, message: impl Into<String>) -> Self {
        Self::new(Class::Permanent, code, message)
    }

    /// A failure that may pass by itself.
    pub fn transient(code: Code, message: impl Into<String>) -> Self {
        Self::new(Class::TRANSIENT, code, message)
    }

    /// The failure that a shutdown makes.
    pub fn interrupted() -> Self {
        Self::new(Class::Interrupted, Code::Interrupted, "interrupted by shutdown")
    }

    /// Adds what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts what was being done before the message.
    #[must_use]
    pub fn while_doing(mut self, operation: impl fmt::Display) -> Self {
        self.message = format!("{operation}: {}", self.message);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
