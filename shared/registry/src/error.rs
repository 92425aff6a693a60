//! What can go wrong with a registry, and what to do about it.

use std::time::Duration;

use transship_model::{ArtifactReference, Class, Code, Digest, Failure, Repository, Selector};

use crate::SettingsError;

/// Why a registry did not do what was asked. No message holds a credential or the query of a URL.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// There is no such manifest.
    #[error("{host} has no {}", ArtifactReference::new(repository.clone(), selector.clone()))]
    ManifestNotFound {
        /// The registry.
        host: String,
        /// The repository.
        repository: Repository,
        /// The tag or digest.
        selector: Selector,
    },
    /// There is no such blob.
    #[error("{host} has no blob {digest} in {repository}")]
    BlobNotFound {
        /// The registry.
        host: String,
        /// The repository.
        repository: Repository,
        /// The blob.
        digest: Digest,
    },
    /// Bytes do not have the digest that was asked for.
    #[error("{host} answered {what} of {repository} with other bytes: expected {expected}, got {actual}")]
    DigestMismatch {
        /// The registry.
        host: String,
        /// The repository.
        repository: Repository,
        /// `manifest` or `blob`.
        what: &'static str,
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of the bytes.
        actual: Digest,
    },
    /// The registry or its token endpoint refuses the credential (401, 403).
    #[error("{host} refuses access to {repository}: {reason}")]
    Forbidden {
        /// The registry.
        host: String,
        /// The repository.
        repository: String,
        /// The registry's error code, or which endpoint refused.
        reason: String,
    },
    /// An address that the guard does not let through.
    #[error("{host} leads to {to}, which is not allowed: {reason}")]
    EgressDenied {
        /// The registry.
        host: String,
        /// The address, without its query.
        to: String,
        /// Why not.
        reason: &'static str,
    },
    /// The answer is larger than its bound, or breaks the protocol.
    #[error("{host}: {reason}")]
    Protocol {
        /// The registry.
        host: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The registry refuses the request (4xx).
    #[error("{host} refused {operation}: {code}")]
    Refused {
        /// The registry.
        host: String,
        /// What was asked.
        operation: String,
        /// The status and the registry's error code.
        code: String,
    },
    /// The registry is busy, broken or not reachable. Retried a few times before it comes here.
    #[error("{host} is not available ({operation}): {reason}")]
    Unavailable {
        /// The registry.
        host: String,
        /// What was asked.
        operation: String,
        /// What happened.
        reason: String,
        /// `Retry-After`, where the registry sent one.
        retry_after: Option<Duration>,
    },
    /// The settings of the registry cannot be used.
    #[error("the settings of the registry cannot be used: {0}")]
    Settings(#[source] SettingsError),
    /// The content that was to be uploaded could not be read. Whoever gave the content knows more.
    #[error("the content for {host} could not be read ({operation}): {reason}")]
    Content {
        /// The registry.
        host: String,
        /// What was asked.
        operation: String,
        /// What the content said.
        reason: String,
    },
}

impl RegistryError {
    /// Whether a manifest was refused because a blob or manifest that it refers to is not there
    /// (`MANIFEST_BLOB_UNKNOWN`): it was collected as garbage since it was seen, and can be pushed again. The
    /// distribution registry 2.8 says `DIGEST_INVALID` while another client links the same blob to the same
    /// repository, since it reads the half-written link; the manifest's own digest was verified before.
    pub fn is_blob_unknown(&self) -> bool {
        matches!(self, Self::Refused { code, .. }
            if code.ends_with(" MANIFEST_BLOB_UNKNOWN") || code.ends_with(" DIGEST_INVALID"))
    }

    /// The pause that the registry asked for, where it is not available and asked for one.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether an upload session is gone, or is not where the client believes (404, 416): only a new one helps.
    pub fn is_upload_lost(&self) -> bool {
        matches!(self, Self::Refused { operation, code, .. }
            if operation.starts_with(UPLOAD) && (code.starts_with("404") || code.starts_with("416")))
    }
}

/// How the operations of an upload session begin.
pub(crate) const UPLOAD: &str = "upload";

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        use RegistryError as E;
        let message = error.to_string();
        let (class, code, hint) = match error {
            E::ManifestNotFound { .. } => (
                Class::Permanent,
                Code::ArtifactNotFound,
                Some(
                    "check the repository and the tag or digest; a private registry also says this without credentials",
                ),
            ),
            E::BlobNotFound { .. } => (
                Class::Permanent,
                Code::ContentNotFound,
                Some("the registry lists this blob and does not have it: push the artifact again"),
            ),
            E::DigestMismatch { .. } => (
                Class::Permanent,
                Code::DigestMismatch,
                Some(
                    "the registry's content is damaged, or something between changes it: push the artifact again",
                ),
            ),
            E::Forbidden { .. } => (
                Class::Parked,
                Code::RegistryForbidden,
                Some("check the credentials of this registry and what they may pull and push; log in again"),
            ),
            E::EgressDenied { .. } => (
                Class::Permanent,
                Code::EgressDenied,
                Some("where this host belongs to the registry, add it to the registry's allowed hosts"),
            ),
            E::Protocol { .. } => (Class::Permanent, Code::RegistryRefused, None),
            E::Refused { .. } => (Class::Permanent, Code::RegistryRefused, None),
            E::Settings(_) => (Class::Permanent, Code::ConfigurationInvalid, None),
            // The content is transient by default: whoever gave it replaces this failure by what it knows.
            E::Content { .. } => (Class::TRANSIENT, Code::Internal, None),
            E::Unavailable { retry_after, .. } => {
                (Class::Transient { retry_after }, Code::RegistryUnavailable, None)
            }
        };
        Self { class, code, message, hint: hint.map(str::to_owned) }
    }
}
