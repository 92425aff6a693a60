//! Registries that ignore ranges, or do not say how long a blob is.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use transship_bundle::{BlockIdentity, ChainedHash};
use transship_model::*;
use transship_registry::{BlobRead, Manifest, MemoryRegistry, Referrers, RegistryError, Source};
use transship_stage::Verb;
use transship_storage::{BlockId, Operation, WriteContainer};

use crate::support::*;

/// A registry that does not answer a `HEAD` with a length, and ignores ranges unless told otherwise.
#[derive(Clone)]
pub(crate) struct Streamed {
    registry: MemoryRegistry,
    ranges: Arc<AtomicBool>,
    /// After how many bytes the next reads of a large blob break off.
    breaks: Arc<Mutex<VecDeque<usize>>>,
    whole_reads: Arc<AtomicU64>,
    /// How long each piece of a large blob takes to come, in milliseconds.
    pause: Arc<AtomicU64>,
}

impl Streamed {
    pub(crate) fn new(registry: &MemoryRegistry) -> Self {
        let (ranges, breaks, whole_reads) = (Arc::default(), Arc::default(), Arc::default());
        Self { registry: registry.clone(), ranges, breaks, whole_reads, pause: Arc::default() }
    }

    fn lost(&self) -> RegistryError {
        RegistryError::Unavailable {
            host: self.host().into(),
            operation: "read".into(),
            reason: "the connection broke".into(),
            retry_after: None,
        }
    }
}

#[async_trait]
impl Source for Streamed {
    fn host(&self) -> &str {
        self.registry.host()
    }

    async fn manifest(
        &self,
        repository: &Repository,
        selector: &Selector,
    ) -> Result<Manifest, RegistryError> {
        self.registry.manifest(repository, selector).await
    }

