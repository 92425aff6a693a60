//! The content of an upload: ranges of the bundle, read ahead in parallel, hashed in order. The last piece is
//! handed out only once the digest of the whole is right.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{Stream, stream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use transship_model::{Code, Digest, Failure, Hasher};
use transship_registry::Content;
use transship_stage::Progress;

use crate::ImportSettings;
use crate::bundle::ArrivedBundle;

/// The size of a piece in bytes.
const PIECE: usize = 1 << 20;

/// How many states of the hash are kept, so that an upload can go on near where it broke.
const STATES: usize = 8;

/// A blob of the bundle.
pub(crate) struct BundleContent {
    inner: Arc<Inner>,
}

struct Inner {
    bundle: Arc<ArrivedBundle>,
    digest: Digest,
    /// Where it is in the bundle.
    place: Range<u64>,
    range_bytes: u64,
    ahead: usize,
    progress: Arc<Progress>,
    /// How many bytes were handed out at least once.
    counted: AtomicU64,
    /// The hash at the boundaries of ranges, newest last.
    states: Mutex<VecDeque<(u64, Hasher)>>,
    failure: Mutex<Option<Failure>>,
}

impl BundleContent {
    pub(crate) fn new(
        bundle: Arc<ArrivedBundle>,
        digest: Digest,
        place: Range<u64>,
        settings: &ImportSettings,
        progress: Arc<Progress>,
    ) -> Self {
        let inner = Inner {
            bundle,
            digest,
            place,
            range_bytes: settings.range_bytes,
            ahead: settings.ranges_ahead,
            progress,
            counted: AtomicU64::new(0),
            states: Mutex::default(),
            failure: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What the content itself failed with. The registry room only knows that it did.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.inner.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many bytes were handed out, each counted once. They stand in the progress as moved.
    pub(crate) fn counted(&self) -> u64 {
        self.inner.counted.load(Ordering::Relaxed)
    }
}

impl Content for BundleContent {
    fn length(&self) -> u64 {
        self.inner.size()
    }

    fn open(&self, offset: u64) -> Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>> {
        let reading = Reading::new(Arc::clone(&self.inner), offset);
        Box::pin(stream::try_unfold(reading, |mut reading| async move {
            match reading.piece().await {
                Ok(piece) => Ok(piece.map(|piece| (piece, reading))),
                Err(failure) => Err(reading.inner.fail(failure)),
            }
        }))
    }
}

impl Inner {
    fn size(&self) -> u64 {
        self.place.end - self.place.start
    }

    fn fail(&self, failure: Failure) -> io::Error {
        let error = io::Error::other(failure.message.clone());
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
        error
    }

    /// The newest state of the hash that is not behind `offset`.
    fn state_at(&self, offset: u64) -> (u64, Hasher) {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let known = states.iter().rfind(|(at, _)| *at <= offset).cloned();
        known.unwrap_or_else(|| (0, Hasher::new(self.digest.algorithm())))
    }

    fn keep(&self, at: u64, hasher: &Hasher) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if states.back().is_none_or(|(newest, _)| *newest < at) {
            states.push_back((at, hasher.clone()));
            if states.len() > STATES {
                states.pop_front();
            }
        }
    }

    /// Everything up to `at` was handed out.
    fn count(&self, at: u64) {
        let before = self.counted.fetch_max(at, Ordering::Relaxed);
        if at > before {
            self.progress.count(|c| c.bytes_moved += at - before);
        }
    }
}

/// One reading of a blob.
struct Reading {
    inner: Arc<Inner>,
    hasher: Hasher,
    /// The next byte to be hashed.
    at: u64,
    /// The first byte to be handed out.
    from: u64,
    current: Bytes,
    ahead: Option<ReadAhead>,
}

impl Reading {
    fn new(inner: Arc<Inner>, from: u64) -> Self {
        let (at, hasher) = inner.state_at(from);
        Self { inner, hasher, at, from, current: Bytes::new(), ahead: None }
    }

    /// The next piece to be handed out; `None` at the end.
    async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        let size = self.inner.size();
        while self.at < size {
            if self.current.is_empty() {
                self.current = self.next_range().await?;
            }
            let piece = self.current.split_to(self.current.len().min(PIECE));
            self.hasher.update(&piece);
            let start = self.at;
            self.at += piece.len() as u64;
            if self.at == size {
                self.verify()?;
            } else if self.at.is_multiple_of(self.inner.range_bytes) {
                self.inner.keep(self.at, &self.hasher);
            }
            if self.at > self.from {
                self.inner.count(self.at);
                let skipped = self.from.saturating_sub(start) as usize;
                return Ok(Some(piece.slice(skipped..)));
            }
        }
        Ok(None)
    }

    fn verify(&self) -> Result<(), Failure> {
        let actual = self.hasher.clone().finish();
        if actual == self.inner.digest {
            Ok(())
        } else {
            Err(self.inner.bundle.mismatch("blob", &self.inner.digest, actual))
        }
    }

    async fn next_range(&mut self) -> Result<Bytes, Failure> {
        // Begun here, not when the stream was made: nothing is held while an upload waits for its turn.
        let ahead = self.ahead.get_or_insert_with(|| ReadAhead::start(Arc::clone(&self.inner), self.at));
        match ahead.ranges.recv().await {
            Some(mut fetch) => (&mut fetch.0).await.unwrap_or_else(|_| Err(ended())),
            None => Err(ended()),
        }
    }
}

fn ended() -> Failure {
    Failure::transient(Code::Internal, "reading ahead ended early")
}

/// Reads ranges ahead, several at a time. Their shares of the budget are taken in their order, so whoever has
/// one can go on without another.
struct ReadAhead {
    ranges: mpsc::Receiver<Task<Result<Bytes, Failure>>>,
    _producer: Task<()>,
}

/// A task that ends with its owner.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ReadAhead {
    fn start(inner: Arc<Inner>, from: u64) -> Self {
        // One is in the reader's hands and one is about to be queued.
        let (sender, ranges) = mpsc::channel(inner.ahead.saturating_sub(2).max(1));
        let producer = tokio::spawn(async move {
            let size = inner.size();
            let mut at = from;
            while at < size {
                let end = ((at / inner.range_bytes + 1) * inner.range_bytes).min(size);
                let permit = inner.bundle.budget().acquire(end - at).await;
                let range = inner.place.start + at..inner.place.start + end;
                let bundle = Arc::clone(&inner.bundle);
                let fetch = Task(tokio::spawn(async move { bundle.read_with(range, permit).await }));
                if sender.send(fetch).await.is_err() {
                    return;
                }
                at = end;
            }
        });
        Self { ranges, _producer: Task(producer) }
    }
}

#[cfg(test)]
#[path = "content_tests.rs"]
mod tests;
