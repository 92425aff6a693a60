//! Counts at a server: a proxy in front of a storage account, which notes every block that the account says it has
//! staged, or of a registry, which notes the bytes of blobs that it is sent. What a service says of itself dies with
//! it; this does not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The largest head of a request in bytes.
const HEAD_BYTES: usize = 64 << 10;

/// The characters of an identifier in base64 that name what the block belongs to.
const OWNER_CHARS: usize = 26;

/// How long the account may take to answer what it was sent.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// Without a byte for so long, nothing is left in the sockets of a process that died.
const QUIET: Duration = Duration::from_millis(250);

/// A write that is counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Write {
    /// Put Block: the path of the blob, and the identifier of the block in base64.
    Block(String, String),
    /// Put Block List: the path of the blob.
    Commit(String),
}

/// What the proxy has seen.
struct Seen {
    /// How often the account said of each write that it was done.
    done: Mutex<BTreeMap<Write, u32>>,
    /// Bytes of blobs that a registry was sent.
    uploaded: AtomicU64,
    /// Requests that the account has not answered.
    unanswered: AtomicUsize,
    /// When the last byte of a request came.
    last_byte: Mutex<Instant>,
}

impl Seen {
    fn new() -> Self {
        Self {
            done: Mutex::default(),
            uploaded: AtomicU64::new(0),
            unanswered: AtomicUsize::new(0),
            last_byte: Mutex::new(Instant::now()),
        }
    }

    fn last_byte(&self) -> MutexGuard<'_, Instant> {
        self.last_byte.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn done(&self) -> MutexGuard<'_, BTreeMap<Write, u32>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The proxy. It ends when it is dropped.
pub struct WriteCounter {
    address: String,
    seen: Arc<Seen>,
    accepting: JoinHandle<()>,
}

impl Drop for WriteCounter {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl WriteCounter {
    /// Stands in front of the server at `upstream` (`HOST:PORT`).
    pub async fn start(upstream: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let seen = Arc::new(Seen::new());
        let accepting = tokio::spawn(accept(listener, upstream, Arc::clone(&seen)));
        Ok(Self { address, seen, accepting })
    }

    /// `http://HOST:PORT` of the proxy.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `url`, by way of the proxy.
    pub fn in_front_of(&self, url: &str) -> Result<String> {
        let (scheme, rest) = url.split_once("://").context("a scheme")?;
        let (_, path) = rest.split_once('/').context("a path")?;
        Ok(format!("{scheme}://{}/{path}", self.address))
    }

