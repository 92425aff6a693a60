//! The ports of the twin.

use std::ops::Range;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use transship_model::{
    Descriptor, Digest, ManifestKind, ManifestView, MediaType, Repository, Secret, Selector, Tag,
};

use super::{MemoryRegistry, Operation, State};
use crate::beginning::beginning;
use crate::error::UPLOAD;
use crate::{
    BlobRead, Content, ContentStream, Manifest, Mount, Referrers, RegistryError, ResumableTarget, Source,
    Target, UploadSession,
};

/// The pieces in which blobs are handed out, in bytes.
const PIECE: usize = 64 * 1024;

impl MemoryRegistry {
    fn find(state: &State, repository: &Repository, selector: &Selector) -> Option<Manifest> {
        let contents = state.repositories.get(repository)?;
        let digest = match selector {
            Selector::Tag(tag) => contents.tags.get(tag)?,
            Selector::Digest(digest) => digest,
        };
        let (media_type, bytes) = contents.manifests.get(digest)?;
        Some(Manifest {
            digest: digest.clone(),
            content_type: Some(media_type.clone()),
            bytes: bytes.clone(),
        })
    }

    fn store(&self, repository: &Repository, digest: &Digest, bytes: Bytes) -> Result<(), RegistryError> {
        if !digest.matches(&bytes) {
            return Err(
                self.refused(format!("{UPLOAD}: finish {digest} in {repository}"), "400 DIGEST_INVALID")
            );
        }
        self.put_blob_as(repository, digest.clone(), bytes);
        Ok(())
    }

    fn session_lost(&self, session: &UploadSession) -> RegistryError {
        self.refused(format!("{UPLOAD}: continue in {}", session.repository()), "404 BLOB_UPLOAD_UNKNOWN")
    }

    /// Reads exactly `length` bytes of `stream`.
    async fn collect(&self, mut stream: ContentStream, length: u64) -> Result<Bytes, RegistryError> {
        let failed = |reason: String| {
            let (host, operation) = (self.host.to_string(), format!("{UPLOAD}: a body"));
            RegistryError::Content { host, operation, reason }
        };
        let mut body = BytesMut::new();
        while let Some(piece) = stream.next().await {
            body.extend_from_slice(&piece.map_err(|error| failed(error.to_string()))?);
            if body.len() as u64 >= length {
                break;
            }
        }
        self.state().uploaded += body.len() as u64;
        if body.len() as u64 == length {
            Ok(body.freeze())
        } else {
            Err(failed("it has another length".to_owned()))
        }
    }
}

#[async_trait]
impl Source for MemoryRegistry {
    fn host(&self) -> &str {
        &self.host
    }

    async fn manifest(
        &self,
        repository: &Repository,
        selector: &Selector,
    ) -> Result<Manifest, RegistryError> {
        let found = Self::find(&*self.begin_call(Operation::Manifest)?, repository, selector);
        found.ok_or_else(|| RegistryError::ManifestNotFound {
            host: self.host.to_string(),
            repository: repository.clone(),
            selector: selector.clone(),
        })
    }

    async fn blob_length(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Option<u64>>, RegistryError> {
        drop(self.begin_call(Operation::BlobLength)?);
        Ok(self.blob_bytes(repository, digest).map(|bytes| Some(bytes.len() as u64)))
    }

    async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobRead, RegistryError> {
        drop(self.begin_call(Operation::Blob)?);
        let bytes = self.blob_bytes(repository, digest).ok_or_else(|| RegistryError::BlobNotFound {
            host: self.host.to_string(),
            repository: repository.clone(),
            digest: digest.clone(),
        })?;
        let total = bytes.len() as u64;
        let range = range.unwrap_or(0..total);
        let (start, end) = (range.start.min(total), range.end.min(total));
        let slice = bytes.slice(start as usize..end.max(start) as usize);
        let registry = self.clone();
        let pieces = stream::unfold(slice, move |mut rest| {
            let registry = registry.clone();
            async move {
                let piece = rest.split_to(rest.len().min(PIECE));
                registry.state().read += piece.len() as u64;
                (!piece.is_empty()).then_some((Ok(piece), rest))
            }
        });
        Ok(BlobRead { total: Some(total), start, bytes: Box::pin(pieces) })
    }

    async fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Referrers, RegistryError> {
        let state = self.begin_call(Operation::Referrers)?;
        let Some(contents) = state.repositories.get(repository) else { return Ok(Referrers::default()) };
        let mut descriptors = Vec::new();
        for (digest, (media_type, bytes)) in contents.manifests.iter().filter(|_| state.referrers_api) {
            let view = ManifestView::parse(bytes, Some(media_type.as_str())).ok();
            if let Some(view) =
                view.filter(|view| view.subject.as_ref().is_some_and(|s| s.digest == *subject))
            {
                let (media_type, size) = (media_type.clone(), bytes.len() as u64);
                let artifact_type =
                    view.artifact_type.or(view.blobs.first().map(|config| config.media_type.to_string()));
                descriptors.push(Descriptor {
                    media_type,
                    digest: digest.clone(),
                    size,
                    urls: Vec::new(),
                    artifact_type,
                });
            }
        }
        let fallback = Self::find(&state, repository, &Selector::Tag(Tag::referrers_fallback(subject)));
        let view = fallback.as_ref().and_then(|manifest| ManifestView::parse(&manifest.bytes, None).ok());
        let Some(view) = view.filter(|view| view.kind == ManifestKind::Index) else {
            return Ok(Referrers { descriptors, fallback: None });
        };
        let new =
            view.manifests.into_iter().filter(|d| !descriptors.iter().any(|known| known.digest == d.digest));
        let new: Vec<Descriptor> = new.collect();
        descriptors.extend(new);
        Ok(Referrers { descriptors, fallback })
    }

    async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>, RegistryError> {
        let state = self.begin_call(Operation::Tags)?;
        Ok(state
            .repositories
            .get(repository)
            .map(|contents| contents.tags.keys().cloned().collect())
            .unwrap_or_default())
    }
}

#[async_trait]
impl Target for MemoryRegistry {
    async fn resolve(
        &self,
        repository: &Repository,
        selector: &Selector,
    ) -> Result<Option<Digest>, RegistryError> {
        Ok(Self::find(&*self.begin_call(Operation::Resolve)?, repository, selector)
            .map(|manifest| manifest.digest))
    }

