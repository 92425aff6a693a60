//! Where requests may go, and where credentials may. Pure but for one memory: what kind of place the registry
//! itself was last resolved to.
//!
//! A registry is not trusted to name hosts. Credentials go to the registry and to hosts that the operator
//! allowed; redirects of reads may go to any public host over TLS, without credentials; nothing that a
//! registry says leads into a private network, unless the registry is in one itself.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

use transship_model::SafeUrl;
use url::{Host, Url};

use crate::address::Place;

/// Why an address is not let through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{to} is not allowed: {reason}")]
pub(crate) struct Denied {
    /// The address, without its query.
    pub(crate) to: String,
    /// Why not.
    pub(crate) reason: &'static str,
}

/// A host that the operator allowed beside the registry: `host`, `host:port`, or `.suffix` for every host below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AllowedHost {
    name: String,
    below: bool,
    port: Option<u16>,
}

impl FromStr for AllowedHost {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (below, rest) = match text.strip_prefix("*.").or_else(|| text.strip_prefix('.')) {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        // Parsing as a URL brings the host into the form that it has in the URLs it is compared with.
        let url: Url = format!("https://{rest}/").parse().map_err(|_| ())?;
        let plain = url.path() == "/" && url.username().is_empty() && url.query().is_none();
        let name = url.host_str().filter(|_| plain && !rest.ends_with('/')).ok_or(())?;
        let explicit_port = rest.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        Ok(Self { name: name.to_owned(), below, port: explicit_port })
    }
}

impl AllowedHost {
    fn matches(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let fits = host == self.name
            || self.below && host.strip_suffix(&self.name).is_some_and(|rest| rest.ends_with('.'));
        match self.port {
            Some(port) => fits && url.port_or_known_default() == Some(port),
            None => fits && url.port().is_none(),
        }
    }

    fn matches_name(&self, name: &str) -> bool {
        name == self.name
            || self.below && name.strip_suffix(&self.name).is_some_and(|rest| rest.ends_with('.'))
    }
}

/// The guard of one registry.
#[derive(Debug)]
pub(crate) struct Guard {
    registry: Url,
    insecure: bool,
    allowed: Vec<AllowedHost>,
    /// Hosts of HTTP proxies in the environment: the operator named them, and they may be private.
    proxies: Vec<String>,
    /// The [`Place`]s that the registry's own name was resolved to, as bits.
    home: AtomicU8,
}

impl Guard {
    /// A guard for `registry`. Plain HTTP is possible only where `insecure` is set or the registry is on loopback.
    pub(crate) fn new(
        registry: Url,
        insecure: bool,
        allowed: Vec<AllowedHost>,
        proxies: Vec<String>,
    ) -> Self {
        let home = AtomicU8::new(0);
        let guard = Self { insecure: insecure || is_loopback(&registry), registry, allowed, proxies, home };
        if let Some(address) = literal(&guard.registry) {
            guard.remember_home(Place::of(address));
        }
        guard
    }

    /// Whether `url` has the registry's own scheme, host and port.
    pub(crate) fn is_registry(&self, url: &Url) -> bool {
        url.origin() == self.registry.origin()
    }

    /// Whether a request with credentials may go to `url`: a token endpoint, an upload location, a next page.
    pub(crate) fn trusted(&self, url: &Url) -> Result<(), Denied> {
        self.well_formed(url)?;
        if self.is_registry(url) {
            return Ok(());
        }
        if !self.is_allowed(url) {
            return Err(denied(url, "it is neither the registry nor one of its allowed hosts"));
        }
        self.scheme(url)
    }

    /// Whether a read may be redirected to `url`. Credentials stay behind unless it is the registry itself.
    pub(crate) fn redirect(&self, url: &Url) -> Result<(), Denied> {
        self.well_formed(url)?;
        if self.is_registry(url) {
            return Ok(());
        }
        self.scheme(url)?;
        match literal(url) {
            Some(address) if !self.is_allowed(url) && !self.may_connect(address) => {
                Err(denied(url, "redirects into a private or special network are not followed"))
            }
            _ => Ok(()),
        }
    }

