//! The bundle as it lies in its container: one version of one blob, read by ranges.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use transship_bundle::{OpenError, Opened, open};
use transship_model::{BlobName, ContainerUrl, Digest, Failure};
use transship_stage::{ByteBudget, BytePermit};
use transship_storage::{Container, ETag};

use crate::ImportError;

/// Short reads fetch as much as this, in bytes: the headers of a foreign archive lie behind one another.
const WINDOW: u64 = 256 << 10;

/// One version of a blob.
pub(crate) struct ArrivedBundle {
    container: Arc<dyn Container>,
    blob: BlobName,
    etag: ETag,
    length: u64,
    budget: ByteBudget,
}

/// Bytes that give their share of the budget back when the last of them is dropped.
struct Budgeted {
    bytes: Bytes,
    _permit: BytePermit,
}

impl AsRef<[u8]> for Budgeted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl ArrivedBundle {
    pub(crate) fn new(
        container: Arc<dyn Container>,
        blob: BlobName,
        etag: ETag,
        length: u64,
        budget: ByteBudget,
    ) -> Self {
        Self { container, blob, etag, length, budget }
    }

    /// The container's address.
    pub(crate) fn container(&self) -> &ContainerUrl {
        self.container.url()
    }

    /// The budget that every read takes its share of.
    pub(crate) fn budget(&self) -> &ByteBudget {
        &self.budget
    }

    /// Reads a range. It counts against the budget until the bytes are dropped, so whoever holds some must not
    /// wait for more.
    pub(crate) async fn read(&self, range: Range<u64>) -> Result<Bytes, Failure> {
        let permit = self.budget.acquire(range.end.saturating_sub(range.start)).await;
        self.read_with(range, permit).await
    }

    /// The same with a share that was taken before.
    pub(crate) async fn read_with(&self, range: Range<u64>, permit: BytePermit) -> Result<Bytes, Failure> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let bytes = self.container.read(&self.blob, range, Some(&self.etag)).await?;
        Ok(Bytes::from_owner(Budgeted { bytes, _permit: permit }))
    }

    /// Opens the bundle: what it holds, and where.
    pub(crate) async fn open(&self) -> Result<Opened, Failure> {
        let window = Window::default();
        let read = |range: Range<u64>| {
            let window = &window;
            async move { window.read(self, range).await }
        };
        open(self.length, read).await.map_err(|error| match error {
            OpenError::Read(failure) => failure,
            other => self.not_a_bundle(&other).into(),
        })
    }

    fn not_a_bundle(&self, error: &dyn std::error::Error) -> ImportError {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        let reason = format!("{error}{cause}");
        ImportError::NotABundle { container: self.container().clone(), blob: self.blob.clone(), reason }
    }

    /// Bytes that do not have the digest that names them.
    pub(crate) fn mismatch(&self, what: &'static str, expected: &Digest, actual: Digest) -> Failure {
        ImportError::DigestMismatch { what, blob: self.blob.clone(), expected: expected.clone(), actual }
            .into()
    }

    /// Deletes the blob, where it is still this version.
    pub(crate) async fn delete(&self) -> Result<(), Failure> {
        Ok(self.container.delete(&self.blob, &self.etag).await?)
    }
}

/// The last short stretch that was read.
#[derive(Default)]
struct Window(Mutex<Option<(u64, Bytes)>>);

impl Window {
    async fn read(&self, bundle: &ArrivedBundle, range: Range<u64>) -> Result<Bytes, Failure> {
        if let Some(bytes) = self.part(&range) {
            return Ok(bytes);
        }
        // Given back before more is asked for.
        self.keep(None);
        if range.end - range.start >= WINDOW {
            return bundle.read(range).await;
        }
        let end = (range.start + WINDOW).min(bundle.length).max(range.end);
        let bytes = bundle.read(range.start..end).await?;
        let part = bytes.slice(..(range.end - range.start) as usize);
        self.keep(Some((range.start, bytes)));
        Ok(part)
    }

    fn part(&self, range: &Range<u64>) -> Option<Bytes> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, bytes) = kept.as_ref()?;
        let from = usize::try_from(range.start.checked_sub(*start)?).ok()?;
        let to = usize::try_from(range.end.checked_sub(*start)?).ok()?;
        (to <= bytes.len()).then(|| bytes.slice(from..to))
    }

    fn keep(&self, window: Option<(u64, Bytes)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = window;
    }
}
