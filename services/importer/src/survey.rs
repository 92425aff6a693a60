//! What the target has of what it must have. A manifest that is there has everything below it, so questions go
//! from the roots down and stop where the answer is yes.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt};
use transship_model::{Digest, Failure, Repository};

use crate::ImportError;
use crate::error::WhyMissing;
use crate::ledger::Ledger;
use crate::run::Import;

/// What one repository of the target has, and lacks.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Manifests that it lacks.
    pub(crate) lacking: BTreeSet<Digest>,
    /// Blobs that it lacks.
    pub(crate) lacking_blobs: BTreeSet<Digest>,
    /// Blobs that it has.
    pub(crate) having_blobs: BTreeSet<Digest>,
    /// Manifests that neither it nor the bundle has.
    nowhere: BTreeSet<Digest>,
}

/// Surveys every repository.
///
/// # Errors
/// What the registry says, where that does not concern single artifacts.
pub(crate) async fn survey(
    import: &Import<'_>,
    roots: &BTreeMap<Repository, BTreeSet<Digest>>,
    ledger: &mut Ledger,
) -> Result<BTreeMap<Repository, Survey>, Failure> {
    let survey = |(repository, roots)| {
        Box::pin(async move { (repository, survey_one(import, repository, roots).await) })
    };
    let mut surveys = BTreeMap::new();
    let mut answers = import.each(roots, survey);
    while let Some((repository, survey)) = answers.next().await {
        match survey {
            Ok(survey) => {
                for digest in &survey.nowhere {
                    let why = WhyMissing::Unsaid;
                    let missing =
                        ImportError::Missing { digest: digest.clone(), repository: repository.clone(), why };
                    let failure = ledger.tolerate(missing.into())?;
                    ledger.fail(repository, digest, failure);
                }
                surveys.insert(repository.clone(), survey);
            }
            Err(failure) => {
                let failure = ledger.tolerate(failure)?;
                for root in &roots[repository] {
                    ledger.fail(repository, root, failure.clone());
                }
            }
        }
    }
    Ok(surveys)
}

async fn survey_one(
    import: &Import<'_>,
    repository: &Repository,
    roots: &BTreeSet<Digest>,
) -> Result<Survey, Failure> {
    let contents = &import.contents;
    let mut survey = Survey::default();
    let (mut asked, mut there) = (BTreeSet::new(), Vec::new());
    let mut blobs: BTreeSet<&Digest> = BTreeSet::new();
    let mut todo: Vec<&Digest> = roots.iter().collect();
    while !todo.is_empty() {
        todo.retain(|digest| asked.insert(*digest));
        let ask = |digest| async move {
            Ok::<_, Failure>((digest, import.has_manifest(repository, digest).await?))
        };
        let answers: Vec<(&Digest, bool)> = import.each(todo, ask).try_collect().await?;
        todo = Vec::new();
        for (digest, is_there) in answers {
            if is_there {
                there.push(digest);
                continue;
            }
            if !contents.views().contains_key(digest) && contents.broken(digest).is_none() {
                survey.nowhere.insert(digest.clone());
                continue;
            }
            survey.lacking.insert(digest.clone());
            let direct = contents.direct(digest);
            todo.extend(direct.manifests.into_iter().chain(direct.elsewhere));
            blobs.extend(direct.blobs.into_iter().map(|(blob, _)| blob));
        }
    }
    for manifest in contents.manifests_below(there) {
        for (blob, _) in contents.direct(manifest).blobs {
            if blobs.remove(blob) {
                survey.having_blobs.insert(blob.clone());
            }
        }
    }
    let ask = |blob| async move { Ok::<_, Failure>((blob, import.has_blob(repository, blob).await?)) };
    let answers: Vec<(&Digest, bool)> = import.each(blobs, ask).try_collect().await?;
    for (blob, is_there) in answers {
        let side = if is_there { &mut survey.having_blobs } else { &mut survey.lacking_blobs };
        side.insert(blob.clone());
    }
    Ok(survey)
}
