//! What can go wrong with a container, and what to do about it.

use std::time::Duration;

use transship_model::{BlobName, Class, Code, ContainerUrl, Failure, Identity};
use transship_secrets::{IdentityError, host_of};

use crate::SasFault;

/// Why the storage service did not do what was asked. No message holds a token.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    /// There is no blob of this name.
    #[error("{container} has no blob {blob}")]
    BlobNotFound {
        /// The container.
        container: ContainerUrl,
        /// The blob.
        blob: BlobName,
    },
    /// There is no such container.
    #[error("there is no container {container}")]
    ContainerNotFound {
        /// The container.
        container: ContainerUrl,
    },
    /// A condition did not hold: the blob appeared, or changed, or is gone.
    #[error("blob {blob} in {container} changed meanwhile")]
    ConditionFailed {
        /// The container.
        container: ContainerUrl,
        /// The blob.
        blob: BlobName,
    },
    /// A block that the commit names is not there, or identifiers have different lengths.
    #[error("the staged blocks of {blob} in {container} are not those that were expected")]
    InvalidBlockList {
        /// The container.
        container: ContainerUrl,
        /// The blob.
        blob: BlobName,
    },
    /// The range reaches beyond the end of the blob, or the answer was short.
    #[error("blob {blob} in {container} is shorter than expected")]
    RangeNotSatisfiable {
        /// The container.
        container: ContainerUrl,
        /// The blob.
        blob: BlobName,
    },
    /// The SAS token has expired.
    #[error("the SAS token for {container} expired at {expired_at}")]
    SasExpired {
        /// The container.
        container: ContainerUrl,
        /// The `se` field of the token.
        expired_at: String,
    },
    /// The SAS token lacks a permission.
    #[error(
        "the SAS token for {container} lacks permission {missing:?} ({needed_for}); it grants {granted:?}"
    )]
    SasPermission {
        /// The container.
        container: ContainerUrl,
        /// The letters that are missing.
        missing: String,
        /// The letters of the `sp` field.
        granted: String,
        /// What they are needed for.
        needed_for: &'static str,
    },
    /// The SAS token is for something else.
    #[error("{container} cannot be used: {fault}")]
    SasUnfit {
        /// The container.
        container: ContainerUrl,
        /// What does not fit.
        fault: SasFault,
    },
    /// The service refuses what an identity wants to do.
    #[error("{container} refuses {identity} ({needed_for}): {code}")]
    IdentityForbidden {
        /// The container.
        container: ContainerUrl,
        /// The identity.
        identity: Identity,
        /// What it wanted to do.
        needed_for: &'static str,
        /// The service's error code.
        code: String,
    },
    /// There is no token to show to the service.
    #[error("{container} cannot be used: {source}")]
    NoToken {
        /// The container.
        container: ContainerUrl,
        /// Why not.
        source: IdentityError,
    },
    /// The host of the container is not one that gets a token: nothing was sent.
    #[error("{container} gets no token: {reason}")]
    HostNotAllowed {
        /// The container.
        container: ContainerUrl,
        /// Why not.
        reason: String,
    },
    /// The service refuses the credential for another reason.
    #[error("{container} refuses access: {code}")]
    Forbidden {
        /// The container.
        container: ContainerUrl,
        /// The service's error code.
        code: String,
    },
    /// This service cannot copy from that one by itself.
    #[error("{container} cannot copy from the source itself: {code}")]
    CopyUnsupported {
        /// The target container.
        container: ContainerUrl,
        /// The service's error code.
        code: String,
    },
    /// The service is busy, broken or not reachable. Retried a few times before it comes here.
    #[error("{container} is not available: {reason}")]
    Unavailable {
        /// The container.
        container: ContainerUrl,
        /// What happened, without URLs.
        reason: String,
        /// `Retry-After`, where the service sent one.
        retry_after: Option<Duration>,
    },
    /// The service refuses the request.
    #[error("{container} refused the request: {code}")]
    Refused {
        /// The container.
        container: ContainerUrl,
        /// The service's error code, or what the operating system said.
        code: String,
    },
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        use StorageError as E;
        let message = error.to_string();
        let (class, code, hint) = match error {
            E::BlobNotFound { .. } => (
                Class::Permanent,
                Code::BlobNotFound,
                Some("check the name, and that the copy to this container is done".to_owned()),
            ),
            E::ContainerNotFound { .. } => (
                Class::Permanent,
                Code::ContainerNotFound,
                Some("create the container, or correct its address".to_owned()),
            ),
            E::ConditionFailed { .. } | E::RangeNotSatisfiable { .. } => {
                (Class::TRANSIENT, Code::SourceChanged, None)
            }
            E::InvalidBlockList { .. } => (Class::TRANSIENT, Code::SourceChanged, None),
            E::SasExpired { .. } => (
                Class::Parked,
                Code::SasExpired,
                Some("put a new SAS token into the secret; the work goes on by itself".to_owned()),
            ),
            E::SasPermission { ref missing, .. } => (
                Class::Parked,
                Code::SasPermission,
                Some(format!("issue a SAS token that also grants {missing:?}, and put it into the secret")),
            ),
            E::SasUnfit { ref fault, .. } => (Class::Parked, fault.code(), Some(fault.hint())),
            E::IdentityForbidden { ref identity, ref container, .. } => (
                Class::Parked,
                Code::StorageForbidden,
                Some(format!(
                    "give {identity} the role Storage Blob Data Contributor on {container} (Storage Blob Data \
                     Reader where it only reads), and check that the account's network rules let this host in"
                )),
            ),
            E::NoToken { source, .. } => {
                let Self { class, code, hint, .. } = source.into();
                (class, code, hint)
            }
            E::HostNotAllowed { ref container, .. } => (
                Class::Parked,
                Code::EgressDenied,
                Some(format!(
                    "correct the address of the container, or add {} to secrets.storage_suffixes",
                    host_of(container.as_url())
                )),
            ),
            E::Forbidden { .. } => (
                Class::Parked,
                Code::StorageForbidden,
                Some(
                    "check that the SAS token was issued for this container with a key that is still valid, \
                      and that the account's network rules let this host in"
                        .to_owned(),
                ),
            ),
            E::CopyUnsupported { .. } => (Class::Permanent, Code::StorageUnavailable, None),
            E::Unavailable { retry_after, .. } => {
                (Class::Transient { retry_after }, Code::StorageUnavailable, None)
            }
            E::Refused { .. } => (Class::Permanent, Code::StorageUnavailable, None),
        };
        Self { class, code, message, hint }
    }
}
