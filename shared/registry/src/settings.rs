//! How a registry is reached.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::guard::{AllowedHost, is_loopback};
use crate::{CredentialSource, StaticCredentials, quirks};

/// The settings of one registry.
#[derive(Clone)]
pub struct RegistrySettings {
    /// `https://HOST[:PORT]`; `http://` for this machine, or where `insecure` is set. `docker.io` is Docker Hub.
    pub url: String,
    /// Whether plain HTTP is meant, though the registry is not on this machine.
    pub insecure: bool,
    /// Who knows the credentials.
    pub credentials: Arc<dyn CredentialSource>,
    /// Hosts that belong to the registry: token endpoints and upload locations there get credentials, and
    /// redirects there may lead into a private network. `host`, `host:port`, or `.suffix` for a host and all
    /// hosts below it.
    pub allowed_hosts: Vec<String>,
    /// A PEM file with further certificate authorities, beside those of the system.
    pub ca_bundle: Option<PathBuf>,
    /// The bounds.
    pub limits: Limits,
}

impl RegistrySettings {
    /// Settings with nothing special: anonymous, over TLS unless `url` says `http://` to this machine.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            insecure: false,
            credentials: Arc::new(StaticCredentials::anonymous()),
            allowed_hosts: Vec::new(),
            ca_bundle: None,
            limits: Limits::default(),
        }
    }

    /// The same with these credentials.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Arc<dyn CredentialSource>) -> Self {
        self.credentials = credentials;
        self
    }
}

/// The bounds of a client. The defaults are safe for every registry that is known.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Requests in flight at once, uploads and reads of blobs included; at least 1. Where it is more than 1,
    /// one is kept for requests without bulk. A read of a blob counts until it is dropped, so a caller that
    /// copies within one registry holds fewer reads open than this.
    pub connections: usize,
    /// Until a connection stands, TLS included.
    pub connect: Duration,
    /// Without a single byte, in either direction.
    pub idle: Duration,
    /// Until the registry answers after the last byte of an upload: it may have to copy the blob by then.
    pub commit: Duration,
    /// The slowest stream that is not cut, in bytes a second over a minute of waiting. 0 allows every speed.
    pub minimum_throughput: u64,
    /// Tries of a request that may be repeated; at least 1.
    pub tries: usize,
    /// The pause before the second try; it doubles up to 30 s, with jitter.
    pub first_pause: Duration,
    /// The longest `Retry-After` that is waited for in the process.
    pub longest_pause: Duration,
    /// The size of the pieces in which a layer is pushed where a registry takes no larger body, in bytes.
    pub chunk: u64,
    /// The size of those pieces where it refuses even that.
    pub small_chunk: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16,
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            commit: Duration::from_secs(300),
            minimum_throughput: 64 * 1024,
            tries: 5,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(60),
            chunk: 16 * 1024 * 1024,
            small_chunk: 4 * 1024 * 1024,
        }
    }
}

/// Why the settings of a registry cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The address is not one of a registry.
    #[error("{0:?} is not the address of a registry: expected https://HOST or https://HOST:PORT")]
    Url(String),
    /// Plain HTTP to another machine, without saying so.
    #[error("plain http to {0} needs `insecure`; only this machine may do without")]
    PlainHttp(String),
    /// An allowed host that cannot be one.
    #[error("{0:?} is not a host: expected HOST, HOST:PORT or .SUFFIX")]
    AllowedHost(String),
    /// The file of certificate authorities cannot be read.
    #[error("the certificate authorities in {path} cannot be used: {reason}")]
    CaBundle {
        /// The file.
        path: String,
        /// Why not.
        reason: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// The address of a registry, checked: scheme, host and port, nothing else.
pub(crate) fn parse_url(text: &str, insecure: bool) -> Result<Url, SettingsError> {
    // An address may be a mistake that carries a secret, so only its beginning is repeated, without a user.
    let shown = || text.rsplit('@').next().unwrap_or_default().chars().take(100).collect::<String>();
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url: Url = with_scheme.parse().map_err(|_| SettingsError::Url(shown()))?;
    let plain = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    let no_user = url.username().is_empty() && url.password().is_none();
    if !(plain && no_user && matches!(url.scheme(), "http" | "https") && url.host().is_some()) {
        return Err(SettingsError::Url(shown()));
    }
    if url.scheme() == "http" && !insecure && !is_loopback(&url) {
        return Err(SettingsError::PlainHttp(shown()));
    }
    Ok(quirks::real_address(url))
}

/// The allowed hosts, with those that every installation of a known registry needs.
pub(crate) fn parse_allowed(texts: &[String], registry: &Url) -> Result<Vec<AllowedHost>, SettingsError> {
    let companions = quirks::companions(registry).iter().map(|host| (*host).to_owned());
    let all = texts.iter().cloned().chain(companions);
    all.map(|text| text.parse().map_err(|()| SettingsError::AllowedHost(text.chars().take(100).collect())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_registry_is_scheme_host_and_port() {
        for (text, insecure, expected) in [
            ("https://r.example", false, "https://r.example/"),
            ("r.example:8443", false, "https://r.example:8443/"),
            ("http://127.0.0.1:5000", false, "http://127.0.0.1:5000/"),
            ("http://localhost:5000/", false, "http://localhost:5000/"),
            ("http://10.0.0.1:5000", true, "http://10.0.0.1:5000/"),
            ("docker.io", false, "https://registry-1.docker.io/"),
        ] {
            assert_eq!(parse_url(text, insecure).unwrap().as_str(), expected, "{text}");
        }
        assert!(matches!(parse_url("http://10.0.0.1:5000", false), Err(SettingsError::PlainHttp(_))));
        for bad in [
            "",
            "https://",
            "https://r.example/v2",
            "https://r.example?x=1",
            "ftp://r.example",
            "https://u:CANARY@r.example",
        ] {
            let error = parse_url(bad, true).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("CANARY"), "{bad}");
        }
        assert!(parse_allowed(&["a/b".to_owned()], &"https://r".parse().unwrap()).is_err());
    }
}
