//! Staging the content of a bundle: large blobs first, so that the tail is short, several at a time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tracing::Instrument;
use transship_bundle::{Absence, ContentPlan, PlannedBlob, Segment};
use transship_model::{Class, Code, Digest, Failure};
use transship_registry::{BlobSource, Source};
use transship_stage::Context;

use crate::export::ExportSettings;
use crate::fetch::SourceBlob;
use crate::group::stage_group;
use crate::large::{Parallel, stage_large};
use crate::staged::{Id, Staging};

/// The slice ended before everything was staged.
pub(crate) struct SliceOver;

/// Where a blob's bytes are in its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) size: u64,
    pub(crate) offset: u64,
}

/// One blob of the content, and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) blob: PlannedBlob,
    pub(crate) place: Option<Place>,
    pub(crate) absent: Option<Absence>,
    pub(crate) failure: Option<Failure>,
}

impl Member {
    /// A blob whose segment begins at `offset` of its unit.
    pub(crate) fn stored(blob: &PlannedBlob, segment: &Segment, offset: u64) -> Self {
        let place = Place { size: segment.size(), offset: offset + segment.header().len() as u64 };
        Self { blob: blob.clone(), place: Some(place), absent: None, failure: None }
    }

    /// A foreign layer whose bytes the source does not have.
    pub(crate) fn absent(blob: &PlannedBlob) -> Self {
        Self { blob: blob.clone(), place: None, absent: Some(Absence::NotDistributable), failure: None }
    }

    /// A blob that cannot be carried.
    pub(crate) fn failed(blob: &PlannedBlob, failure: Failure) -> Self {
        Self { blob: blob.clone(), place: None, absent: Some(Absence::Failed), failure: Some(failure) }
    }
}

/// A piece of the content that was staged: one large blob, or a group of small ones.
#[derive(Debug, Default)]
pub(crate) struct Unit {
    pub(crate) ids: Vec<Id>,
    pub(crate) members: Vec<Member>,
    pub(crate) length: u64,
}

/// Where blobs come from, and what their failures mean.
pub(crate) struct Lookup {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) blobs: BTreeMap<Digest, BlobSource>,
    pub(crate) continue_on_errors: bool,
}

impl Lookup {
    /// The blob at the source.
    pub(crate) fn source_blob(&self, digest: &Digest) -> Result<SourceBlob, Failure> {
        let source = self.blobs.get(digest);
        let unknown =
            || Failure::permanent(Code::Internal, format!("{digest} was planned and not found by the walk"));
        let BlobSource { repository, .. } = source.ok_or_else(unknown)?.clone();
        Ok(SourceBlob { source: Arc::clone(&self.source), repository, digest: digest.clone() })
    }

    /// Whether the blob need not be there.
    pub(crate) fn is_foreign(&self, digest: &Digest) -> bool {
        self.blobs.get(digest).is_some_and(|source| source.foreign)
    }

    /// A failure that only costs the artifacts that need the blob is handed back; any other ends the work.
    pub(crate) fn tolerate(&self, failure: Failure) -> Result<Failure, Failure> {
        if self.continue_on_errors && failure.class == Class::Permanent { Ok(failure) } else { Err(failure) }
    }
}

/// Which unit a job makes, in the order of the content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Position {
    Group(usize),
    Large(usize),
    /// Declared small and found large.
    Grown(Digest),
}

/// How long an attempt may last: RabbitMQ's consumer timeout is 30 minutes, and the commit takes a while.
const LONGEST: Duration = Duration::from_secs(25 * 60);

/// When the content of a slice ends whose walk lasted from `began` until `now`: as long after the walk as the slice was
/// to last, within what an attempt may last. Each slice walks anew, so a long walk would leave none of them time to move
/// anything.
pub(crate) fn content_ends(began: Instant, slice_ends: Instant, now: Instant) -> Instant {
    (now + slice_ends.saturating_duration_since(began)).min(began + LONGEST)
}

/// What every job of a part needs.
#[derive(Clone)]
struct Shared {
    lookup: Arc<Lookup>,
    staging: Arc<Staging>,
    context: Context,
    parallel: Parallel,
}