    /// Waits until the account has answered everything that was sent to it, also by processes that are dead.
    pub async fn settled(&self) -> Result<()> {
        let deadline = Instant::now() + SETTLED_WITHIN;
        while self.seen.unanswered.load(Ordering::SeqCst) > 0 || self.seen.last_byte().elapsed() < QUIET {
            ensure!(Instant::now() < deadline, "the storage account does not answer");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// How many blocks were staged again, of each owner of which any was: the path of the bundle, and what names a
    /// blob in it or a group of small ones.
    pub fn repeated(&self) -> BTreeMap<(String, String), u32> {
        let mut repeated = BTreeMap::new();
        for (write, count) in self.seen.done().iter() {
            if let Write::Block(path, id) = write
                && *count > 1
            {
                let owner = (path.clone(), id.chars().take(OWNER_CHARS).collect());
                *repeated.entry(owner).or_insert(0) += count - 1;
            }
        }
        repeated
    }

    /// How many different blocks were staged.
    pub fn distinct(&self) -> usize {
        self.seen.done().keys().filter(|write| matches!(write, Write::Block(..))).count()
    }

    /// The bytes of blobs that were sent to a registry's upload sessions, whatever it answered.
    pub fn uploaded(&self) -> u64 {
        self.seen.uploaded.load(Ordering::SeqCst)
    }

    /// How often each blob was committed, by its path.
    pub fn commits(&self) -> BTreeMap<String, u32> {
        let of = |(write, count): (&Write, &u32)| match write {
            Write::Commit(path) => Some((path.clone(), *count)),
            Write::Block(..) => None,
        };
        self.seen.done().iter().filter_map(of).collect()
    }
}

async fn accept(listener: TcpListener, upstream: String, seen: Arc<Seen>) {
    while let Ok((client, _)) = listener.accept().await {
        let (upstream, seen) = (upstream.clone(), Arc::clone(&seen));
        // A connection ends with either side; whoever was cut off tries again.
        tokio::spawn(async move { drop(relay(client, &upstream, seen).await) });
    }
}

/// A request that waits for its answer, with the write where it is one that is counted. A connection has one at a
/// time.
struct Unanswered(Mutex<Option<Option<Write>>>, Arc<Seen>);

impl Unanswered {
    fn asked(&self, write: Option<Write>) {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(write).is_none() {
            self.1.unanswered.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn answered(&self, answer: &[u8]) {
        if answer.starts_with(b"HTTP/1.1 100") {
            return;
        }
        let Some(write) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        if let Some(write) = write.filter(|_| answer.starts_with(b"HTTP/1.1 201")) {
            *self.1.done().entry(write).or_insert(0) += 1;
        }
        self.1.unanswered.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn relay(client: TcpStream, upstream: &str, seen: Arc<Seen>) -> Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = TcpStream::connect(upstream).await?.into_split();
    let unanswered = Arc::new(Unanswered(Mutex::default(), seen));
    let asked = Arc::clone(&unanswered);
    let mut answers = tokio::spawn(async move {
        let mut buffer = Vec::with_capacity(64 << 10);
        while from_server.read_buf(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {
            asked.answered(&buffer);
            // The client may be dead: what the account says of its last request still counts.
            let _dead = to_client.write_all(&buffer).await;
            buffer.clear();
        }
    });
    let mut buffer = Vec::new();
    let requests = async {
        while request(&mut from_client, &mut to_server, &mut buffer, &unanswered).await.is_ok() {}
        to_server.shutdown().await
    };
    let over = tokio::select! {
        // The account still answers what it was sent.
        _ = requests => (&mut answers).await,
        // It closes connections that are idle. A request that comes then has nobody who answers it.
        over = &mut answers => over,
    };
    unanswered.answered(b"");
    Ok(over?)
}

/// Passes one request on.
async fn request(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    buffer: &mut Vec<u8>,
    unanswered: &Unanswered,
) -> Result<()> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        ensure!(buffer.len() < HEAD_BYTES, "a head without an end");
        ensure!(from.read_buf(buffer).await? > 0, "the client is done");
        *unanswered.1.last_byte() = Instant::now();
    };
    let head = String::from_utf8(buffer[..end].to_vec())?;
    let header = |wanted: &str| {
        let headers = head.lines().filter_map(|line| line.split_once(':'));
        let mut values = headers.filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        values.next().map(|(_, value)| value.trim())
    };
    ensure!(header("transfer-encoding").is_none(), "a body whose length nobody says cannot be counted");
    let length = header("content-length").map(str::parse::<usize>).transpose()?.unwrap_or(0);
    let line = head.lines().next().unwrap_or_default();
    unanswered.asked(noted(line));
    if is_upload(line) {
        unanswered.1.uploaded.fetch_add(length as u64, Ordering::SeqCst);
    }
    let whole = end + length;
    let mut passed = 0;
    loop {
        let now = buffer.len().min(whole - passed);
        to.write_all(&buffer[..now]).await?;
        buffer.drain(..now);
        passed += now;
        if passed == whole {
            return Ok(());
        }
        ensure!(from.read_buf(buffer).await? > 0, "the client broke off");
        *unanswered.1.last_byte() = Instant::now();
    }
}

/// The write that the first line of a request asks for.
fn noted(line: &str) -> Option<Write> {
    let (path, query) = line.strip_prefix("PUT ")?.split_once(' ')?.0.split_once('?')?;
    let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let id = |id: &str| id.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
    match value("comp")? {
        "block" => Some(Write::Block(path.to_owned(), id(value("blockid")?))),
        "blocklist" => Some(Write::Commit(path.to_owned())),
        _ => None,
    }
}

/// Whether a request with this first line sends a registry bytes of a blob.
fn is_upload(line: &str) -> bool {
    let mut words = line.split(' ');
    matches!(words.next(), Some("POST" | "PATCH" | "PUT"))
        && words.next().is_some_and(|path| path.starts_with("/v2/") && path.contains("/blobs/uploads/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_on_a_connection_that_the_account_has_closed_is_not_waited_for() -> Result<()> {
        let account = TcpListener::bind("127.0.0.1:0").await?;
        let counter = WriteCounter::start(account.local_addr()?.to_string()).await?;
        let mut client = TcpStream::connect(&counter.address).await?;
        drop(account.accept().await?);
        // It may or may not be seen that the connection is closed: either way nothing is owed.
        let _closed =
            client.write_all(b"PUT /a?comp=block&blockid=AA HTTP/1.1\r\ncontent-length: 0\r\n\r\n").await;
        let settled = tokio::time::timeout(Duration::from_secs(5), counter.settled());
        settled.await.context("an answer is waited for that will not come")?
    }

    #[test]
    fn whatever_sends_bytes_to_an_upload_session_is_an_upload() {
        for (line, expected) in [
            ("POST /v2/a/b/blobs/uploads/?digest=sha256:00 HTTP/1.1", true),
            ("PATCH /v2/a/b/blobs/uploads/id?_state=x HTTP/1.1", true),
            ("PUT /v2/a/b/blobs/uploads/id?digest=sha256:00 HTTP/1.1", true),
            ("GET /v2/a/b/blobs/uploads/id HTTP/1.1", false),
            ("PUT /v2/a/b/manifests/tag HTTP/1.1", false),
            ("HEAD /v2/a/b/blobs/sha256:00 HTTP/1.1", false),
        ] {
            assert_eq!(is_upload(line), expected, "{line}");
        }
    }

    #[test]
    fn only_put_block_and_put_block_list_are_counted() {
        let block = |id: &str| Some(Write::Block("/a/c/b".to_owned(), id.to_owned()));
        for (line, expected) in [
            ("PUT /a/c/b?comp=block&blockid=AQ%2B%2F%3D&sig=x HTTP/1.1", block("AQ+/=")),
            ("PUT /a/c/b?sig=x&blockid=AQ&comp=block HTTP/1.1", block("AQ")),
            ("PUT /a/c/b?comp=blocklist&sig=x HTTP/1.1", Some(Write::Commit("/a/c/b".to_owned()))),
            ("GET /a/c/b?comp=block&blockid=AQ HTTP/1.1", None),
            ("PUT /a/c/b HTTP/1.1", None),
        ] {
            assert_eq!(noted(line), expected, "{line}");
        }
    }
}
