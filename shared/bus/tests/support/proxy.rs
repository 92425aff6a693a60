//! A TCP proxy in front of the broker that can fall silent without closing anything.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the proxy lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passes {
    Everything,
    /// Only what the client says: answers, confirms among them, are kept back.
    Requests,
    Nothing,
}

/// A proxy on a port of its own. It ends when it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    passes: watch::Sender<Passes>,
    _task: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (passes, watching) = watch::channel(Passes::Everything);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&upstream).await else { continue };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                connections
                    .spawn(forward(from_client, to_server, watching.clone(), |now| now != Passes::Nothing));
                connections.spawn(forward(from_server, to_client, watching.clone(), |now| {
                    now == Passes::Everything
                }));
            }
        });
        Self { address, passes, _task: task }
    }

    pub(crate) fn let_through(&self, passes: Passes) {
        self.passes.send_replace(passes);
    }
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut passes: watch::Receiver<Passes>,
    may: fn(Passes) -> bool,
) {
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(size @ 1..) = from.read(&mut chunk).await {
        if passes.wait_for(|now| may(*now)).await.is_err() || to.write_all(&chunk[..size]).await.is_err() {
            return;
        }
    }
}
