//! Where a container of blobs is, and URLs that are safe to show.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

/// The address of a container: `https://ACCOUNT.blob.core.windows.net/CONTAINER`, the same path-style on an
/// emulator, or `file:///DIRECTORY`. It never holds a query, so it never holds a SAS token.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerUrl(Url);

/// Why a string is not the address of a container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContainerUrlError {
    /// Not a URL at all, or one of another scheme.
    #[error("not the address of a container: expected https://ACCOUNT/CONTAINER or file:///DIRECTORY")]
    NotAContainer,
    /// It carries a query, a fragment or a user, which is where secrets are.
    #[error("the address of a container must not carry a SAS token or a user: put the token into a secret")]
    CarriesASecret,
    /// Plain HTTP to a host that is not this machine.
    #[error("plain http is only allowed to this machine; use https")]
    PlainHttp,
}

impl ContainerUrl {
    /// The URL.
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// The directory, where this is a `file:` address.
    pub fn directory(&self) -> Option<PathBuf> {
        (self.0.scheme() == "file").then(|| self.0.to_file_path().ok()).flatten()
    }

    /// The address of a local directory.
    ///
    /// # Errors
    /// Where the path is not absolute.
    pub fn of_directory(path: &Path) -> Result<Self, ContainerUrlError> {
        Url::from_file_path(path).map(Self).map_err(|()| ContainerUrlError::NotAContainer)
    }
}

impl FromStr for ContainerUrl {
    type Err = ContainerUrlError;

    fn from_str(text: &str) -> Result<Self, ContainerUrlError> {
        let mut url: Url = text.parse().map_err(|_| ContainerUrlError::NotAContainer)?;
        if url.query().is_some()
            || url.fragment().is_some()
            || !url.username().is_empty()
            || url.password().is_some()
        {
            return Err(ContainerUrlError::CarriesASecret);
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        match url.scheme() {
            "http" if !is_loopback(&url) => Err(ContainerUrlError::PlainHttp),
            "https" | "http" if path.len() > 1 => Ok(Self(url)),
            "file" if url.to_file_path().is_ok() => Ok(Self(url)),
            _ => Err(ContainerUrlError::NotAContainer),
        }
    }
}

/// Whether the host of `url` is this machine by its form: `localhost` or a loopback address.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl TryFrom<String> for ContainerUrl {
    type Error = ContainerUrlError;

    fn try_from(text: String) -> Result<Self, ContainerUrlError> {
        text.parse()
    }
}

impl From<ContainerUrl> for String {
    fn from(container: ContainerUrl) -> Self {
        container.0.into()
    }
}

impl fmt::Display for ContainerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl fmt::Debug for ContainerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Shows a URL without what may be secret in it: no user, no fragment, and of the query only the keys that
/// are known to be harmless.
pub struct SafeUrl<'a>(pub &'a Url);

/// The query keys whose values are shown. An allow-list: what is not in it is hidden, whatever its name.
const SHOWN_KEYS: &[&str] =
    &["comp", "restype", "prefix", "n", "last", "digest", "mount", "from", "artifactType"];

impl fmt::Display for SafeUrl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.0;
        write!(f, "{}://{}", url.scheme(), url.host_str().unwrap_or_default())?;
        if let Some(port) = url.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(url.path())?;
        let mut hidden = false;
        let mut separator = '?';
        for (key, value) in url.query_pairs() {
            if SHOWN_KEYS.contains(&key.as_ref()) {
                write!(
                    f,
                    "{separator}{key}={}",
                    value.chars().filter(|c| !c.is_control()).collect::<String>()
                )?;
                separator = '&';
            } else {
                hidden = true;
            }
        }
        if hidden { write!(f, "{separator}…") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_a_sas_token_is_refused_and_the_token_is_not_repeated() {
        let error = "https://a.blob.core.windows.net/c?sig=SECRET".parse::<ContainerUrl>().unwrap_err();
        assert_eq!(error, ContainerUrlError::CarriesASecret);
        assert!(!error.to_string().contains("SECRET"));
    }

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for good in [
            "http://127.0.0.1:10000/acc/c",
            "http://localhost/acc/c",
            "https://x.example/c/",
            "file:///tmp/x",
        ] {
            assert!(good.parse::<ContainerUrl>().is_ok(), "{good}");
        }
        for bad in [
            "http://x.example/c",
            "https://x.example",
            "https://x.example/",
            "ftp://x/c",
            "nonsense",
            "https://u:p@x/c",
        ] {
            assert!(bad.parse::<ContainerUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_harmless_query_keys_are_shown() {
        let url: Url =
            "https://u:p@h:8443/p?comp=list&sig=SECRET&X-Amz-Signature=SECRET#SECRET".parse().unwrap();
        assert_eq!(SafeUrl(&url).to_string(), "https://h:8443/p?comp=list&…");
    }
}
