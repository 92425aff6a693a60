//! A container in memory, for tests of what stands above the port. It runs the same contract as the others.

mod faults;
mod state;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use transship_model::{BlobName, ContainerUrl, Secret};

use self::faults::{Faults, When};
use self::state::State;
use crate::limits::{check_block, check_id, check_metadata};
use crate::{
    BlobPage, BlobProperties, Block, BlockId, Condition, CopySource, DeleteBlob, ETag, Metadata, Operation,
    ReadContainer, StorageError, WriteContainer,
};

/// A container in memory. Clones share one content. What it was asked can be counted, and each call can be made
/// to fail.
#[derive(Clone)]
pub struct MemoryContainer {
    url: ContainerUrl,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    faults: Mutex<Faults>,
    /// Containers that this one's service can copy from by itself.
    sources: Mutex<Vec<MemoryContainer>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryContainer {
    /// An empty container that calls itself `url`.
    pub fn new(url: ContainerUrl) -> Self {
        let shared = Shared { state: Mutex::default(), faults: Mutex::default(), sources: Mutex::default() };
        Self { url, shared: Arc::new(shared) }
    }

    /// Makes the next call of `operation` fail with `error`, before it has an effect. Several wait in their
    /// order.
    pub fn fail_next(&self, operation: Operation, error: StorageError) {
        lock(&self.shared.faults).plan(operation, When::Before, error);
    }

    /// Makes the next call of `operation` fail with `error` although it had its effect, as when the answer of a
    /// service is lost.
    pub fn lose_answer_of_next(&self, operation: Operation, error: StorageError) {
        lock(&self.shared.faults).plan(operation, When::After, error);
    }

    /// Calls `observe` before each call has an effect; what it returns makes the call fail. One observer at a
    /// time: a further one replaces it.
    pub fn observe(
        &self,
        observe: impl Fn(Operation, Option<&BlobName>) -> Result<(), StorageError> + Send + Sync + 'static,
    ) {
        lock(&self.shared.faults).observe(observe);
    }

    /// How often `operation` was called, failures included.
    pub fn calls(&self, operation: Operation) -> u64 {
        lock(&self.shared.faults).calls(operation)
    }

    /// How often a block was staged with success, by bytes or from another blob.
    pub fn staged_count(&self) -> u64 {
        lock(&self.shared.state).staged_count()
    }

    /// How often this identifier of this blob was staged with success.
    pub fn staged_count_of(&self, blob: &BlobName, id: &BlockId) -> u64 {
        lock(&self.shared.state).staged_count_of(blob, id)
    }

    /// The content of a committed blob.
    pub fn content(&self, blob: &BlobName) -> Option<Bytes> {
        lock(&self.shared.state).content(blob)
    }

    /// Puts a blob there as another tool would: in one piece, without blocks or metadata.
    pub fn put(&self, blob: &BlobName, content: Bytes) {
        lock(&self.shared.state).put(blob, content);
    }

    /// Drops all staged blocks, as a service does after a week.
    pub fn forget_staged(&self) {
        lock(&self.shared.state).forget_staged();
    }

    /// Removes the container itself: every call fails from now on.
    pub fn remove(&self) {
        lock(&self.shared.state).remove();
    }

    /// Lets the service of this container copy from `source` by itself. Without it, it cannot.
    pub fn can_copy_from(&self, source: &Self) {
        lock(&self.shared.sources).push(source.clone());
    }

    /// Runs `effect` as the call `operation`, with the faults that are planned for it.
    fn call<T>(
        &self,
        operation: Operation,
        blob: Option<&BlobName>,
        effect: impl FnOnce(&mut State) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        // The observer runs without the lock: it may ask the container.
        let (observer, before, after) = lock(&self.shared.faults).begin(operation);
        if let Some(observer) = observer {
            observer(operation, blob)?;
        }
        before.map_or(Ok(()), Err)?;
        let mut state = lock(&self.shared.state);
        if state.is_removed() {
            return Err(StorageError::ContainerNotFound { container: self.url.clone() });
        }
        let result = effect(&mut state)?;
        after.map_or(Ok(result), Err)
    }

    fn copied(&self, source: &CopySource) -> Result<Bytes, StorageError> {
        let sources = lock(&self.shared.sources).clone();
        let found = sources.iter().find_map(|container| Some((container, container.named_by(&source.url)?)));
        let Some((container, blob)) = found else {
            return Err(StorageError::CopyUnsupported {
                container: self.url.clone(),
                code: "CannotVerifyCopySource".to_owned(),
            });
        };
        let state = lock(&container.shared.state);
        state.read(&container.url, &blob, source.range.clone(), Some(&source.etag))
    }

    /// The blob that one of our copy sources names.
    fn named_by(&self, url: &Secret) -> Option<BlobName> {
        let (address, _token) = url.expose().rsplit_once('?')?;
        address.strip_prefix(self.url.as_url().as_str())?.strip_prefix('/')?.parse().ok()
    }
}

impl std::fmt::Debug for MemoryContainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryContainer").field("url", &self.url).finish_non_exhaustive()
    }
}

#[async_trait]
impl ReadContainer for MemoryContainer {
    fn url(&self) -> &ContainerUrl {
        &self.url
    }

    async fn properties(&self, blob: &BlobName) -> Result<Option<BlobProperties>, StorageError> {
        self.call(Operation::Properties, Some(blob), |state| Ok(state.properties(blob)))
    }

    async fn read(
        &self,
        blob: &BlobName,
        range: Range<u64>,
        etag: Option<&ETag>,
    ) -> Result<Bytes, StorageError> {
        self.call(Operation::Read, Some(blob), |state| state.read(&self.url, blob, range, etag))
    }

