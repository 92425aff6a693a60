//! Uploads of whole blobs: the form that the registry takes, and what is done where one breaks.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use transship_model::{Digest, Repository};

use crate::beginning::beginning;
use crate::client::Inner;
use crate::pace::pauses;
use crate::session::{Setback, UploadSession};
use crate::{Content, RegistryError};

/// How often an upload is begun.
const TRIES: usize = 3;

/// How long it is remembered that a form was refused: a registry, or a proxy before it, may be mended.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// How the bytes of a blob are sent, in the order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// POST, and one PUT with everything.
    Put,
    /// POST, one PATCH with everything, and a PUT.
    Patch,
    /// POST, PATCHes of [`crate::Limits::chunk`], and a PUT.
    Chunks,
    /// The same with PATCHes of [`crate::Limits::small_chunk`].
    SmallChunks,
}

impl Form {
    const ALL: [Self; 4] = [Self::Put, Self::Patch, Self::Chunks, Self::SmallChunks];

    fn next(self) -> Option<Self> {
        Self::ALL.get(self as usize + 1).copied()
    }
}

/// What a registry was seen to refuse: of each form, the shortest blob that it refused and took in a later form. A
/// registry behind a proxy with a bound of body sizes takes small blobs in one piece all the same.
#[derive(Debug, Default)]
pub(crate) struct Forms {
    refused: Mutex<[Option<Refused>; 4]>,
}

#[derive(Debug, Clone, Copy)]
struct Refused {
    from: u64,
    at: Instant,
}

impl Refused {
    fn is_remembered(&self) -> bool {
        self.at.elapsed() < REMEMBERED
    }
}

impl Forms {
    /// The first form that is not known to be refused for blobs of this length.
    pub(crate) fn for_length(&self, length: u64) -> Form {
        let refused = *self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let refuses = |refused: &Refused| refused.is_remembered() && length >= refused.from;
        let fits = |form: &&Form| !refused[**form as usize].as_ref().is_some_and(refuses);
        *Form::ALL.iter().find(fits).unwrap_or(&Form::SmallChunks)
    }

    /// Remembers that a blob of this length did not go in this form, and did in a later one.
    fn refused(&self, form: Form, length: u64) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let known = refused[form as usize].filter(Refused::is_remembered);
        let from = known.map_or(length, |known| known.from.min(length));
        refused[form as usize] = Some(Refused { from, at: Instant::now() });
    }
}