    async fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, RegistryError> {
        drop(self.begin_call(Operation::HasBlob)?);
        Ok(self.blob_bytes(repository, digest).is_some())
    }

    async fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: &Repository,
    ) -> Result<Mount, RegistryError> {
        let mut state = self.begin_call(Operation::Mount)?;
        let there = state.repositories.get(from).is_some_and(|contents| contents.blobs.contains(digest));
        if !(state.mounts && there) {
            return Ok(Mount::NotMounted);
        }
        state.contents(repository).blobs.insert(digest.clone());
        Ok(Mount::Mounted)
    }

    async fn upload(
        &self,
        repository: &Repository,
        digest: &Digest,
        content: &dyn Content,
    ) -> Result<(), RegistryError> {
        drop(self.begin_call(Operation::Upload)?);
        let bytes = self.collect(content.open(0), content.length()).await?;
        self.store(repository, digest, bytes)
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
        let operation = format!("push manifest {repository} {selector}");
        let mut state = self.begin_call(Operation::PutManifest)?;
        let Ok(view) = ManifestView::parse(&manifest.bytes, Some(media_type.as_str())) else {
            return Err(self.refused(operation, "400 MANIFEST_INVALID"));
        };
        let digest = match selector {
            Selector::Digest(digest) if digest.matches(&manifest.bytes) => digest.clone(),
            Selector::Digest(_) => return Err(self.refused(operation, "400 DIGEST_INVALID")),
            Selector::Tag(_) => Digest::sha256(&manifest.bytes),
        };
        if !state.has_everything(repository, &view) {
            return Err(self.refused(operation, "404 MANIFEST_BLOB_UNKNOWN"));
        }
        let kept = state.referrers_api && view.subject.is_some();
        let contents = state.contents(repository);
        contents.manifests.insert(digest.clone(), (media_type.clone(), manifest.bytes.clone()));
        if let Selector::Tag(tag) = selector {
            contents.tags.insert(tag.clone(), digest);
        }
        Ok(kept)
    }
}

#[async_trait]
impl ResumableTarget for MemoryRegistry {
    async fn begin_upload(
        &self,
        repository: &Repository,
        _digest: &Digest,
    ) -> Result<UploadSession, RegistryError> {
        let mut state = self.begin_call(Operation::BeginUpload)?;
        state.next_session += 1;
        let number = state.next_session;
        state.sessions.insert(number, Vec::new());
        Ok(UploadSession::restore(repository.clone(), Secret::new(&number.to_string()), 0, 0))
    }

    async fn continue_upload(
        &self,
        session: &UploadSession,
        _digest: &Digest,
        content: &dyn Content,
        length: u64,
    ) -> Result<UploadSession, RegistryError> {
        drop(self.begin_call(Operation::ContinueUpload)?);
        let piece = beginning(content.open(session.offset()), length);
        let bytes = self.collect(piece, length).await?;
        let mut state = self.state();
        let number = session.location().expose().parse().unwrap_or_default();
        let kept = state.sessions.get_mut(&number).filter(|kept| kept.len() as u64 == session.offset());
        kept.ok_or_else(|| self.session_lost(session))?.extend_from_slice(&bytes);
        Ok(session.advanced(None, length))
    }

    async fn finish_upload(&self, session: &UploadSession, digest: &Digest) -> Result<(), RegistryError> {
        let number = session.location().expose().parse().unwrap_or_default();
        let kept = self.begin_call(Operation::FinishUpload)?.sessions.remove(&number);
        match kept {
            Some(bytes) => self.store(session.repository(), digest, bytes.into()),
            None if self.blob_bytes(session.repository(), digest).is_some() => Ok(()),
            None => Err(self.session_lost(session)),
        }
    }

    async fn cancel_upload(&self, session: &UploadSession) {
        let number = session.location().expose().parse().unwrap_or_default();
        if let Ok(mut state) = self.begin_call(Operation::CancelUpload) {
            state.sessions.remove(&number);
        }
    }
}
