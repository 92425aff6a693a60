//! Putting manifests: by digest in waves, children first, and by tag in the end. The bytes are read from the
//! bundle again, many at a time, so they are never all in memory.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use transship_model::{ArtifactReference, Code, Digest, Failure, Repository, Selector};
use transship_registry::{Manifest, RegistryError};

use crate::contents::Place;
use crate::decide::{TagDecision, decide_tag};
use crate::ledger::Ledger;
use crate::load::{ReadWindow, member, windows};
use crate::run::Import;
use crate::survey::Survey;
use crate::upload::upload_whole;

/// How often a manifest is put again after what it refers to was put again.
const ROUNDS: usize = 3;

/// How many stretches of the bundle are read at a time: the next one while this one is put.
const STRETCHES: usize = 2;

/// A manifest that is to be put.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Put {
    pub(crate) repository: Repository,
    pub(crate) selector: Selector,
    pub(crate) digest: Digest,
}

impl Put {
    /// What it is called at the target.
    pub(crate) fn name(&self) -> ArtifactReference {
        ArtifactReference::new(self.repository.clone(), self.selector.clone())
    }
}

/// Why a manifest was not put.
enum NotPut {
    /// The registry refused it.
    Refused(RegistryError),
    /// Its tag points to something else by now, and may not be moved.
    Taken(Digest),
    /// The bundle does not hold it.
    Absent,
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
/// may, and those whose tags were taken meanwhile ([`Code::TagExists`]).
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
        for (put, why) in put_once(import, std::mem::take(&mut todo), ledger).await? {
            let failure = match why {
                NotPut::Refused(error) if error.is_blob_unknown() && round < ROUNDS => {
                    unknown.push(put);
                    continue;
                }
                NotPut::Refused(error) => ledger.tolerate(explain(import, &put, error, ledger))?,
                NotPut::Absent => ledger.tolerate(absent(&put))?,
                // Whoever asked for the tag knows what that means.
                NotPut::Taken(existing) => import.tag_exists(put.name(), existing, &put.digest),
            };
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
) -> Result<Vec<(Put, NotPut)>, Failure> {
    let (mut placed, mut not_put) = (Vec::with_capacity(puts.len()), Vec::new());
    for put in puts {
        match import.contents.place(&put.digest) {
            Place::Stored(range) => placed.push((put, range)),
            Place::Foreign | Place::Missing(_) => not_put.push((put, NotPut::Absent)),
        }
    }
    let stretches = stream::iter(windows(placed)).map(|window| read(import, window)).buffered(STRETCHES);
    let members = stretches.map_ok(|members| stream::iter(members.into_iter().map(Ok))).try_flatten();
    let ends = members.map_ok(|(put, bytes)| put_one(import, put, bytes));
    let mut ends = std::pin::pin!(ends.try_buffer_unordered(import.settings.parallel_manifests));
    while let Some((put, end)) = ends.try_next().await? {
        match end {
            Ok(keeps_referrers) => {
                note(import, &put, keeps_referrers, ledger);
                fail::fail_point!("importer.manifest_put");
            }
            Err(why) => not_put.push((put, why)),
        }
    }
    Ok(not_put)
}

/// Reads a stretch of the bundle. It counts against the budget until the last of its manifests is put, which needs
/// no other share.
async fn read(import: &Import<'_>, window: ReadWindow<Put>) -> Result<Vec<(Put, Bytes)>, Failure> {
    let start = window.range.start;
    let bytes = import.bundle.read(window.range).await?;
    let cut = |(put, range): (Put, Range<u64>)| (put, member(&bytes, start, &range));
    Ok(window.members.into_iter().map(cut).collect())
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

/// What became of a put: whether the registry keeps the list of referrers itself, or why it was not put.
type PutEnd = (Put, Result<bool, NotPut>);

async fn put_one(import: &Import<'_>, put: Put, bytes: Bytes) -> Result<PutEnd, Failure> {
    let actual = Digest::compute(put.digest.algorithm(), &bytes);
    if actual != put.digest {
        // It was right when it was read first.
        return Err(import.bundle.mismatch("manifest", &put.digest, actual));
    }
    let Some(view) = import.contents.views().get(&put.digest) else {
        let message = format!("manifest {} was never read, and yet it is to be put", put.digest);
        return Err(Failure::permanent(Code::Internal, message));
    };
    match tag_now(import, &put).await {
        Ok(TagDecision::Put) => {}
        Ok(TagDecision::Keep) => return Ok((put, Ok(false))),
        Ok(TagDecision::Conflict(existing)) => return Ok((put, Err(NotPut::Taken(existing)))),
        Err(error) => return Ok((put, Err(NotPut::Refused(error)))),
    }
    // Copied, at most one stretch in all: whoever keeps a manifest must not keep a share of the budget.
    let bytes = Bytes::copy_from_slice(&bytes);
    let media_type = &view.media_type;
    let manifest = Manifest { digest: put.digest.clone(), content_type: Some(media_type.clone()), bytes };
    let end = import.target.put_manifest(&put.repository, &put.selector, media_type, &manifest).await;
    Ok((put, end.map_err(NotPut::Refused)))
}

/// Looks at a tag once more right before it is put, where it may not be moved: bytes may have moved for hours since
/// all tags were looked at. Registries know no condition for a put, so whoever comes between this question and the
/// put is overwritten all the same.
async fn tag_now(import: &Import<'_>, put: &Put) -> Result<TagDecision, RegistryError> {
    let overwrite = import.pipeline.options.overwrite_tags;
    if overwrite || matches!(put.selector, Selector::Digest(_)) {
        return Ok(TagDecision::Put);
    }
    let found = import.target.resolve(&put.repository, &put.selector).await?;
    Ok(decide_tag(found.as_ref(), &put.digest, overwrite))
}

/// Puts again what a manifest refers to and the registry does not have any more.
async fn restore(import: &Import<'_>, put: &Put, ledger: &mut Ledger) -> Result<(), Failure> {
    let direct = import.contents.direct(&put.digest);
    for (blob, _) in direct.blobs {
        let Place::Stored(place) = import.contents.place(blob) else { continue };
        if !import.has_blob(&put.repository, blob).await? {
            tracing::warn!(%blob, repository = %put.repository, "the target has lost a blob; it is uploaded again");
            upload_whole(import, blob, &put.repository, place).await?;
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
    let failure = Failure::from(error).while_doing(format_args!("putting manifest {}", put.name()));
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

/// A bundle may name a signature that it does not hold and the target does, and a tag needs its bytes.
fn absent(put: &Put) -> Failure {
    let (digest, name) = (&put.digest, put.name());
    let message = format!("the bundle does not hold manifest {digest}, so it cannot be put as {name}");
    Failure::permanent(Code::ContentNotFound, message).with_hint("export the artifact again")
}
