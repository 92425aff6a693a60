//! Ranged reads: one request into one buffer. The SDK's managed download splits ranges into partitions and
//! copies them once more; asked for one partition of the whole range it sends exactly one request and streams.

use std::num::NonZero;
use std::ops::Range;

use azure_core::http::Etag;
use azure_core::http::headers::{HeaderName, Headers};
use azure_storage_blob::models::{BlobClientDownloadOptions, HttpRange};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use tracing::debug;
use transship_model::BlobName;

use super::AzureContainer;
use super::transport::{CONTENT_RANGE, content_range};
use crate::{ETag, Operation, StorageError};

/// How often a body that broke off is asked for again, from where it broke.
const CONTINUATIONS: u32 = 4;

const CONTENT_LENGTH: HeaderName = HeaderName::from_static("content-length");
const ETAG: HeaderName = HeaderName::from_static("etag");

/// A read that is under way.
struct Reading {
    /// What is missing still.
    rest: Range<u64>,
    /// The version that every further byte must be of.
    version: Option<Etag>,
    buffer: BytesMut,
}

/// How one request of a reading ended.
enum Step {
    Done,
    /// The connection broke in the body. The requests themselves are repeated below this.
    BrokeOff(StorageError),
}

impl AzureContainer {
    pub(super) async fn read_range(
        &self,
        blob: &BlobName,
        range: Range<u64>,
        etag: Option<&ETag>,
    ) -> Result<Bytes, StorageError> {
        if range.start > range.end || usize::try_from(range.end).is_err() {
            return Err(self.out_of_range(blob));
        }
        let version = etag.map(|etag| Etag::from(etag.0.as_str()));
        let mut reading = Reading { rest: range, version, buffer: BytesMut::new() };
        let mut continuations = 0;
        while let Some(left) = NonZero::new((reading.rest.end - reading.rest.start) as usize) {
            match self.advance(blob, &mut reading, left).await? {
                Step::Done => {}
                Step::BrokeOff(error) if continuations == CONTINUATIONS => return Err(error),
                Step::BrokeOff(error) => {
                    continuations += 1;
                    debug!(%error, left, "a read from the storage service continues where it broke off");
                }
            }
        }
        Ok(reading.buffer.freeze())
    }

    /// One request for what is missing.
    async fn advance(
        &self,
        blob: &BlobName,
        reading: &mut Reading,
        left: NonZero<usize>,
    ) -> Result<Step, StorageError> {
        let explain = self.explain(Operation::Read, blob);
        let options = BlobClientDownloadOptions {
            range: Some(HttpRange::from(reading.rest.clone())),
            if_match: reading.version.clone(),
            parallel: Some(NonZero::<usize>::MIN),
            partition_size: Some(left),
            ..Default::default()
        };
        let answer = self.blob(blob).download(Some(options)).await.map_err(&explain)?;
        match extent(&answer.headers) {
            Some(extent) if extent == reading.rest => {}
            // Azurite answers with no bytes to a range that begins where the blob ends.
            Some(extent) if extent.is_empty() => return Err(self.out_of_range(blob)),
            Some(extent) if extent.start == reading.rest.start && extent.end < reading.rest.end => {
                return Err(self.out_of_range(blob));
            }
            _ => return Err(self.unusable("the answer is not the range that was asked for")),
        }
        if reading.buffer.capacity() == 0 {
            // Only now, so that a range that is not there costs nothing. Its whole size, so that it never grows.
            reading.buffer = BytesMut::with_capacity(left.get());
        }
        if reading.version.is_none() {
            // What follows a break must be of the same version.
            reading.version = answer.headers.get_optional_str(&ETAG).map(Etag::from);
        }
        let mut body = answer.body;
        while let Some(chunk) = body.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => return Ok(Step::BrokeOff(explain(error))),
            };
            if chunk.len() as u64 > reading.rest.end - reading.rest.start {
                return Err(self.unusable("the answer is longer than it said"));
            }
            reading.rest.start += chunk.len() as u64;
            reading.buffer.extend_from_slice(&chunk);
        }
        match reading.rest.is_empty() {
            true => Ok(Step::Done),
            false => Ok(Step::BrokeOff(self.unusable("the answer is shorter than it said"))),
        }
    }

    fn out_of_range(&self, blob: &BlobName) -> StorageError {
        StorageError::RangeNotSatisfiable { container: self.url.clone(), blob: blob.clone() }
    }
}

/// Which bytes of the blob the answer holds: `bytes 0-9/100`, or all of them where it names no range.
fn extent(headers: &Headers) -> Option<Range<u64>> {
    if let Some(text) = headers.get_optional_str(&CONTENT_RANGE) {
        return content_range(text);
    }
    Some(0..headers.get_optional_str(&CONTENT_LENGTH)?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_which_bytes_it_holds() {
        let headers = |pairs: &[(&'static str, &str)]| {
            let mut headers = Headers::new();
            for (name, value) in pairs {
                headers.insert(HeaderName::from_static(name), (*value).to_owned());
            }
            extent(&headers)
        };
        assert_eq!(headers(&[("content-range", "bytes 10-19/100"), ("content-length", "10")]), Some(10..20));
        assert_eq!(headers(&[("content-length", "7")]), Some(0..7));
        for bad in ["bytes */3", "10-19/100", "bytes 1-x/3", "bytes 0--1/0", "bytes 9-3/10"] {
            assert_eq!(headers(&[("content-range", bad)]), None, "{bad}");
        }
        assert_eq!(headers(&[]), None);
    }
}
