//! Drives the walk: asks the registry in parallel, answers in order, and stages manifests as they come.

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use transship_model::{Class, Failure, Selector};
use transship_registry::{Answer, Ask, RegistryError, Source, Walk, WalkLimits, Walked};
use transship_stage::Context;

use crate::manifests::{Manifests, StagedManifests};
use crate::staged::Staging;

/// Walks below `artifacts`; `parallel` questions at a time.
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
        let mut questions: Vec<BoxFuture<'_, _>> = Vec::with_capacity(asks.len());
        for ask in asks {
            questions.push(
                async move {
                    let answer = context.unless_cancelled(answer(source, &ask)).await;
                    (ask, answer)
                }
                .boxed(),
            );
        }
        let mut answers = stream::iter(questions).buffered(parallel);
        while let Some((ask, answer)) = answers.next().await {
            // What may pass by itself is not the artifact's fault: the whole part is tried again.
            let answer = match answer {
                Err(failure) if failure.class != Class::Permanent => return Err(failure),
                answer => answer,
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

async fn answer(source: &dyn Source, ask: &Ask) -> Result<Answer, Failure> {
    match ask {
        Ask::Tags(repository) => Ok(Answer::Tags(source.tags(repository).await?)),
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
        Ask::Referrers { repository, subject, .. } => {
            Ok(Answer::Referrers(source.referrers(repository, subject).await?))
        }
    }
}
