//! A registry in memory: the twin that stages are tested with.

mod ports;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use transship_model::{Descriptor, Digest, ManifestView, MediaType, Repository, Tag};

use crate::RegistryError;

/// What a client may do with a registry: one for each call of the ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// `Source::manifest`.
    Manifest,
    /// `Source::blob_length`.
    BlobLength,
    /// `Source::blob`.
    Blob,
    /// `Source::referrers`.
    Referrers,
    /// `Source::tags`.
    Tags,
    /// `Catalog::list_repositories`.
    Repositories,
    /// `Catalog::current`.
    Current,
    /// `Target::resolve`.
    Resolve,
    /// `Target::has_blob`.
    HasBlob,
    /// `Target::mount`.
    Mount,
    /// `Target::upload`.
    Upload,
    /// `Target::put_manifest`.
    PutManifest,
    /// `ResumableTarget::begin_upload`.
    BeginUpload,
    /// `ResumableTarget::continue_upload`.
    ContinueUpload,
    /// `ResumableTarget::finish_upload`.
    FinishUpload,
    /// `ResumableTarget::cancel_upload`.
    CancelUpload,
}

/// Decides whether a call fails: it is told which call it is, and which of its kind, from 1.
type Fault = dyn Fn(Operation, u64) -> Option<RegistryError> + Send + Sync;

/// A registry in memory. Clones share its content. It knows a manifest only with everything that the manifest
/// refers to, mounts, and keeps the list of referrers itself unless told not to.
#[derive(Clone)]
pub struct MemoryRegistry {
    host: Arc<str>,
    state: Arc<Mutex<State>>,
}

struct State {
    referrers_api: bool,
    mounts: bool,
    content: HashMap<Digest, Bytes>,
    repositories: BTreeMap<Repository, Contents>,
    sessions: BTreeMap<u64, Vec<u8>>,
    next_session: u64,
    counts: BTreeMap<Operation, u64>,
    read: u64,
    uploaded: u64,
    fault: Option<Arc<Fault>>,
}

#[derive(Default)]
struct Contents {
    blobs: BTreeSet<Digest>,
    manifests: BTreeMap<Digest, (MediaType, Bytes)>,
    tags: BTreeMap<Tag, Digest>,
}

impl MemoryRegistry {
    /// An empty registry with this name.
    pub fn new(host: &str) -> Self {
        let state = State {
            referrers_api: true,
            mounts: true,
            content: HashMap::new(),
            repositories: BTreeMap::new(),
            sessions: BTreeMap::new(),
            next_session: 0,
            counts: BTreeMap::new(),
            read: 0,
            uploaded: 0,
            fault: None,
        };
        Self { host: host.into(), state: Arc::new(Mutex::new(state)) }
    }

    /// The same without the referrers API, so that only fallback tags list referrers.
    #[must_use]
    pub fn without_referrers_api(self) -> Self {
        self.state().referrers_api = false;
        self
    }

    /// The same without mounts.
    #[must_use]
    pub fn without_mounts(self) -> Self {
        self.state().mounts = false;
        self
    }

    /// Lets calls fail from now on: before they have an effect, `fault` is asked.
    pub fn inject(&self, fault: impl Fn(Operation, u64) -> Option<RegistryError> + Send + Sync + 'static) {
        self.state().fault = Some(Arc::new(fault));
    }

    /// Lets all calls succeed again.
    pub fn heal(&self) {
        self.state().fault = None;
    }

    /// Puts a blob.
    pub fn put_blob(&self, repository: &Repository, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::sha256(&bytes);
        self.put_blob_as(repository, digest.clone(), bytes);
        digest
    }

    /// Puts bytes under a digest that need not be theirs: a registry that is damaged.
    pub fn put_blob_as(&self, repository: &Repository, digest: Digest, bytes: impl Into<Bytes>) {
        let mut state = self.state();
        state.content.insert(digest.clone(), bytes.into());
        state.contents(repository).blobs.insert(digest);
    }