    /// Which of the addresses of `name` may be connected to. The answer for the registry's own name is
    /// remembered: redirects may stay in the kind of network that the registry is in.
    pub(crate) fn filter(&self, name: &str, addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
        if self.proxies.iter().any(|proxy| proxy == name) {
            return addresses.collect();
        }
        let own = self.registry.host_str() == Some(name);
        let named = own || self.allowed.iter().any(|allowed| allowed.matches_name(name));
        let kept = addresses.filter(|address| match Place::of(*address) {
            Place::Forbidden => false,
            _ => named || self.may_connect(*address),
        });
        let kept: Vec<IpAddr> = kept.collect();
        if own {
            kept.iter().for_each(|address| self.remember_home(Place::of(*address)));
        }
        kept
    }

    fn may_connect(&self, address: IpAddr) -> bool {
        match Place::of(address) {
            Place::Public => true,
            Place::Forbidden => false,
            place => self.home.load(Ordering::Relaxed) & bit(place) != 0,
        }
    }

    fn remember_home(&self, place: Place) {
        self.home.fetch_or(bit(place), Ordering::Relaxed);
    }

    fn is_allowed(&self, url: &Url) -> bool {
        self.allowed.iter().any(|allowed| allowed.matches(url))
    }

    fn scheme(&self, url: &Url) -> Result<(), Denied> {
        let plain_is_meant = self.registry.scheme() == "http" && self.insecure;
        match url.scheme() {
            "https" => Ok(()),
            "http" if plain_is_meant && (self.is_allowed(url) || is_loopback(url)) => Ok(()),
            _ => Err(denied(url, "only https is allowed there")),
        }
    }

    fn well_formed(&self, url: &Url) -> Result<(), Denied> {
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(denied(url, "it is not an address of the web"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(denied(url, "it carries a user"));
        }
        Ok(())
    }
}

fn denied(url: &Url, reason: &'static str) -> Denied {
    Denied { to: SafeUrl(url).to_string(), reason }
}

fn bit(place: Place) -> u8 {
    1 << place as u8
}

fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
    }
}

