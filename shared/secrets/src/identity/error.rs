//! Why there is no token of an identity, and what to do about it.

use std::time::Duration;

use transship_model::{Class, Code, Failure, Identity};

/// Why an identity gives no token. It names the identity and who was asked, never a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Nothing on this machine gives tokens.
    #[error("this machine has no {identity}: {reason}")]
    NoIdentity {
        /// The identity.
        identity: Identity,
        /// What was tried.
        reason: String,
    },
    /// The machine has identities, and not this one.
    #[error("{identity} is not assigned to this machine")]
    NotAssigned {
        /// The identity.
        identity: Identity,
    },
    /// A part of what describes a workload identity is not set.
    #[error("the workload identity of this process is incomplete: {missing} is not set")]
    Incomplete {
        /// The variable that is missing.
        missing: &'static str,
    },
    /// The file with the federated token cannot be read.
    #[error("the federated token in {path} cannot be read: {reason}")]
    NoFederatedToken {
        /// The file.
        path: String,
        /// What the file system said.
        reason: String,
    },
    /// Who gives tokens refuses one.
    #[error("{endpoint} refuses {identity} a token for {audience}: {code}")]
    Refused {
        /// Host of the authority or of the identity endpoint.
        endpoint: String,
        /// The identity.
        identity: Identity,
        /// The service that the token would be for.
        audience: String,
        /// The error codes of the answer.
        code: String,
    },
    /// Who gives tokens does not answer, or not now.
    #[error("{endpoint} gives no tokens now: {reason}")]
    Unavailable {
        /// Host of the authority or of the identity endpoint.
        endpoint: String,
        /// What happened, without URLs.
        reason: String,
        /// `Retry-After`, where it was sent.
        retry_after: Option<Duration>,
    },
}

impl IdentityError {
    /// What to do, for the person who configures the process; `None` where it may pass by itself.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoIdentity { .. } => {
                "run this process where Azure gives it an identity (a virtual machine, App Service, Container \
                 Apps, or a pod with workload identity), or name a secret with a SAS token instead"
                    .to_owned()
            }
            Self::NotAssigned { identity: Identity::System } => {
                "switch on the system-assigned identity of this machine, or name a user-assigned one".to_owned()
            }
            Self::NotAssigned { identity } => {
                format!("assign {identity} to this machine, or correct its id")
            }
            Self::Incomplete { missing } => format!(
                "label the pod azure.workload.identity/use: \"true\" and annotate its service account, or set \
                 {missing}"
            ),
            Self::NoFederatedToken { .. } => {
                "let the user of this process read the projected service account token".to_owned()
            }
            Self::Refused { identity, .. } => format!(
                "check that {identity} exists in the tenant, that its federated credential names this service \
                 account, and that secrets.authority_host is that of the cloud"
            ),
            Self::Unavailable { .. } => return None,
        };
        Some(hint)
    }

    fn class(&self) -> Class {
        match self {
            Self::Unavailable { retry_after, .. } => Class::Transient { retry_after: *retry_after },
            _ => Class::Parked,
        }
    }
}

/// Work that needs the token waits for a person, or for the service that gives it.
impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        let hint = error.hint();
        Self { class: error.class(), code: Code::IdentityUnavailable, message: error.to_string(), hint }
    }
}
