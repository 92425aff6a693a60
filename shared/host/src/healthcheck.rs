//! The health check of a container: asks the process's own `/readyz`, without a shell and without a client in
//! the image.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::HostSettings;

/// How long connecting, and each read, may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// The most of an answer that is read, in bytes.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// Why the process is not healthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthcheckError {
    /// Where the process listens is not known: port 0 is asked for, and there is no address file.
    #[error(
        "the address of the process is not known: host.listen has port 0, and host.address_file holds none"
    )]
    NoAddress,
    /// Nobody answers.
    #[error("no answer from {address}")]
    NoAnswer {
        /// Where it was asked.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// It answers that it is not ready.
    #[error("not ready: {0}")]
    NotReady(String),
}

/// Asks the process that runs with the same settings whether it is ready. Waits for a few seconds at most.
///
/// # Errors
/// [`HealthcheckError`].
pub fn healthcheck(settings: &HostSettings) -> Result<(), HealthcheckError> {
    let address = reachable(bound_address(settings).ok_or(HealthcheckError::NoAddress)?);
    let answer = ask(address).map_err(|source| HealthcheckError::NoAnswer { address, source })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(HealthcheckError::NotReady(body.trim().to_owned())),
    }
}

fn bound_address(settings: &HostSettings) -> Option<SocketAddr> {
    if settings.listen.port() != 0 {
        return Some(settings.listen);
    }
    std::fs::read_to_string(settings.address_file.as_ref()?).ok()?.trim().parse().ok()
}

/// A process that listens on every address is asked on this machine's own.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

fn ask(address: SocketAddr) -> io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&address, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    write!(connection, "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    connection.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