/// Whether the host of `url` is this machine by its form: `localhost`, or a loopback address.
pub(crate) fn is_loopback(url: &Url) -> bool {
    url.host_str() == Some("localhost")
        || literal(url).is_some_and(|address| Place::of(address) == Place::Loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(registry: &str, insecure: bool, allowed: &[&str]) -> Guard {
        let allowed = allowed.iter().map(|host| host.parse().unwrap()).collect();
        Guard::new(registry.parse().unwrap(), insecure, allowed, vec!["proxy.corp".to_owned()])
    }

    fn trusted(guard: &Guard, url: &str) -> bool {
        guard.trusted(&url.parse().unwrap()).is_ok()
    }

    fn redirect(guard: &Guard, url: &str) -> bool {
        guard.redirect(&url.parse().unwrap()).is_ok()
    }

    #[test]
    fn credentials_go_to_the_registry_and_to_allowed_hosts_only() {
        let guard = guard("https://r.example", false, &["auth.example", ".blobs.example", "minio.corp:9000"]);
        for good in [
            "https://r.example/token",
            "https://r.example:443/token",
            "https://auth.example/token",
            "https://blobs.example/x",
            "https://a.b.blobs.example/x",
            "https://minio.corp:9000/x",
        ] {
            assert!(trusted(&guard, good), "{good}");
        }
        for bad in [
            "http://r.example/token",
            "https://r.example:8443/token",
            "https://r.example.evil.example/",
            "https://evil-blobs.example/",
            "https://xauth.example/",
            "https://sub.auth.example/",
            "http://auth.example/token",
            "https://minio.corp/x",
            "https://minio.corp:9001/x",
            "https://u:p@r.example/",
            "ftp://r.example/",
            "file:///etc/passwd",
            "data:,x",
        ] {
            assert!(!trusted(&guard, bad), "{bad}");
        }
    }

    #[test]
    fn reads_may_be_redirected_to_public_hosts_over_tls_only() {
        let guard = guard("https://r.example", false, &["10.0.0.7"]);
        for good in [
            "https://x.blob.core.windows.net/c?sig=S",
            "https://8.8.8.8/",
            "https://10.0.0.7/",
            "https://r.example/x",
        ] {
            assert!(redirect(&guard, good), "{good}");
        }
        for bad in [
            "http://x.blob.core.windows.net/",
            "http://r.example/",
            "https://127.0.0.1/",
            "https://10.0.0.1/",
            "https://169.254.169.254/latest",
            "https://[::ffff:169.254.169.254]/",
            "https://[::1]/",
            "https://0x7f.1/",
            "https://2130706433/",
            "file:///etc/passwd",
        ] {
            assert!(!redirect(&guard, bad), "{bad}");
        }
    }

    #[test]
    fn a_registry_on_this_machine_may_redirect_to_this_machine_and_no_further() {
        let guard = guard("http://127.0.0.1:5000", false, &[]);
        assert!(redirect(&guard, "http://127.0.0.1:5001/x") && redirect(&guard, "http://localhost:5001/x"));
        for bad in
            ["http://10.0.0.1/", "http://169.254.169.254/", "http://public.example/", "https://10.0.0.1/"]
        {
            assert!(!redirect(&guard, bad), "{bad}");
        }
        assert!(!trusted(&guard, "http://127.0.0.1:5001/token"), "another port is another server");
    }

    #[test]
    fn an_insecure_registry_keeps_plain_http_to_itself_and_to_allowed_hosts() {
        let guard = guard("http://10.0.0.5:5000", true, &["10.0.0.6:9000"]);
        assert!(trusted(&guard, "http://10.0.0.5:5000/t") && trusted(&guard, "http://10.0.0.6:9000/t"));
        assert!(redirect(&guard, "https://10.0.0.8/"), "the same kind of network");
        assert!(!redirect(&guard, "http://10.0.0.8/") && !trusted(&guard, "http://10.0.0.8/"));
        assert!(!redirect(&guard, "https://127.0.0.1/"));
    }

    #[test]
    fn a_name_is_as_good_as_the_addresses_it_resolves_to() {
        let guard = guard("https://r.example", false, &["minio.corp"]);
        let addresses = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<IpAddr>>();
        let kept = |name: &str, texts: &[&str]| guard.filter(name, addresses(texts).into_iter());
        let mixed = ["8.8.8.8", "10.0.0.1", "127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1"];
        assert_eq!(kept("elsewhere.example", &mixed), addresses(&["8.8.8.8"]));
        assert_eq!(kept("minio.corp", &["10.0.0.1", "169.254.169.254"]), addresses(&["10.0.0.1"]));
        assert_eq!(kept("proxy.corp", &["10.0.0.2"]), addresses(&["10.0.0.2"]));
        assert!(
            kept("r.example", &["169.254.169.254"]).is_empty(),
            "not even the registry is a metadata service"
        );
        assert_eq!(kept("r.example", &["10.0.0.9"]), addresses(&["10.0.0.9"]));
        assert_eq!(kept("elsewhere.example", &mixed), addresses(&["8.8.8.8", "10.0.0.1", "::ffff:10.0.0.1"]));
    }

    #[test]
    fn a_host_that_cannot_be_one_is_refused_and_no_query_is_repeated() {
        for bad in ["", "https://x", "a/b", "a?b", "u@a", "a b", "a:99999", "a/"] {
            assert!(bad.parse::<AllowedHost>().is_err(), "{bad:?}");
        }
        let denied = guard("https://r.example", false, &[])
            .trusted(&"https://e.example/p?sig=CANARY".parse().unwrap());
        assert!(!denied.unwrap_err().to_string().contains("CANARY"));
    }
}
