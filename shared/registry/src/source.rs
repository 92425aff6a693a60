//! Reading from a registry.

use std::ops::Range;

use async_trait::async_trait;
use futures::stream;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};
use transship_model::{Digest, MAX_MANIFEST_BYTES, Repository, Selector, Tag};

use crate::answer::{Answer, content_type};
use crate::call::Call;
use crate::client::{Inner, RegistryClient};
use crate::content_range::ContentRange;
use crate::incoming::Incoming;
use crate::wire::Fetched;
use crate::{BlobRead, Manifest, Referrers, RegistryError, Source};

#[async_trait]
impl Source for RegistryClient {
    fn host(&self) -> &str {
        &self.inner.wire.host
    }

    async fn manifest(
        &self,
        repository: &Repository,
        selector: &Selector,
    ) -> Result<Manifest, RegistryError> {
        let found = self.inner.find_manifest(repository, selector).await?;
        found.ok_or_else(|| RegistryError::ManifestNotFound {
            host: self.host().to_owned(),
            repository: repository.clone(),
            selector: selector.clone(),
        })
    }

    async fn blob_length(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Option<u64>>, RegistryError> {
        self.inner.length_of(repository, digest).await
    }

    async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobRead, RegistryError> {
        if let Some(range) = range.as_ref().filter(|range| range.is_empty()) {
            // There is no way to ask for nothing: registries answer 416.
            return Ok(BlobRead { total: None, start: range.start, bytes: Box::pin(stream::empty()) });
        }
        let mut call = self.inner.blob_call(Method::GET, repository, digest).bulk();
        if let Some(range) = &range {
            let value = format!("bytes={}-{}", range.start, range.end - 1);
            call = call.header(RANGE, HeaderValue::from_str(&value).expect("a range is plain ASCII"));
        }
        let answer = self.inner.wire.send(&call).await?;
        match (answer.status(), range) {
            (StatusCode::OK, _) => {
                let total = length_header(&answer);
                Ok(self.inner.reading(&call, answer, 0, total, total))
            }
            (StatusCode::PARTIAL_CONTENT, Some(range)) => self.inner.partial(&call, answer, &range),
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(range)) => {
                self.inner.beyond(&call, answer, &range).await
            }
            (StatusCode::NOT_FOUND, _) => Err(RegistryError::BlobNotFound {
                host: self.host().to_owned(),
                repository: repository.clone(),
                digest: digest.clone(),
            }),
            (status, _) if status.is_success() => {
                Err(self.inner.wire.protocol(&call, "a part that nobody asked for"))
            }
            _ => Err(self.inner.wire.refused(&call, answer).await),
        }
    }

    async fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Referrers, RegistryError> {
        self.inner.list_referrers(repository, subject, false).await
    }

    async fn referrers_of_untagged(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Referrers, RegistryError> {
        self.inner.list_referrers(repository, subject, true).await
    }

    async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>, RegistryError> {
        self.inner.list_tags(repository).await
    }
}

impl Inner {
    /// A manifest, or `None` where there is no such one.
    pub(crate) async fn find_manifest(
        &self,
        repository: &Repository,
        selector: &Selector,
    ) -> Result<Option<Manifest>, RegistryError> {
        let call = self.manifest_call(Method::GET, repository, selector);
        let (headers, bytes) = match self.wire.fetch(&call, MAX_MANIFEST_BYTES).await? {
            Fetched::Body(headers, bytes) => (headers, bytes),
            Fetched::Other(answer) if answer.status() == StatusCode::NOT_FOUND => return Ok(None),
            Fetched::Other(answer) => return Err(self.wire.refused(&call, answer).await),
        };
        // What the header says of the digest is not read: it is of the bytes, or it is wrong.
        let content_type = content_type(&headers);
        if content_type == Some("text/html") {
            return Err(self.wire.protocol(&call, "it answered with a web page, not with a manifest"));
        }
        let digest = match selector {
            Selector::Tag(_) => Digest::sha256(&bytes),
            Selector::Digest(expected) => self.verified(repository, expected, &bytes)?,
        };
        Ok(Some(Manifest { digest, content_type: content_type.and_then(|text| text.parse().ok()), bytes }))
    }

    /// The length of a blob, where it is there and where the registry says it.
    pub(crate) async fn length_of(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Option<u64>>, RegistryError> {
        let call = self.blob_call(Method::HEAD, repository, digest);
        let answer = self.wire.send(&call).await?;
        match answer.status() {
            status if status.is_success() => Ok(Some(length_header(&answer))),
            StatusCode::NOT_FOUND => Ok(None),
            // The registry sent us on, so it has the blob; the address that it gave is for reading only.
            status if answer.elsewhere && status.is_client_error() => Ok(Some(None)),
            _ => Err(self.wire.refused(&call, answer).await),
        }
    }

    fn verified(
        &self,
        repository: &Repository,
        expected: &Digest,
        bytes: &[u8],
    ) -> Result<Digest, RegistryError> {
        let actual = Digest::compute(expected.algorithm(), bytes);
        if actual == *expected {
            return Ok(actual);
        }
        let (host, repository, expected) = (self.wire.host.clone(), repository.clone(), expected.clone());
        Err(RegistryError::DigestMismatch { host, repository, what: "manifest", expected, actual })
    }

    fn reading(
        &self,
        call: &Call,
        answer: Answer,
        start: u64,
        length: Option<u64>,
        total: Option<u64>,
    ) -> BlobRead {
        let Answer { response, permit, .. } = answer;
        let Self { wire, .. } = self;
        let incoming = Incoming::new(response, permit, &wire.host, &call.operation, length, &wire.limits);
        BlobRead { total, start, bytes: incoming.into_stream() }
    }

    /// A 206, which must be of the range that was asked for, or of its beginning.
    fn partial(&self, call: &Call, answer: Answer, range: &Range<u64>) -> Result<BlobRead, RegistryError> {
        let header = answer.header(CONTENT_RANGE.as_str()).and_then(ContentRange::parse);
        let Some(ContentRange::Bytes { first, last, total }) = header else {
            return Err(self.wire.protocol(call, "a part without a valid Content-Range"));
        };
        let length = last - first + 1;
        let announced = length_header(&answer);
        if first != range.start || last >= range.end || announced.is_some_and(|announced| announced != length)
        {
            return Err(self.wire.protocol(call, "another part than the one that was asked for"));
        }
        Ok(self.reading(call, answer, first, Some(length), total))
    }

    /// A 416: the end of the blob where it is exactly there, else a blob that is shorter than it should be.
    async fn beyond(
        &self,
        call: &Call,
        answer: Answer,
        range: &Range<u64>,
    ) -> Result<BlobRead, RegistryError> {
        match answer.header(CONTENT_RANGE.as_str()).and_then(ContentRange::parse) {
            Some(ContentRange::Unsatisfied { total }) if total == range.start => {
                Ok(BlobRead { total: Some(total), start: total, bytes: Box::pin(stream::empty()) })
            }
            Some(ContentRange::Unsatisfied { total }) if total < range.start => {
                let reason = format!("the blob has {total} bytes, and byte {} was asked for", range.start);
                Err(self.wire.protocol(call, reason))
            }
            _ => Err(self.wire.refused(call, answer).await),
        }
    }
}

/// `Content-Length` as the registry sent it, also in the answer to a `HEAD`.
fn length_header(answer: &Answer) -> Option<u64> {
    let text = answer.header(CONTENT_LENGTH.as_str())?;
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
