//! The content of an upload: ranges of the bundle, read ahead in parallel, hashed in order. The last piece is
//! handed out only once the digest of the whole is right.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::stream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use transship_bundle::{ChainValue, ChainedHash};
use transship_model::{Code, Digest, Failure};
use transship_registry::{Content, ContentStream};
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
    states: Mutex<States>,
    failure: Mutex<Option<Failure>>,
}

/// States of the hash.
#[derive(Default)]
struct States {
    /// At the boundaries of ranges, newest last.
    recent: VecDeque<(u64, ChainedHash)>,
    /// Where the registry has everything before, so that reading never goes on further back than that.
    pinned: Option<(u64, ChainedHash)>,
}

impl States {
    /// All of them in their order.
    fn all(&self) -> impl DoubleEndedIterator<Item = &(u64, ChainedHash)> {
        self.pinned.iter().chain(&self.recent)
    }
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

    /// Takes what was handed out back out of the progress: it does not count as moved.
    pub(crate) fn uncount(&self) {
        let counted = self.inner.counted.load(Ordering::Relaxed);
        self.inner.progress.count(|c| c.bytes_moved = c.bytes_moved.saturating_sub(counted));
    }

    /// Goes on at `offset`, where `chain` was the chaining value: what is before counts as moved, and is not
    /// read again. False where no upload can have been left there.
    pub(crate) fn resume(&self, offset: u64, chain: &ChainValue) -> bool {
        let Some(hash) = ChainedHash::resume(chain, offset).filter(|_| offset < self.inner.size()) else {
            return false;
        };
        self.inner.states().pinned = Some((offset, hash));
        self.inner.count(offset);
        true
    }

    /// The registry has everything before `offset`.
    pub(crate) fn pin(&self, offset: u64) {
        let mut states = self.inner.states();
        let known = states.all().find(|(at, _)| *at == offset).cloned();
        if known.is_some() {
            states.pinned = known;
        }
    }

    /// The chaining value at `offset`, where the registry has everything before it.
    pub(crate) fn chain_at(&self, offset: u64) -> Option<ChainValue> {
        let states = self.inner.states();
        let pinned = states.pinned.as_ref().filter(|(at, _)| *at == offset && at.is_multiple_of(64));
        pinned.map(|(_, hash)| hash.value())
    }

    /// The content up to `end` only: nothing behind it is read.
    pub(crate) fn up_to(&self, end: u64) -> ContentPart {
        ContentPart { inner: Arc::clone(&self.inner), end }
    }
}

/// The first bytes of a blob, as many as one piece of an upload needs.
pub(crate) struct ContentPart {
    inner: Arc<Inner>,
    end: u64,
}

impl Content for ContentPart {
    fn length(&self) -> u64 {
        self.end
    }

    fn open(&self, offset: u64) -> ContentStream {
        self.inner.open(offset..self.end)
    }
}

impl Content for BundleContent {
    fn length(&self) -> u64 {
        self.inner.size()
    }

    fn open(&self, offset: u64) -> ContentStream {
        self.inner.open(offset..self.inner.size())
    }
}

impl Inner {
    fn open(self: &Arc<Self>, range: Range<u64>) -> ContentStream {
        let reading = Reading::new(Arc::clone(self), range);
        Box::pin(stream::try_unfold(reading, |mut reading| async move {
            match reading.piece().await {
                Ok(piece) => Ok(piece.map(|piece| (piece, reading))),
                Err(failure) => Err(reading.inner.fail(failure)),
            }
        }))
    }

    fn states(&self) -> MutexGuard<'_, States> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn size(&self) -> u64 {
        self.place.end - self.place.start
    }

    fn fail(&self, failure: Failure) -> io::Error {
        let error = io::Error::other(failure.message.clone());
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
        error
    }

    /// The newest state of the hash that is not behind `offset`.
    fn state_at(&self, offset: u64) -> (u64, ChainedHash) {
        let known = self.states().all().rfind(|(at, _)| *at <= offset).cloned();
        known.unwrap_or_else(|| (0, ChainedHash::new(self.digest.algorithm())))
    }

    fn keep(&self, at: u64, hash: &ChainedHash) {
        let recent = &mut self.states().recent;
        if recent.back().is_none_or(|(newest, _)| *newest < at) {
            recent.push_back((at, hash.clone()));
            if recent.len() > STATES {
                recent.pop_front();
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
    hash: ChainedHash,
    /// The next byte to be hashed.
    at: u64,
    /// The bytes to be handed out.
    range: Range<u64>,
    current: Bytes,
    ahead: Option<ReadAhead>,
}

impl Reading {
    fn new(inner: Arc<Inner>, range: Range<u64>) -> Self {
        let (at, hash) = inner.state_at(range.start);
        Self { inner, hash, at, range, current: Bytes::new(), ahead: None }
    }

    /// The next piece to be handed out; `None` at the end.
    async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        let size = self.inner.size();
        while self.at < self.range.end {
            if self.current.is_empty() {
                self.current = self.next_range().await?;
            }
            let piece = self.current.split_to(self.current.len().min(PIECE));
            self.hash.update(&piece);
            let start = self.at;
            self.at += piece.len() as u64;
            if self.at == size {
                self.verify()?;
            } else if self.at.is_multiple_of(self.inner.range_bytes) || self.at == self.range.end {
                self.inner.keep(self.at, &self.hash);
            }
            if self.at > self.range.start {
                self.inner.count(self.at);
                let skipped = self.range.start.saturating_sub(start) as usize;
                return Ok(Some(piece.slice(skipped..)));
            }
        }
        Ok(None)
    }

    fn verify(&self) -> Result<(), Failure> {
        let actual = self.hash.clone().finish();
        if actual == self.inner.digest {
            Ok(())
        } else {
            Err(self.inner.bundle.mismatch("blob", &self.inner.digest, actual))
        }
    }

    async fn next_range(&mut self) -> Result<Bytes, Failure> {
        // Begun here, not when the stream was made: nothing is held while an upload waits for its turn.
        let ahead = self
            .ahead
            .get_or_insert_with(|| ReadAhead::start(Arc::clone(&self.inner), self.at..self.range.end));
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
    fn start(inner: Arc<Inner>, ahead: Range<u64>) -> Self {
        // One is in the reader's hands and one is about to be queued.
        let (sender, ranges) = mpsc::channel(inner.ahead.saturating_sub(2).max(1));
        let producer = tokio::spawn(async move {
            let mut at = ahead.start;
            while at < ahead.end {
                let end = ((at / inner.range_bytes + 1) * inner.range_bytes).min(ahead.end);
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
