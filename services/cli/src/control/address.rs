//! The address of a control plane. A bearer token goes over TLS, or does not leave this machine.

use std::net::IpAddr;

use url::{Host, Url};

use crate::exit::Problem;

/// The control plane at `text`.
///
/// # Errors
/// Where it is no URL, or plain HTTP to another machine, or carries what an address must not.
pub(crate) fn parse(text: &str) -> Result<Url, Problem> {
    const SHAPE: &str = "a control plane is https://HOST[:PORT], or http://127.0.0.1:PORT on this machine";
    let url: Url = text.parse().map_err(|error| {
        Problem::usage("the control plane's address is no URL").caused_by(&error).hint(SHAPE)
    })?;
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        let problem =
            Problem::usage("the control plane's address must not carry a user, a password or a query");
        return Err(problem.hint("put the token into a file: `transship context set NAME --token-file FILE`"));
    }
    let host = url.host().map(|host| host.to_owned());
    match (url.scheme(), host) {
        ("https", Some(_)) => Ok(url),
        ("http", Some(host)) if is_this_machine(&host) => Ok(url),
        ("http", Some(host)) => {
            Err(Problem::usage(format!("plain http to {host} would show the token to the network"))
                .hint("use https; a certificate authority of your own is named by --ca-file"))
        }
        _ => Err(Problem::usage("the control plane's address is not one of HTTP").hint(SHAPE)),
    }
}

/// Whether the address is one of this machine.
pub(crate) fn is_local(url: &Url) -> bool {
    url.host().is_some_and(|host| is_this_machine(&host.to_owned()))
}

fn is_this_machine(host: &Host<String>) -> bool {
    match host {
        Host::Domain(name) => name.eq_ignore_ascii_case("localhost"),
        Host::Ipv4(address) => IpAddr::from(*address).is_loopback(),
        Host::Ipv6(address) => IpAddr::from(*address).is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_this_machine() {
        for (text, fine) in [
            ("https://transship.example", true),
            ("https://transship.example:8443/base", true),
            ("http://127.0.0.1:8080", true),
            ("http://localhost:8080", true),
            ("http://[::1]:8080", true),
            ("http://transship.example", false),
            ("http://localhost.example", false),
            ("http://10.0.0.1", false),
            ("https://user:CANARY@transship.example", false),
            ("https://transship.example?token=CANARY", false),
            ("ftp://transship.example", false),
            ("transship.example", false),
            ("", false),
        ] {
            match parse(text) {
                Ok(_) => assert!(fine, "{text}"),
                Err(problem) => {
                    assert!(
                        !fine && problem.exit.code() == 2 && problem.hint.is_some(),
                        "{text}: {problem:?}"
                    );
                    assert!(!format!("{problem:?}").contains("CANARY"), "{problem:?}");
                }
            }
        }
    }
}
