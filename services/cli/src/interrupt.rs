//! Ctrl-C: the first one stops cleanly, the second one at once. SIGTERM counts as the first.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, Problem};
use crate::screen::Screen;

/// Cancels the token that is returned at the first signal, and ends the process at the second.
///
/// # Errors
/// Where the operating system does not let signals be received.
pub(crate) fn watch(screen: &Screen) -> Result<CancellationToken, Problem> {
    let refused =
        |error: std::io::Error| Problem::new(Exit::Failed, "signals cannot be received").caused_by(&error);
    let mut interrupts = signal(SignalKind::interrupt()).map_err(refused)?;
    let mut terminations = signal(SignalKind::terminate()).map_err(refused)?;
    let (token, screen) = (CancellationToken::new(), screen.clone());
    let cancelled = token.clone();
    tokio::spawn(async move {
        for is_first in [true, false] {
            tokio::select! {
                _ = interrupts.recv() => {}
                _ = terminations.recv() => {}
            }
            if is_first {
                cancelled.cancel();
                screen.note("stopping; once more ends at once");
            }
        }
        // What is staged stays staged, and the same command goes on from there.
        screen.attach(None);
        std::process::exit(Exit::Interrupted.code().into());
    });
    Ok(token)
}