    async fn blob_length(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Option<u64>>, RegistryError> {
        Ok(self.registry.blob_length(repository, digest).await?.map(|_| None))
    }

    async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobRead, RegistryError> {
        if self.ranges.load(Ordering::Relaxed) && range.is_some() {
            return self.registry.blob(repository, digest, range).await;
        }
        let read = self.registry.blob(repository, digest, None).await?;
        if read.total.is_some_and(|total| total < 2 * MIB as u64) || range.is_some() {
            return Ok(BlobRead { total: None, start: 0, ..read });
        }
        self.whole_reads.fetch_add(1, Ordering::Relaxed);
        let pause = Duration::from_millis(self.pause.load(Ordering::Relaxed));
        if !pause.is_zero() {
            let bytes = read.bytes.then(move |piece| async move {
                tokio::time::sleep(pause).await;
                piece
            });
            return Ok(BlobRead { total: None, start: 0, bytes: Box::pin(bytes) });
        }
        let Some(at) = self.breaks.lock().unwrap().pop_front() else {
            return Ok(BlobRead { total: None, ..read });
        };
        let (mut left, error) = (at, self.lost());
        let before_it = move |piece: &Result<bytes::Bytes, RegistryError>| {
            left = left.saturating_sub(piece.as_ref().map_or(0, bytes::Bytes::len));
            std::future::ready(left > 0)
        };
        let bytes = read.bytes.take_while(before_it).chain(stream::iter([Err(error)]));
        Ok(BlobRead { total: None, start: 0, bytes: Box::pin(bytes) })
    }

    async fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Referrers, RegistryError> {
        self.registry.referrers(repository, subject).await
    }

    async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>, RegistryError> {
        self.registry.tags(repository).await
    }
}

const LAYER: usize = 40 * MIB;

/// A world with one image of one layer, whose registry is this.
fn world(change: impl FnOnce(&Streamed)) -> (World, Streamed) {
    let registry = MemoryRegistry::new("source.example");
    let source = Streamed::new(&registry);
    change(&source);
    let world = World::reading(registry, Arc::new(source.clone()));
    world.image("a", Some("1"), &[LAYER]);
    (world, source)
}

/// The bundle as it is where ranges work, and how many blocks are staged for it in one stream.
async fn expected() -> (bytes::Bytes, u64) {
    let by_range = World::new();
    by_range.image("a", Some("1"), &[LAYER]);
    by_range.export(&by_range.work(&["a:1"])).await.unwrap();
    let (streamed, _) = world(|_| ());
    streamed.export(&streamed.work(&["a:1"])).await.unwrap();
    let content = by_range.container.content(&blob_name()).unwrap();
    assert!(streamed.container.content(&blob_name()).unwrap() == content);
    (content, streamed.container.staged_count())
}

#[tokio::test]
async fn a_length_that_only_the_answer_to_a_read_says_is_enough_to_read_by_range() {
    let (world, source) = world(|source| source.ranges.store(true, Ordering::Relaxed));
    world.export(&world.work(&["a:1"])).await.unwrap();
    world.verified().await;
    assert_eq!(source.whole_reads.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_begins_anew_and_stages_and_counts_nothing_twice_but_its_last_block() {
    let (content, staged) = expected().await;
    let (world, source) = world(|source| source.breaks.lock().unwrap().push_back(36 * MIB));
    let outcome = world.export(&world.work(&["a:1"])).await.unwrap();
    assert!(world.container.content(&blob_name()).unwrap() == content);
    assert_eq!(source.whole_reads.load(Ordering::Relaxed), 2);
    // The last block that had its place.
    assert_eq!(world.container.staged_count(), staged + 1);
    let (counters, _) = exported(&outcome);
    assert_eq!((counters.bytes_moved, counters.bytes_skipped), (counters.bytes_discovered, 0));
}

#[tokio::test]
async fn an_attempt_after_one_that_died_in_a_stream_stages_what_is_not_there() {
    let (content, staged) = expected().await;
    let (uninterrupted, _) = world(|_| ());
    uninterrupted.export(&uninterrupted.work(&["a:1"])).await.unwrap();
    for nth in 1..=uninterrupted.container.calls(Operation::Stage) {
        let (world, _) = world(|_| ());
        fail_nth(&world, Operation::Stage, nth);
        world.export(&world.work(&["a:1"])).await.unwrap_err();
        world.export(&world.work(&["a:1"])).await.unwrap();
        assert!(world.container.content(&blob_name()).unwrap() == content, "{nth}");
        // The last block that had its place, and the first and last, whose places are known only at the end.
        let now = world.container.staged_count();
        assert!(now <= staged + 3, "{nth}: {now} and {staged}");
    }
}

#[tokio::test(start_paused = true)]
async fn streams_neither_vouch_for_what_is_staged_by_range_nor_touch_it() {
    let (content, _) = expected().await;
    let (world, source) = world(|source| source.breaks.lock().unwrap().extend([36 * MIB; 5]));
    let layer = self::content(&format!("layer {LAYER}"), LAYER);
    let digest = Digest::sha256(&layer);
    let segment = transship_bundle::Segment::new(&digest, LAYER as u64);
    let id = BlockIdentity::of_blob(&digest, 0, ChainedHash::new(Algorithm::Sha256).value()).to_bytes();
    let wrong = vec![7; segment.block(0).length() as usize];
    world.container.stage(&blob_name(), &BlockId::new(id), wrong.into()).await.unwrap();
    // Streams stage later blocks, and none comes to its end.
    world.export(&world.work(&["a:1"])).await.unwrap_err();
    assert_eq!(world.container.staged_count_of(&blob_name(), &BlockId::new(id)), 1);
    assert!(source.breaks.lock().unwrap().is_empty());
    source.ranges.store(true, Ordering::Relaxed);
    world.export(&world.work(&["a:1"])).await.unwrap();
    assert!(world.container.content(&blob_name()).unwrap() == content);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_the_pause_before_the_next_stream() {
    let (world, _) = world(|source| source.breaks.lock().unwrap().extend([9 * MIB; 5]));
    let context = context(SLICE);
    let cancel = context.cancel.clone();
    let began = tokio::time::Instant::now();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        cancel.cancel();
    });
    let failure = world.exporter.handle(&world.work(&["a:1"]), &context).await.unwrap_err();
    assert_eq!(failure.class, Class::Interrupted);
    assert!(began.elapsed() < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_one_delivery_is_too_short_to_read_fails_with_the_reason() {
    // 32 minutes.
    let (world, _) = world(|source| source.pause.store(3_000, Ordering::Relaxed));
    let mut work = world.work(&["a:1"]);
    let failure = loop {
        let began = tokio::time::Instant::now();
        let outcome = world.exporter.handle(&work, &context(SLICE)).await;
        assert!(began.elapsed() < Duration::from_secs(27 * 60));
        match outcome {
            Ok(transship_stage::Outcome::Continue { rest }) => work = rest,
            Ok(done) => panic!("{done:?}"),
            Err(failure) => break failure,
        }
        assert!(work.slice < 4);
    };
    assert_eq!((failure.class, failure.code), (Class::Permanent, Code::LimitExceeded));
    assert!(failure.hint.unwrap().contains("consumer_timeout"));
}
