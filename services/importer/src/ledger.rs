//! What an import has come to so far: by artifact, by manifest and by blob.

use std::collections::{BTreeMap, BTreeSet};

use transship_model::{Class, Code, Digest, Failure, Repository};

use crate::ImportPlan;
use crate::seal::Standing as StandingUpload;

/// How an artifact stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is being imported.
    Wanted,
    /// It is there already. What belongs to it may not be.
    Present,
    /// It cannot be imported.
    Failed(Failure),
}

/// The books of one import.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By artifact, in the order of the plan.
    pub(crate) standings: Vec<Standing>,
    /// Manifests and blobs that cannot be put into a repository of the target.
    failed: BTreeMap<(Repository, Digest), Failure>,
    /// What was put.
    pub(crate) moved: BTreeSet<Digest>,
    /// Blobs that were mounted.
    pub(crate) mounted: BTreeSet<Digest>,
    /// Uploads that the slice ended inside.
    pub(crate) paused: Vec<StandingUpload>,
    /// Foreign layers that are nowhere.
    pub(crate) foreign: BTreeSet<Digest>,
    /// Whether the registry said that it keeps the list of referrers itself (`OCI-Subject`).
    pub(crate) keeps_referrers: bool,
    /// What a person should know.
    pub(crate) notes: Vec<String>,
    /// Whether something of the bundle had to be left out, though no artifact failed for it.
    pub(crate) leaves_out: bool,
    continues: bool,
}

impl Ledger {
    /// The books of an import that goes on after errors, or does not.
    pub(crate) fn new(plan: &ImportPlan, continues: bool) -> Self {
        let standing = |failure: &Option<Failure>| failure.clone().map_or(Standing::Wanted, Standing::Failed);
        let standings = plan.artifacts.iter().map(|artifact| standing(&artifact.failure)).collect();
        Self { standings, continues, ..Self::default() }
    }

    /// Whether an error of one artifact leaves the others alone (`ContinueOnErrors`).
    pub(crate) fn continues(&self) -> bool {
        self.continues
    }

    /// Takes a failure that may concern single artifacts only. Without `ContinueOnErrors`, and where it does not
    /// concern single artifacts, it ends the attempt.
    pub(crate) fn tolerate(&self, failure: Failure) -> Result<Failure, Failure> {
        if self.continues && concerns_content(&failure) { Ok(failure) } else { Err(failure) }
    }

    /// A manifest or blob cannot be put into a repository.
    pub(crate) fn fail(&mut self, repository: &Repository, digest: &Digest, failure: Failure) {
        self.failed.entry((repository.clone(), digest.clone())).or_insert(failure);
    }

    /// Why something cannot be put into a repository.
    pub(crate) fn failure(&self, repository: &Repository, digest: &Digest) -> Option<&Failure> {
        if self.failed.is_empty() {
            return None;
        }
        self.failed.get(&(repository.clone(), digest.clone()))
    }

    /// Something of the bundle is left out, and no artifact fails for it: what is at the target goes first. The bundle
    /// is then still needed.
    pub(crate) fn leave(&mut self, note: String) {
        tracing::warn!("{note}");
        self.notes.push(note);
        self.leaves_out = true;
    }

    /// An artifact cannot be imported. The first reason stays.
    pub(crate) fn fail_artifact(&mut self, index: usize, failure: Failure) {
        let standing = &mut self.standings[index];
        if !matches!(standing, Standing::Failed(_)) {
            *standing = Standing::Failed(failure);
        }
    }

    /// Whether an artifact has not failed.
    pub(crate) fn is_alive(&self, index: usize) -> bool {
        !matches!(self.standings[index], Standing::Failed(_))
    }

    /// Fails every artifact whose manifest, or anything that belongs to it, could not be put.
    pub(crate) fn settle(&mut self, plan: &ImportPlan) {
        if self.failed.is_empty() {
            return;
        }
        for (index, artifact) in plan.artifacts.iter().enumerate() {
            let repository = &artifact.target.repository;
            let own = self.failure(repository, &artifact.digest).cloned();
            let attached = || {
                let all = &plan.repositories.get(repository)?.attached;
                artifact.attached.iter().filter_map(|place| all.get(*place)).find_map(|attached| {
                    let failure = self.failure(repository, &attached.digest)?;
                    Some(
                        failure.clone().while_doing(format_args!("{}, which belongs to it", attached.digest)),
                    )
                })
            };
            if let Some(failure) = own.or_else(attached) {
                self.fail_artifact(index, failure);
            }
        }
    }
}

/// Whether a failure says something of the content that it met, and not of a service or of the whole bundle.
fn concerns_content(failure: &Failure) -> bool {
    let of_bundle = matches!(
        failure.code,
        Code::BlobNotFound
            | Code::ContainerNotFound
            | Code::SourceChanged
            | Code::StorageUnavailable
            | Code::BundleInvalid
    );
    match failure.class {
        Class::Permanent => !of_bundle,
        // A credential may lack one repository of many.
        Class::Parked => failure.code == Code::RegistryForbidden,
        Class::Transient { .. } | Class::Poison | Class::Interrupted => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_concerns_the_content_is_tolerated_and_only_where_errors_may_be() {
        let permanent = |code| Failure::permanent(code, "x");
        for (failure, expected) in [
            (permanent(Code::DigestMismatch), true),
            (permanent(Code::TagExists), true),
            (permanent(Code::RegistryRefused), true),
            (permanent(Code::SourceChanged), false),
            (permanent(Code::StorageUnavailable), false),
            (Failure::transient(Code::RegistryUnavailable, "x"), false),
            (Failure::new(Class::Parked, Code::RegistryForbidden, "x"), true),
            (Failure::new(Class::Parked, Code::SasExpired, "x"), false),
            (Failure::interrupted(), false),
        ] {
            let ledger = |continues| Ledger { continues, ..Ledger::default() };
            assert_eq!(ledger(true).tolerate(failure.clone()).is_ok(), expected, "{failure:?}");
            assert!(ledger(false).tolerate(failure).is_err());
        }
    }
}
