//! The body of an upload, and the watch over it: exact in length, and cut where it stands still.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Limits;
use crate::transport::tidy;

/// Bytes that are to be sent, as a [`crate::Content`] opens them.
pub type ContentStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A stream of exactly the promised length: what is longer is cut before it is sent, what is shorter fails.
pub(crate) struct Outgoing {
    stream: ContentStream,
    left: u64,
    shared: Arc<Shared>,
}

/// Sees how far a body is.
pub(crate) struct Watch(Arc<Shared>);

struct Shared {
    progress: Mutex<Progress>,
    /// Wakes the watch when the phase changes, since each has its own patience.
    changed: Notify,
}

struct Progress {
    last: Instant,
    phase: Phase,
    failure: Option<String>,
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The registry takes its time.
    Sending,
    /// The content has nothing yet. That is not the registry's fault.
    Starved,
    /// Everything is sent.
    Sent,
}

impl Outgoing {
    pub(crate) fn new(stream: ContentStream, length: u64) -> Self {
        let phase = if length == 0 { Phase::Sent } else { Phase::Sending };
        let progress = Mutex::new(Progress { last: Instant::now(), phase, failure: None });
        Self { stream, left: length, shared: Arc::new(Shared { progress, changed: Notify::new() }) }
    }

    pub(crate) fn watch(&self) -> Watch {
        Watch(self.shared.clone())
    }

    fn note(&self, phase: Phase) {
        let mut progress = self.shared.progress();
        if progress.phase != phase {
            self.shared.changed.notify_one();
        }
        progress.phase = phase;
        progress.last = Instant::now();
    }

    fn fail(&self, reason: String) -> io::Error {
        let error = io::Error::other(reason.clone());
        self.shared.progress().failure = Some(reason);
        error
    }
}

impl Stream for Outgoing {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            self.note(Phase::Sent);
            return Poll::Ready(None);
        }
        let Poll::Ready(next) = self.stream.as_mut().poll_next(context) else {
            self.note(Phase::Starved);
            return Poll::Pending;
        };
        Poll::Ready(Some(match next {
            Some(Ok(piece)) if piece.len() as u64 > self.left => {
                Err(self.fail("it is longer than it said".to_owned()))
            }
            Some(Ok(piece)) => {
                self.left -= piece.len() as u64;
                self.note(if self.left == 0 { Phase::Sent } else { Phase::Sending });
                Ok(piece)
            }
            Some(Err(error)) => Err(self.fail(tidy(&error.to_string()))),
            None => Err(self.fail(format!("it ended {} bytes early", self.left))),
        }))
    }
}

impl Watch {
    /// Ends when the registry has taken nothing for too long, or does not answer after the last byte.
    pub(crate) async fn stalled(&self, limits: &Limits) -> &'static str {
        loop {
            let (last, phase) = {
                let progress = self.0.progress();
                (progress.last, progress.phase)
            };
            let (patience, reason) = match phase {
                Phase::Sent => (limits.commit, "no answer in time after the last byte"),
                Phase::Sending => (limits.idle, "it took no bytes for too long"),
                Phase::Starved => {
                    self.0.changed.notified().await;
                    continue;
                }
            };
            if Instant::now() >= last + patience {
                return reason;
            }
            tokio::select! {
                () = tokio::time::sleep_until(last + patience) => {}
                () = self.0.changed.notified() => {}
            }
        }
    }

    /// What the content failed with, where it did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.0.progress().failure.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::StreamExt as _;
    use futures::stream;

    use super::*;

    fn outgoing(pieces: Vec<io::Result<&'static str>>, length: u64) -> Outgoing {
        let pieces = pieces.into_iter().map(|piece| piece.map(Bytes::from));
        Outgoing::new(Box::pin(stream::iter(pieces)), length)
    }

    #[tokio::test]
    async fn a_body_has_exactly_the_length_that_it_said() {
        let fine = outgoing(vec![Ok("ab"), Ok(""), Ok("c")], 3);
        assert_eq!(fine.map(|piece| piece.unwrap().len()).collect::<Vec<_>>().await, [2, 0, 1]);
        for (pieces, length, expected) in [
            (vec![Ok("ab")], 3, "ended 1 bytes early"),
            (vec![Ok("abcd")], 3, "longer than it said"),
            (vec![Err(io::Error::other("the bundle\nis gone"))], 3, "the bundle is gone"),
        ] {
            let mut body = outgoing(pieces, length);
            let watch = body.watch();
            while let Some(Ok(_)) = body.next().await {}
            assert!(watch.failure().unwrap().contains(expected), "{:?}", watch.failure());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_takes_nothing_is_given_up_and_slow_content_is_not() {
        let limits = Limits::default();
        let began = Instant::now();
        let sending = outgoing(vec![Ok("abc")], 3);
        sending.watch().stalled(&limits).await;
        assert_eq!(began.elapsed(), limits.idle);

        // The patience changes with the phase, also for a watch that waits already.
        let mut sent = outgoing(vec![Ok("abc")], 3);
        let watch = sent.watch();
        let mut stalled = std::pin::pin!(watch.stalled(&limits));
        assert!(futures::poll!(&mut stalled).is_pending());
        sent.next().await;
        stalled.await;
        assert_eq!(began.elapsed(), limits.idle + limits.commit);

        let mut starved = Outgoing::new(Box::pin(stream::pending()), 3);
        assert!(futures::poll!(starved.next()).is_pending());
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, starved.watch().stalled(&limits)).await.is_err());
    }
}
