//! One request, one answer: the HTTP client with its guard and its timeouts, and what can go wrong below HTTP.

use std::error::Error as StdError;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, ClientBuilder, Request, Response};

use crate::guard::{Denied, Guard};
use crate::resolver::{GuardedResolver, NameRefused};
use crate::{Limits, RegistryError, SettingsError};

/// The name under which transship is known to registries.
const USER_AGENT: &str = concat!("transship/", env!("CARGO_PKG_VERSION"));
/// The longest part of a low-level message that is repeated.
const MAX_REASON: usize = 200;

/// Why a request got no answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Nobody answered, or not in time. It may pass.
    Lost(String),
    /// It would go where it must not.
    Denied(Denied),
    /// The content that was to be sent could not be read.
    Content(String),
    /// Whatever it is, another try of the same request does not help.
    Final(RegistryError),
}

impl From<Denied> for Fault {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl From<RegistryError> for Fault {
    fn from(error: RegistryError) -> Self {
        Self::Final(error)
    }
}

impl Fault {
    /// The error for whoever asked.
    pub(crate) fn into_error(self, host: &str, operation: &str) -> RegistryError {
        let (host, operation) = (host.to_owned(), operation.to_owned());
        match self {
            Self::Lost(reason) => RegistryError::Unavailable { host, operation, reason, retry_after: None },
            Self::Denied(Denied { to, reason }) => RegistryError::EgressDenied { host, to, reason },
            Self::Content(reason) => RegistryError::Content { host, operation, reason },
            Self::Final(error) => error,
        }
    }
}

/// Sends requests. Never follows a redirect, never retries, never adds a credential by itself.
pub(crate) struct Transport {
    client: Client,
    /// From the start of a request without bulk to its answer.
    patience: Duration,
}

impl Transport {
    /// Sets up the client of one registry.
    pub(crate) fn new(
        guard: Arc<Guard>,
        limits: &Limits,
        ca_bundle: Option<&Path>,
        plain: bool,
    ) -> Result<Self, SettingsError> {
        let authorities = ca_bundle.map(certificates).transpose()?.unwrap_or_default();
        let system = builder(guard.clone(), limits).tls_certs_merge(authorities.clone()).build();
        let client = match system {
            // A machine without any certificate authorities can still speak plain HTTP.
            Err(_) if plain => builder(guard, limits).tls_certs_only(authorities).build(),
            result => result,
        };
        let client = client.map_err(|error| SettingsError::Tls(reason(&error)))?;
        Ok(Self { client, patience: limits.connect + limits.idle })
    }

    /// Sends a request whose body is at hand, and waits for the head of the answer.
    pub(crate) async fn send(&self, request: Request) -> Result<Response, Fault> {
        match tokio::time::timeout(self.patience, self.client.execute(request)).await {
            Ok(answer) => answer.map_err(|error| fault(&error)),
            Err(_) => Err(Fault::Lost("no answer in time".to_owned())),
        }
    }

    /// Sends a request whose body streams; whoever made the body watches over it.
    pub(crate) async fn send_stream(&self, request: Request) -> Result<Response, Fault> {
        self.client.execute(request).await.map_err(|error| fault(&error))
    }
}

fn builder(guard: Arc<Guard>, limits: &Limits) -> ClientBuilder {
    let mut headers = HeaderMap::new();
    // Digests are of the bytes on the wire: nobody may compress them on the way.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    // Azure Container Registry asks its clients to say who they are.
    headers.insert(HeaderName::from_static("x-meta-source-client"), HeaderValue::from_static("transship"));
    Client::builder()
        .user_agent(USER_AGENT)
        .default_headers(headers)
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(limits.connect)
        // All streams of one HTTP/2 connection share one congestion window: bulk wants several connections.
        .http1_only()
        .pool_max_idle_per_host(limits.connections)
        .pool_idle_timeout(Duration::from_secs(30))
        .tcp_nodelay(true)
        .dns_resolver(Arc::new(GuardedResolver { guard }))
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, SettingsError> {
    let failed = |reason: String| SettingsError::CaBundle { path: path.display().to_string(), reason };
    let pem = std::fs::read(path).map_err(|error| failed(error.kind().to_string()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| failed(reason(&error)))?;
    if found.is_empty() { Err(failed("it has no certificate".to_owned())) } else { Ok(found) }
}

fn fault(error: &reqwest::Error) -> Fault {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(refused) = cause.downcast_ref::<NameRefused>() {
            let reason = "its name resolves into a private or special network";
            return Fault::Denied(Denied { to: refused.name.clone(), reason });
        }
        source = cause.source();
    }
    Fault::Lost(reason(error))
}

/// What happened, in a few words. The text of `reqwest` itself holds the whole URL, so only the kind and the
/// innermost cause are told.
pub(crate) fn reason(error: &reqwest::Error) -> String {
    let kind = match error {
        error if error.is_timeout() => "timed out",
        error if error.is_connect() => "no connection",
        error if error.is_body() || error.is_decode() => "the connection broke in the middle",
        error if error.is_builder() => "not a valid request",
        _ => "the connection broke",
    };
    let mut innermost: Option<&dyn StdError> = error.source();
    while let Some(deeper) = innermost.and_then(StdError::source) {
        innermost = Some(deeper);
    }
    match innermost {
        Some(cause) => format!("{kind}: {}", tidy(&cause.to_string())),
        None => kind.to_owned(),
    }
}

/// One line, short, without control characters.
pub(crate) fn tidy(text: &str) -> String {
    text.chars().take(MAX_REASON).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
