//! The TCP stream below a connection, kept by a second handle: lapin runs a connection on a thread of its own
//! that only ends with its stream, so whoever can end the stream can end the thread.

use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::tcp::OwnedTLSConfig;
use lapin::uri::AMQPScheme;
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::settings::{Address, BusSettings};

/// A handle on a stream that somebody else owns. Cutting it twice, or before it exists, does nothing.
#[derive(Clone, Default)]
pub(super) struct Socket(Arc<Mutex<Option<socket2::Socket>>>);

impl Socket {
    fn keep(&self, stream: &TcpStream) -> std::io::Result<()> {
        // One publish and its confirm are two small packets that wait for each other.
        stream.set_nodelay(true)?;
        let socket = socket2::SockRef::from(stream).try_clone()?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket);
        Ok(())
    }

    /// Ends the stream, and with it lapin's thread.
    pub(super) fn cut(&self) {
        if let Some(socket) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A stream that its peer has ended already cannot be shut down, and need not be.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// The stream of an attempt. Where the attempt fails, takes too long or is abandoned, the stream is cut: a
/// peer that accepts and never speaks would keep a thread for each.
struct Attempt(Option<Socket>);

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(socket) = self.0.take() {
            socket.cut();
        }
    }
}

/// Opens a connection: TCP, TLS, and the handshake of AMQP, all within the connect timeout.
pub(super) async fn open(
    address: &Address,
    settings: &BusSettings,
    role: &str,
) -> Result<(Connection, Socket), String> {
    let limit = settings.connect_timeout;
    let socket = Socket::default();
    let mut attempt = Attempt(Some(socket.clone()));
    let properties = ConnectionProperties::default()
        .with_connection_name(format!("{} {role}", settings.connection_name).into());
    match timeout(limit, connector(address, settings, socket.clone(), properties)).await {
        Ok(Ok(connection)) => {
            attempt.0 = None;
            Ok((connection, socket))
        }
        Ok(Err(error)) => Err(format!("{}: {}", address.shown, address.describe(&error))),
        Err(_) => Err(format!("{}: no answer within {limit:?}", address.shown)),
    }
}

async fn connector(
    address: &Address,
    settings: &BusSettings,
    socket: Socket,
    properties: ConnectionProperties,
) -> lapin::Result<Connection> {
    let tls = OwnedTLSConfig { identity: None, cert_chain: settings.ca_bundle.clone() };
    let limit = settings.connect_timeout;
    Connection::connector(
        address.uri.clone(),
        lapin::runtime::default_runtime()?,
        async move |uri, runtime| {
            let authority = &uri.authority;
            let hosts =
                within(limit, tokio::net::lookup_host((authority.host.as_str(), authority.port))).await?;
            let hosts: Vec<SocketAddr> = hosts.collect();
            let stream = within(limit, AsyncTcpStream::connect(&runtime, hosts)).await?;
            if let AsyncTcpStream::Plain(plain) = &stream {
                socket.keep(plain.get_ref())?;
            }
            match uri.scheme {
                AMQPScheme::AMQP => Ok(stream),
                AMQPScheme::AMQPS => Ok(within(limit, stream.into_tls(&authority.host, tls.as_ref())).await?),
            }
        },
        properties,
    )
    .await
}

async fn within<T>(limit: Duration, step: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    timeout(limit, step).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}
