//! Getting blobs into the target: mounted from a repository that has them, or uploaded from the bundle. Each
//! distinct blob is uploaded once, and mounted into the other repositories that want it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use transship_model::{Code, Digest, Failure, Repository};
use transship_registry::Mount;

use crate::contents::Place;
use crate::ledger::Ledger;
use crate::load::{ReadWindow, member, windows};
use crate::run::Import;
use crate::seal::Standing;
use crate::survey::Survey;
use crate::upload::{Supply, fetch};

/// Blobs up to this size in bytes are read many at a time: the bundle has them side by side.
const SMALL: u64 = 1 << 20;

/// The most repositories that a blob is tried to be mounted from.
const MOUNT_TRIES: usize = 4;

/// A registry that refused this many mounts of blobs that were there, and granted none, is not asked again.
const MOUNT_REFUSALS: usize = 3;

/// One distinct blob.
#[derive(Debug, PartialEq, Eq)]
struct Job {
    digest: Digest,
    size: u64,
    lacking: Vec<Repository>,
    having: Vec<Repository>,
}

/// What is done between two looks at the clock.
enum Step {
    /// One blob.
    One(Job),
    /// A stretch of the bundle with many small blobs.
    Stretch(ReadWindow<Job>),
}

/// What became of a blob in one repository.
pub(crate) enum BlobEnd {
    Uploaded,
    Mounted,
    /// The slice ended inside its upload.
    Paused(Standing),
    /// A foreign layer that is nowhere.
    Foreign,
    Failed(Failure),
}

/// A blob, and what became of it where.
type Ended = (Digest, Vec<(Repository, BlobEnd)>);

/// Whether this registry mounts, as far as this import knows.
#[derive(Default)]
struct Mounting {
    granted: AtomicUsize,
    refused: AtomicUsize,
}

/// Moves every blob that is lacking. Returns false where the slice ended before all of them had their turn.
///
/// # Errors
/// The first failure that ends the attempt.
pub(crate) async fn move_blobs(
    import: &Import<'_>,
    surveys: &BTreeMap<Repository, Survey>,
    ledger: &mut Ledger,
) -> Result<bool, Failure> {
    let mounting = Mounting::default();
    let mut steps = steps(import, jobs(import, surveys)).into_iter();
    let mut running = FuturesUnordered::new();
    let mut ended = 0;
    loop {
        // One at least, so that every slice gets further.
        while running.len() < import.settings.parallel_blobs
            && (ended == 0 || !import.context.slice_is_over())
        {
            let Some(step) = steps.next() else { break };
            running.push(Box::pin(take(import, step, &mounting)));
        }
        let Some(moved) = running.next().await else { break };
        ended += 1;
        for (digest, ends) in moved? {
            for (repository, end) in ends {
                settle(import, &digest, &repository, end, ledger)?;
            }
        }
    }
    let rest = import.held.drain();
    if steps.len() == 0 && ledger.paused.is_empty() {
        // What is held here is lacking no more: another delivery of the same work put it.
        import.abandon(rest).await;
        return Ok(true);
    }
    ledger.paused.extend(rest);
    Ok(false)
}

/// The blobs that somebody lacks.
fn jobs(import: &Import<'_>, surveys: &BTreeMap<Repository, Survey>) -> Vec<Job> {
    let mut jobs: BTreeMap<&Digest, Job> = BTreeMap::new();
    for (repository, survey) in surveys {
        for digest in &survey.lacking_blobs {
            let size = import.plan.everything.get(digest).copied().unwrap_or_default();
            let new = || Job { digest: digest.clone(), size, lacking: Vec::new(), having: Vec::new() };
            jobs.entry(digest).or_insert_with(new).lacking.push(repository.clone());
        }
    }
    for (repository, survey) in surveys {
        for digest in &survey.having_blobs {
            if let Some(job) = jobs.get_mut(digest) {
                job.having.push(repository.clone());
            }
        }
    }
    jobs.into_values().collect()
}

/// The order of work: what the slice before could not end, the largest first, so that the tail is short, and
/// what is small by stretches.
fn steps(import: &Import<'_>, jobs: Vec<Job>) -> Vec<Step> {
    let (mut large, mut small) = (Vec::new(), Vec::new());
    for job in jobs {
        match import.contents.place(&job.digest) {
            Place::Stored(range) if job.size <= SMALL => small.push((job, range)),
            _ => large.push(job),
        }
    }
    let held = |job: &Job| import.held.has(&job.digest);
    large.sort_by_cached_key(|job| (!held(job), Reverse(job.size), job.digest.clone()));
    large.into_iter().map(Step::One).chain(windows(small).into_iter().map(Step::Stretch)).collect()
}