impl Inner {
    /// Uploads a blob, within the bounds of tries.
    pub(crate) async fn upload_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        content: &dyn Content,
    ) -> Result<(), RegistryError> {
        let length = content.length();
        let mut form = self.forms.for_length(length);
        let mut pauses = pauses(&self.wire.limits);
        let (mut tries, mut renewed) = (1, false);
        // Forms that were refused or broke. They are remembered only where a later one is taken: what every form
        // meets says nothing of forms.
        let mut given_up = Vec::new();
        loop {
            let setback = match Box::pin(self.upload_once(repository, digest, content, form)).await {
                Ok(()) => {
                    given_up.into_iter().for_each(|form| self.forms.refused(form, length));
                    return Ok(());
                }
                Err(setback) => setback,
            };
            match setback {
                Setback::Renewed(_) if !renewed => renewed = true,
                Setback::Form(error) => {
                    let Some(next) = form.next() else { return Err(error) };
                    tracing::info!(host = %self.wire.host, ?form, ?next, %error, "the registry refuses this form of upload");
                    given_up.push(form);
                    form = next;
                }
                Setback::Lost(error) => {
                    // The answer may be what was lost.
                    if self.length_of(repository, digest).await.is_ok_and(|length| length.is_some()) {
                        return Ok(());
                    }
                    let wait = error.retry_after().unwrap_or_default();
                    let may = tries < TRIES && wait <= self.wire.limits.longest_pause;
                    let Some(pause) = pauses.next().filter(|_| may) else { return Err(error) };
                    tries += 1;
                    if tries == TRIES
                        && matches!(form, Form::Put | Form::Patch)
                        && let Some(next) = form.next()
                    {
                        // Some registries close the connection on a body that they find too large.
                        given_up.push(form);
                        form = next;
                    }
                    tokio::time::sleep(pause.max(wait)).await;
                }
                Setback::Renewed(error) | Setback::Final(error) => return Err(error),
            }
        }
    }

    async fn upload_once(
        &self,
        repository: &Repository,
        digest: &Digest,
        content: &dyn Content,
        form: Form,
    ) -> Result<(), Setback> {
        // Where not even a session is to be had, it was asked for often enough already.
        let session = self.begin(repository, digest).await.map_err(Setback::Final)?;
        let sent = match form {
            Form::Put => self.finish(&session, digest, Some((content.open(0), content.length()))).await,
            Form::Patch => self.in_chunks(&session, digest, content, content.length()).await,
            Form::Chunks => self.in_chunks(&session, digest, content, self.wire.limits.chunk).await,
            Form::SmallChunks => {
                self.in_chunks(&session, digest, content, self.wire.limits.small_chunk).await
            }
        };
        if sent.is_err() {
            self.abandon(&session).await;
        }
        sent
    }

    /// Sends one piece of `content`, from where the session stands. One that breaks is sent again where the
    /// registry knows that it stands before it.
    pub(crate) async fn send_piece(
        &self,
        session: &UploadSession,
        digest: &Digest,
        content: &dyn Content,
        length: u64,
    ) -> Result<UploadSession, Setback> {
        let mut session = session.clone();
        let mut pauses = pauses(&self.wire.limits).take(TRIES - 1);
        let mut renewed = false;
        loop {
            let piece = beginning(content.open(session.offset()), length);
            match Box::pin(self.patch(&session, digest, piece, length)).await {
                Err(Setback::Renewed(_)) if !renewed => renewed = true,
                Err(Setback::Lost(error)) if !error.is_upload_lost() => {
                    let Some(pause) = pauses.next() else { return Err(Setback::Lost(error)) };
                    tokio::time::sleep(pause).await;
                    let standing = self.standing(&session, digest).await;
                    let standing = standing.filter(|standing| standing.offset() == session.offset());
                    session = standing.ok_or(Setback::Lost(error))?;
                }
                sent => return sent,
            }
        }
    }

    /// Sends pieces of `chunk` bytes, and the closing PUT. A piece that breaks is sent again where the registry
    /// knows that it stands before it.
    async fn in_chunks(
        &self,
        session: &UploadSession,
        digest: &Digest,
        content: &dyn Content,
        chunk: u64,
    ) -> Result<(), Setback> {
        let length = content.length();
        let chunk = chunk.max(session.minimum_chunk()).max(1);
        let mut session = session.clone();
        let mut resumed = 0;
        while session.offset() < length {
            let piece = chunk.min(length - session.offset());
            // Opened for each piece: a reader that read ahead would hold memory while it waits for its turn at the
            // registry, which those may hold who wait for memory.
            let body = beginning(content.open(session.offset()), piece);
            match self.patch(&session, digest, body, piece).await {
                Ok(next) => session = next,
                Err(Setback::Lost(error)) if piece < length && resumed < TRIES => {
                    resumed += 1;
                    let standing = self.standing(&session, digest).await;
                    let standing = standing.filter(|standing| standing.offset() == session.offset());
                    session = standing.ok_or(Setback::Lost(error))?;
                }
                Err(Setback::Renewed(_)) if resumed < TRIES => resumed += 1,
                Err(setback) => return Err(setback),
            }
        }
        self.finish(&session, digest, None).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_form_that_was_refused_is_tried_again_after_an_hour() {
        let forms = Forms::default();
        forms.refused(Form::Put, 1000);
        forms.refused(Form::Put, 2000);
        assert_eq!(forms.for_length(1000), Form::Patch);
        tokio::time::advance(REMEMBERED).await;
        assert_eq!(forms.for_length(1000), Form::Put);
        forms.refused(Form::Put, 2000);
        assert_eq!((forms.for_length(1000), forms.for_length(2000)), (Form::Put, Form::Patch));
    }

    #[test]
    fn a_form_that_was_refused_for_a_blob_is_refused_for_longer_ones_only() {
        let forms = Forms::default();
        assert_eq!(forms.for_length(u64::MAX - 1), Form::Put);
        forms.refused(Form::Put, 1000);
        assert_eq!((forms.for_length(999), forms.for_length(1000)), (Form::Put, Form::Patch));
        forms.refused(Form::Patch, 500);
        forms.refused(Form::Chunks, 2000);
        assert_eq!(forms.for_length(600), Form::Put);
        assert_eq!((forms.for_length(1000), forms.for_length(2000)), (Form::Chunks, Form::SmallChunks));
        forms.refused(Form::SmallChunks, 2000);
        assert_eq!(forms.for_length(5000), Form::SmallChunks, "there is nothing after it");
    }
}
