//! Free loopback ports.

use std::net::{Ipv4Addr, TcpListener};

use crate::random;

/// Below the range from which the kernel takes ports for outgoing connections, so that a server that was
/// stopped finds its port free when it starts again.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A TCP port that nobody listens on at this moment, on 127.0.0.1.
///
/// The port is not reserved; whoever binds it must be ready to try another one.
///
/// # Panics
/// Where no port is free.
pub fn free_port() -> u16 {
    (0..1_000)
        .map(|_| FIRST + u16::from_le_bytes(random::bytes()) % COUNT)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("one of a thousand random ports is free")
}

/// Whether something accepts connections at this port of 127.0.0.1.
pub(crate) async fn accepts(port: u16) -> bool {
    tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok()
}
