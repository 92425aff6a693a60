//! Asking what a registry has, and writing to it.

use async_trait::async_trait;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode};
use transship_model::{Digest, MediaType, Repository, Selector};

use crate::call::{Call, Scopes};
use crate::client::{Inner, RegistryClient};
use crate::{Content, Manifest, Mount, RegistryError, ResumableTarget, Target};

#[async_trait]
impl Target for RegistryClient {
    async fn resolve(
        &self,
        repository: &Repository,
        selector: &Selector,
    ) -> Result<Option<Digest>, RegistryError> {
        self.inner.resolve(repository, selector).await
    }

    async fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, RegistryError> {
        Ok(self.inner.length_of(repository, digest).await?.is_some())
    }

    async fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: &Repository,
    ) -> Result<Mount, RegistryError> {
        let mut url = self.inner.address(repository, "blobs/uploads/");
        url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from.as_str());
        let operation = format!("mount {digest} from {from} in {repository}");
        let call = Call::new(Method::POST, url, Scopes::mount(repository, from), operation);
        let answer = match self.inner.wire.send(&call).await {
            Ok(answer) => answer,
            // The credential may write here and not read there. An upload tells whether it may write.
            Err(RegistryError::Forbidden { .. }) => return Ok(Mount::NotMounted),
            Err(error) => return Err(error),
        };
        match answer.status() {
            StatusCode::CREATED => Ok(Mount::Mounted),
            StatusCode::ACCEPTED => {
                let location = self.inner.location(&call.url, answer.headers());
                drop(answer);
                if let Ok(Some(location)) = location {
                    self.inner.cancel(repository, location).await;
                }
                Ok(Mount::NotMounted)
            }
            status if status.is_client_error() => Ok(Mount::NotMounted),
            _ => Err(self.inner.wire.refused(&call, answer).await),
        }
    }

    async fn upload(
        &self,
        repository: &Repository,
        digest: &Digest,
        content: &dyn Content,
    ) -> Result<(), RegistryError> {
        Box::pin(self.inner.upload_blob(repository, digest, content)).await
    }

    fn resumable(&self) -> Option<&dyn ResumableTarget> {
        Some(self)
    }

    async fn put_manifest(
        &self,
        repository: &Repository,
        selector: &Selector,
        media_type: &MediaType,
        manifest: &Manifest,
    ) -> Result<bool, RegistryError> {
        match self.inner.push_manifest(repository, selector, media_type, manifest).await {
            // The answer of an earlier try may be lost, and a registry with immutable tags refuses the next one
            // although everything is as it should be.
            Err(error @ (RegistryError::Refused { .. } | RegistryError::Unavailable { .. }))
                if !error.is_blob_unknown() =>
            {
                match self.inner.has_manifest(repository, selector, manifest).await {
                    Ok(true) => Ok(false),
                    _ => Err(error),
                }
            }
            Ok(headers) => {
                let said = digest_header(&headers).is_some_and(|digest| digest.matches(&manifest.bytes));
                if !said && !self.inner.has_manifest(repository, selector, manifest).await? {
                    return Err(self.inner.not_stored(repository, selector, manifest));
                }
                Ok(headers.contains_key("oci-subject"))
            }
            Err(error) => Err(error),
        }
    }
}

impl Inner {
    /// The digest of a manifest by a question, or by the manifest itself where the answer does not have it.
    pub(crate) async fn resolve(
        &self,
        repository: &Repository,
        selector: &Selector,
    ) -> Result<Option<Digest>, RegistryError> {
        let call = self.manifest_call(Method::HEAD, repository, selector);
        let answer = self.wire.send(&call).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::METHOD_NOT_ALLOWED => {}
            status if status.is_success() => {
                if let Some(digest) = digest_header(answer.headers()) {
                    return Ok(Some(digest));
                }
            }
            _ => return Err(self.wire.refused(&call, answer).await),
        }
        // Its place among the requests in flight is needed for the next one.
        drop(answer);
        let found = self.find_manifest(repository, selector).await?;
        Ok(found.map(|manifest| manifest.digest))
    }

    async fn push_manifest(
        &self,
        repository: &Repository,
        selector: &Selector,
        media_type: &MediaType,
        manifest: &Manifest,
    ) -> Result<HeaderMap, RegistryError> {
        let url = self.address(repository, &format!("manifests/{selector}"));
        let content_type = HeaderValue::from_str(media_type.as_str()).expect("a media type is plain ASCII");
        let call = Call::new(
            Method::PUT,
            url,
            Scopes::push(repository),
            format!("push manifest {repository} {selector}"),
        )
        .header(CONTENT_TYPE, content_type)
        .body(manifest.bytes.clone());
        Ok(self.wire.expect(&call).await?.headers().clone())
    }

    /// Whether the registry has exactly this manifest there.
    async fn has_manifest(
        &self,
        repository: &Repository,
        selector: &Selector,
        manifest: &Manifest,
    ) -> Result<bool, RegistryError> {
        let found = self.resolve(repository, selector).await?;
        Ok(found.is_some_and(|digest| digest.matches(&manifest.bytes)))
    }

    fn not_stored(&self, repository: &Repository, selector: &Selector, manifest: &Manifest) -> RegistryError {
        let reason =
            format!("it took the manifest {repository} {selector}, and does not have {}", manifest.digest);
        RegistryError::Protocol { host: self.wire.host.clone(), reason }
    }

    /// The upload location of an answer, checked; `None` where there is none.
    pub(crate) fn location(
        &self,
        base: &url::Url,
        headers: &HeaderMap,
    ) -> Result<Option<url::Url>, RegistryError> {
        let Some(header) = headers.get(LOCATION) else { return Ok(None) };
        let location = header.to_str().ok().and_then(|text| base.join(text).ok());
        let broken = || RegistryError::Protocol {
            host: self.wire.host.clone(),
            reason: "an upload location that is no address".to_owned(),
        };
        let location = location.ok_or_else(broken)?;
        self.wire.guard.trusted(&location).map_err(|denied| RegistryError::EgressDenied {
            host: self.wire.host.clone(),
            to: denied.to,
            reason: denied.reason,
        })?;
        Ok(Some(location))
    }
}

/// The digest that a registry says, where it says a valid one.
pub(crate) fn digest_header(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.trim().parse().ok()
}
