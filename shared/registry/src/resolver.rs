//! Resolves names within the guard. What was checked is what is connected to, so a name cannot answer twice
//! with different addresses.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::guard::Guard;

/// The resolver of a client's connections.
pub(crate) struct GuardedResolver {
    pub(crate) guard: Arc<Guard>,
}

/// None of the addresses of a name may be connected to.
#[derive(Debug, thiserror::Error)]
#[error("{name} resolves into a private or special network")]
pub(crate) struct NameRefused {
    /// The name.
    pub(crate) name: String,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.guard.clone();
        Box::pin(async move {
            let name = name.as_str().to_ascii_lowercase();
            let found: Vec<IpAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.map(|address| address.ip()).collect();
            let had_some = !found.is_empty();
            let kept = guard.filter(&name, found.into_iter());
            if kept.is_empty() && had_some {
                return Err(NameRefused { name }.into());
            }
            // The port 0 is replaced by the one of the URL.
            Ok(Box::new(kept.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

/// The hosts of the proxies that the environment names. They resolve names themselves, so behind one the
/// addresses of other hosts cannot be checked here, and it is the proxy that keeps them.
pub(crate) fn proxies_of_environment() -> Vec<String> {
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
        .iter()
        .filter_map(|name| std::env::var(name).ok())
        .filter_map(|value| {
            let address = if value.contains("://") { value } else { format!("http://{value}") };
            Some(address.parse::<url::Url>().ok()?.host_str()?.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn resolve(registry: &str) -> Result<Vec<SocketAddr>, String> {
        let guard = Guard::new(registry.parse().unwrap(), false, Vec::new(), Vec::new());
        let resolver = GuardedResolver { guard: Arc::new(guard) };
        match resolver.resolve("localhost".parse().unwrap()).await {
            Ok(addresses) => Ok(addresses.collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_this_machine_is_refused_unless_the_registry_is_here() {
        let refused = resolve("https://registry.example").await.unwrap_err();
        assert!(refused.contains("private or special network"), "{refused}");
        for here in ["http://localhost:5000", "http://127.0.0.1:5000"] {
            assert!(resolve(here).await.unwrap().iter().all(|address| address.ip().is_loopback()));
        }
    }
}
