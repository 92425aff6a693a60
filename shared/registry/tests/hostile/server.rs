//! A small HTTP server that answers what a test tells it, including what no sane server would.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) at: Instant,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.target.contains(part)
    }
}

/// What a test answers.
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Body,
}

enum Body {
    Whole(Vec<u8>),
    /// Announces more than it sends, and closes.
    Short(u64, Vec<u8>),
    /// Never ends.
    Endless,
    /// Closes without an answer.
    Nothing,
    /// Says nothing at all.
    Silence,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Whole(Vec::new()) }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Body::Whole(body.into());
        self
    }

    /// An error body of the specification. Its message is a trap: it must not be repeated.
    pub(crate) fn code(self, code: &str) -> Self {
        self.body(format!(
            r#"{{"errors":[{{"code":"{code}","message":"CANARY","detail":{{"x":"CANARY"}}}}]}}"#
        ))
    }

    pub(crate) fn short(mut self, announced: u64, body: impl Into<Vec<u8>>) -> Self {
        self.body = Body::Short(announced, body.into());
        self
    }

    pub(crate) fn endless(mut self) -> Self {
        self.body = Body::Endless;
        self
    }

    pub(crate) fn nothing() -> Self {
        Self { body: Body::Nothing, ..Self::new(0) }
    }

    pub(crate) fn silence() -> Self {
        Self { body: Body::Silence, ..Self::new(0) }
    }
}

/// A connection, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;
type Cut = dyn Fn(&Request) -> Option<usize> + Send + Sync;

struct Shared {
    handler: Box<Handler>,
    /// After how many bytes of its body a request is cut off.
    cut: Box<Cut>,
    log: Mutex<Vec<Request>>,
    sent: AtomicUsize,
    busy: AtomicUsize,
    most_busy: AtomicUsize,
}

/// A server that is running; dropped, it is gone.
pub(crate) struct Server {
    pub(crate) host: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Starts a server; `make` is given its address and makes what answers.
    pub(crate) async fn start<H>(make: impl FnOnce(&str) -> H) -> Self
    where
        H: Fn(&Request) -> Reply + Send + Sync + 'static,
    {
        Self::start_cutting(make, |_| None).await
    }

    /// The same, and cuts some requests off in the middle of their body.
    pub(crate) async fn start_cutting<H>(
        make: impl FnOnce(&str) -> H,
        cut: impl Fn(&Request) -> Option<usize> + Send + Sync + 'static,
    ) -> Self
    where
        H: Fn(&Request) -> Reply + Send + Sync + 'static,
    {
        Self::listen(make, Box::new(cut), None).await
    }

    /// The same over TLS.
    pub(crate) async fn start_tls<H>(make: impl FnOnce(&str) -> H, tls: TlsAcceptor) -> Self
    where
        H: Fn(&Request) -> Reply + Send + Sync + 'static,
    {
        Self::listen(make, Box::new(|_| None), Some(tls)).await
    }

    async fn listen<H>(make: impl FnOnce(&str) -> H, cut: Box<Cut>, tls: Option<TlsAcceptor>) -> Self
    where
        H: Fn(&Request) -> Reply + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            handler: Box::new(make(&format!("http://{host}"))),
            cut,
            log: Mutex::default(),
            sent: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            most_busy: AtomicUsize::new(0),
        });
        let for_task = shared.clone();
        let task = tokio::spawn(async move {
            // Owned by this task, so that they end with it.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, tls) = (for_task.clone(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, shared).await,
                        // A client that does not trust the certificate hangs up.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, shared).await;
                            }
                        }
                    }
                });
            }
        });
        Self { host, shared, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.host)
    }

    /// All requests so far.
    pub(crate) fn log(&self) -> Vec<Request> {
        self.shared.log.lock().unwrap().clone()
    }

    /// How many requests had this method and this part in their target.
    pub(crate) fn count(&self, method: &str, part: &str) -> usize {
        self.log().iter().filter(|request| request.is(method, part)).count()
    }

    /// The bytes of endless bodies that went out.
    pub(crate) fn sent(&self) -> usize {
        self.shared.sent.load(Ordering::SeqCst)
    }

    /// The most requests that were answered at once.
    pub(crate) fn most_busy(&self) -> usize {
        self.shared.most_busy.load(Ordering::SeqCst)
    }
}

async fn serve(stream: impl Stream, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    // An error is a client that went away.
    while let Ok(true) = exchange(&mut stream, &shared).await {}
}

/// One request and its answer. Whether the connection goes on.
async fn exchange(stream: &mut BufReader<impl Stream>, shared: &Shared) -> std::io::Result<bool> {
    let Some(mut request) = read_head(stream).await? else { return Ok(false) };
    let length: usize = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let cut = (shared.cut)(&request).filter(|at| *at < length);
    let mut body = vec![0; cut.unwrap_or(length)];
    stream.read_exact(&mut body).await?;
    request.body = body;
    shared.log.lock().unwrap().push(request.clone());
    if cut.is_some() {
        return Ok(false);
    }
    let busy = shared.busy.fetch_add(1, Ordering::SeqCst) + 1;
    shared.most_busy.fetch_max(busy, Ordering::SeqCst);
    let reply = (shared.handler)(&request);
    // Long enough for others to arrive, where a test looks at how many do.
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    // Before the answer: with it, the client may send the next one.
    shared.busy.fetch_sub(1, Ordering::SeqCst);
    answer(stream, &request, reply, shared).await
}

async fn read_head(stream: &mut BufReader<impl Stream>) -> std::io::Result<Option<Request>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let mut first = lines[0].split(' ').map(str::to_owned);
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let header =
        |line: &String| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    let headers = lines[1..].iter().filter_map(header).collect();
    Ok(Some(Request { method, target, headers, body: Vec::new(), at: Instant::now() }))
}

async fn answer(
    stream: &mut BufReader<impl Stream>,
    request: &Request,
    reply: Reply,
    shared: &Shared,
) -> std::io::Result<bool> {
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let explicit = reply.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (length, body) = match reply.body {
        Body::Nothing => return Ok(false),
        Body::Silence => {
            // Until the client gives up and the connection is closed.
            let mut byte = [0];
            let _ = stream.read(&mut byte).await;
            return Ok(false);
        }
        Body::Endless => return endless(stream, head, shared).await,
        Body::Short(announced, body) => (announced, body),
        Body::Whole(body) => (body.len() as u64, body),
    };
    if !explicit && reply.status != 204 {
        head += &format!("content-length: {length}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await?;
    if request.method != "HEAD" {
        stream.write_all(&body).await?;
    }
    stream.flush().await?;
    Ok(length == body.len() as u64)
}

async fn endless(
    stream: &mut BufReader<impl Stream>,
    head: String,
    shared: &Shared,
) -> std::io::Result<bool> {
    stream.write_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes()).await?;
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    // Bounded all the same, should nobody hang up.
    while shared.sent.fetch_add(0x10000, Ordering::SeqCst) < 1 << 30 {
        stream.write_all(&chunk).await?;
    }
    Ok(false)
}
