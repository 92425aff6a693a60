//! What a walk comes to: which artifacts can be carried.

use std::collections::{BTreeMap, BTreeSet};

use transship_model::{Code, Digest, Failure, Repository};

use super::{Found, FoundManifest, Walk, Walked, closure};

/// What was found for a manifest, and has content of its own.
type Attached = BTreeMap<(Repository, Digest), Vec<Digest>>;

impl Walk {
    /// The result. An artifact fails with the first failure below it, or in what belongs to it: it would arrive
    /// without a signature that it has.
    pub fn finish(mut self) -> Walked {
        let never = || Failure::permanent(Code::Internal, "the walk ended before this artifact was resolved");
        let resolved: Vec<_> = std::mem::take(&mut self.resolved);
        let attached = attached(&self.found);
        let verdicts: Vec<Result<Digest, Failure>> = self
            .artifacts
            .iter()
            .zip(resolved)
            .map(|(artifact, result)| {
                let digest = result.unwrap_or_else(|| Err(never()))?;
                self.judge(&artifact.repository, &digest, &attached)?;
                Ok(digest)
            })
            .collect();
        Walked {
            artifacts: self.artifacts.into_iter().zip(verdicts).collect(),
            found: self.found,
            views: self.views,
            blobs: self.blobs,
            warnings: self.warnings,
        }
    }

    /// Whether everything below a manifest is known, and below everything that was found for any of that.
    fn judge(&self, repository: &Repository, root: &Digest, attached: &Attached) -> Result<(), Failure> {
        let (mut seen, mut open) = (BTreeSet::new(), vec![root]);
        while let Some(digest) = open.pop() {
            let below = closure(digest, &self.views);
            if let Some(missing) = below.missing.iter().find(|missing| !self.blobs.contains_key(missing)) {
                return Err(self.failed.get(missing).cloned().unwrap_or_else(|| {
                    let message = format!("the manifest {missing} below {digest} is missing");
                    Failure::permanent(Code::ContentNotFound, message)
                }));
            }
            for manifest in below.manifests {
                let place = (repository.clone(), manifest);
                if let Some(failure) = self.bereft.get(&place) {
                    return Err(failure.clone());
                }
                if self.too_deep.contains(&place) {
                    return Err(self.too_deep_at(&place.1, repository));
                }
                if seen.insert(place.1.clone()) {
                    open.extend(attached.get(&place).into_iter().flatten());
                }
            }
        }
        Ok(())
    }

    fn too_deep_at(&self, digest: &Digest, repository: &Repository) -> Failure {
        let message = format!("nested deeper than {} at {digest} in {repository}", self.limits.depth);
        Failure::permanent(Code::LimitExceeded, message)
            .with_hint("indexes and referrers that refer to each other in a chain this long are not carried")
    }
}

/// What was found, by what it belongs to. A fallback index lists referrers, which are found on their own.
fn attached(found: &BTreeSet<FoundManifest>) -> Attached {
    let mut attached = Attached::new();
    for FoundManifest { repository, digest, subject, found } in found {
        if !matches!(found, Found::FallbackIndex(_)) {
            attached.entry((repository.clone(), subject.clone())).or_default().push(digest.clone());
        }
    }
    attached
}
