//! Staging a large blob in one stream, where the registry ignores ranges or does not say the length. Each attempt reads
//! it from its start, and stages what is not there yet.

use std::collections::BTreeSet;

use futures::StreamExt;
use transship_bundle::{BlockIdentity, ChainedHash, Segment, block_size};
use transship_model::{Code, Failure};
use transship_stage::Context;

use crate::fetch::{SourceBlob, again};
use crate::large::{Advance, Staged, Stop};
use crate::staged::{Id, Staging};

/// Stages a blob in one stream, again from its start where the stream breaks.
pub(crate) async fn stage_stream(
    blob: &SourceBlob,
    staging: &Staging,
    context: &Context,
) -> Result<Staged, Stop> {
    let (mut attempt, mut blocks) = (1, Blocks { staging, context, staged: BTreeSet::new(), moved: 0 });
    loop {
        match blocks.stage_from_start(blob).await {
            Err(Stop::Broken(failure)) => context.unless_cancelled(again(failure, &mut attempt)).await?,
            result => return result,
        }
    }
}

/// The blocks of one blob, over all its streams of this attempt.
struct Blocks<'a> {
    staging: &'a Staging,
    context: &'a Context,
    staged: BTreeSet<Id>,
    moved: u64,
}

impl Blocks<'_> {
    /// Block 0 is staged last, since its header has the length; the last block is held until the digest is known.
    async fn stage_from_start(&mut self, blob: &SourceBlob) -> Result<Staged, Stop> {
        let step = block_size(0) as usize;
        let _permit = self.context.budget.acquire(3 * step as u64).await;
        let mut stream = self.context.unless_cancelled(blob.open()).await?.bytes;
        let (mut hash, mut advance) = (ChainedHash::new(blob.digest.algorithm()), Advance::default());
        let (mut ids, mut first, mut held) = (Vec::new(), None, None::<(Id, Vec<u8>)>);
        let (mut current, mut ended) = (Vec::with_capacity(step), false);
        while !ended {
            let piece = self.context.unless_cancelled(async { stream.next().await.transpose() }).await;
            match piece.map_err(Stop::Broken)? {
                Some(piece) => current.extend_from_slice(&piece),
                None => ended = true,
            }
            while current.len() >= step || (ended && (!current.is_empty() || first.is_none())) {
                let rest = current.split_off(current.len().min(step));
                let id = BlockIdentity::of_stream(&blob.digest, ids.len() as u32, hash.value()).to_bytes();
                hash.update(&current);
                ids.push(id);
                let block = std::mem::replace(&mut current, rest);
                if first.is_none() {
                    advance.again += block.len() as u64;
                    first = Some((id, block));
                } else if let Some((before, block)) = held.replace((id, block)) {
                    self.stage_unless_vouched_for(&before, &id, block, &mut advance).await?;
                    advance.check_from_start(blob, self.staging, self.context)?;
                }
            }
        }
        let length = hash.hashed();
        let actual = hash.finish();
        if actual != blob.digest {
            return Err(Stop::Mismatch(actual));
        }
        let segment = Segment::new(&blob.digest, length);
        if block_size(length) as usize != step {
            let message = format!(
                "blob {} has {length} bytes, and the registry serves it neither by range nor with its length",
                blob.digest
            );
            return Err(Failure::permanent(Code::LimitExceeded, message).into());
        }
        let Some((id, bytes)) = first else { return Err(blob.broken("gave no block").into()) };
        let mut block = segment.header().to_vec();
        block.extend_from_slice(&bytes);
        if ids.len() == 1 {
            block.resize(block.len() + segment.padding(), 0);
        }
        self.stage(&id, block, bytes.len()).await?;
        if let Some((id, mut block)) = held {
            let bytes = block.len();
            block.resize(bytes + segment.padding(), 0);
            self.stage(&id, block, bytes).await?;
        }
        Ok(Staged { ids, segment, moved: self.moved })
    }

    /// Stages a block, unless it is there with the one after it: whoever staged that one had read these bytes, and had
    /// them in their place before.
    async fn stage_unless_vouched_for(
        &mut self,
        id: &Id,
        next: &Id,
        block: Vec<u8>,
        advance: &mut Advance,
    ) -> Result<(), Failure> {
        let length = block.len();
        let is_listed = self.staging.listed_length(id) == Some(length as u64);
        let is_there = is_listed || self.staged.contains(id);
        let is_vouched_for = self.staging.listed_length(next).is_some() || self.staged.contains(next);
        *(if is_there { &mut advance.again } else { &mut advance.new }) += length as u64;
        if is_there && is_vouched_for {
            return Ok(());
        }
        self.stage(id, block, length).await
    }

    async fn stage(&mut self, id: &Id, block: Vec<u8>, bytes: usize) -> Result<(), Failure> {
        self.context.unless_cancelled(self.staging.stage(id, block.into())).await?;
        if self.staged.insert(*id) {
            self.moved += bytes as u64;
            self.context.progress.count(|c| c.bytes_moved += bytes as u64);
        }
        Ok(())
    }
}
