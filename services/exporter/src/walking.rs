//! Drives the walk: asks the registry in parallel, answers in order, and stages manifests as they come.

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use transship_model::{Class, Failure, MAX_MANIFEST_BYTES, Selector};
use transship_registry::{Answer, Ask, Referrers, RegistryError, Source, Walk, WalkLimits, Walked};
use transship_stage::{BytePermit, Context};

use crate::manifests::{Manifests, StagedManifests};
use crate::staged::Staging;

/// Walks below `artifacts`; `parallel` questions at a time, as far as the byte budget has room for their answers.
pub(crate) async fn walk(
    artifacts: Vec<transship_model::ArtifactReference>,
    source: &dyn Source,
    staging: &Staging,
    context: &Context,
    parallel: usize,
) -> Result<(Walked, StagedManifests), Failure> {
    let mut walk = Walk::new(artifacts, WalkLimits::default());
    let mut manifests = Manifests::default();
    loop {
        let asks = walk.asks();
        if asks.is_empty() {
            break;
        }
        let mut answers = stream::iter(asks).map(|ask| question(source, context, ask)).buffered(parallel);
        while let Some((ask, answer)) = answers.next().await {
            let (answer, _permit) = match answer {
                Ok((answer, permit)) => (Ok(answer), Some(permit)),
                // What may pass by itself is not the artifact's fault: the whole part is tried again.
                Err(failure) if failure.class != Class::Permanent => return Err(failure),
                Err(failure) => (Err(failure), None),
            };
            for manifest in walk.answer(&ask, answer)? {
                context.progress.count(|c| {
                    c.blobs_discovered += 1;
                    c.bytes_discovered += manifest.bytes.len() as u64;
                });
                manifests.push(staging, &context.progress, manifest).await?;
            }
        }
        drop(answers);
    }
    Ok((walk.finish(), manifests.finish(staging, &context.progress).await?))
}

/// An answer, with the share of the budget that it takes until the walk has it.
type Answered = (Ask, Result<(Answer, BytePermit), Failure>);

/// Asks one question. Those before it have asked for their shares before, so that none whose turn it is waits for
/// one whose turn is later.
fn question<'a>(source: &'a dyn Source, context: &'a Context, ask: Ask) -> BoxFuture<'a, Answered> {
    async move {
        let answered = async {
            let mut permit = context.budget.acquire(largest_answer(&ask)).await;
            let answer = answer(source, &ask).await?;
            permit.keep(bytes_of(&answer));
            Ok::<_, Failure>((answer, permit))
        };
        let answered = context.unless_cancelled(answered).await;
        (ask, answered)
    }
    .boxed()
}

/// The most bytes that are in memory at once while a question is answered.
fn largest_answer(ask: &Ask) -> u64 {
    match ask {
        // One page; some registries put all tags into one.
        Ask::Tags(_) => 4 * MAX_MANIFEST_BYTES,
        Ask::Referrers { fallback: true, .. } => 2 * MAX_MANIFEST_BYTES,
        Ask::Referrers { .. } | Ask::Manifest { .. } => MAX_MANIFEST_BYTES,
    }
}

/// About the bytes that an answer takes.
fn bytes_of(answer: &Answer) -> u64 {
    const TAG: u64 = 64;
    const DESCRIPTOR: u64 = 256;
    match answer {
        Answer::Tags(tags) => tags.len() as u64 * TAG,
        Answer::Manifest(manifest) => manifest.bytes.len() as u64,
        Answer::NotThere => 0,
        Answer::Referrers(Referrers { descriptors, fallback }) => {
            let index = fallback.as_ref().map_or(0, |index| index.bytes.len());
            descriptors.len() as u64 * DESCRIPTOR + index as u64
        }
    }
}

async fn answer(source: &dyn Source, ask: &Ask) -> Result<Answer, Failure> {
    match ask {
        Ask::Tags(repository) => match source.tags(repository).await {
            Ok(tags) => Ok(Answer::Tags(tags)),
            // A credential may allow to pull and not to list. Where it allows nothing, the manifests say so.
            Err(error @ RegistryError::Forbidden { .. }) => {
                Err(Failure { class: Class::Permanent, ..error.into() })
            }
            Err(error) => Err(error.into()),
        },
        Ask::Manifest { repository, selector, .. } => match source.manifest(repository, selector).await {
            Ok(manifest) => Ok(Answer::Manifest(manifest)),
            Err(RegistryError::ManifestNotFound { .. }) => Ok(Answer::NotThere),
            Err(error) => {
                let what = match selector {
                    Selector::Tag(tag) => format!("{repository}:{tag}"),
                    Selector::Digest(digest) => format!("{repository}@{digest}"),
                };
                Err(Failure::from(error).while_doing(format_args!("reading {what}")))
            }
        },
        Ask::Referrers { repository, subject, fallback, .. } => {
            let referrers = match fallback {
                true => source.referrers(repository, subject).await?,
                false => source.referrers_of_untagged(repository, subject).await?,
            };
            Ok(Answer::Referrers(referrers))
        }
    }
}
