//! Which hosts a token may be sent to: an allow-list of host names and suffixes.

use url::Url;

/// The hosts that a process sends tokens to. Whatever is not in the list gets no request at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHosts(Vec<String>);

/// Why an entry cannot be in the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{entry:?} is neither a host (`host` or `host:port`) nor a suffix of two labels or more (`.a.b`)")]
pub struct HostEntryError {
    /// The entry.
    pub entry: String,
}

impl AllowedHosts {
    /// The hosts that `entries` name: `.suffix` for every host below it (on the port of https), `host` or
    /// `host:port` for exactly this one.
    ///
    /// # Errors
    /// For the first entry that is neither. A suffix of one label would let in a whole top-level domain.
    pub fn new<S: AsRef<str>>(entries: impl IntoIterator<Item = S>) -> Result<Self, HostEntryError> {
        let read = |entry: S| {
            let text = entry.as_ref().trim().to_ascii_lowercase();
            match is_entry(&text) {
                true => Ok(text),
                false => Err(HostEntryError { entry: entry.as_ref().to_owned() }),
            }
        };
        entries.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Whether `host` (with its port, where that is not the port of https) is in the list.
    pub fn allows(&self, host: &str) -> bool {
        let host = host.strip_suffix(":443").unwrap_or(host).to_ascii_lowercase();
        self.0.iter().any(|entry| match entry.starts_with('.') {
            true => host.strip_suffix(entry.as_str()).is_some_and(is_below),
            false => host == *entry,
        })
    }

    /// The entries, as a message lists them.
    pub fn listed(&self) -> String {
        self.0.join(", ")
    }
}

/// What stands before a suffix: labels, and neither a port nor a user, which a host name cannot have.
fn is_below(labels: &str) -> bool {
    !labels.is_empty() && labels.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

fn is_entry(text: &str) -> bool {
    if let Some(suffix) = text.strip_prefix('.') {
        return suffix.contains('.') && suffix.split('.').all(is_label);
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, "443"));
    let is_address = host.starts_with('[') && host.ends_with(']') && host.len() > 2;
    port.parse::<u16>().is_ok() && (is_address || (!host.is_empty() && host.split('.').all(is_label)))
}

/// The host of `url`, with its port where that is not the scheme's.
pub fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Whether `url` leads to this machine by its form: `localhost` or a loopback address.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_lets_in_what_is_below_it_and_nothing_that_only_looks_like_it() {
        let hosts = AllowedHosts::new([".vault.azure.net", "kv.example:8443", "127.0.0.1:9"]).unwrap();
        for (host, allowed) in [
            ("team.vault.azure.net", true),
            ("Team.Vault.Azure.Net", true),
            ("team.vault.azure.net:443", true),
            ("a.privatelink.vault.azure.net", true),
            ("kv.example:8443", true),
            ("127.0.0.1:9", true),
            ("vault.azure.net", false),
            (".vault.azure.net", false),
            ("team.vault.azure.net.evil.example", false),
            ("teamvault.azure.net", false),
            ("evilvault.azure.net", false),
            ("team.vault.azure.net.", false),
            ("team.vault.azure.net:8443", false),
            ("evil.example:1.vault.azure.net", false),
            ("evil.example/.vault.azure.net", false),
            ("u@.vault.azure.net", false),
            ("kv.example", false),
            ("127.0.0.1:8", false),
            ("", false),
        ] {
            assert_eq!(hosts.allows(host), allowed, "{host}");
        }
    }

    #[test]
    fn an_entry_that_would_let_in_the_world_is_refused() {
        for bad in ["", ".", ".net", "..a.b", "https://a.b", "a.b/c", "*.a.b", ".a.b:443", "a.b:x"] {
            assert!(AllowedHosts::new([bad]).is_err(), "{bad:?}");
        }
        assert!(AllowedHosts::new(["[::1]:8443", "localhost", " .A.B "]).is_ok());
    }
}
