//! What single registries need to be known about them. Pure.

use url::Url;

/// The key of Docker Hub in Docker's configuration file and in credential helpers.
pub(crate) const HUB_KEY: &str = "https://index.docker.io/v1/";

/// Where Docker Hub answers.
const HUB_HOST: &str = "registry-1.docker.io";

/// Whether `host` is one of the names of Docker Hub.
pub(crate) fn is_hub(host: &str) -> bool {
    matches!(host, "docker.io" | "index.docker.io" | HUB_HOST)
}

/// The address at which a registry really answers: Docker Hub is known by names that serve no registry.
pub(crate) fn real_address(mut url: Url) -> Url {
    if url.scheme() == "https" && url.port().is_none() && url.host_str().is_some_and(is_hub) {
        // Setting a host that is a valid domain on an https URL cannot fail.
        let _ = url.set_host(Some(HUB_HOST));
    }
    url
}

/// Hosts that a well-known registry uses beside its own, for tokens.
pub(crate) fn companions(registry: &Url) -> &'static [&'static str] {
    match registry.host_str() {
        Some(HUB_HOST) => &["auth.docker.io"],
        Some("registry.gitlab.com") => &["gitlab.com"],
        _ => &[],
    }
}
