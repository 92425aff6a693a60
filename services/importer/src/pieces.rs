//! Uploads that a slice may end inside: they go in completed pieces, and between two of them the slice looks at
//! the clock. What the next slice needs to go on is small, and travels sealed in the continuation.

use std::ops::Range;
use std::sync::Arc;

use tokio::time::Instant;
use transship_bundle::ChainValue;
use transship_model::{Algorithm, Class, Digest, Failure, Repository};
use transship_registry::{RegistryError, ResumableTarget, UploadSession};

use crate::content::BundleContent;
use crate::pace::{AfterBreak, Broke, decide_break, may_pause, plan_piece};
use crate::run::Import;
use crate::seal::{MAX_LOCATION, Standing};
use crate::upload::{count, own_failure};

/// What became of an upload.
pub(crate) enum Sent {
    /// The blob is in the repository, verified.
    Done,
    /// The slice ended between two pieces.
    Paused(Standing),
    /// Pieces did not work: the blob goes whole.
    Whole {
        /// Whether the registry refused the first one, as it may refuse all.
        refused: bool,
    },
}

/// One blob on its way into one repository.
pub(crate) struct PieceUpload<'a> {
    import: &'a Import<'a>,
    target: &'a dyn ResumableTarget,
    digest: &'a Digest,
    repository: &'a Repository,
    place: Range<u64>,
}

impl<'a> PieceUpload<'a> {
    /// The upload of a blob that lies at `place` in the bundle. `None` where it goes whole: where it has one
    /// piece only, where nothing can be sealed, where its digest has no chaining value, and where the registry
    /// takes no pieces.
    pub(crate) fn of(
        import: &'a Import<'a>,
        digest: &'a Digest,
        repository: &'a Repository,
        place: Range<u64>,
    ) -> Option<Self> {
        let long = place.end - place.start > import.settings.range_bytes;
        let sealable = import.seal.is_some() && digest.algorithm() == Algorithm::Sha256;
        let target =
            import.target.resumable().filter(|_| long && sealable && import.memory.takes_pieces())?;
        Some(Self { import, target, digest, repository, place })
    }

    /// Uploads the blob, from where an earlier slice `held` it, until it is there or the slice ends.
    ///
    /// # Errors
    /// What the registry or the bundle says.
    pub(crate) async fn run(&self, mut held: Option<Standing>) -> Result<Sent, Failure> {
        let (mut begun, mut lost) = (0, held.as_ref().map_or(0, |held| held.lost));
        loop {
            begun += 1;
            let resumed = held.is_some();
            let (mut session, content) = self.begin(held.take()).await?;
            let start = session.offset();
            let sent = self.send(&mut session, &content, may_pause(resumed, lost)).await;
            count(self.import, session.offset() - start);
            let error = match sent {
                Ok(Some(chain)) => {
                    let lost = if resumed { 0 } else { lost };
                    return Ok(Sent::Paused(self.standing(&session, chain, lost)));
                }
                Ok(None) => return Ok(Sent::Done),
                Err(error) => error,
            };
            content.uncount();
            lost += u32::from(resumed);
            let broke = Broke { resumed, offset: session.offset(), begun };
            let after = decide_break(&error, broke);
            tracing::info!(digest = %self.digest, repository = %self.repository, %error, ?broke, ?after, "an upload in pieces broke");
            let failure = own_failure(&content, error);
            // A session that stands where this work found it is left for the next attempt of the same work.
            let untouched = resumed && session.offset() == start && failure.class != Class::Permanent;
            if after != AfterBreak::Fail || !untouched {
                self.target.cancel_upload(&session).await;
            }
            match after {
                AfterBreak::Anew => {}
                AfterBreak::NoPieces => return Ok(Sent::Whole { refused: true }),
                AfterBreak::Whole => return Ok(Sent::Whole { refused: false }),
                AfterBreak::Fail => return Err(failure),
            }
        }
    }

    /// Opens a session, or takes up the one that is held.
    async fn begin(&self, held: Option<Standing>) -> Result<(UploadSession, BundleContent), Failure> {
        let (bundle, progress) = (Arc::clone(&self.import.bundle), Arc::clone(&self.import.context.progress));
        let (digest, place) = (self.digest.clone(), self.place.clone());
        let content = BundleContent::new(bundle, digest, place, self.import.settings, progress);
        if let Some(held) = held
            && content.resume(held.offset, &held.chain)
        {
            let Standing { repository, location, offset, minimum, .. } = held;
            return Ok((UploadSession::restore(repository, location, offset, minimum), content));
        }
        Ok((self.target.begin_upload(self.repository, self.digest).await?, content))
    }

    /// Sends piece after piece, to the end or until the slice is over: then it returns the chaining value where
    /// it stopped. `session` is where the registry stands, also where this fails.
    async fn send(
        &self,
        session: &mut UploadSession,
        content: &BundleContent,
        may_pause: bool,
    ) -> Result<Option<ChainValue>, RegistryError> {
        let context = self.import.context;
        let size = self.place.end - self.place.start;
        let mut last = None;
        while session.offset() < size {
            // One piece at least, so that every slice gets further.
            let pauses = may_pause && last.is_some() && context.slice_is_over();
            let sealable = pauses && session.location().expose().len() <= MAX_LOCATION;
            if let Some(chain) = content.chain_at(session.offset()).filter(|_| sealable) {
                return Ok(Some(chain));
            }
            let bounds = (self.import.settings.range_bytes, session.minimum_chunk());
            let time_left = context.slice_ends.saturating_duration_since(Instant::now());
            let length = plan_piece(size - session.offset(), bounds, last, time_left);
            let (piece, began) = (content.up_to(session.offset() + length), Instant::now());
            *session = self.target.continue_upload(session, self.digest, &piece, length).await?;
            fail::fail_point!("importer.piece_sent");
            content.pin(session.offset());
            last = Some((length, began.elapsed()));
        }
        // The content was verified before its last bytes were handed out, and the registry verifies again.
        self.target.finish_upload(session, self.digest).await?;
        Ok(None)
    }

    fn standing(&self, session: &UploadSession, chain: ChainValue, lost: u32) -> Standing {
        Standing {
            digest: self.digest.clone(),
            repository: self.repository.clone(),
            location: session.location().clone(),
            offset: session.offset(),
            minimum: session.minimum_chunk(),
            chain,
            lost,
        }
    }
}
