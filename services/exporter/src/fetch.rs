//! Reading blobs from the source: exact ranges into one buffer, and whole blobs as they come, both resumed
//! where the connection breaks.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use transship_model::{Class, Code, Digest, Failure, Repository};
use transship_registry::{BlobRead, ByteStream, RegistryError, Source};

/// How often a read that broke off is taken up without getting any further.
const ATTEMPTS: u32 = 5;

/// One blob at the source.
#[derive(Clone)]
pub(crate) struct SourceBlob {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) repository: Repository,
    pub(crate) digest: Digest,
}

/// What a ranged read came to.
pub(crate) enum Ranged {
    /// The buffer holds the range.
    Filled(Vec<u8>),
    /// The registry ignores ranges.
    Ignored,
}

impl SourceBlob {
    /// Appends exactly `range` to `buffer`, whose capacity was made for it.
    pub(crate) async fn read_range(&self, range: Range<u64>, mut buffer: Vec<u8>) -> Result<Ranged, Failure> {
        let (before, mut attempt) = (buffer.len() as u64, 1);
        loop {
            let at = range.start + (buffer.len() as u64 - before);
            if at == range.end {
                return Ok(Ranged::Filled(buffer));
            }
            let read = self.source.blob(&self.repository, &self.digest, Some(at..range.end)).await?;
            if read.start != at {
                return Ok(Ranged::Ignored);
            }
            let filled = fill(read.bytes, &mut buffer, range.end - at).await;
            if range.start + (buffer.len() as u64 - before) > at {
                attempt = 1;
            }
            match filled {
                Ok(()) if buffer.len() as u64 - before == range.end - range.start => {}
                // An answer that ended early and cleanly is taken up again like one that broke.
                Ok(()) => again(self.broken("ended early"), &mut attempt).await?,
                Err(failure) => again(failure, &mut attempt).await?,
            }
        }
    }

    /// The length in bytes by `HEAD`, or by a read of the first byte where `HEAD` does not say it: a registry that
    /// redirects to a storage service may leave that to the service. `None` where neither says it.
    pub(crate) async fn length(&self) -> Result<Option<u64>, Failure> {
        let Some(length) = self.source.blob_length(&self.repository, &self.digest).await? else {
            let (host, repository) = (self.source.host().to_owned(), self.repository.clone());
            return Err(RegistryError::BlobNotFound { host, repository, digest: self.digest.clone() }.into());
        };
        if length.is_some() {
            return Ok(length);
        }
        match self.source.blob(&self.repository, &self.digest, Some(0..1)).await {
            Ok(read) => Ok(read.total),
            // It may still give the blob to who asks for all of it.
            Err(RegistryError::Refused { .. } | RegistryError::Protocol { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the blob from its start.
    pub(crate) async fn open(&self) -> Result<BlobRead, Failure> {
        Ok(self.source.blob(&self.repository, &self.digest, None).await?)
    }

    /// Reads a small blob whole, at most `limit` bytes: `None` where it is larger.
    pub(crate) async fn read_whole(&self, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
        let mut attempt = 1;
        loop {
            let read = self.open().await?;
            match self.collect(read, limit).await {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => again(failure, &mut attempt).await?,
            }
        }
    }

    async fn collect(&self, mut read: BlobRead, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
        let length = read.total.unwrap_or(0);
        if length > limit {
            return Ok(None);
        }
        // Never more than the bound, whatever the registry says.
        let mut buffer = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        while let Some(piece) = read.bytes.next().await {
            let piece = piece?;
            if (buffer.len() + piece.len()) as u64 > limit {
                return Ok(None);
            }
            buffer.extend_from_slice(&piece);
        }
        match read.total {
            Some(total) if total != buffer.len() as u64 => Err(self.broken("ended early")),
            _ => Ok(Some(buffer)),
        }
    }

    pub(crate) fn broken(&self, what: &str) -> Failure {
        let (host, repository, digest) = (self.source.host(), &self.repository, &self.digest);
        Failure::transient(
            Code::RegistryUnavailable,
            format!("reading blob {digest} of {repository} from {host} {what}"),
        )
    }
}

/// Appends a stream to the buffer, at most `wanted` bytes of it.
async fn fill(mut bytes: ByteStream, buffer: &mut Vec<u8>, wanted: u64) -> Result<(), Failure> {
    let mut left = usize::try_from(wanted).unwrap_or(usize::MAX);
    while left > 0 {
        let Some(piece) = bytes.next().await else { return Ok(()) };
        let piece = piece?;
        let take = piece.len().min(left);
        buffer.extend_from_slice(&piece[..take]);
        left -= take;
    }
    Ok(())
}

/// Waits before the next attempt, or gives up. Only for reads whose bytes had begun to flow: what fails before, the
/// registry room has tried again already. Where the registry says for how long to leave it alone, it is left alone.
pub(crate) async fn again(failure: Failure, attempt: &mut u32) -> Result<(), Failure> {
    if *attempt >= ATTEMPTS || !matches!(failure.class, Class::Transient { retry_after: None }) {
        return Err(failure);
    }
    tokio::time::sleep(Duration::from_millis(100 << *attempt)).await;
    *attempt += 1;
    Ok(())
}
