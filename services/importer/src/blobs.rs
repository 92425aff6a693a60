//! Getting blobs into the target: mounted from a repository that has them, or uploaded from the bundle. Each
//! distinct blob is uploaded once, and mounted into the other repositories that want it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use transship_model::{Digest, Failure, Repository};
use transship_registry::{Mount, RegistryError};
use transship_telemetry::Direction;

use crate::ImportError;
use crate::content::BundleContent;
use crate::contents::Place;
use crate::ledger::Ledger;
use crate::run::Import;
use crate::survey::Survey;

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

/// What became of a blob in one repository.
enum BlobEnd {
    Uploaded,
    Mounted,
    /// A foreign layer that is nowhere.
    Foreign,
    Failed(Failure),
}

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
    let mut jobs = jobs(import, surveys).into_iter();
    let mut running = FuturesUnordered::new();
    let mut ended = 0;
    loop {
        // One at least, so that every slice gets further.
        while running.len() < import.settings.parallel_blobs
            && (ended == 0 || !import.context.slice_is_over())
        {
            let Some(job) = jobs.next() else { break };
            running.push(move_blob(import, job, &mounting));
        }
        let Some((digest, ends)) = running.next().await else { break };
        ended += 1;
        for (repository, end) in ends {
            settle(import, &digest, &repository, end, ledger)?;
        }
    }
    Ok(jobs.len() == 0)
}

/// The blobs that somebody lacks, the largest first, so that the tail is short.
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
    let mut jobs: Vec<Job> = jobs.into_values().collect();
    jobs.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.digest.cmp(&b.digest)));
    jobs
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
async fn move_blob(
    import: &Import<'_>,
    job: Job,
    mounting: &Mounting,
) -> (Digest, Vec<(Repository, BlobEnd)>) {
    let name = job.digest.to_string();
    import.context.progress.begin(&name);
    let mut having = job.having;
    let mut ends = Vec::with_capacity(job.lacking.len());
    let hints: Vec<Repository> = import.memory.recall(&job.digest).into_iter().collect();
    for repository in job.lacking {
        let end = if mount(import, &job.digest, &repository, (&having, &hints), mounting).await {
            fail::fail_point!("importer.blob_mounted");
            BlobEnd::Mounted
        } else {
            let end = fetch(import, &job.digest, &repository).await;
            fail::fail_point!("importer.blob_uploaded");
            end
        };
        if matches!(end, BlobEnd::Uploaded | BlobEnd::Mounted) {
            import.memory.remember(&job.digest, &Arc::new(repository.clone()));
            having.insert(0, repository.clone());
        }
        ends.push((repository, end));
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

/// Gets a blob out of the bundle.
async fn fetch(import: &Import<'_>, digest: &Digest, repository: &Repository) -> BlobEnd {
    match import.contents.place(digest) {
        Place::Stored(place) => match upload(import, digest, repository, place).await {
            Ok(()) => BlobEnd::Uploaded,
            Err(failure) => BlobEnd::Failed(failure),
        },
        Place::Foreign => BlobEnd::Foreign,
        Place::Missing(_) if import.contents.is_foreign(digest) => BlobEnd::Foreign,
        Place::Missing(why) => {
            let (digest, repository) = (digest.clone(), repository.clone());
            BlobEnd::Failed(ImportError::Missing { digest, repository, why }.into())
        }
    }
}

/// Uploads a blob of the bundle.
pub(crate) async fn upload(
    import: &Import<'_>,
    digest: &Digest,
    repository: &Repository,
    place: Range<u64>,
) -> Result<(), Failure> {
    let size = place.end - place.start;
    if size == 0 && !digest.matches(&[]) {
        return Err(import.bundle.mismatch("blob", digest, Digest::compute(digest.algorithm(), &[])));
    }
    let (bundle, progress) = (Arc::clone(&import.bundle), Arc::clone(&import.context.progress));
    let content = BundleContent::new(bundle, digest.clone(), place, import.settings, progress);
    let uploaded = import.target.upload(repository, digest, &content).await;
    match uploaded {
        Ok(()) => {
            import.context.metrics.bytes(Direction::Read, size);
            import.context.metrics.bytes(Direction::Written, size);
            Ok(())
        }
        Err(error) => {
            import
                .context
                .progress
                .count(|c| c.bytes_moved = c.bytes_moved.saturating_sub(content.counted()));
            let what = format!("uploading blob {digest} to {repository}");
            let own = content.failure().filter(|_| matches!(error, RegistryError::Content { .. }));
            Err(own.unwrap_or_else(|| error.into()).while_doing(what))
        }
    }
}
