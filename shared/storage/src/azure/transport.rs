//! The HTTP below the SDK: one connection pool for the process, a bound on every wait and every answer, and
//! errors that hold no URL. The SDK's own client has no deadline that fits an upload over a slow line (its
//! 60 seconds include the time to send the body), no bound on an answer, and errors that show the URL.

use std::error::Error as StdError;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::{HeaderName, HeaderValue, Headers};
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Request};
use bytes::Bytes;
use tokio::time::timeout;

/// How long a connection may take to be made, TLS included.
const CONNECT: Duration = Duration::from_secs(15);

/// The slowest upload that is not taken for a stall, in bytes a second. It only lengthens the wait for an answer.
const SLOWEST_UPLOAD: u64 = 64 * 1024;

/// How long a service may take to copy a block from another service, where no byte of ours moves.
const SERVER_SIDE_COPY: Duration = Duration::from_secs(300);

/// The most bytes of an answer other than a ranged read: a block list of 50,000 entries has about 8 MiB.
const ANSWER_BYTES: u64 = 64 * 1024 * 1024;

/// The most bytes of an error's answer.
const ERROR_BYTES: u64 = 64 * 1024;

/// Idle connections that are kept for one host: more than a process has transfers at a time.
const IDLE_CONNECTIONS: usize = 64;

/// The header that makes a Put Block a Put Block From URL.
const COPY_SOURCE: HeaderName = HeaderName::from_static("x-ms-copy-source");

/// The service's error code.
pub(super) const ERROR_CODE: HeaderName = HeaderName::from_static("x-ms-error-code");

/// Which bytes an answer holds.
pub(super) const CONTENT_RANGE: HeaderName = HeaderName::from_static("content-range");

const RANGE: HeaderName = HeaderName::from_static("range");
const MS_RANGE: HeaderName = HeaderName::from_static("x-ms-range");

/// Why an exchange did not end: a text of ours or of the operating system, never one with a URL.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct TransportFault(pub(super) String);

/// An [`HttpClient`] of the SDK over the process's connections.
#[derive(Debug)]
pub(super) struct PooledTransport {
    client: reqwest::Client,
    patience: Duration,
}

impl PooledTransport {
    /// A transport whose silences may last `patience`. Connections are shared by all of them.
    pub(super) fn new(is_loopback: bool, patience: Duration) -> Result<Arc<Self>, TransportFault> {
        // A proxy of the environment is for the outside. Plain HTTP goes to this machine alone.
        static REMOTE: OnceLock<reqwest::Client> = OnceLock::new();
        static LOOPBACK: OnceLock<reqwest::Client> = OnceLock::new();
        let pool = if is_loopback { &LOOPBACK } else { &REMOTE };
        let client = match pool.get() {
            Some(client) => client,
            None => {
                let client = connections(is_loopback)?;
                pool.get_or_init(|| client)
            }
        };
        Ok(Arc::new(Self { client: client.clone(), patience }))
    }

    /// How long the first byte of the answer may take, the sending of the body included.
    fn wait_for(&self, request: &Request, body: &Bytes) -> Duration {
        if request.headers().get_optional_str(&COPY_SOURCE).is_some() {
            return SERVER_SIDE_COPY.max(self.patience);
        }
        self.patience + Duration::from_secs(body.len() as u64 / SLOWEST_UPLOAD)
    }
}

fn connections(is_loopback: bool) -> Result<reqwest::Client, TransportFault> {
    // HTTP/1.1: a block in flight has a connection of its own, so none waits for the window of another. What
    // other crates switch on in reqwest must not change the bytes.
    let mut builder = reqwest::Client::builder()
        .http1_only()
        .connect_timeout(CONNECT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .redirect(reqwest::redirect::Policy::none())
        .no_gzip()
        .no_brotli()
        .no_deflate()
        .no_zstd();
    if is_loopback {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| TransportFault(innermost(&error)))
}

#[async_trait]
impl HttpClient for PooledTransport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let Body::Bytes(body) = request.body() else {
            return Err(fault(ErrorKind::Other, "only bodies in memory are sent"));
        };
        let method = reqwest::Method::from_bytes(request.method().as_str().as_bytes())
            .map_err(|_| fault(ErrorKind::Other, "an unknown method"))?;
        let mut outgoing = self.client.request(method, request.url().clone());
        for (name, value) in request.headers().iter() {
            outgoing = outgoing.header(name.as_str(), value.as_str());
        }
        let outgoing = outgoing
            .body(body.clone())
            .build()
            .map_err(|_| fault(ErrorKind::Other, "the request holds what HTTP cannot carry"))?;
        let answer = match timeout(self.wait_for(request, body), self.client.execute(outgoing)).await {
            Ok(answer) => answer.map_err(lost)?,
            Err(_) => return Err(fault(ErrorKind::Io, "no answer in time")),
        };
        let is_ranged =
            [RANGE, MS_RANGE].iter().any(|name| request.headers().get_optional_str(name).is_some());
        let limit = match answer.status().is_success() {
            true if is_ranged => u64::MAX,
            true => ANSWER_BYTES,
            false => ERROR_BYTES,
        };
        let status = status_of(request, &answer);
        let headers = headers_of(answer.headers());
        Ok(AsyncRawResponse::new(status.into(), headers, bounded(answer, limit, self.patience)))
    }
}