    /// Puts a manifest, whether what it refers to is there or not, and tags it.
    pub fn put_manifest_as(
        &self,
        repository: &Repository,
        tag: Option<&Tag>,
        media_type: &MediaType,
        bytes: impl Into<Bytes>,
    ) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::sha256(&bytes);
        let mut state = self.state();
        let contents = state.contents(repository);
        contents.manifests.insert(digest.clone(), (media_type.clone(), bytes));
        if let Some(tag) = tag {
            contents.tags.insert(tag.clone(), digest.clone());
        }
        digest
    }

    /// Moves a tag, or makes it.
    pub fn tag(&self, repository: &Repository, tag: &Tag, digest: &Digest) {
        self.state().contents(repository).tags.insert(tag.clone(), digest.clone());
    }

    /// Takes a blob or manifest away, as garbage collection does.
    pub fn remove(&self, repository: &Repository, digest: &Digest) {
        let mut state = self.state();
        let contents = state.contents(repository);
        contents.blobs.remove(digest);
        contents.manifests.remove(digest);
        contents.tags.retain(|_, tagged| tagged != digest);
    }

    /// The bytes of a blob that a repository has.
    pub fn blob_bytes(&self, repository: &Repository, digest: &Digest) -> Option<Bytes> {
        let state = self.state();
        let has = state.repositories.get(repository)?.blobs.contains(digest);
        state.content.get(digest).filter(|_| has).cloned()
    }

    /// The media type and bytes of a manifest that a repository has.
    pub fn manifest_bytes(&self, repository: &Repository, digest: &Digest) -> Option<(MediaType, Bytes)> {
        self.state().repositories.get(repository)?.manifests.get(digest).cloned()
    }

    /// What a tag points to.
    pub fn tagged(&self, repository: &Repository, tag: &Tag) -> Option<Digest> {
        self.state().repositories.get(repository)?.tags.get(tag).cloned()
    }

    /// All repositories.
    pub fn repositories(&self) -> Vec<Repository> {
        self.state().repositories.keys().cloned().collect()
    }

    /// How often a call was made, those that failed included.
    pub fn count(&self, operation: Operation) -> u64 {
        self.state().counts.get(&operation).copied().unwrap_or_default()
    }

    /// The bytes of blobs that were handed out.
    pub fn bytes_read(&self) -> u64 {
        self.state().read
    }

    /// The bytes of blobs that were uploaded.
    pub fn bytes_uploaded(&self) -> u64 {
        self.state().uploaded
    }

    /// The upload sessions that are neither finished nor cancelled.
    pub fn open_sessions(&self) -> usize {
        self.state().sessions.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call, and fails where a fault is injected.
    fn begin_call(&self, operation: Operation) -> Result<MutexGuard<'_, State>, RegistryError> {
        let (count, fault) = {
            let mut state = self.state();
            let count = state.counts.entry(operation).or_default();
            *count += 1;
            (*count, state.fault.clone())
        };
        // Asked without the lock, so that a fault may look at the registry.
        match fault.and_then(|fault| fault(operation, count)) {
            Some(error) => Err(error),
            None => Ok(self.state()),
        }
    }

    /// Counts a call, and fails where a fault is injected, for calls that look at the content by themselves.
    pub(crate) fn begin(&self, operation: Operation) -> Result<(), RegistryError> {
        self.begin_call(operation).map(drop)
    }

    fn refused(&self, operation: impl Into<String>, code: &str) -> RegistryError {
        RegistryError::Refused {
            host: self.host.to_string(),
            operation: operation.into(),
            code: code.to_owned(),
        }
    }
}

impl State {
    fn contents(&mut self, repository: &Repository) -> &mut Contents {
        self.repositories.entry(repository.clone()).or_default()
    }

    /// Whether a repository has everything that a manifest refers to. Foreign layers and subjects may be absent.
    fn has_everything(&self, repository: &Repository, view: &ManifestView) -> bool {
        let Some(contents) = self.repositories.get(repository) else {
            return view.manifests.is_empty() && view.blobs.is_empty();
        };
        let blob = |d: &Descriptor| d.media_type.is_foreign_layer() || contents.blobs.contains(&d.digest);
        let manifest =
            |d: &Descriptor| contents.manifests.contains_key(&d.digest) || contents.blobs.contains(&d.digest);
        view.blobs.iter().all(blob) && view.manifests.iter().all(manifest)
    }
}
