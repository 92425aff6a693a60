//! The signals that ask a process to stop.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// `SIGTERM` and `SIGINT`. From the moment this exists they no longer end the process by themselves.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn install() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }
}

/// Where requests to stop come from.
pub(crate) trait StopRequests: Send {
    /// The next request, by name.
    fn next(&mut self) -> impl Future<Output = &'static str> + Send;
}

impl StopRequests for Signals {
    async fn next(&mut self) -> &'static str {
        // `recv` ends only with the runtime, so there is no request that would be missed.
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