/// The status, where Azurite's answer to a Put Block From URL that it does not have becomes what it means:
/// with an account SAS it is a bare 500 without an error code, which would be retried.
fn status_of(request: &Request, answer: &reqwest::Response) -> u16 {
    let is_copy = request.headers().get_optional_str(&COPY_SOURCE).is_some();
    match answer.status().as_u16() {
        500 if is_copy && !answer.headers().contains_key(ERROR_CODE.as_str()) => 501,
        status => status,
    }
}

/// The bytes in a `Content-Range` (RFC 9110, section 14.4).
pub(super) fn content_range(text: &str) -> Option<Range<u64>> {
    let (first, last) = text.strip_prefix("bytes ")?.split_once('/')?.0.split_once('-')?;
    let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
    (first <= last && last < i64::MAX as u64).then(|| first..last + 1)
}

/// The headers, without a `Content-Range` that names no bytes: Azurite says `bytes 0--1/0` of an empty blob,
/// which the SDK takes for a fault, and it adds one to any end.
fn headers_of(headers: &reqwest::header::HeaderMap) -> Headers {
    let mut copied = Headers::new();
    for (name, value) in headers {
        let Ok(value) = value.to_str() else { continue };
        if name.as_str() != CONTENT_RANGE.as_str() || content_range(value).is_some() {
            copied.insert(HeaderName::from(name.as_str().to_owned()), HeaderValue::from(value.to_owned()));
        }
    }
    copied
}

/// The body as a stream that ends with an error where it stalls or exceeds `limit`.
fn bounded(
    answer: reqwest::Response,
    limit: u64,
    patience: Duration,
) -> std::pin::Pin<Box<dyn futures::Stream<Item = azure_core::Result<Bytes>> + Send>> {
    Box::pin(futures::stream::try_unfold((answer, limit), move |(mut answer, left)| async move {
        let chunk = match timeout(patience, answer.chunk()).await {
            Ok(chunk) => chunk.map_err(lost)?,
            Err(_) => return Err(fault(ErrorKind::Io, "the answer stalled")),
        };
        let Some(chunk) = chunk else { return Ok(None) };
        match left.checked_sub(chunk.len() as u64) {
            Some(left) => Ok(Some((chunk, (answer, left)))),
            None => Err(fault(ErrorKind::Other, "the answer is larger than any that was asked for")),
        }
    }))
}

fn fault(kind: ErrorKind, text: &str) -> Error {
    Error::new(kind, TransportFault(text.to_owned()))
}

fn lost(error: reqwest::Error) -> Error {
    let kind = if error.is_connect() { ErrorKind::Connection } else { ErrorKind::Io };
    Error::new(kind, TransportFault(innermost(&error)))
}

/// The last cause: what the operating system or TLS said. The outer ones show the URL with its token.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(inner) = cause.and_then(StdError::source) {
        cause = Some(inner);
    }
    let text = cause.map_or_else(|| "the exchange failed".to_owned(), ToString::to_string);
    // A cause never shows a query today; should one begin to, nothing of it is shown.
    if text.contains(['?', '=']) {
        return "the exchange failed".to_owned();
    }
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use azure_core::http::{Method, Url};

    use super::*;

    #[test]
    fn the_wait_for_an_answer_grows_with_the_body() {
        let transport = PooledTransport::new(true, Duration::from_secs(60)).unwrap();
        let mut request = Request::new(Url::parse("http://127.0.0.1/a/c").unwrap(), Method::Put);
        let wait =
            |request: &Request, length| transport.wait_for(request, &Bytes::from(vec![0; length])).as_secs();
        assert_eq!(wait(&request, 0), 60);
        assert_eq!(wait(&request, 8 << 20), 60 + 128);
        request.insert_header(COPY_SOURCE, "https://a.example/b");
        assert_eq!(wait(&request, 0), 300);
    }

    #[tokio::test]
    async fn an_error_of_the_transport_holds_no_url() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let url = Url::parse(&format!("http://{address}/a/c?sig=CANARY")).unwrap();
        let transport = PooledTransport::new(true, Duration::from_secs(5)).unwrap();
        let error = transport.execute_request(&Request::new(url, Method::Get)).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Connection);
        let mut shown = format!("{error} {error:?} {error:#?}");
        let mut cause = error.source();
        while let Some(inner) = cause {
            shown = format!("{shown} {inner} {inner:?}");
            cause = inner.source();
        }
        assert!(shown.contains("refused") && !shown.contains("CANARY"), "{shown}");
    }
}
