//! Uploads that outlive a process: several pieces, each of which the registry acknowledges.

use async_trait::async_trait;
use transship_model::{Digest, Repository};

use crate::session::Setback;
use crate::{Content, RegistryClient, RegistryError, Target, UploadSession};

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

    /// Sends the next `length` bytes of `content` (at least 1; at least [`UploadSession::minimum_chunk`] except for
    /// the last piece), and waits until the registry has them. `content` is opened where the session stands. A
    /// piece that breaks is sent again, within bounds, where the registry says that it stands before it.
    ///
    /// # Errors
    /// [`RegistryError::is_upload_lost`] where the registry does not know the session any more, or stands
    /// elsewhere; [`RegistryError::Unavailable`] where nobody knows how much of the piece it has;
    /// [`RegistryError::Content`] where `content` fails or is too short.
    async fn continue_upload(
        &self,
        session: &UploadSession,
        digest: &Digest,
        content: &dyn Content,
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
        content: &dyn Content,
        length: u64,
    ) -> Result<UploadSession, RegistryError> {
        let piece = Box::pin(self.inner.send_piece(session, digest, content, length)).await;
        piece.map_err(Setback::into_error)
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
