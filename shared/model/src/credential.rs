//! How access to a container is had: named, never held. What stands here may cross the broker.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::{ConfiguredNameError, SecretName};

/// How a process gets access to a container of blobs.
///
/// As text: `NAME` for a secret of the process's own configuration, `https://VAULT/secrets/NAME[/VERSION]` for
/// a secret in Key Vault, and `identity:…` for a managed identity, which needs no secret at all.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum StorageCredential {
    /// A SAS token in a secret, by its name.
    Secret(SecretName),
    /// A SAS token in a Key Vault secret.
    Vault(VaultSecret),
    /// A token of a managed or workload identity.
    Identity(Identity),
}

/// Why a string is not a [`StorageCredential`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialNameError {
    /// Neither of the other forms, and not a name.
    #[error(transparent)]
    Name(#[from] ConfiguredNameError),
    /// Not the address of a Key Vault secret.
    #[error(
        "not a Key Vault secret: expected https://VAULT/secrets/NAME or https://VAULT/secrets/NAME/VERSION"
    )]
    Vault,
    /// Not a managed identity.
    #[error("not a managed identity: expected identity:system, identity:client:ID or identity:resource:ID")]
    Identity,
}

/// The address of a Key Vault secret: `https://VAULT/secrets/NAME[/VERSION]`. Which vaults a process asks is
/// its own configuration's affair.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VaultSecret {
    host: Box<str>,
    name: Box<str>,
    version: Option<Box<str>>,
}

impl VaultSecret {
    /// The vault's host, in lower case, with its port where it has one.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The secret's name: 1 to 127 letters, digits and `-`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version; the newest where there is none.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}

impl FromStr for VaultSecret {
    type Err = CredentialNameError;

    fn from_str(text: &str) -> Result<Self, CredentialNameError> {
        let url: Url = text.parse().map_err(|_| CredentialNameError::Vault)?;
        // A path that the parser would have to tidy up is not one that anybody meant.
        let plain = !text.contains("/..")
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        let host = url.host_str().filter(|_| plain && url.scheme() == "https");
        let host = host.ok_or(CredentialNameError::Vault)?;
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let path = url.path().trim_end_matches('/');
        let mut segments = path.strip_prefix('/').unwrap_or_default().split('/');
        let (Some(kind), Some(name)) = (segments.next(), segments.next()) else {
            return Err(CredentialNameError::Vault);
        };
        let version = segments.next();
        let fine = |text: &str| {
            (1..=127).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let is_secret = kind.eq_ignore_ascii_case("secrets")
            && fine(name)
            && version.is_none_or(fine)
            && segments.next().is_none();
        if !is_secret {
            return Err(CredentialNameError::Vault);
        }
        Ok(Self { host: host.into(), name: name.into(), version: version.map(Into::into) })
    }
}

impl fmt::Display for VaultSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}/secrets/{}", self.host, self.name)?;
        self.version.as_ref().map_or(Ok(()), |version| write!(f, "/{version}"))
    }
}

/// An identity that the platform gives to a process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum Identity {
    /// The process's own: system-assigned, or the workload identity of its pod.
    System,
    /// A user-assigned one, by its client id.
    Client(Box<str>),
    /// A user-assigned one, by its resource id.
    Resource(Box<str>),
}

impl TryFrom<String> for Identity {
    type Error = CredentialNameError;

    fn try_from(text: String) -> Result<Self, CredentialNameError> {
        text.parse()
    }
}

impl FromStr for Identity {
    type Err = CredentialNameError;

    fn from_str(text: &str) -> Result<Self, CredentialNameError> {
        let fine = |id: &str| {
            (1..=512).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./() ".contains(&b))
        };
        let of = |prefix| text.strip_prefix(prefix).filter(|id| fine(id));
        match (text, of("identity:client:"), of("identity:resource:")) {
            ("identity:system", ..) => Ok(Self::System),
            (_, Some(id), _) => Ok(Self::Client(id.into())),
            (_, _, Some(id)) => Ok(Self::Resource(id.into())),
            _ => Err(CredentialNameError::Identity),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("identity:system"),
            Self::Client(id) => write!(f, "identity:client:{id}"),
            Self::Resource(id) => write!(f, "identity:resource:{id}"),
        }
    }
}

impl FromStr for StorageCredential {
    type Err = CredentialNameError;

    fn from_str(text: &str) -> Result<Self, CredentialNameError> {
        if text.starts_with("identity:") {
            text.parse().map(Self::Identity)
        } else if text.contains("://") {
            text.parse().map(Self::Vault)
        } else {
            Ok(Self::Secret(text.parse()?))
        }
    }
}

impl From<SecretName> for StorageCredential {
    fn from(name: SecretName) -> Self {
        Self::Secret(name)
    }
}

impl TryFrom<String> for StorageCredential {
    type Error = CredentialNameError;

    fn try_from(text: String) -> Result<Self, CredentialNameError> {
        text.parse()
    }
}

impl From<StorageCredential> for String {
    fn from(credential: StorageCredential) -> Self {
        credential.to_string()
    }
}

impl fmt::Display for StorageCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(name) => name.fmt(f),
            Self::Vault(secret) => secret.fmt(f),
            Self::Identity(identity) => identity.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_read_back_as_they_were_written() {
        for text in [
            "inbox-sas",
            "https://contoso.vault.azure.net/secrets/sas",
            "https://localhost:8443/secrets/sas/0123abc",
            "identity:system",
            "identity:client:6d5c2c4e-0000-0000-0000-000000000000",
            "identity:resource:/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i",
        ] {
            assert_eq!(text.parse::<StorageCredential>().unwrap().to_string(), text);
        }
        let slashed = "https://V.vault.azure.net/secrets/sas/".parse::<StorageCredential>().unwrap();
        assert_eq!(slashed.to_string(), "https://v.vault.azure.net/secrets/sas");
    }

    #[test]
    fn what_could_hold_or_leak_a_secret_is_refused() {
        for text in [
            "",
            "../x",
            "http://v.vault.azure.net/secrets/s",
            "https://u:p@v.vault.azure.net/secrets/s",
            "https://v.vault.azure.net/secrets/s?sig=x",
            "https://v.vault.azure.net/secrets/s/../t/x",
            "https://v.vault.azure.net/keys/s",
            "https://v.vault.azure.net/secrets",
            "identity:",
            "identity:client:",
            "identity:client:a\nb",
        ] {
            assert!(text.parse::<StorageCredential>().is_err(), "{text:?}");
        }
    }
}
