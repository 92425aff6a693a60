//! Staging a large blob: its blocks are read in parallel, hashed in order, and staged as hashed. The last block
//! is staged only after the digest of the whole matched, so a blob whose last block is listed is right.

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt, stream};
use transship_bundle::{BlockIdentity, ChainedHash, PlannedBlob, Resume, Segment, block_size, resume_blob};
use transship_model::{Algorithm, Code, Digest, Failure};
use transship_stage::{BytePermit, Context};

use crate::content::{Lookup, Member, SliceOver, Unit};
use crate::fetch::{Ranged, SourceBlob};
use crate::group::mismatch;
use crate::staged::{Id, Staging};
use crate::stream::stage_stream;

/// How many blocks of one blob are read at once, and how many are staged at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parallel {
    pub(crate) reads: usize,
    pub(crate) stages: usize,
}

/// Why a blob was not staged to its end.
pub(crate) enum Stop {
    Failure(Failure),
    /// The bytes have another digest.
    Mismatch(Digest),
    /// The read broke off after it had begun.
    Broken(Failure),
    /// The registry ignores ranges.
    NoRanges,
    SliceOver,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// What one attempt staged.
pub(crate) struct Staged {
    pub(crate) ids: Vec<Id>,
    pub(crate) segment: Segment,
    pub(crate) moved: u64,
}

/// How far one attempt got with a blob, in bytes.
#[derive(Debug, Default)]
pub(crate) struct Advance {
    /// Staged, and not there before.
    pub(crate) new: u64,
    /// Read although they are there.
    pub(crate) again: u64,
}

impl Advance {
    /// Ends the slice where it is over and may end: only with more than the next one finds again, and with no more read
    /// in vain than was added. So a blob that is read from its start in each slice comes to its end in a few of them.
    pub(crate) fn check(&self, context: &Context) -> Result<(), Stop> {
        let may_end = self.new > 0 && self.new >= self.again;
        if context.slice_is_over() && may_end { Err(Stop::SliceOver) } else { Ok(()) }
    }

