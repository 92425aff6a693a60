//! Who transship is to a registry.

use std::fmt;

use async_trait::async_trait;
use oci_client::secrets::RegistryAuth;
use transship_model::Secret;

/// Credentials of one registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(pub(crate) Kind);

#[derive(Clone)]
pub(crate) enum Kind {
    /// Nobody, a name with its password, or a token that is sent as it is.
    Plain(RegistryAuth),
    /// A refresh token, which a token endpoint takes by POST (token specification of distribution, "OAuth2").
    Refresh(Secret),
    /// An access token of Microsoft Entra ID, which Azure Container Registry exchanges for a refresh token.
    Entra(Secret),
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Plain(a), Self::Plain(b)) => a == b,
            (Self::Refresh(a), Self::Refresh(b)) | (Self::Entra(a), Self::Entra(b)) => {
                a.expose() == b.expose()
            }
            _ => false,
        }
    }
}

impl Eq for Kind {}

impl Credentials {
    /// Nobody: what a registry gives to everyone.
    pub fn anonymous() -> Self {
        Self(Kind::Plain(RegistryAuth::Anonymous))
    }

    /// A name and its password. The password of the name `<token>` is a refresh token, as helpers say it.
    pub fn basic(user: &str, password: &Secret) -> Self {
        match user {
            "<token>" => Self::refresh_token(password.clone()),
            _ => Self(Kind::Plain(RegistryAuth::Basic(user.to_owned(), password.expose().to_owned()))),
        }
    }

    /// A token that is sent to the registry as it is, for registries with tokens that somebody else renews.
    pub fn bearer(token: &Secret) -> Self {
        Self(Kind::Plain(RegistryAuth::Bearer(token.expose().to_owned())))
    }

    /// A refresh token: Docker's identity token, or one that `az acr login --expose-token` printed.
    pub fn refresh_token(token: Secret) -> Self {
        Self(Kind::Refresh(token))
    }

    /// An access token of Microsoft Entra ID for Azure Container Registry.
    pub fn entra_access_token(token: Secret) -> Self {
        Self(Kind::Entra(token))
    }

    /// Whether these are nobody's.
    pub fn is_anonymous(&self) -> bool {
        matches!(self.0, Kind::Plain(RegistryAuth::Anonymous))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Kind::Plain(RegistryAuth::Anonymous) => "Credentials(anonymous)",
            Kind::Plain(RegistryAuth::Basic(..)) => "Credentials(basic, hidden)",
            Kind::Plain(RegistryAuth::Bearer(_)) => "Credentials(bearer, hidden)",
            Kind::Refresh(_) => "Credentials(refresh token, hidden)",
            Kind::Entra(_) => "Credentials(access token, hidden)",
        })
    }
}

/// Why credentials are not to be had. The message holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The source cannot be read.
    #[error("{0} cannot be read: {1}")]
    Unreadable(String, String),
    /// The source is there, and is not what it should be.
    #[error("{0} is not valid: {1}")]
    Invalid(String, String),
    /// A credential helper failed.
    #[error("{helper} gave no credentials for {host}: {reason}")]
    Helper {
        /// The program.
        helper: String,
        /// The registry.
        host: String,
        /// What happened.
        reason: String,
    },
}

/// Knows the credentials of registries. It is asked at the first challenge of a client, and again when a
/// registry refuses what it gave, so a secret that was rotated is taken up.
#[async_trait]
pub trait CredentialSource: Send + Sync {
    /// The credentials for the registry `host` (`HOST` or `HOST:PORT`); anonymous where there are none.
    ///
    /// # Errors
    /// Where there should be some, and they cannot be had.
    async fn credentials(&self, host: &str) -> Result<Credentials, CredentialError>;
}

/// Always the same credentials, whatever the host.
#[derive(Debug, Clone)]
pub struct StaticCredentials(pub Credentials);

impl StaticCredentials {
    /// Nobody.
    pub fn anonymous() -> Self {
        Self(Credentials::anonymous())
    }
}

#[async_trait]
impl CredentialSource for StaticCredentials {
    async fn credentials(&self, _host: &str) -> Result<Credentials, CredentialError> {
        Ok(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_do_not_show_in_debug_output() {
        let secret = Secret::new("CANARY");
        for credentials in [
            Credentials::basic("CANARY", &secret),
            Credentials::basic("<token>", &secret),
            Credentials::bearer(&secret),
            Credentials::refresh_token(secret.clone()),
            Credentials::entra_access_token(secret.clone()),
        ] {
            assert!(!format!("{credentials:?}").contains("CANARY"));
            assert!(!credentials.is_anonymous());
        }
        assert_eq!(Credentials::basic("<token>", &secret), Credentials::refresh_token(secret));
    }
}
