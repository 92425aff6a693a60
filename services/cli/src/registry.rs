//! Registries as a person names them: a host or a URL, with the credentials of the Docker configuration.

use std::net::IpAddr;
use std::sync::Arc;

use transship_model::Failure;
use transship_registry::{DockerConfig, RegistryClient, RegistrySettings};

use crate::args::ReachArgs;
use crate::exit::Problem;

/// A client of the registry `text`, which is a host or a URL. Plain HTTP is for this machine, and for hosts that
/// `reach` names insecure.
///
/// # Errors
/// Where the text is not the address of a registry, or a host that is allowed beside it is not a host.
pub(crate) fn connect(text: &str, reach: &ReachArgs) -> Result<RegistryClient, Problem> {
    let address = address(text, &reach.insecure);
    let mut settings =
        RegistrySettings::new(&address.url).with_credentials(Arc::new(DockerConfig::from_environment()));
    settings.insecure = address.insecure;
    settings.allowed_hosts.clone_from(&reach.allowed);
    RegistryClient::new(settings).map_err(|error| {
        let problem = Problem::from(Failure::from(error));
        match address.url.starts_with("http://") && !address.insecure {
            true => problem.hint(format!("use https, or say --insecure-registry {}", address.host)),
            false => problem.hint("a registry is HOST, HOST:PORT, https://HOST or https://HOST:PORT"),
        }
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Address {
    url: String,
    host: String,
    insecure: bool,
}

/// What `text` means: a URL as it is, a host by HTTPS unless it is this machine or named insecure.
fn address(text: &str, insecure: &[String]) -> Address {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host_of(authority);
    let insecure = insecure.iter().any(|named| *named == authority || *named == host);
    let url = match scheme {
        Some(_) => text.to_owned(),
        None if insecure || is_this_machine(host) => format!("http://{text}"),
        None => format!("https://{text}"),
    };
    Address { url, host: host.to_owned(), insecure }
}

/// The host of `HOST:PORT`, `[IPV6]:PORT` or either without a port.
fn host_of(authority: &str) -> &str {
    if let Some(end) = authority.strip_prefix('[').and_then(|rest| rest.find(']')) {
        return &authority[1..=end];
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_means_https_unless_it_is_here_or_named_insecure() {
        let insecure = ["10.0.0.1:5000".to_owned(), "plain.example".to_owned()];
        for (text, url, is_insecure) in [
            ("r.example", "https://r.example", false),
            ("r.example:8443", "https://r.example:8443", false),
            ("localhost:5000", "http://localhost:5000", false),
            ("127.0.0.1:5000", "http://127.0.0.1:5000", false),
            ("[::1]:5000", "http://[::1]:5000", false),
            ("https://localhost:5000", "https://localhost:5000", false),
            ("10.0.0.1:5000", "http://10.0.0.1:5000", true),
            ("10.0.0.1:5001", "https://10.0.0.1:5001", false),
            ("plain.example:80", "http://plain.example:80", true),
            ("http://plain.example", "http://plain.example", true),
            ("http://r.example", "http://r.example", false),
        ] {
            let found = address(text, &insecure);
            assert_eq!((found.url.as_str(), found.insecure), (url, is_insecure), "{text}");
        }
    }

    #[test]
    fn plain_http_to_another_machine_is_refused_with_the_option_that_allows_it() {
        let nothing = ReachArgs::default();
        let problem = connect("http://r.example:5000", &nothing).map(drop).unwrap_err();
        assert_eq!(problem.exit.code(), 2);
        assert_eq!(problem.hint.unwrap(), "use https, or say --insecure-registry r.example");
        let named = ReachArgs { insecure: vec!["r.example".to_owned()], ..ReachArgs::default() };
        assert!(connect("http://r.example:5000", &named).is_ok());
        let problem = connect("https://r.example/v2", &nothing).map(drop).unwrap_err();
        assert!(problem.hint.unwrap().starts_with("a registry is HOST"));
    }
}
