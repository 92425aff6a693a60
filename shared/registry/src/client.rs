//! The client of one registry.

use std::fmt;
use std::sync::Arc;

use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderValue};
use transship_model::{Digest, MediaType, Repository, Selector};
use url::Url;

use crate::auth::Auth;
use crate::call::{Call, Scopes};
use crate::guard::Guard;
use crate::pace::{Gate, Lanes};
use crate::resolver::proxies_of_environment;
use crate::settings::{parse_allowed, parse_url};
use crate::transport::Transport;
use crate::upload::Forms;
use crate::wire::Wire;
use crate::{RegistryError, RegistrySettings, SettingsError};

/// Speaks to one registry (OCI distribution specification 1.1). Cheap to clone; clones share connections,
/// tokens, pace, and what was learned of the registry.
#[derive(Clone)]
pub struct RegistryClient {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) base: Url,
    pub(crate) wire: Wire,
    pub(crate) forms: Forms,
}

impl RegistryClient {
    /// A client for these settings. Nothing is sent yet.
    ///
    /// # Errors
    /// [`RegistryError::Settings`] where the settings cannot be used.
    pub fn new(settings: RegistrySettings) -> Result<Self, RegistryError> {
        Self::build(settings).map_err(RegistryError::Settings)
    }

    fn build(settings: RegistrySettings) -> Result<Self, SettingsError> {
        let base = parse_url(&settings.url, settings.insecure)?;
        let allowed = parse_allowed(&settings.allowed_hosts, &base)?;
        let host = authority(&base);
        let guard = Guard::new(base.clone(), settings.insecure, allowed, proxies_of_environment());
        let guard = Arc::new(guard);
        let limits = settings.limits;
        let plain = base.scheme() == "http";
        let transport = Transport::new(guard.clone(), &limits, settings.ca_bundle.as_deref(), plain)?;
        let wire = Wire {
            auth: Auth::new(host.clone(), settings.credentials),
            lanes: Lanes::new(limits.connections),
            gate: Gate::default(),
            transport,
            guard,
            limits,
            host,
        };
        Ok(Self { inner: Arc::new(Inner { base, wire, forms: Forms::default() }) })
    }
}

impl fmt::Debug for RegistryClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryClient").field("host", &self.inner.wire.host).finish_non_exhaustive()
    }
}

/// Host and port, as messages and configuration files name a registry.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

impl Inner {
    /// The address of something in a repository. Repositories, tags and digests have grammars that cannot
    /// leave their place in a path.
    pub(crate) fn address(&self, repository: &Repository, rest: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{repository}/{rest}"));
        url
    }

    /// A question about a manifest, with everything that may be answered.
    pub(crate) fn manifest_call(&self, method: Method, repository: &Repository, selector: &Selector) -> Call {
        let url = self.address(repository, &format!("manifests/{selector}"));
        let operation = format!("read manifest {repository} {selector}");
        Call::new(method, url, Scopes::pull(repository), operation).header(ACCEPT, accept())
    }

    /// A question about a blob.
    pub(crate) fn blob_call(&self, method: Method, repository: &Repository, digest: &Digest) -> Call {
        let url = self.address(repository, &format!("blobs/{digest}"));
        Call::new(method, url, Scopes::pull(repository), format!("read blob {repository} {digest}"))
    }
}

/// Every type of manifest that is known by name, and whatever else there is: without the names some registries
/// convert, and without the rest some refuse.
fn accept() -> HeaderValue {
    const TYPES: [&str; 5] = [
        MediaType::OCI_INDEX,
        MediaType::OCI_MANIFEST,
        MediaType::DOCKER_LIST,
        MediaType::DOCKER_MANIFEST,
        MediaType::OCI_ARTIFACT,
    ];
    HeaderValue::from_str(&format!("{}, */*;q=0.1", TYPES.join(", "))).expect("media types are plain ASCII")
}
