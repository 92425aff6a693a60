//! Opening a bundle or a foreign archive, wherever it is: the caller brings a function that reads a range.

use std::future::Future;
use std::ops::Range;

use bytes::Bytes;

use crate::archive::{ArchiveScan, ScanError, Step};
use crate::catalog::{Catalog, CatalogError};
use crate::head::{Head, HeadError, HeadParse};

/// How much is read first: the whole head of a part of a few thousand blobs.
const FIRST_READ: u64 = 512 << 10;

/// The largest `index.json` of a foreign archive.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// Why a blob cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError<E> {
    /// The bytes cannot be read.
    #[error(transparent)]
    Read(E),
    /// A bundle of ours with a damaged head.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Not an OCI archive.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// An index or a table that is not right.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// An opened bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What it holds.
    pub catalog: Catalog,
    /// Its head, where transship wrote it.
    pub head: Option<Head>,
}

/// Opens the blob of `length` bytes that `read` reads exact ranges of.
///
/// # Errors
/// See [`OpenError`].
pub async fn open<R, F, E>(length: u64, read: R) -> Result<Opened, OpenError<E>>
where
    R: Fn(Range<u64>) -> F,
    F: Future<Output = Result<Bytes, E>>,
{
    let mut want = FIRST_READ.min(length);
    loop {
        let first = read(0..want).await.map_err(OpenError::Read)?;
        match Head::parse(&first)? {
            HeadParse::Ours(head) => {
                let catalog = Catalog::of_head(&head, length)?;
                return Ok(Opened { catalog, head: Some(*head) });
            }
            HeadParse::Needs(more) if want < length => want = more.max(want * 2).min(length),
            HeadParse::Needs(_) => return Err(HeadError::Damaged("it ends within the head").into()),
            HeadParse::Foreign => {
                // Whoever reads may count the bytes that are held against a bound, and wait for room for more.
                drop(first);
                return open_archive(length, read).await;
            }
        }
    }
}

async fn open_archive<R, F, E>(length: u64, read: R) -> Result<Opened, OpenError<E>>
where
    R: Fn(Range<u64>) -> F,
    F: Future<Output = Result<Bytes, E>>,
{
    let mut scan = ArchiveScan::new(length);
    while let Step::Read(range) = scan.next()? {
        let bytes = read(range).await.map_err(OpenError::Read)?;
        scan.feed(&bytes)?;
    }
    let range = scan.index.clone().filter(|range| range.end - range.start <= MAX_INDEX_BYTES);
    let index = read(range.ok_or(ScanError::NotATar)?).await.map_err(OpenError::Read)?;
    Ok(Opened { catalog: Catalog::of_archive(&scan, &index)?, head: None })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn an_empty_blob_and_garbage_are_refused() {
        for bytes in [vec![], vec![b'x'; 10], vec![0; 4096]] {
            let read = |range: Range<u64>| {
                std::future::ready(Ok::<_, std::convert::Infallible>(Bytes::copy_from_slice(
                    &bytes[range.start as usize..range.end as usize],
                )))
            };
            let opened = futures_now(open(bytes.len() as u64, read));
            assert!(opened.is_err(), "{} bytes", bytes.len());
        }
    }

    /// Bytes that are counted as long as they are held.
    struct Held(Vec<u8>, Arc<AtomicUsize>);

    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            self.1.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn nothing_that_was_read_is_held_while_more_is_asked_for() {
        let bytes = vec![b'x'; 1 << 20];
        let (held, reads) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
        let read = |range: Range<u64>| {
            assert_eq!(held.fetch_add(1, Ordering::Relaxed), 0, "{range:?}");
            reads.fetch_add(1, Ordering::Relaxed);
            let bytes = bytes[range.start as usize..range.end as usize].to_vec();
            let bytes = Bytes::from_owner(Held(bytes, Arc::clone(&held)));
            std::future::ready(Ok::<_, std::convert::Infallible>(bytes))
        };
        assert!(futures_now(open(bytes.len() as u64, read)).is_err());
        assert!(reads.into_inner() > 1, "it was taken for an archive");
    }

    /// Runs a future that never waits.
    fn futures_now<T>(future: impl Future<Output = T>) -> T {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(future).poll(&mut context) {
            std::task::Poll::Ready(value) => value,
            std::task::Poll::Pending => panic!("nothing here waits"),
        }
    }
}