    /// The same for a blob that is read from its start, which fails where one delivery is too short to get further.
    pub(crate) fn check_from_start(
        &self,
        blob: &SourceBlob,
        staging: &Staging,
        context: &Context,
    ) -> Result<(), Stop> {
        self.check(context)?;
        if staging.is_overdue() && self.again > self.new {
            let (host, repository, digest) = (blob.source.host(), &blob.repository, &blob.digest);
            let message = format!(
                "blob {digest} of {repository} at {host} has to be read from its start in each slice, and reading what is staged already took too long to add as much"
            );
            return Err(Failure::permanent(Code::LimitExceeded, message)
                .with_hint("work must end before RabbitMQ's consumer_timeout of 30 minutes: export it from a registry that honours Range")
                .into());
        }
        Ok(())
    }
}

/// The largest block of a block blob, in bytes (Put Block).
const LARGEST_BLOCK: u64 = 4_000 << 20;

/// Refuses a length whose blocks no container takes, or of which not one fits into the byte budget.
fn refuse_huge(digest: &Digest, length: u64, budget: u64) -> Result<(), Failure> {
    let block = block_size(length);
    if block == block_size(0) || block <= budget.min(LARGEST_BLOCK) {
        return Ok(());
    }
    let message = format!("blob {digest} has {length} bytes, and would need blocks of {block}");
    let hint = if block > LARGEST_BLOCK {
        "a block blob has 50,000 blocks of at most 4,000 MiB"
    } else {
        "raise worker.byte_budget_bytes of the exporter above the size of a block"
    };
    Err(Failure::permanent(Code::LimitExceeded, message).with_hint(hint))
}

/// Stages one large blob. `Ok(Err(SliceOver))` where the slice ended first; what is staged stays.
pub(crate) async fn stage_large(
    planned: &PlannedBlob,
    lookup: &Lookup,
    staging: &Staging,
    context: &Context,
    parallel: Parallel,
) -> Result<Result<Unit, SliceOver>, Failure> {
    let blob = lookup.source_blob(&planned.digest)?;
    let name = planned.digest.to_string();
    context.progress.begin(&name);
    let staged = stage_verified(planned, &blob, staging, context, parallel).await;
    context.progress.end(&name);
    match staged {
        Ok(staged) => {
            context.progress.count(|c| {
                c.blobs_moved += u64::from(staged.moved > 0);
                c.blobs_skipped += u64::from(staged.moved == 0);
                c.bytes_skipped += staged.segment.size().saturating_sub(staged.moved);
            });
            let member = Member::stored(planned, &staged.segment, 0);
            Ok(Ok(Unit { ids: staged.ids, members: vec![member], length: staged.segment.length() }))
        }
        Err(Stop::SliceOver) => Ok(Err(SliceOver)),
        Err(Stop::Failure(failure))
            if failure.code == Code::ContentNotFound && lookup.is_foreign(&planned.digest) =>
        {
            context.progress.count(|c| c.bytes_failed += planned.declared);
            Ok(Ok(Unit { members: vec![Member::absent(planned)], ..Unit::default() }))
        }
        Err(stop) => {
            let failure = lookup.tolerate(failure_of(stop, &blob))?;
            context.progress.count(|c| c.bytes_failed += planned.declared);
            Ok(Ok(Unit { members: vec![Member::failed(planned, failure)], ..Unit::default() }))
        }
    }
}

fn failure_of(stop: Stop, blob: &SourceBlob) -> Failure {
    match stop {
        Stop::Failure(failure) | Stop::Broken(failure) => failure,
        Stop::Mismatch(actual) => mismatch(blob, &actual),
        Stop::NoRanges | Stop::SliceOver => blob.broken("was stopped"),
    }
}

/// Stages, and once more from byte 0 where the digest did not match: the first blocks may stem from a read that
/// nobody can vouch for.
async fn stage_verified(
    planned: &PlannedBlob,
    blob: &SourceBlob,
    staging: &Staging,
    context: &Context,
    parallel: Parallel,
) -> Result<Staged, Stop> {
    let Some(length) = blob.length().await? else { return stage_stream(blob, staging, context).await };
    refuse_huge(&planned.digest, length, u64::from(context.budget.limit()))?;
    let segment = Segment::new(&planned.digest, length);
    let resume = match resume_blob(&segment, staging.listed()) {
        Resume::Complete { ids } => return Ok(Staged { ids, segment, moved: 0 }),
        resume => resume,
    };
    match stage_ranges(&segment, resume, blob, staging, context, parallel).await {
        Err(Stop::NoRanges) => stage_stream(blob, staging, context).await,
        Err(Stop::Mismatch(actual)) => {
            tracing::warn!(digest = %planned.digest, %actual, "the digest does not match; reading the blob again");
            let fresh = resume_blob(&segment, []);
            // One after the other, since each may take the place of one that was read wrongly.
            let parallel = Parallel { stages: 1, ..parallel };
            stage_ranges(&segment, fresh, blob, staging, context, parallel).await
        }
        result => result,
    }
}

/// A block that was read, with the share of the budget that it takes.
type ReadBlock = (u32, Vec<u8>, usize, BytePermit);

async fn stage_ranges(
    segment: &Segment,
    resume: Resume,
    blob: &SourceBlob,
    staging: &Staging,
    context: &Context,
    parallel: Parallel,
) -> Result<Staged, Stop> {
    let is_sha256 = segment.digest().algorithm() == Algorithm::Sha256;
    let vouched = match is_sha256 {
        true => vouched_until(segment, &resume, blob, staging, context, parallel).await?,
        // It is read from its start anyway, and each block is seen to be vouched for by the next one.
        false => 0,
    };
    let Resume::At { mut ids, mut index, before, .. } = resume else { return Err(Stop::NoRanges) };
    // Only SHA-256 can go on from the middle; another algorithm reads the prefix again.
    let resumed = is_sha256.then(|| ChainedHash::resume(&before, segment.block(index).range.start)).flatten();
    if resumed.is_none() {
        ids.clear();
        index = 0;
    }
    let mut hash = resumed.unwrap_or_else(|| ChainedHash::new(segment.digest().algorithm()));
    let (count, mut moved, mut advance) = (segment.block_count(), 0, Advance::default());
    let mut reads = stream::iter(index..count)
        .map(|index| async move { context.unless_cancelled(read_block(segment, index, blob, context)).await })
        .buffered(parallel.reads);
    let mut stages = FuturesUnordered::new();
    loop {
        // Both sides are polled together: what waits to be staged holds budget that the next read may wait for.
        let read = tokio::select! {
            Some(staged) = stages.next(), if !stages.is_empty() => {
                staged?;
                continue;
            }
            read = reads.next(), if stages.len() < parallel.stages => read,
        };
        let Some(read) = read else { return Err(Stop::NoRanges) };
        let Some((index, block, header, permit)) = read? else { return Err(Stop::NoRanges) };
        let id = BlockIdentity::of_blob(segment.digest(), index, hash.value()).to_bytes();
        let range = segment.block(index).range;
        let bytes = range.end - range.start;
        hash.update(&block[header..header + bytes as usize]);
        ids.push(id);
        let is_there = is_listed(segment, index, &id, staging);
        *(if is_there { &mut advance.again } else { &mut advance.new }) += bytes;
        if is_there && (index < vouched || is_listed_at(segment, index + 1, &hash, staging)) {
            if !is_sha256 {
                advance.check_from_start(blob, staging, context)?;
            }
            continue;
        }
        moved += bytes;
        if index + 1 == count {
            let actual = hash.finish();
            if actual != *segment.digest() {
                return Err(Stop::Mismatch(actual));
            }
            // The others first: the last block says that all are there.
            stages.try_collect::<()>().await?;
            stage_block(staging, context, id, block.into(), bytes, permit).await?;
            return Ok(Staged { ids, segment: segment.clone(), moved });
        }
        if is_there {
            // The identifiers of later blocks will vouch for this one, so it must be in its place before they are.
            std::mem::take(&mut stages).try_collect::<()>().await?;
        }
        stages.push(stage_block(staging, context, id, block.into(), bytes, permit));
        if is_there {
            std::mem::take(&mut stages).try_collect::<()>().await?;
        }
        let check = match is_sha256 {
            true => advance.check(context),
            false => advance.check_from_start(blob, staging, context),
        };
        if let Err(stop) = check {
            stages.try_collect::<()>().await?;
            return Err(stop);
        }
    }
}

/// The last block that an earlier attempt staged and that no later block vouches for: it alone is staged once more.
/// For blobs with a SHA-256 digest, which are not read from their start.
///
/// The chaining value in an identifier is that of the bytes that were read before it, so a listed block that has
/// the right one vouches for all listed blocks before it. Blocks are staged side by side: where the attempt died
/// with gaps in what it had staged, the bytes up to its furthest block are read once to find out.
async fn vouched_until(
    segment: &Segment,
    resume: &Resume,
    blob: &SourceBlob,
    staging: &Staging,
    context: &Context,
    parallel: Parallel,
) -> Result<u32, Stop> {
    let Resume::At { index, before, until, .. } = resume else { return Ok(segment.block_count()) };
    let (mut last, at) = (*index, segment.block(*index).range.start);
    let Some(mut hash) = ChainedHash::resume(before, at) else { return Ok(last) };
    let mut reads = stream::iter(*index..*until)
        .map(|index| async move { context.unless_cancelled(read_block(segment, index, blob, context)).await })
        .buffered(parallel.reads);
    while let Some(read) = reads.next().await {
        let Some((index, block, header, _permit)) = read? else { return Err(Stop::NoRanges) };
        let range = segment.block(index).range;
        hash.update(&block[header..header + (range.end - range.start) as usize]);
        if is_listed_at(segment, index + 1, &hash, staging) {
            last = index + 1;
        }
    }
    Ok(last)
}

/// Whether an earlier attempt staged block `index` after it had read the bytes that `hash` has seen.
fn is_listed_at(segment: &Segment, index: u32, hash: &ChainedHash, staging: &Staging) -> bool {
    let id = BlockIdentity::of_blob(segment.digest(), index, hash.value()).to_bytes();
    index < segment.block_count() && is_listed(segment, index, &id, staging)
}

fn is_listed(segment: &Segment, index: u32, id: &Id, staging: &Staging) -> bool {
    staging.listed_length(id) == Some(segment.block(index).length())
}

async fn stage_block(
    staging: &Staging,
    context: &Context,
    id: Id,
    block: Bytes,
    bytes: u64,
    permit: BytePermit,
) -> Result<(), Failure> {
    context.unless_cancelled(staging.stage(&id, block)).await?;
    drop(permit);
    context.progress.count(|c| c.bytes_moved += bytes);
    Ok(())
}

/// Reads one block into a buffer; `None` where the registry ignores ranges.
async fn read_block(
    segment: &Segment,
    index: u32,
    blob: &SourceBlob,
    context: &Context,
) -> Result<Option<ReadBlock>, Failure> {
    let block = segment.block(index);
    let permit = context.budget.acquire(block.length()).await;
    // What is larger grows with what arrives: no memory for a length that is only claimed.
    let capacity = block.length().min(block_size(0) + segment.header().len() as u64 + 512);
    let mut buffer = Vec::with_capacity(usize::try_from(capacity).unwrap_or(0));
    buffer.extend_from_slice(&block.before);
    let header = block.before.len();
    let Ranged::Filled(mut buffer) = blob.read_range(block.range, buffer).await? else { return Ok(None) };
    buffer.resize(buffer.len() + block.after, 0);
    Ok(Some((index, buffer, header, permit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_whose_blocks_are_too_large_is_refused_with_a_way_out() {
        let digest = Digest::sha256(b"x");
        for (length, budget, hint) in [
            (0, 1, None),
            (300 << 30, 1, None),
            (1 << 40, 32 << 20, None),
            (2 << 40, 32 << 20, Some("byte_budget_bytes")),
            (2 << 40, 64 << 20, None),
            (9_000_000_000_000_000_000, u64::MAX, Some("4,000 MiB")),
            (u64::MAX, 32 << 20, Some("4,000 MiB")),
        ] {
            let failure = refuse_huge(&digest, length, budget).err();
            assert_eq!(failure.is_some(), hint.is_some(), "{length} {budget}");
            if let (Some(failure), Some(hint)) = (failure, hint) {
                assert!(
                    failure.code == Code::LimitExceeded && failure.hint.unwrap().contains(hint),
                    "{length}"
                );
            }
        }
    }
}
