//! Putting manifests: by digest in waves, children first, and by tag in the end. The bytes are read from the
//! bundle again, many at a time, so they are never all in memory.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt, stream};
use transship_bundle::Location;
use transship_model::{Digest, Failure, MediaType, Repository, Selector};
use transship_registry::{Manifest, RegistryError};

use crate::contents::Place;
use crate::ledger::Ledger;
use crate::load::{ReadWindow, member, windows};
use crate::run::Import;
use crate::survey::Survey;
use crate::upload::upload;

/// How often a manifest is put again after what it refers to was put again.
const ROUNDS: usize = 3;

/// A manifest that is to be put.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Put {
    pub(crate) repository: Repository,
    pub(crate) selector: Selector,
    pub(crate) digest: Digest,
}

/// Puts every manifest that is lacking, by its digest.
///
/// # Errors
/// The first failure that ends the attempt.
pub(crate) async fn put_manifests(
    import: &Import<'_>,
    surveys: &BTreeMap<Repository, Survey>,
    ledger: &mut Ledger,
) -> Result<(), Failure> {
    let mut waves: BTreeMap<_, Vec<Put>> = BTreeMap::new();
    for (repository, survey) in surveys {
        let Some(plan) = import.plan.repositories.get(repository) else { continue };
        for (rank, digests) in plan.waves(&survey.lacking) {
            let put = |digest: &Digest| Put {
                repository: repository.clone(),
                selector: Selector::Digest(digest.clone()),
                digest: digest.clone(),
            };
            waves.entry(rank).or_default().extend(digests.into_iter().map(put));
        }
    }
    for wave in waves.into_values() {
        let mut possible = Vec::with_capacity(wave.len());
        for put in wave {
            match obstacle(import, &put, ledger) {
                None => possible.push(put),
                Some(failure) => ledger.fail(&put.repository, &put.digest, ledger.tolerate(failure)?),
            }
        }
        for (put, failure) in put_all(import, possible, ledger).await? {
            ledger.fail(&put.repository, &put.digest, failure);
        }
    }
    Ok(())
}

/// Why a manifest cannot be put: what it refers to could not be.
fn obstacle(import: &Import<'_>, put: &Put, ledger: &Ledger) -> Option<Failure> {
    if let Some(broken) = import.contents.broken(&put.digest) {
        return Some(broken.clone());
    }
    let direct = import.contents.direct(&put.digest);
    let manifests = direct.manifests.into_iter().chain(direct.elsewhere);
    let mut below = manifests.chain(direct.blobs.into_iter().map(|(blob, _)| blob));
    below.find_map(|digest| ledger.failure(&put.repository, digest)).cloned()
}

/// Puts manifests, and puts again what a registry has lost since it was asked. Returns those that failed and
/// may.
///
/// # Errors
/// The first failure that ends the attempt.
pub(crate) async fn put_all(
    import: &Import<'_>,
    puts: Vec<Put>,
    ledger: &mut Ledger,
) -> Result<Vec<(Put, Failure)>, Failure> {
    let (mut todo, mut failed) = (puts, Vec::new());
    for round in 0..=ROUNDS {
        let mut unknown = Vec::new();
        for (put, error) in put_once(import, std::mem::take(&mut todo), ledger).await? {
            if error.is_blob_unknown() && round < ROUNDS {
                unknown.push(put);
                continue;
            }
            let failure = ledger.tolerate(explain(import, &put, error, ledger))?;
            failed.push((put, failure));
        }
        for put in unknown {
            match Box::pin(restore(import, &put, ledger)).await {
                Ok(()) => todo.push(put),
                Err(failure) => failed.push((put, ledger.tolerate(failure)?)),
            }
        }
        if todo.is_empty() {
            break;
        }
    }
    Ok(failed)
}

/// One round: reads stretches of the bundle, and puts what is in each.
async fn put_once(
    import: &Import<'_>,
    puts: Vec<Put>,
    ledger: &mut Ledger,
) -> Result<Vec<(Put, RegistryError)>, Failure> {
    let placed =
        puts.into_iter().filter_map(|put| match import.contents.catalog().locations.get(&put.digest) {
            Some(Location::Stored { offset, size }) => Some((put, *offset..offset + size)),
            _ => None,
        });
    let mut refused = Vec::new();
    for window in windows(placed) {
        refused.extend(put_window(import, window, ledger).await?);
    }
    Ok(refused)
}

