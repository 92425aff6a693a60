//! Uploading one blob from wherever its bytes are.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::{io, iter};

use bytes::Bytes;
use futures::{Stream, stream};
use transship_model::{Digest, Failure, Repository};
use transship_registry::{Content, RegistryError};
use transship_telemetry::Direction;

use crate::ImportError;
use crate::blobs::BlobEnd;
use crate::content::BundleContent;
use crate::contents::Place;
use crate::error::{WhyMissing, add_hint};
use crate::pieces::{PieceUpload, Sent};
use crate::run::Import;

/// Where the bytes of a blob come from.
pub(crate) enum Supply {
    /// This range of the bundle.
    Range(Range<u64>),
    /// These bytes, which were read from the bundle and are not verified yet.
    Bytes(Bytes),
    /// Nowhere, and they need not: a foreign layer.
    Foreign,
    /// Nowhere.
    Missing(WhyMissing),
}

impl Supply {
    /// Where the bundle has a blob.
    pub(crate) fn of(import: &Import<'_>, digest: &Digest) -> Self {
        match import.contents.place(digest) {
            Place::Stored(range) => Self::Range(range),
            Place::Foreign => Self::Foreign,
            Place::Missing(_) if import.contents.is_foreign(digest) => Self::Foreign,
            Place::Missing(why) => Self::Missing(why),
        }
    }
}

/// Gets a blob out of the bundle.
pub(crate) async fn fetch(
    import: &Import<'_>,
    digest: &Digest,
    repository: &Repository,
    supply: &Supply,
) -> BlobEnd {
    let uploaded = match supply {
        Supply::Range(range) => upload(import, digest, repository, range.clone()).await,
        Supply::Bytes(bytes) => {
            upload_bytes(import, digest, repository, bytes).await.map(|()| BlobEnd::Uploaded)
        }
        Supply::Foreign => return BlobEnd::Foreign,
        Supply::Missing(why) => {
            let (digest, repository) = (digest.clone(), repository.clone());
            Err(ImportError::Missing { digest, repository, why: *why }.into())
        }
    };
    uploaded.unwrap_or_else(BlobEnd::Failed)
}

/// Uploads a blob by ranges of the bundle.
async fn upload(
    import: &Import<'_>,
    digest: &Digest,
    repository: &Repository,
    place: Range<u64>,
) -> Result<BlobEnd, Failure> {
    let size = place.end - place.start;
    let mut refuses_pieces = false;
    if let Some(pieces) = PieceUpload::of(import, digest, repository, place.clone()) {
        let held = import.held.take(digest, repository);
        let sent = Box::pin(pieces.run(held)).await;
        match sent.map_err(|failure| failure.while_doing(what(digest, repository)))? {
            Sent::Done => return Ok(BlobEnd::Uploaded),
            Sent::Paused(standing) => return Ok(BlobEnd::Paused(standing)),
            Sent::Whole { refused } => refuses_pieces = refused,
        }
    }
    let uploaded = upload_whole(import, digest, repository, place).await;
    if refuses_pieces && uploaded.is_ok() {
        // What it refuses in any form says nothing of pieces.
        import.memory.refuse_pieces();
    }
    let uploaded = uploaded.map(|()| BlobEnd::Uploaded);
    if size > import.settings.range_bytes && import.context.slice_is_over() {
        let hint = outlasted(import.seal.is_some());
        tracing::warn!(%digest, %repository, hint, "an upload outlasted its slice");
        return uploaded.map_err(|failure| add_hint(failure, hint));
    }
    uploaded
}

/// What to do where an upload takes longer than a slice, and the slice could not end inside it.
fn outlasted(sealable: bool) -> &'static str {
    if sealable {
        "this registry takes no uploads in pieces, so no slice ends inside one: where its largest layers take \
         longer than RabbitMQ waits for an ack, raise the broker's consumer_timeout"
    } else {
        "set seal_key_secret in the importer's [import] section, so that the next slice goes on with an upload; \
         or raise the broker's consumer_timeout above the time that the largest layer takes"
    }
}

/// Uploads a blob in one go.
pub(crate) async fn upload_whole(
    import: &Import<'_>,
    digest: &Digest,
    repository: &Repository,
    place: Range<u64>,
) -> Result<(), Failure> {
    let size = place.end - place.start;
    if size == 0 {
        // A body without a byte has no last piece that could be held back.
        return upload_bytes(import, digest, repository, &Bytes::new()).await;
    }
    let (bundle, progress) = (Arc::clone(&import.bundle), Arc::clone(&import.context.progress));
    let content = BundleContent::new(bundle, digest.clone(), place, import.settings, progress);
    let uploaded = import.target.upload(repository, digest, &content).await;
    let Err(error) = uploaded else {
        count(import, size);
        return Ok(());
    };
    content.uncount();
    Err(own_failure(&content, error).while_doing(what(digest, repository)))
}

/// What the content says of its failure, where it was the content that failed.
pub(crate) fn own_failure(content: &BundleContent, error: RegistryError) -> Failure {
    let own = content.failure().filter(|_| matches!(error, RegistryError::Content { .. }));
    own.unwrap_or_else(|| error.into())
}

/// Uploads a blob whose bytes are at hand.
async fn upload_bytes(
    import: &Import<'_>,
    digest: &Digest,
    repository: &Repository,
    bytes: &Bytes,
) -> Result<(), Failure> {
    let actual = Digest::compute(digest.algorithm(), bytes);
    if actual != *digest {
        return Err(import.bundle.mismatch("blob", digest, actual));
    }
    let uploaded = import.target.upload(repository, digest, &Verified(bytes.clone())).await;
    uploaded.map_err(|error| Failure::from(error).while_doing(what(digest, repository)))?;
    let size = bytes.len() as u64;
    import.context.progress.count(|c| c.bytes_moved += size);
    count(import, size);
    Ok(())
}

fn what(digest: &Digest, repository: &Repository) -> String {
    format!("uploading blob {digest} to {repository}")
}

/// Counts bytes that were read from the bundle and that the registry has.
pub(crate) fn count(import: &Import<'_>, size: u64) {
    import.context.metrics.bytes(Direction::Read, size);
    import.context.metrics.bytes(Direction::Written, size);
}

/// Bytes that were verified.
struct Verified(Bytes);

impl Content for Verified {
    fn length(&self) -> u64 {
        self.0.len() as u64
    }

    fn open(&self, offset: u64) -> Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        let rest = self.0.slice(start..);
        Box::pin(stream::iter(
            iter::once(Ok(rest)).filter(|piece| !piece.as_ref().is_ok_and(Bytes::is_empty)),
        ))
    }
}
