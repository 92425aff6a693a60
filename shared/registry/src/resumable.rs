//! Uploads that outlive a process: several pieces, each of which the registry acknowledges.

use async_trait::async_trait;
use transship_model::{Digest, Repository};

use crate::session::Setback;
use crate::{ContentStream, RegistryClient, RegistryError, Target, UploadSession};

/// Writes a blob in pieces that may come from several processes, one after the other. A session goes on where
/// the last acknowledged piece ended. A piece that failed may be sent to the same session again; registries do
/// not agree on what they keep of it, so the session may turn out to be lost then.
#[async_trait]
pub trait ResumableTarget: Target {
    /// Opens a session for a blob.
    ///
    /// # Errors
    /// What every write has.
    async fn begin_upload(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<UploadSession, RegistryError>;

    /// Sends the next `length` bytes (at least 1; at least [`UploadSession::minimum_chunk`] except for the last
    /// piece), and waits until the registry has them. Not retried: the bytes come once.
    ///
    /// # Errors
    /// [`RegistryError::is_upload_lost`] where the registry does not know the session any more, or stands
    /// elsewhere; [`RegistryError::Unavailable`] where the piece is worth another try, a token that ended on the
    /// way included; [`RegistryError::Content`] where `chunk` fails or has another length.
    async fn continue_upload(
        &self,
        session: &UploadSession,
        digest: &Digest,
        chunk: ContentStream,
        length: u64,
    ) -> Result<UploadSession, RegistryError>;

    /// Closes the session. The registry verifies the digest of everything that it got.
    ///
    /// # Errors
    /// [`RegistryError::Refused`] with `DIGEST_INVALID` where the bytes are others.
    async fn finish_upload(&self, session: &UploadSession, digest: &Digest) -> Result<(), RegistryError>;

    /// Gives the session up. Best effort.
    async fn cancel_upload(&self, session: &UploadSession);
}

#[async_trait]
impl ResumableTarget for RegistryClient {
    async fn begin_upload(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<UploadSession, RegistryError> {
        self.inner.begin(repository, digest).await
    }

    async fn continue_upload(
        &self,
        session: &UploadSession,
        digest: &Digest,
        chunk: ContentStream,
        length: u64,
    ) -> Result<UploadSession, RegistryError> {
        match Box::pin(self.inner.patch(session, digest, chunk, length)).await {
            Ok(session) => Ok(session),
            Err(Setback::Renewed(_)) => {
                let reason = "the token ended on the way, and was renewed".to_owned();
                Err(self.inner.wire.unavailable("continue an upload", reason, None))
            }
            Err(setback) => Err(setback.into_error()),
        }
    }

    async fn finish_upload(&self, session: &UploadSession, digest: &Digest) -> Result<(), RegistryError> {
        let Err(setback) = self.inner.finish(session, digest, None).await else { return Ok(()) };
        // The answer of an earlier try may be what was lost: then the session is gone, and the blob is there.
        match self.inner.length_of(session.repository(), digest).await {
            Ok(Some(_)) => Ok(()),
            _ => Err(setback.into_error()),
        }
    }

    async fn cancel_upload(&self, session: &UploadSession) {
        self.inner.abandon(session).await;
    }
}
