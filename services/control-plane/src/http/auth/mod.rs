//! Who asks, and what they may do.

mod entra;
mod keys;
mod tokens;

use serde::Deserialize;

pub use entra::IssuerConfig;
use entra::Issuers;
use tokens::TokenFile;

use std::path::PathBuf;

use crate::refusal::Refusal;

/// Who may use the interface. Where neither is set, the interface is open, which is only allowed on loopback.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// A file of static tokens, one a line: `ROLE NAME SHA256HEX`, where `ROLE` is `reader`, `notifier` or
    /// `contributor` and `SHA256HEX` is the SHA-256 of the token. Lines that begin with `#` are comments. It is read again when it
    /// changes.
    pub tokens_file: Option<PathBuf>,
    /// Issuers of tokens, such as a Microsoft Entra tenant.
    pub issuers: Vec<IssuerConfig>,
}

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads everything.
    Reader,
    /// Tells of blobs and pushes, and does nothing else: what others are given that call webhooks.
    Notifier,
    /// Does all of that, and makes, changes and deletes resources.
    Contributor,
}

impl Role {
    /// The name, as in the file of tokens.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Notifier => "notifier",
            Self::Contributor => "contributor",
        }
    }

    /// Whether it may do what needs the role `needed`.
    fn includes(self, needed: Self) -> bool {
        self == needed || self == Self::Contributor
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's name, or the principal's identifier.
    pub name: String,
    /// What they may do.
    pub role: Role,
}

/// Checks credentials.
pub struct Authenticator {
    tokens: Option<TokenFile>,
    issuers: Issuers,
}

/// What is wrong with the configuration of the authentication.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The file of tokens cannot be used.
    #[error("auth.tokens_file: {0}")]
    Tokens(String),
    /// An issuer cannot be used.
    #[error("auth.issuers: {0}")]
    Issuer(String),
}

impl Authenticator {
    /// Reads what `config` names. Keys of issuers are fetched at their first use.
    ///
    /// # Errors
    /// [`AuthError`].
    pub fn new(config: &AuthConfig) -> Result<Self, AuthError> {
        let tokens = config.tokens_file.as_deref().map(TokenFile::open).transpose();
        let tokens = tokens.map_err(AuthError::Tokens)?;
        let issuers = Issuers::new(&config.issuers).map_err(AuthError::Issuer)?;
        Ok(Self { tokens, issuers })
    }

    /// Whether anybody may do anything.
    pub fn is_open(&self) -> bool {
        self.tokens.is_none() && self.issuers.is_empty()
    }

    /// The caller that `authorization`, the header's value, names.
    ///
    /// # Errors
    /// 401 with what is wrong; the token is never repeated.
    pub async fn authenticate(&self, authorization: Option<&str>) -> Result<Caller, Refusal> {
        if self.is_open() {
            return Ok(Caller { name: "anonymous".to_owned(), role: Role::Contributor });
        }
        let Some(authorization) = authorization else {
            let message = "Authentication is needed: send the header Authorization: Bearer TOKEN.";
            return Err(Refusal::new(401, "AuthenticationFailed", message));
        };
        let token = authorization.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some((_, token)) = token else {
            let message = "Only bearer tokens are taken: send the header Authorization: Bearer TOKEN.";
            return Err(Refusal::new(401, "AuthenticationFailed", message));
        };
        let token = token.trim();
        if let Some(tokens) = &self.tokens
            && let Some(caller) = tokens.caller(token).await
        {
            return Ok(caller);
        }
        self.issuers.caller(token).await
    }
}

/// 403 where the caller may not do what needs `role`.
pub(super) fn allow(caller: &Caller, role: Role) -> Result<(), Refusal> {
    if caller.role.includes(role) {
        return Ok(());
    }
    let Caller { name, role: has } = caller;
    let message = format!(
        "{name} has the role {}, and this needs the role {}. Use another token, or let an administrator change \
         the role.",
        has.name(),
        role.name()
    );
    Err(Refusal::new(403, "AuthorizationFailed", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_does_what_it_is_for_and_a_contributor_everything() {
        use Role::{Contributor, Notifier, Reader};
        for (role, needed, allowed) in [
            (Reader, Reader, true),
            (Reader, Notifier, false),
            (Reader, Contributor, false),
            (Notifier, Reader, false),
            (Notifier, Notifier, true),
            (Notifier, Contributor, false),
            (Contributor, Reader, true),
            (Contributor, Notifier, true),
            (Contributor, Contributor, true),
        ] {
            let found = allow(&Caller { name: "n".into(), role }, needed);
            assert_eq!(found.is_ok(), allowed, "{role:?} {needed:?}");
            if let Err(refusal) = found {
                let needs = format!("needs the role {}", needed.name());
                assert!(refusal.status == 403 && refusal.error.message.contains(&needs));
            }
        }
    }

    #[tokio::test]
    async fn without_credentials_the_interface_is_open_and_with_them_it_is_closed() {
        let open = Authenticator::new(&AuthConfig::default()).unwrap();
        assert_eq!(open.authenticate(None).await.unwrap().role, Role::Contributor);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        std::fs::write(&path, "# nobody yet\n").unwrap();
        let closed = Authenticator::new(&AuthConfig { tokens_file: Some(path), issuers: vec![] }).unwrap();
        for header in [None, Some("Basic eDp5"), Some("Bearer CANARY"), Some("Bearer"), Some("")] {
            let refusal = closed.authenticate(header).await.unwrap_err();
            assert_eq!((refusal.status, refusal.error.code.as_str()), (401, "AuthenticationFailed"));
            assert!(!refusal.error.message.contains("CANARY"));
        }
    }
}
