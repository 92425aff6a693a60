//! Why a vault gives no secret, and what to do about it.

use std::time::Duration;

use transship_model::{Class, Code, Failure, Identity, VaultSecret};

use crate::IdentityError;

/// Why a secret of a vault cannot be had. It names the secret's address, never its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The vault's host is not in the list: nothing was sent.
    #[error("{secret} is not read: this process asks no vault at {}", secret.host())]
    NotAllowed {
        /// The secret.
        secret: VaultSecret,
        /// The hosts that are asked.
        allowed: String,
    },
    /// The vault wants a token for another service: none was sent.
    #[error("{secret} is not read: the vault wants a token {problem}")]
    Challenge {
        /// The secret.
        secret: VaultSecret,
        /// What is wrong with what it wants.
        problem: String,
    },
    /// There is no token to show to the vault.
    #[error("{secret} cannot be read: {source}")]
    NoToken {
        /// The secret.
        secret: VaultSecret,
        /// Why not.
        source: IdentityError,
    },
    /// The identity may not read secrets.
    #[error("{secret} cannot be read: the vault refuses {identity} ({code})")]
    Forbidden {
        /// The secret.
        secret: VaultSecret,
        /// Who asked.
        identity: Identity,
        /// The vault's error code.
        code: String,
    },
    /// The vault's firewall does not let this process in.
    #[error("{secret} cannot be read: the vault's firewall does not let this process in ({code})")]
    Firewall {
        /// The secret.
        secret: VaultSecret,
        /// The vault's error code.
        code: String,
    },
    /// The vault does not take the token itself.
    #[error("{secret} cannot be read: the vault does not know {identity} ({code})")]
    Unauthorized {
        /// The secret.
        secret: VaultSecret,
        /// Who asked.
        identity: Identity,
        /// The vault's error code.
        code: String,
    },
    /// There is no such secret, or no such version.
    #[error("there is no secret {secret}")]
    NotFound {
        /// The secret.
        secret: VaultSecret,
    },
    /// The secret is switched off.
    #[error("secret {secret} is disabled")]
    Disabled {
        /// The secret.
        secret: VaultSecret,
    },
    /// The secret is not valid yet.
    #[error("secret {secret} is valid from {from} on")]
    NotYetValid {
        /// The secret.
        secret: VaultSecret,
        /// The attribute `nbf`.
        from: String,
    },
    /// The secret is not valid any more.
    #[error("secret {secret} expired at {at}")]
    Expired {
        /// The secret.
        secret: VaultSecret,
        /// The attribute `exp`.
        at: String,
    },
    /// The secret has nothing in it.
    #[error("secret {secret} is empty")]
    Empty {
        /// The secret.
        secret: VaultSecret,
    },
    /// The vault does not answer, or not now.
    #[error("{secret} cannot be read: the vault is not available: {reason}")]
    Unavailable {
        /// The secret.
        secret: VaultSecret,
        /// What happened, without URLs.
        reason: String,
        /// `Retry-After`, where the vault sent it.
        retry_after: Option<Duration>,
    },
    /// The vault refuses the request.
    #[error("{secret} cannot be read: the vault answers {code}")]
    Refused {
        /// The secret.
        secret: VaultSecret,
        /// The vault's error code.
        code: String,
    },
}

impl VaultError {
    /// What to do, for the person who configures the process; `None` where it may pass by itself.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotAllowed { secret, allowed } => format!(
                "use a vault at one of {allowed}, or add {} to secrets.vault_suffixes, or map it to a directory \
                 in secrets.vaults",
                secret.host()
            ),
            Self::Challenge { .. } => {
                "check the address of the vault; a token is only given for a service that the vault belongs to"
                    .to_owned()
            }
            Self::NoToken { source, .. } => return source.hint(),
            Self::Forbidden { secret, identity, .. } => format!(
                "give {identity} the right secrets/get on {}: the role Key Vault Secrets User, or an access policy",
                secret.host()
            ),
            Self::Firewall { secret, .. } => format!(
                "let this process's network into the firewall of {}, or reach it by a private endpoint",
                secret.host()
            ),
            Self::Unauthorized { secret, identity, .. } => format!(
                "check that {identity} is in the tenant of {}, and that secrets.authority_host and \
                 secrets.vault_audience are those of its cloud",
                secret.host()
            ),
            Self::NotFound { secret } => {
                format!("create the secret {} in {}, or correct its name or version", secret.name(), secret.host())
            }
            Self::Disabled { .. } => "enable the secret, or name another version of it".to_owned(),
            Self::NotYetValid { .. } => "wait until then, or correct the secret's activation date".to_owned(),
            Self::Expired { .. } => "set a new version of the secret; it is read at each use".to_owned(),
            Self::Empty { .. } => "set a version of the secret that holds the SAS token".to_owned(),
            Self::Refused { .. } => "check the address of the secret".to_owned(),
            Self::Unavailable { .. } => return None,
        };
        Some(hint)
    }
}

/// Work that needs the secret waits for a person, or for the vault.
impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        use VaultError as E;
        let (message, hint) = (error.to_string(), error.hint());
        let (class, code) = match error {
            E::NoToken { source, .. } => {
                let Self { class, code, .. } = source.into();
                (class, code)
            }
            E::NotAllowed { .. } | E::Challenge { .. } => (Class::Parked, Code::EgressDenied),
            E::Forbidden { .. } | E::Firewall { .. } | E::Unauthorized { .. } => {
                (Class::Parked, Code::VaultForbidden)
            }
            E::Unavailable { retry_after, .. } => (Class::Transient { retry_after }, Code::VaultUnavailable),
            _ => (Class::Parked, Code::ConfigurationInvalid),
        };
        Self { class, code, message, hint }
    }
}
