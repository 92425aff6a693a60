//! A small HTTP server that answers as a test says, for what Azurite cannot do or never does.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use futures::StreamExt as _;

/// A request that the server got.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body_length: usize,
}

impl Seen {
    /// A header's text, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A server on a loopback port. It ends with the test's runtime.
pub(crate) struct Fake {
    /// The address of the container, `http://127.0.0.1:PORT/account/c`.
    pub(crate) container: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    /// Answers each request by `answer`, which gets the number of the request, from 0, and the request.
    pub(crate) async fn start(
        answer: impl Fn(usize, &Seen) -> Response + Clone + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let container = format!("http://{}/account/c", listener.local_addr()?);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        let router = Router::new().fallback(move |request: Request| {
            let (record, answer) = (Arc::clone(&record), answer.clone());
            async move {
                let (parts, body) = request.into_parts();
                // Counted and not kept, so that the memory of the test is that of the adapter.
                let pieces = body.into_data_stream();
                let lengths = pieces.map(|piece| piece.map_or(0, |piece| piece.len()));
                let body_length = lengths.fold(0, |sum, length| async move { sum + length }).await;
                let seen = Seen {
                    method: parts.method,
                    target: parts.uri.to_string(),
                    headers: parts.headers,
                    body_length,
                };
                let number = {
                    let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
                    record.push(seen.clone());
                    record.len() - 1
                };
                answer(number, &seen)
            }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { container, seen })
    }

    /// What came so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// An answer with a status and headers, and no body.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)]) -> Response {
    with_body(status, headers, Body::empty())
}

pub(crate) fn with_body(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).expect("an answer in a test")
}

/// An answer with the service's error code.
pub(crate) fn refusal(status: u16, code: &str) -> Response {
    answer(status, &[("x-ms-error-code", code)])
}
