//! Staging small blobs: the members of a group are read in parallel, verified, and become one block.

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use transship_bundle::{PlannedBlob, Segment, group_id};
use transship_model::{Code, Digest, Failure};
use transship_stage::Context;

use crate::content::{Lookup, Member, Unit};
use crate::staged::Staging;

/// How many members of a group are read at once.
const PARALLEL: usize = 8;

/// What became of reading one member.
enum Read {
    Bytes(Vec<u8>),
    Larger,
    Absent,
    Failed(Failure),
}

/// Stages one group. Members that turn out to be larger than declared are handed back, to get blocks of their own:
/// the share of the budget that a group takes is made of the declared sizes.
pub(crate) async fn stage_group(
    members: &[PlannedBlob],
    lookup: &Lookup,
    staging: &Staging,
    context: &Context,
) -> Result<(Unit, Vec<PlannedBlob>), Failure> {
    if let Some(unit) = already_staged(members, staging) {
        count(context, &unit.members, true);
        return Ok((unit, Vec::new()));
    }
    let declared: u64 =
        members.iter().map(|member| Segment::new(&member.digest, member.declared).length()).sum();
    // Reading and the block that is made of it are alive together.
    let _permit = context.budget.acquire(2 * declared).await;
    let mut reads: Vec<BoxFuture<'_, Result<Read, Failure>>> = Vec::with_capacity(members.len());
    for member in members {
        reads.push(read(member, lookup, context).boxed());
    }
    let reads: Vec<Read> = stream::iter(reads).buffered(PARALLEL).try_collect().await?;
    let mut unit = Unit::default();
    let mut larger = Vec::new();
    let mut block = Vec::new();
    for (planned, read) in members.iter().zip(reads) {
        match read {
            Read::Bytes(bytes) => {
                let segment = Segment::new(&planned.digest, bytes.len() as u64);
                unit.members.push(Member::stored(planned, &segment, unit.length));
                unit.length += segment.length();
                segment.encode_into(&bytes, &mut block);
            }
            Read::Larger => larger.push(planned.clone()),
            Read::Absent => unit.members.push(Member::absent(planned)),
            Read::Failed(failure) => unit.members.push(Member::failed(planned, failure)),
        }
    }
    let stored: Vec<(&Digest, u64)> =
        unit.members.iter().filter_map(|m| Some((&m.blob.digest, m.place?.size))).collect();
    if !stored.is_empty() {
        let id = group_id(stored);
        context.unless_cancelled(staging.stage_once(&id, block.into())).await?;
        unit.ids.push(id);
    }
    count(context, &unit.members, false);
    Ok((unit, larger))
}

/// A group whose block is listed under the declared sizes is complete: its members were verified before it was staged,
/// and these were their sizes.
fn already_staged(members: &[PlannedBlob], staging: &Staging) -> Option<Unit> {
    let id = group_id(members.iter().map(|member| (&member.digest, member.declared)));
    let mut unit = Unit { ids: vec![id], ..Unit::default() };
    for planned in members {
        let segment = Segment::new(&planned.digest, planned.declared);
        unit.members.push(Member::stored(planned, &segment, unit.length));
        unit.length += segment.length();
    }
    (staging.listed_length(&id) == Some(unit.length)).then_some(unit)
}

async fn read(member: &PlannedBlob, lookup: &Lookup, context: &Context) -> Result<Read, Failure> {
    let blob = lookup.source_blob(&member.digest)?;
    let bytes = match context.unless_cancelled(blob.read_whole(member.declared)).await {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(Read::Larger),
        Err(failure) if failure.code == Code::ContentNotFound && lookup.is_foreign(&member.digest) => {
            return Ok(Read::Absent);
        }
        Err(failure) => return lookup.tolerate(failure).map(Read::Failed),
    };
    if member.digest.matches(&bytes) {
        return Ok(Read::Bytes(bytes));
    }
    let actual = Digest::compute(member.digest.algorithm(), &bytes);
    lookup.tolerate(mismatch(&blob, &actual)).map(Read::Failed)
}

/// The failure of a blob whose bytes have another digest.
pub(crate) fn mismatch(blob: &crate::fetch::SourceBlob, actual: &Digest) -> Failure {
    let (host, repository, digest) = (blob.source.host(), &blob.repository, &blob.digest);
    Failure::permanent(
        Code::DigestMismatch,
        format!("blob {digest} of {repository} at {host} has other bytes: expected {digest}, got {actual}"),
    )
    .with_hint("the registry's content is damaged: push the artifact again")
}

fn count(context: &Context, members: &[Member], were_there: bool) {
    context.progress.count(|c| {
        for member in members {
            match &member.place {
                Some(place) if were_there => {
                    c.blobs_skipped += 1;
                    c.bytes_skipped += place.size;
                }
                Some(place) => {
                    c.blobs_moved += 1;
                    c.bytes_moved += place.size;
                }
                None => c.bytes_failed += member.blob.declared,
            }
        }
    });
}