async fn take(import: &Import<'_>, step: Step, mounting: &Mounting) -> Result<Vec<Ended>, Failure> {
    match step {
        Step::One(job) => {
            let supply = Supply::of(import, &job.digest);
            Ok(vec![move_blob(import, job, supply, mounting).await])
        }
        Step::Stretch(stretch) => {
            let start = stretch.range.start;
            let share = import.stretches.acquire(stretch.range.end - start).await;
            let bytes = import.bundle.read_with(stretch.range, share).await?;
            let mut members = stretch.members.into_iter();
            let (mut running, mut moved) = (FuturesUnordered::new(), Vec::new());
            loop {
                while running.len() < import.settings.parallel_manifests {
                    let Some((job, range)) = members.next() else { break };
                    let supply = Supply::Bytes(member(&bytes, start, &range));
                    running.push(Box::pin(move_blob(import, job, supply, mounting)));
                }
                let Some(ended) = running.next().await else { break };
                moved.push(ended);
            }
            Ok(moved)
        }
    }
}

fn settle(
    import: &Import<'_>,
    digest: &Digest,
    repository: &Repository,
    end: BlobEnd,
    ledger: &mut Ledger,
) -> Result<(), Failure> {
    match end {
        BlobEnd::Uploaded => {
            if ledger.moved.insert(digest.clone()) {
                import.context.progress.count(|c| c.blobs_moved += 1);
            }
        }
        BlobEnd::Mounted => {
            if ledger.mounted.insert(digest.clone()) {
                import.context.progress.count(|c| c.blobs_mounted += 1);
            }
        }
        BlobEnd::Paused(standing) => ledger.paused.push(standing),
        BlobEnd::Foreign => {
            if ledger.foreign.insert(digest.clone()) {
                let note = format!("the foreign layer {digest} is neither in the bundle nor in {repository}");
                tracing::warn!("{note}");
                ledger.notes.push(note);
            }
        }
        BlobEnd::Failed(failure) => {
            let failure = ledger.tolerate(failure)?;
            ledger.fail(repository, digest, failure);
        }
    }
    Ok(())
}

/// Moves one blob into every repository that lacks it.
async fn move_blob(import: &Import<'_>, job: Job, supply: Supply, mounting: &Mounting) -> Ended {
    let name = job.digest.to_string();
    import.context.progress.begin(&name);
    let mut having = job.having;
    let mut ends = Vec::with_capacity(job.lacking.len());
    let mut broken = None;
    let hints: Vec<Repository> = import.memory.recall(&job.digest).into_iter().collect();
    for repository in job.lacking {
        let end = if mount(import, &job.digest, &repository, (&having, &hints), mounting).await {
            fail::fail_point!("importer.blob_mounted");
            BlobEnd::Mounted
        } else if let Some(failure) = &broken {
            BlobEnd::Failed(Failure::clone(failure))
        } else {
            let end = fetch(import, &job.digest, &repository, &supply).await;
            fail::fail_point!("importer.blob_uploaded");
            end
        };
        match &end {
            BlobEnd::Uploaded | BlobEnd::Mounted => {
                import.memory.remember(&job.digest, &Arc::new(repository.clone()));
                having.insert(0, repository.clone());
            }
            // Its bytes are wrong wherever they go.
            BlobEnd::Failed(failure) if failure.code == Code::DigestMismatch => {
                broken = Some(failure.clone());
            }
            BlobEnd::Failed(_) | BlobEnd::Foreign | BlobEnd::Paused(_) => {}
        }
        let paused = matches!(end, BlobEnd::Paused(_));
        ends.push((repository, end));
        if paused {
            break;
        }
    }
    import.context.progress.end(&name);
    (job.digest, ends)
}

/// Tries to mount a blob: from where it is for sure, from where it was, and from where it may be.
async fn mount(
    import: &Import<'_>,
    digest: &Digest,
    repository: &Repository,
    (having, hints): (&[Repository], &[Repository]),
    mounting: &Mounting,
) -> bool {
    let mut tried = BTreeSet::from([repository]);
    let sure = having.iter().take(2).map(|from| (from, true));
    let unsure = hints.iter().chain(&import.pipeline.mount_from).map(|from| (from, false));
    for (from, is_sure) in sure.chain(unsure).take(MOUNT_TRIES) {
        let gave_up = mounting.refused.load(Ordering::Relaxed) >= MOUNT_REFUSALS
            && mounting.granted.load(Ordering::Relaxed) == 0;
        if gave_up || !tried.insert(from) {
            continue;
        }
        // A mount that fails is no loss: the upload that follows says what is wrong, if anything is.
        match import.target.mount(repository, digest, from).await {
            Ok(Mount::Mounted) => {
                mounting.granted.fetch_add(1, Ordering::Relaxed);
                return true;
            }
            Ok(Mount::NotMounted) => {
                mounting.refused.fetch_add(usize::from(is_sure), Ordering::Relaxed);
            }
            Err(error) => tracing::debug!(%error, "a mount failed"),
        }
    }
    false
}