async fn put_window(
    import: &Import<'_>,
    window: ReadWindow<Put>,
    ledger: &mut Ledger,
) -> Result<Vec<(Put, RegistryError)>, Failure> {
    let start = window.range.start;
    let bytes = import.bundle.read(window.range).await?;
    let put = |(put, range): (Put, Range<u64>)| put_one(import, put, member(&bytes, start, &range));
    let mut ends = stream::iter(window.members).map(put).buffer_unordered(import.settings.parallel_manifests);
    let mut refused = Vec::new();
    while let Some((put, end)) = ends.next().await {
        match end? {
            Ok(keeps_referrers) => {
                note(import, &put, keeps_referrers, ledger);
                fail::fail_point!("importer.manifest_put");
            }
            Err(error) => refused.push((put, error)),
        }
    }
    Ok(refused)
}

/// A manifest was put.
fn note(import: &Import<'_>, put: &Put, keeps_referrers: bool, ledger: &mut Ledger) {
    if import.contents.views().get(&put.digest).is_some_and(|view| view.subject.is_some()) {
        ledger.keeps_referrers |= keeps_referrers;
    }
    if matches!(put.selector, Selector::Digest(_)) && ledger.moved.insert(put.digest.clone()) {
        let size = import.contents.size(&put.digest);
        import.context.progress.count(|c| {
            c.blobs_moved += 1;
            c.bytes_moved += size;
        });
    }
}

type PutEnd = Result<Result<bool, RegistryError>, Failure>;

async fn put_one(import: &Import<'_>, put: Put, bytes: Bytes) -> (Put, PutEnd) {
    let end = async {
        let actual = Digest::compute(put.digest.algorithm(), &bytes);
        if actual != put.digest {
            // It was right when it was read first.
            return Err(import.bundle.mismatch("manifest", &put.digest, actual));
        }
        let media_type = media_type(import, &put.digest);
        let Some(media_type) = media_type else { return Ok(Ok(false)) };
        // Copied, at most one stretch in all: whoever keeps a manifest must not keep a share of the budget.
        let bytes = Bytes::copy_from_slice(&bytes);
        let manifest = Manifest { digest: put.digest.clone(), content_type: Some(media_type.clone()), bytes };
        Ok(import.target.put_manifest(&put.repository, &put.selector, &media_type, &manifest).await)
    };
    let end = end.await;
    (put, end)
}

fn media_type(import: &Import<'_>, digest: &Digest) -> Option<MediaType> {
    import.contents.views().get(digest).map(|view| view.media_type.clone())
}

/// Puts again what a manifest refers to and the registry does not have any more.
async fn restore(import: &Import<'_>, put: &Put, ledger: &mut Ledger) -> Result<(), Failure> {
    let direct = import.contents.direct(&put.digest);
    for (blob, _) in direct.blobs {
        let Place::Stored(place) = import.contents.place(blob) else { continue };
        if !import.has_blob(&put.repository, blob).await? {
            tracing::warn!(%blob, repository = %put.repository, "the target has lost a blob; it is uploaded again");
            upload(import, blob, &put.repository, place).await?;
            ledger.moved.insert(blob.clone());
        }
    }
    for child in direct.manifests {
        if !import.has_manifest(&put.repository, child).await? {
            let (repository, digest) = (put.repository.clone(), child.clone());
            let child = Put { repository, selector: Selector::Digest(digest.clone()), digest };
            if let Some((_, failure)) = put_all(import, vec![child], ledger).await?.pop() {
                return Err(failure);
            }
        }
    }
    Ok(())
}

/// What the registry said, and what may be behind it.
fn explain(import: &Import<'_>, put: &Put, error: RegistryError, ledger: &Ledger) -> Failure {
    let is_unknown = error.is_blob_unknown();
    let name = match &put.selector {
        Selector::Tag(tag) => format!("{}:{tag}", put.repository),
        Selector::Digest(digest) => format!("{}@{digest}", put.repository),
    };
    let failure = Failure::from(error).while_doing(format_args!("putting manifest {name}"));
    let blobs = import.contents.direct(&put.digest).blobs;
    let absent = blobs.into_iter().find(|(blob, _)| is_unknown && ledger.foreign.contains(*blob));
    match absent {
        Some((layer, _)) => failure.with_hint(format!(
            "the registry wants the foreign layer {layer}, which the source did not have: push that layer to the \
             target first"
        )),
        None => failure,
    }
}
