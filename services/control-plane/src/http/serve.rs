//! The listener: TLS or not, bounded in connections and in time, drained at the end.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::stalled::Bounded;
use super::tls::{Tls, TlsConfig, TlsError};
use crate::api::LimitsConfig;

/// The largest head of a request, in bytes, and the most of its headers.
const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 100;
/// How long the end waits for answers that are on their way.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// How long to wait where the system has no more connections to give.
const BREATH: Duration = Duration::from_millis(100);

/// Where the interface answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// The address. Port 0 takes a free one. Default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// A file that is given the address that was bound, for those who start a process with port 0.
    pub address_file: Option<PathBuf>,
    /// The certificate, for TLS. Without one the listener speaks plain HTTP, which is only allowed on loopback.
    pub tls: Option<TlsConfig>,
    /// Whether a proxy before the control plane ends TLS, so that plain HTTP is allowed elsewhere too.
    pub tls_at_proxy: bool,
    /// The base of absolute addresses in answers, where it is not the one that clients use.
    pub public_url: Option<String>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            address_file: None,
            tls: None,
            tls_at_proxy: false,
            public_url: None,
        }
    }
}

impl Listen {
    /// What is wrong with the section, as key and problem. `is_open`: whether no authentication is configured.
    pub fn check(&self, is_open: bool) -> Vec<(String, String)> {
        let is_local = self.listen.ip().is_loopback();
        let is_url = |text: &String| {
            text.parse::<url::Url>().is_ok_and(|url| {
                matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.username().is_empty()
            })
        };
        let rules = [
            (
                is_local || !is_open,
                "auth",
                "without tokens_file and issuers anybody may do anything, which is only allowed where api.listen is a \
                 loopback address",
            ),
            (
                is_local || self.tls.is_some() || self.tls_at_proxy,
                "api.tls",
                "plain HTTP is only allowed on a loopback address: set certificate_file and key_file, or \
                 api.tls_at_proxy where a proxy ends TLS",
            ),
            (self.public_url.as_ref().is_none_or(is_url), "api.public_url", "is not a URL of http or https"),
        ];
        let broken = rules.into_iter().filter(|(holds, ..)| !holds);
        broken.map(|(_, key, problem)| (key.to_owned(), problem.to_owned())).collect()
    }
}

/// Why the interface does not answer.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken, or is not one of this machine.
    #[error("cannot listen on {address}; choose another address for api.listen, or port 0 for a free one")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The address cannot be written where it was asked for.
    #[error("cannot write the address to {}", path.display())]
    AddressFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate cannot be used.
    #[error("api.tls")]
    Tls(#[from] TlsError),
}

/// A listener that was bound, and the address that it has.
pub struct Bound {
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    /// The address.
    pub address: SocketAddr,
    /// Whether clients speak TLS to it.
    pub is_tls: bool,
}

impl Listen {
    /// Binds the address, and says which it is in the address file.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn bind(&self) -> Result<Bound, ServeError> {
        let tls = self.tls.as_ref().map(Tls::open).transpose()?.map(Arc::new);
        let failed = |source| ServeError::Listen { address: self.listen, source };
        let listener = TcpListener::bind(self.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        if let Some(path) = &self.address_file {
            transship_host::write_whole(path, &format!("{address}\n"))
                .map_err(|source| ServeError::AddressFile { path: path.clone(), source })?;
        }
        let is_tls = tls.is_some();
        Ok(Bound { listener, tls, address, is_tls })
    }
}

/// Answers until `stop` is cancelled, then ends what is being answered.
pub async fn serve(bound: Bound, router: Router, limits: LimitsConfig, stop: CancellationToken) {
    let Bound { listener, tls, .. } = bound;
    let slots = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let patience = Duration::from_secs(limits.io_seconds);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD);
    loop {
        let slot = Arc::clone(&slots).acquire_owned();
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = async { (slot.await, listener.accept().await) } => accepted,
        };
        let (Ok(slot), accepted) = accepted else { break };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("a connection was not accepted: {error}");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let (http, router, watcher) = (http.clone(), router.clone(), graceful.watcher());
        let tls = tls.clone();
        tokio::spawn(async move {
            let _slot = slot;
            let Some(io) = secured(stream, tls, patience).await else { return };
            let service = TowerToHyperService::new(router);
            let connection = http.serve_connection(TokioIo::new(Bounded::new(io, patience)), service);
            // A connection that breaks is the client's affair.
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!("a connection ended: {error}");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(LAST_ANSWERS, graceful.shutdown()).await.is_err() {
        tracing::warn!("some clients did not take their answers in time");
    }
}

/// A stream of bytes.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// The connection behind TLS, where there is TLS; `None` where the client did not manage it in time.
async fn secured(stream: TcpStream, tls: Option<Arc<Tls>>, patience: Duration) -> Option<Box<dyn Stream>> {
    // Small answers are not held back.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return Some(Box::new(stream)) };
    match tokio::time::timeout(patience, async { tls.current().await.accept(stream).await }).await {
        Ok(Ok(stream)) => Some(Box::new(stream)),
        Ok(Err(error)) => {
            tracing::debug!("a client did not agree on TLS: {error}");
            None
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_open_or_in_plain_text_except_on_loopback() {
        let tls = TlsConfig { certificate_file: "c".into(), key_file: "k".into() };
        for (listen, tls, at_proxy, is_open, expected) in [
            ("127.0.0.1:0", None, false, true, vec![]),
            ("[::1]:0", None, false, true, vec![]),
            ("0.0.0.0:0", None, false, true, vec!["auth", "api.tls"]),
            ("0.0.0.0:0", None, true, false, vec![]),
            ("0.0.0.0:0", Some(tls.clone()), false, false, vec![]),
            ("0.0.0.0:0", Some(tls), false, true, vec!["auth"]),
        ] {
            let listen =
                Listen { listen: listen.parse().unwrap(), tls, tls_at_proxy: at_proxy, ..Listen::default() };
            let keys: Vec<String> = listen.check(is_open).into_iter().map(|(key, _)| key).collect();
            assert_eq!(keys, expected, "{listen:?}");
        }
    }
}
