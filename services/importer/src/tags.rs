//! Tags: all of them are looked at before bytes move, and none is put before everything below it is in.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use transship_bundle::Discovery;
use transship_model::{ArtifactReference, Code, Digest, Failure, Repository, Selector, Tag};

use crate::decide::{TagDecision, decide_tag};
use crate::ledger::{Ledger, Standing};
use crate::manifests::{Put, put_all};
use crate::plan::Attached;
use crate::run::Import;

/// What is to be put of the plan, after the tags were looked at.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// The manifests that everything else lies below.
    pub(crate) roots: BTreeMap<Repository, BTreeSet<Digest>>,
    /// cosign's tags.
    cosign: BTreeSet<Put>,
    /// The subjects of referrers.
    pub(crate) subjects: BTreeMap<(Repository, Digest), Referrals>,
}

/// The referrers of one subject.
#[derive(Debug, Default)]
pub(crate) struct Referrals {
    /// Those that the bundle holds.
    pub(crate) referrers: BTreeSet<Digest>,
    /// The source's fallback index, where it had one.
    pub(crate) index: Option<Digest>,
}

/// Looks at the tag or digest of every artifact.
///
/// # Errors
/// What the registry says, where that does not concern single artifacts. Conflicts stand in the ledger.
pub(crate) async fn check_tags(import: &Import<'_>, ledger: &mut Ledger) -> Result<(), Failure> {
    let alive: Vec<usize> =
        (0..import.plan.artifacts.len()).filter(|index| ledger.is_alive(*index)).collect();
    let ask = |index: usize| async move {
        let name = &import.plan.artifacts[index].target;
        let found = import.resolve(&name.repository, &name.selector).await;
        (index, found.map_err(|failure| failure.while_doing(format_args!("looking for {name}"))))
    };
    let mut answers = import.each(alive, ask);
    while let Some((index, answer)) = answers.next().await {
        match answer {
            Ok(found) => stand(import, index, found.as_ref(), ledger),
            Err(failure) => {
                let failure = ledger.tolerate(failure)?;
                ledger.fail_artifact(index, failure);
            }
        }
    }
    Ok(())
}

fn stand(import: &Import<'_>, index: usize, found: Option<&Digest>, ledger: &mut Ledger) {
    let artifact = &import.plan.artifacts[index];
    match decide_tag(found, &artifact.digest, import.pipeline.options.overwrite_tags) {
        TagDecision::Put => {}
        TagDecision::Keep => ledger.standings[index] = Standing::Present,
        TagDecision::Conflict(existing) => {
            let failure = import.tag_exists(artifact.target.clone(), existing, &artifact.digest);
            ledger.fail_artifact(index, failure);
        }
    }
}

/// Collects what has to be there for the artifacts that have not failed.
///
/// # Errors
/// What the registry says about cosign's tags.
pub(crate) async fn wanted(import: &Import<'_>, ledger: &mut Ledger) -> Result<Wanted, Failure> {
    let mut wanted = Wanted::default();
    let mut attached: BTreeMap<&Repository, BTreeSet<usize>> = BTreeMap::new();
    for (artifact, standing) in import.plan.artifacts.iter().zip(&ledger.standings) {
        let repository = &artifact.target.repository;
        if *standing == Standing::Wanted {
            wanted.roots.entry(repository.clone()).or_default().insert(artifact.digest.clone());
        }
        if !matches!(standing, Standing::Failed(_)) {
            attached.entry(repository).or_default().extend(&artifact.attached);
        }
    }
    let mut cosign = Vec::new();
    for (repository, places) in attached {
        let Some(plan) = import.plan.repositories.get(repository) else { continue };
        for attached in places.iter().filter_map(|place| plan.attached.get(*place)) {
            match &attached.by {
                Discovery::CosignTag { tag } => cosign.push((repository, tag, attached)),
                Discovery::Referrer | Discovery::FallbackIndex { .. } => wanted.attach(repository, attached),
            }
        }
    }
    wanted.look_at_cosign(import, cosign, ledger).await?;
    Ok(wanted)
}

impl Wanted {
    fn attach(&mut self, repository: &Repository, attached: &Attached) {
        let referrals = self.subjects.entry((repository.clone(), attached.subject.clone())).or_default();
        if attached.is_fallback() {
            referrals.index = Some(attached.digest.clone());
        } else {
            referrals.referrers.insert(attached.digest.clone());
            self.roots.entry(repository.clone()).or_default().insert(attached.digest.clone());
        }
    }

    /// A tag of cosign that points to something else is left alone unless tags may be overwritten.
    async fn look_at_cosign(
        &mut self,
        import: &Import<'_>,
        cosign: Vec<(&Repository, &Tag, &Attached)>,
        ledger: &mut Ledger,
    ) -> Result<(), Failure> {
        let ask = |place: usize| {
            let (repository, tag, _) = cosign[place];
            let selector = Selector::Tag(tag.clone());
            async move { (place, import.resolve(repository, &selector).await) }
        };
        let mut answers = import.each(0..cosign.len(), ask);
        while let Some((place, answer)) = answers.next().await {
            let (repository, tag, attached) = cosign[place];
            let found = match answer {
                Ok(found) => found,
                Err(failure) => {
                    ledger.fail(repository, &attached.digest, ledger.tolerate(failure)?);
                    continue;
                }
            };
            match decide_tag(found.as_ref(), &attached.digest, import.pipeline.options.overwrite_tags) {
                TagDecision::Keep => {}
                TagDecision::Put => {
                    let (selector, digest) = (Selector::Tag(tag.clone()), attached.digest.clone());
                    self.roots.entry(repository.clone()).or_default().insert(digest.clone());
                    self.cosign.insert(Put { repository: repository.clone(), selector, digest });
                }
                TagDecision::Conflict(existing) => ledger.leave(format!(
                    "{repository}:{tag} is left alone: it points to {existing}, and the bundle has {}",
                    attached.digest
                )),
            }
        }
        Ok(())
    }
}

/// Puts cosign's tags.
///
/// # Errors
/// The first failure that ends the attempt.
pub(crate) async fn put_cosign_tags(
    import: &Import<'_>,
    wanted: &Wanted,
    ledger: &mut Ledger,
) -> Result<(), Failure> {
    let possible = |put: &&Put| ledger.failure(&put.repository, &put.digest).is_none();
    let puts = wanted.cosign.iter().filter(possible).cloned().collect();
    for (put, failure) in put_all(import, puts, ledger).await? {
        // As where it is found taken before bytes move.
        if failure.code == Code::TagExists {
            ledger.leave(format!("a signature is left out: {}", failure.message));
        } else {
            ledger.fail(&put.repository, &put.digest, failure);
        }
    }
    Ok(())
}

/// Puts the tags of the artifacts that are complete.
///
/// # Errors
/// The first failure that ends the attempt.
pub(crate) async fn put_tags(import: &Import<'_>, ledger: &mut Ledger) -> Result<(), Failure> {
    let mut puts = BTreeSet::new();
    for (artifact, standing) in import.plan.artifacts.iter().zip(&ledger.standings) {
        if let (Standing::Wanted, Some(_)) = (standing, artifact.target.tag()) {
            let ArtifactReference { repository, selector } = artifact.target.clone();
            puts.insert(Put { repository, selector, digest: artifact.digest.clone() });
        }
    }
    for (put, failure) in put_all(import, puts.into_iter().collect(), ledger).await? {
        let name = put.name();
        for (index, artifact) in import.plan.artifacts.iter().enumerate() {
            if artifact.target == name {
                ledger.fail_artifact(index, failure.clone());
            }
        }
    }
    Ok(())
}
