//! The host: one owner for the endpoints, the signals, the work and its drain.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use transship_model::Failure;
use transship_telemetry::{LogFormat, Metrics};

use crate::Exit;
use crate::readiness::{Phase, Readiness};
use crate::server::{BoundedListener, router};
use crate::signals::{Signals, StopRequests};

/// How long the end waits for answers that are on their way. A slow client is cut off then.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// What every service can be told about its process.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HostSettings {
    /// Where `/metrics`, `/healthz` and `/readyz` answer. Port 0 takes a free one. Default `127.0.0.1:9464`.
    pub listen: SocketAddr,
    /// A file that is given the address that was bound, for those who start a process with port 0.
    pub address_file: Option<PathBuf>,
    /// How long the work may go on after a request to stop, in seconds. Default 30.
    pub drain_seconds: u64,
    /// How log lines look: `text` or `json`. Default `text`.
    pub log_format: LogFormat,
}

impl Default for HostSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9464)),
            address_file: None,
            drain_seconds: 30,
            log_format: LogFormat::Text,
        }
    }
}

/// Why a process cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The address is taken, or is not one of this machine.
    #[error("cannot listen on {address}; choose another address for host.listen, or port 0 for a free one")]
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
    /// Signals cannot be received.
    #[error("cannot receive signals")]
    Signals(#[source] io::Error),
}

/// What the work of a process is given.
#[derive(Clone)]
pub struct Process {
    /// Where the work says what it does.
    pub metrics: Metrics,
    /// Where the work says whether it can take more.
    pub readiness: Readiness,
    /// Cancelled when the process is asked to stop: the work then releases what it holds and returns. The work
    /// may cancel it itself.
    pub shutdown: CancellationToken,
}

/// A process that listens, but does not work yet.
pub struct Host {
    name: &'static str,
    settings: HostSettings,
    listener: TcpListener,
    address: SocketAddr,
    process: Process,
}

impl Host {
    /// Binds the address of the endpoints, and says which it is in the log and in the address file.
    ///
    /// # Errors
    /// [`HostError::Listen`] and [`HostError::AddressFile`].
    pub async fn bind(
        name: &'static str,
        settings: HostSettings,
        metrics: Metrics,
    ) -> Result<Self, HostError> {
        let listen = |source| HostError::Listen { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        if let Some(path) = &settings.address_file {
            write_whole(path, &format!("{address}\n"))
                .map_err(|source| HostError::AddressFile { path: path.clone(), source })?;
        }
        info!(service = name, version = env!("CARGO_PKG_VERSION"), %address, "listening");
        let process =
            Process { metrics, readiness: Readiness::default(), shutdown: CancellationToken::new() };
        Ok(Self { name, settings, listener, address, process })
    }

    /// The address that was bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the work is given.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Runs `work` until it returns, or until it has drained after `SIGTERM`, `SIGINT` or a cancelled
    /// [`Process::shutdown`]. Work that is still at it when the drain deadline passes is dropped. A second
    /// signal ends the process at once, with 130.
    ///
    /// # Errors
    /// [`HostError::Signals`].
    pub async fn run<W, F, E>(self, work: W) -> Result<Exit, HostError>
    where
        W: FnOnce(Process) -> F,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
    {
        let signals = Signals::install().map_err(HostError::Signals)?;
        let exit = self.run_until(work, signals).await;
        if exit == Exit::Interrupted {
            // Not by returning: whoever asks twice does not wait for destructors.
            std::process::exit(exit.code().into());
        }
        Ok(exit)
    }

    async fn run_until<W, F, E>(self, work: W, mut requests: impl StopRequests) -> Exit
    where
        W: FnOnce(Process) -> F,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
    {
        let Process { metrics, readiness, shutdown } = self.process.clone();
        let answered = CancellationToken::new();
        let server = axum::serve(BoundedListener::new(self.listener), router(metrics, readiness.clone()))
            .with_graceful_shutdown(answered.clone().cancelled_owned());
        let server = tokio::spawn(async move { server.await });
        let work = work(self.process);
        let mut work = tokio::spawn(async move { work.await.map_err(Into::into) });
        readiness.enter(Phase::Running);

        let ended = tokio::select! {
            ended = &mut work => Some(ended),
            signal = requests.next() => {
                info!(service = self.name, signal, "asked to stop; a second signal ends the process at once");
                shutdown.cancel();
                None
            }
            () = shutdown.cancelled() => None,
        };
        readiness.enter(Phase::Draining);
        let exit = match ended {
            Some(ended) => judge(ended),
            None => drain(&mut work, Duration::from_secs(self.settings.drain_seconds), &mut requests).await,
        };
        // Whatever the work left behind is told to stop too.
        shutdown.cancel();
        if exit != Exit::Interrupted {
            answered.cancel();
            finish(server).await;
        }
        exit
    }
}

type Ended = Result<Result<(), Box<dyn Error + Send + Sync>>, tokio::task::JoinError>;

async fn drain(
    work: &mut JoinHandle<Result<(), Box<dyn Error + Send + Sync>>>,
    deadline: Duration,
    requests: &mut impl StopRequests,
) -> Exit {
    tokio::select! {
        ended = &mut *work => judge(ended),
        () = tokio::time::sleep(deadline) => {
            work.abort();
            error!(seconds = deadline.as_secs(), "the work did not drain in time and was dropped; the broker delivers it again");
            Exit::Failure
        }
        signal = requests.next() => {
            work.abort();
            warn!(signal, "interrupted");
            Exit::Interrupted
        }
    }
}

fn judge(ended: Ended) -> Exit {
    match ended {
        Ok(Ok(())) => Exit::Success,
        Ok(Err(failed)) => {
            error!(hint = hint(&*failed), "{}", chain(&*failed));
            Exit::Failure
        }
        // The panic itself was logged where it happened.
        Err(ended) => {
            error!(error = %ended, "the work ended without a result");
            Exit::Failure
        }
    }
}

/// The error and its causes, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The first hint on the way down.
fn hint<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e str> {
    std::iter::successors(Some(error), |cause| (*cause).source())
        .find_map(|cause| cause.downcast_ref::<Failure>()?.hint.as_deref())
}

async fn finish(mut server: JoinHandle<io::Result<()>>) {
    if tokio::time::timeout(LAST_ANSWERS, &mut server).await.is_err() {
        server.abort();
    }
}

/// Writes a file so that a reader sees all of it or nothing.
///
/// # Errors
/// What the system says.
pub fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests;
