//! A narrow line to a registry, which counts what goes over it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Takes connections and hands them on. Ends with its owner.
pub(crate) struct NarrowLine {
    pub(crate) url: String,
    sent: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for NarrowLine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl NarrowLine {
    /// A line to the server at `url`, over which at most `rate` bytes a second go there on each connection.
    pub(crate) async fn to(url: &str, rate: u64) -> Result<Self> {
        let server = url.strip_prefix("http://").context("a plain address")?.trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let own = format!("http://{}", listener.local_addr()?);
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        let task = tokio::spawn(async move {
            let mut lines = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (server, counter) = (server.clone(), Arc::clone(&counter));
                lines.spawn(async move {
                    // A line that breaks is the client's affair: it sees its connection end.
                    let _ended = carry(client, &server, rate, &counter).await;
                });
            }
        });
        Ok(Self { url: own, sent, task })
    }

    /// The bytes that went to the server so far, headers included.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

async fn carry(client: TcpStream, server: &str, rate: u64, sent: &AtomicU64) -> std::io::Result<()> {
    let server = TcpStream::connect(server).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = async {
        let mut free = Instant::now();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = from_client.read(&mut buffer).await?;
            if read == 0 {
                return to_server.shutdown().await;
            }
            sent.fetch_add(read as u64, Ordering::SeqCst);
            to_server.write_all(&buffer[..read]).await?;
            // The line is as narrow as it says, and saves nothing up while it is idle.
            free = free.max(Instant::now()) + Duration::from_micros(read as u64 * 1_000_000 / rate);
            tokio::time::sleep_until(free).await;
        }
    };
    let back = tokio::io::copy(&mut from_server, &mut to_client);
    tokio::try_join!(there, back).map(|_| ())
}