/// What became of a job: its unit, and the blobs that are larger than declared.
type Staged = Result<Result<(Unit, Vec<PlannedBlob>), SliceOver>, Failure>;

/// When the attempt must have an end, after a walk that lasted until `now`: what has to be read from its start gets a
/// while, even where the walk took most of the time.
pub(crate) fn attempt_ends(began: Instant, now: Instant) -> Instant {
    (began + LONGEST).max(now + LONGEST / 5)
}

/// Stages everything in `plan`, and returns the units in the order of the content. Each job is a task of its own, so
/// that the hashing of one does not hold up the others.
pub(crate) async fn stage_content(
    plan: ContentPlan,
    lookup: Lookup,
    staging: Arc<Staging>,
    context: &Context,
    settings: &ExportSettings,
) -> Result<Result<Vec<Unit>, SliceOver>, Failure> {
    let mut jobs: Vec<(Position, Job)> = Vec::new();
    jobs.extend(plan.large.into_iter().enumerate().map(|(i, blob)| (Position::Large(i), Job::Large(blob))));
    jobs.sort_by_key(|(_, job)| std::cmp::Reverse(job.declared()));
    jobs.extend(
        plan.groups.into_iter().enumerate().map(|(i, group)| (Position::Group(i), Job::Group(group))),
    );
    let mut jobs = VecDeque::from(jobs);
    let parallel = Parallel { reads: settings.parallel_reads, stages: settings.parallel_stages };
    let shared = Shared { lookup: Arc::new(lookup), staging, context: context.clone(), parallel };
    let mut units = BTreeMap::new();
    let mut running = JoinSet::new();
    loop {
        while running.len() < settings.parallel_blobs
            && let Some((place, job)) = jobs.pop_front()
        {
            let shared = shared.clone();
            running.spawn(async move { (place, job.run(&shared).await) }.in_current_span());
        }
        let Some(ended) = running.join_next().await else { break };
        let (place, staged) = ended.map_err(of_task)?;
        match staged {
            Ok(Ok((unit, larger))) => {
                units.insert(place, unit);
                let grown = larger.into_iter().map(|b| (Position::Grown(b.digest.clone()), Job::Large(b)));
                jobs.extend(grown);
            }
            // Nothing of this attempt goes on beside the next one.
            Ok(Err(over)) => {
                running.shutdown().await;
                return Ok(Err(over));
            }
            Err(failure) => {
                running.shutdown().await;
                return Err(failure);
            }
        }
    }
    Ok(Ok(units.into_values().collect()))
}

/// A job that panicked panics here as well; one that was cancelled was so with the process.
fn of_task(error: JoinError) -> Failure {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Failure::interrupted(),
    }
}

/// One unit of work.
enum Job {
    Group(Vec<PlannedBlob>),
    Large(PlannedBlob),
}

impl Job {
    fn declared(&self) -> u64 {
        match self {
            Self::Group(group) => group.iter().map(|blob| blob.declared).sum(),
            Self::Large(blob) => blob.declared,
        }
    }

    async fn run(self, shared: &Shared) -> Staged {
        let Shared { lookup, staging, context, parallel } = shared;
        if context.cancel.is_cancelled() {
            return Err(Failure::interrupted());
        }
        if context.slice_is_over() && staging.has_gone_on() {
            return Ok(Err(SliceOver));
        }
        match self {
            Self::Group(group) => stage_group(&group, lookup, staging, context).await.map(Ok),
            Self::Large(blob) => {
                let staged = stage_large(&blob, lookup, staging, context, *parallel).await?;
                Ok(staged.map(|unit| (unit, Vec::new())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_has_the_length_of_a_slice_however_long_the_walk_took() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        for (slice_ends, now, expected) in
            [(600, 0, 600), (600, 5, 605), (600, 900, 1_500), (600, 1_000, 1_500), (0, 7, 7)]
        {
            assert_eq!(content_ends(began, at(slice_ends), at(now)), at(expected));
        }
        for (now, expected) in [(0, 1_500), (1_200, 1_500), (1_400, 1_700)] {
            assert_eq!(attempt_ends(began, at(now)), at(expected));
        }
    }
}