    async fn committed_blocks(&self, blob: &BlobName) -> Result<Vec<Block>, StorageError> {
        self.call(Operation::CommittedBlocks, Some(blob), |state| Ok(state.committed_blocks(blob)))
    }

    async fn list(&self, prefix: &str, marker: Option<&str>) -> Result<BlobPage, StorageError> {
        self.call(Operation::List, None, |state| Ok(state.list(prefix, marker)))
    }

    fn copy_source(&self, blob: &BlobName) -> Option<Secret> {
        Some(Secret::new(&format!("{}/{blob}?sig=memory", self.url)))
    }
}

#[async_trait]
impl WriteContainer for MemoryContainer {
    async fn staged_blocks(&self, blob: &BlobName) -> Result<Vec<Block>, StorageError> {
        self.call(Operation::StagedBlocks, Some(blob), |state| Ok(state.staged_blocks(blob)))
    }

    async fn stage(&self, blob: &BlobName, id: &BlockId, bytes: Bytes) -> Result<(), StorageError> {
        self.call(Operation::Stage, Some(blob), |state| {
            check_block(&self.url, id, bytes.len() as u64)?;
            state.stage(&self.url, blob, id, bytes)
        })
    }

    async fn stage_from(
        &self,
        blob: &BlobName,
        id: &BlockId,
        source: &CopySource,
    ) -> Result<(), StorageError> {
        self.call(Operation::StageFrom, Some(blob), |_| Ok(()))?;
        let bytes = self.copied(source).map_err(|error| match error {
            // The condition is that of this call, so it is this container that reports it.
            StorageError::ConditionFailed { .. } => {
                StorageError::ConditionFailed { container: self.url.clone(), blob: blob.clone() }
            }
            error => error,
        })?;
        check_block(&self.url, id, bytes.len() as u64)?;
        lock(&self.shared.state).stage(&self.url, blob, id, bytes)
    }

    async fn commit(
        &self,
        blob: &BlobName,
        blocks: &[BlockId],
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag, StorageError> {
        self.call(Operation::Commit, Some(blob), |state| {
            blocks.iter().try_for_each(|id| check_id(&self.url, id))?;
            let metadata = check_metadata(&self.url, metadata)?;
            state.commit(&self.url, blob, blocks, metadata, condition)
        })
    }
}

#[async_trait]
impl DeleteBlob for MemoryContainer {
    async fn delete(&self, blob: &BlobName, etag: &ETag) -> Result<(), StorageError> {
        self.call(Operation::Delete, Some(blob), |state| state.delete(&self.url, blob, etag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str) -> MemoryContainer {
        MemoryContainer::new(format!("https://{name}.blob.example/c").parse().unwrap())
    }

    fn busy(container: &MemoryContainer) -> StorageError {
        StorageError::Unavailable {
            container: container.url.clone(),
            reason: "busy".into(),
            retry_after: None,
        }
    }

    #[tokio::test]
    async fn a_planned_failure_happens_once_and_before_the_effect() {
        let container = container("a");
        let (blob, id) = ("b".parse().unwrap(), BlockId::new([1]));
        container.fail_next(Operation::Stage, busy(&container));
        assert!(container.stage(&blob, &id, Bytes::from_static(b"x")).await.is_err());
        assert_eq!(container.staged_count(), 0);
        container.stage(&blob, &id, Bytes::from_static(b"x")).await.unwrap();
        container.stage(&blob, &id, Bytes::from_static(b"y")).await.unwrap();
        assert_eq!((container.staged_count_of(&blob, &id), container.calls(Operation::Stage)), (2, 3));
    }

    #[tokio::test]
    async fn a_lost_answer_leaves_the_effect() {
        let container = container("a");
        let blob = "b".parse().unwrap();
        container.lose_answer_of_next(Operation::Commit, busy(&container));
        assert!(container.commit(&blob, &[], &Metadata::new(), &Condition::Absent).await.is_err());
        assert_eq!(container.content(&blob).unwrap(), Bytes::new());
    }

    #[tokio::test]
    async fn an_observer_sees_each_call_and_may_fail_it() {
        let container = container("a");
        let (clone, url) = (container.clone(), container.url.clone());
        container.observe(move |operation, blob| {
            assert_eq!(clone.content(blob.unwrap()), None, "an observer may ask the container");
            match operation {
                Operation::Properties => Err(StorageError::ContainerNotFound { container: url.clone() }),
                _ => Ok(()),
            }
        });
        let blob = "b".parse().unwrap();
        assert!(container.properties(&blob).await.is_err());
        assert!(container.staged_blocks(&blob).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_service_copies_from_the_containers_that_it_was_told() {
        let (source, target) = (container("source"), container("target"));
        let (blob, id) = ("dir/b".parse().unwrap(), BlockId::new([1]));
        source.put(&blob, Bytes::from_static(b"0123456789"));
        let etag = source.properties(&blob).await.unwrap().unwrap().etag;
        let url = source.copy_source(&blob).unwrap();
        let from = |etag: &ETag| CopySource { url: url.clone(), range: 2..5, etag: etag.clone() };
        let unsupported = target.stage_from(&blob, &id, &from(&etag)).await.unwrap_err();
        assert!(matches!(unsupported, StorageError::CopyUnsupported { .. }));
        target.can_copy_from(&source);
        let changed = target.stage_from(&blob, &id, &from(&ETag("other".into()))).await.unwrap_err();
        assert!(
            matches!(changed, StorageError::ConditionFailed { container, .. } if container == target.url)
        );
        target.stage_from(&blob, &id, &from(&etag)).await.unwrap();
        target.commit(&blob, &[id], &Metadata::new(), &Condition::Absent).await.unwrap();
        assert_eq!(target.content(&blob).unwrap(), "234");
    }
}
