//! A small HTTP server that answers as a test says: the metadata service, Microsoft Entra, a vault; and a watch
//! for secrets in everything that is shown.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fmt::{Debug, Display};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::Response;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;
use transship_model::Failure;

/// A request that the server got.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Method, path and query.
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Seen {
    /// A header's text, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A server on a loopback port. It ends with the test's runtime.
pub(crate) struct Fake {
    /// `127.0.0.1:PORT`.
    pub(crate) host: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    /// Answers each request by `answer`, which gets the number of the request, from 0, and the request.
    pub(crate) async fn start(
        answer: impl Fn(usize, &Seen) -> Response + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        let router = Router::new().fallback(move |request: Request| {
            let (record, answer) = (Arc::clone(&record), answer.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                let seen = Seen {
                    line: format!("{} {}", parts.method, parts.uri),
                    headers: parts.headers,
                    body: String::from_utf8(body.to_vec()).unwrap(),
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
        Self { host, seen }
    }

    /// What came so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first lines of what came so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }
}

/// An answer with a body.
pub(crate) fn answer(status: u16, body: impl Into<Body>) -> Response {
    Response::builder().status(status).body(body.into()).unwrap()
}

/// A token as the endpoints beside a process give it, good for `seconds`.
pub(crate) fn token(text: &str, seconds: u64) -> Response {
    answer(200, format!(r#"{{"access_token":"{text}","expires_in":"{seconds}","token_type":"Bearer"}}"#))
}

/// Looks for secrets in all logs of this thread, down to the lowest level of every crate, and in what it is shown.
pub(crate) struct Canary {
    shown: String,
    log: Log,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Canary {
    pub(crate) fn watch() -> Self {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::level_filters::LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(log.clone())
            .finish();
        Self { shown: String::new(), log, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// Looks at a value.
    pub(crate) fn look_at(&mut self, value: &impl Debug) {
        self.shown.push_str(&format!("{value:?} {value:#?}"));
    }

    /// Looks at an error in every form.
    pub(crate) fn look_at_error(&mut self, error: impl Debug + Display + Into<Failure>) {
        self.shown.push_str(&format!("{error} {error:?} {error:#?}"));
        self.look_at(&error.into());
    }

    /// Everything that was shown, which holds no secret: each secret of these tests has `CANARY` in it.
    pub(crate) fn finish(self) -> String {
        let log = self.log.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let log = String::from_utf8(log).unwrap();
        assert!(!log.is_empty(), "nothing was logged, so nothing was looked at");
        let shown = format!("{log}{}", self.shown);
        let place = shown.find("CANARY").map(|at| shown[at.saturating_sub(100)..at + 6].to_owned());
        assert_eq!(place, None);
        shown
    }
}
