//! Reads small ranges of a blob out of larger ones, so that a header of 512 bytes does not cost a request.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;
use transship_model::{BlobName, Failure};
use transship_storage::{BlobProperties, ReadContainer};

/// A blob whose ranges are read mostly forwards.
pub(crate) struct Window {
    container: Arc<dyn ReadContainer>,
    blob: BlobName,
    properties: BlobProperties,
    ahead: u64,
    kept: Mutex<(u64, Bytes)>,
}

impl Window {
    /// A window on the version of `blob` that `properties` describe, which reads `ahead` bytes at least.
    pub(crate) fn new(
        container: Arc<dyn ReadContainer>,
        blob: BlobName,
        properties: BlobProperties,
        ahead: u64,
    ) -> Self {
        Self { container, blob, properties, ahead, kept: Mutex::default() }
    }

    /// What the blob is.
    pub(crate) fn properties(&self) -> &BlobProperties {
        &self.properties
    }

    /// The length of the blob in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.properties.length
    }

    /// The bytes of `range`.
    ///
    /// # Errors
    /// What the container says; also where the blob is another one by now.
    pub(crate) async fn read(&self, range: Range<u64>) -> Result<Bytes, Failure> {
        let mut kept = self.kept.lock().await;
        let (start, bytes) = &*kept;
        if range.start < *start || range.end > start + bytes.len() as u64 {
            let end = range.end.max((range.start + self.ahead).min(self.length()));
            *kept = (range.start, self.fetch(range.start..end).await?);
        }
        let (start, bytes) = &*kept;
        // Both fit a usize: they lie within a buffer that is in memory.
        Ok(bytes.slice((range.start - start) as usize..(range.end - start) as usize))
    }

    /// The bytes of `range` from the container itself.
    ///
    /// # Errors
    /// What the container says; also where the blob is another one by now.
    pub(crate) async fn fetch(&self, range: Range<u64>) -> Result<Bytes, Failure> {
        let etag = Some(&self.properties.etag);
        Ok(self.container.read(&self.blob, range, etag).await?)
    }
}

#[cfg(test)]
mod tests {
    use transship_storage::{MemoryContainer, Operation};

    use super::*;

    #[tokio::test]
    async fn small_reads_come_out_of_one_request() {
        let container = MemoryContainer::new("file:///memory".parse().unwrap());
        let blob: BlobName = "b".parse().unwrap();
        let content: Vec<u8> = (0..10_000u32).map(|i| (i % 251) as u8).collect();
        container.put(&blob, content.clone().into());
        let properties = container.properties(&blob).await.unwrap().unwrap();
        let window = Window::new(Arc::new(container.clone()), blob, properties, 4096);
        let before = container.calls(Operation::Read);
        for (start, end) in [(0, 512), (512, 1024), (4000, 4096), (4096, 4600), (9_990, 10_000), (100, 9_000)]
        {
            let read = window.read(start..end).await.unwrap();
            assert_eq!(&read[..], &content[start as usize..end as usize], "{start}..{end}");
        }
        assert_eq!(container.calls(Operation::Read) - before, 4);
    }
}
