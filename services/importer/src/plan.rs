//! What an import puts into the target registry, before anybody asked what is there. A pure function of the
//! bundle and the pipeline.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use transship_bundle::{CatalogArtifact, Discovered, Discovery};
use transship_model::{ArtifactReference, Digest, Failure, Repository};

use crate::contents::{Contents, Place};
use crate::names::{Named, name_artifacts};
use crate::{ImportError, ImportPipeline};

/// The plan of an import.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImportPlan {
    /// The artifacts, in the order of the bundle. Their tags come last.
    pub artifacts: Vec<PlannedArtifact>,
    /// What each repository of the target must have.
    pub repositories: BTreeMap<Repository, RepositoryPlan>,
    /// Every distinct manifest and blob below the artifacts and what belongs to them, with its size in bytes.
    pub everything: BTreeMap<Digest, u64>,
}

/// One artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedArtifact {
    /// As the bundle names it.
    pub reference: ArtifactReference,
    /// At the target; the name in the bundle where no other could be made.
    pub target: ArtifactReference,
    /// The manifest.
    pub digest: Digest,
    /// What belongs to it: indexes into [`RepositoryPlan::attached`] of its repository.
    pub attached: BTreeSet<usize>,
    /// Why it cannot be imported, where that is known by now.
    pub failure: Option<Failure>,
}

/// What one repository of the target must have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepositoryPlan {
    /// The manifests, and when their turn is.
    pub manifests: BTreeMap<Digest, Rank>,
    /// The blobs, with the size in bytes of what the bundle has, or of what is declared where it has nothing.
    pub blobs: BTreeMap<Digest, u64>,
    /// Referrers, signatures and fallback indexes.
    pub attached: Vec<Attached>,
    /// The place of each of them by its digest, its subject and how it was found.
    places: BTreeMap<(Digest, Digest, Discovery), usize>,
}

/// When the turn of a manifest is: the lowest first. What a manifest lists always has a lower rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// 0 for what is below an artifact, 1 for what is below its referrers and signatures, 2 for theirs, …
    pub generation: u32,
    /// How many levels of manifests lie below.
    pub height: u32,
}

/// A manifest that belongs to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The manifest.
    pub digest: Digest,
    /// What it belongs to.
    pub subject: Digest,
    /// How it was found, which says how it is put.
    pub by: Discovery,
    /// See [`Rank::generation`].
    pub generation: u32,
}

impl Attached {
    /// Whether it stands for itself: a fallback index lists referrers, and has nothing below it.
    pub(crate) fn is_fallback(&self) -> bool {
        matches!(self.by, Discovery::FallbackIndex { .. })
    }
}

impl RepositoryPlan {
    /// The manifests of `wanted` in waves: those of one wave may go at the same time, after the wave before.
    pub fn waves<'a>(&self, wanted: impl IntoIterator<Item = &'a Digest>) -> BTreeMap<Rank, Vec<&'a Digest>> {
        let mut waves: BTreeMap<Rank, Vec<&Digest>> = BTreeMap::new();
        for digest in wanted {
            if let Some(rank) = self.manifests.get(digest) {
                waves.entry(*rank).or_default().push(digest);
            }
        }
        waves
    }
}

/// Plans the import of a bundle by a pipeline.
///
/// # Errors
/// Where the bundle holds no artifact, or one without a name. What is wrong with one artifact stands in the plan.
pub fn plan_import(contents: &Contents, pipeline: &ImportPipeline) -> Result<ImportPlan, ImportError> {
    let (entries, unnamed) = entries(contents);
    if entries.is_empty() {
        return Err(ImportError::Empty);
    }
    let named = name_artifacts(&entries, &pipeline.rename, pipeline.name_as.as_ref())?;
    let found = Found::new(contents, unnamed);
    let mut plan = ImportPlan::default();
    for named in named {
        plan.add(contents, &found, named);
    }
    plan.rank(contents);
    Ok(plan)
}

impl ImportPlan {
    /// Adds an artifact and what belongs to it.
    fn add(&mut self, contents: &Contents, found: &Found<'_>, named: Named) {
        let Named { reference, target, digest } = named;
        let mut failure = target.as_ref().err().cloned();
        failure = failure.or_else(|| contents.broken_below(&digest).cloned());
        let target = target.unwrap_or_else(|_| reference.clone());
        let mut attached = BTreeSet::new();
        if failure.is_none() {
            let repository = self.repositories.entry(target.repository.clone()).or_default();
            for belonging in found.belonging(contents, &reference.repository, &digest) {
                if let Some(broken) =
                    contents.broken_below(&belonging.digest).filter(|_| !belonging.is_fallback())
                {
                    let what = format!("{}, which belongs to it", belonging.digest);
                    failure.get_or_insert_with(|| broken.clone().while_doing(what));
                }
                attached.insert(repository.attach(belonging));
            }
            repository.reach(contents, &digest, 0);
        } else {
            self.count(contents, &digest);
        }
        self.artifacts.push(PlannedArtifact { reference, target, digest, attached, failure });
    }

    /// Counts what lies below an artifact that cannot be imported.
    fn count(&mut self, contents: &Contents, root: &Digest) {
        for manifest in contents.manifests_below([root]) {
            self.everything.insert(manifest.clone(), contents.size(manifest));
            for (blob, declared) in contents.direct(manifest).blobs {
                self.everything.insert(blob.clone(), size_of(contents, blob, declared));
            }
        }
    }

    /// Reaches what lies below everything that is attached, and counts it all.
    fn rank(&mut self, contents: &Contents) {
        for plan in self.repositories.values_mut() {
            let roots: Vec<_> =
                plan.attached.iter().filter(|attached| !attached.is_fallback()).cloned().collect();
            for attached in roots {
                plan.reach(contents, &attached.digest, attached.generation);
            }
            let fallbacks = plan.attached.iter().filter(|attached| attached.is_fallback());
            let manifests = plan.manifests.keys().chain(fallbacks.map(|attached| &attached.digest));
            self.everything.extend(manifests.map(|digest| (digest.clone(), contents.size(digest))));
            self.everything.extend(plan.blobs.iter().map(|(digest, size)| (digest.clone(), *size)));
        }
    }
}

impl RepositoryPlan {
    /// Everything at and below `root` has its turn in this generation, where it has no earlier one.
    fn reach(&mut self, contents: &Contents, root: &Digest, generation: u32) {
        let mut todo = vec![root];
        while let Some(digest) = todo.pop() {
            let rank = Rank { generation, height: contents.height(digest) };
            match self.manifests.get_mut(digest) {
                Some(known) if *known <= rank => continue,
                Some(known) => *known = rank,
                None => {
                    self.manifests.insert(digest.clone(), rank);
                }
            }
            let direct = contents.direct(digest);
            for (blob, declared) in direct.blobs {
                self.blobs.insert(blob.clone(), size_of(contents, blob, declared));
            }
            todo.extend(direct.manifests);
        }
    }

    /// The place of something that is attached, which may belong to several artifacts.
    fn attach(&mut self, new: Attached) -> usize {
        let key = (new.digest.clone(), new.subject.clone(), new.by.clone());
        let place = *self.places.entry(key).or_insert(self.attached.len());
        match self.attached.get_mut(place) {
            Some(known) => known.generation = known.generation.min(new.generation),
            None => self.attached.push(new),
        }
        place
    }
}

/// What was found beside the artifacts, by its subject.
struct Found<'a>(BTreeMap<&'a Digest, Vec<FoundManifest<'a>>>);

struct FoundManifest<'a> {
    /// Where; `None` for anywhere.
    repository: Option<&'a Repository>,
    digest: &'a Digest,
    by: Discovery,
}

impl<'a> Found<'a> {
    fn new(contents: &'a Contents, unnamed: Vec<(&'a Digest, &'a Digest)>) -> Self {
        let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for one in contents.catalog().discovered.iter().filter(|one| is_plausible(one)) {
            let manifest =
                FoundManifest { repository: Some(&one.repository), digest: &one.digest, by: one.by.clone() };
            found.entry(&one.subject).or_default().push(manifest);
        }
        for (digest, subject) in unnamed {
            let manifest = FoundManifest { repository: None, digest, by: Discovery::Referrer };
            found.entry(subject).or_default().push(manifest);
        }
        Self(found)
    }

    /// What belongs to anything at or below `root` in a repository of the source, and what belongs to that.
    fn belonging(&self, contents: &Contents, repository: &Repository, root: &Digest) -> Vec<Attached> {
        let mut belonging: Vec<Attached> = Vec::new();
        let mut todo = VecDeque::from([(root, 0)]);
        let mut seen = BTreeSet::new();
        while let Some((root, generation)) = todo.pop_front() {
            for subject in contents.manifests_below([root]) {
                if self.0.is_empty() || !seen.insert(subject) {
                    continue;
                }
                for found in self.0.get(subject).into_iter().flatten() {
                    if found.repository.is_some_and(|other| other != repository) {
                        continue;
                    }
                    let (digest, by) = (found.digest.clone(), found.by.clone());
                    let attached =
                        Attached { digest, subject: subject.clone(), by, generation: generation + 1 };
                    if !attached.is_fallback() {
                        todo.push_back((found.digest, generation + 1));
                    }
                    belonging.push(attached);
                }
            }
        }
        belonging
    }
}

/// A table must not bring in tags of its own choice: cosign's tags follow from the digest of their subject.
fn is_plausible(found: &Discovered) -> bool {
    let Discovery::CosignTag { tag } = &found.by else { return true };
    let subject = format!("{}-{}.", found.subject.algorithm().name(), found.subject.hex());
    tag.as_str().strip_prefix(&subject).is_some_and(|suffix| matches!(suffix, "sig" | "att" | "sbom"))
}

/// The entries of the bundle that are artifacts. Tools that write OCI layouts also list, without a name, what
/// lies below another entry, and referrers: the latter with their subjects.
fn entries(contents: &Contents) -> (Vec<&CatalogArtifact>, Vec<(&Digest, &Digest)>) {
    let all = &contents.catalog().artifacts;
    let (mut named, mut unnamed): (Vec<_>, Vec<_>) = all.iter().partition(|entry| entry.name.is_some());
    if named.is_empty() {
        return (unnamed, Vec::new());
    }
    let subject_of =
        |entry: &CatalogArtifact| Some(&contents.views().get(&entry.digest)?.subject.as_ref()?.digest);
    let mut by_subject: BTreeMap<&Digest, Vec<&Digest>> = BTreeMap::new();
    for entry in &unnamed {
        if let Some(subject) = subject_of(entry) {
            by_subject.entry(subject).or_default().push(&entry.digest);
        }
    }
    let mut below = contents.manifests_below(named.iter().map(|entry| &entry.digest));
    let mut todo: VecDeque<&Digest> = below.iter().copied().collect();
    let mut referrers = Vec::new();
    while let Some(subject) = todo.pop_front() {
        for referrer in by_subject.remove(subject).unwrap_or_default() {
            if below.contains(referrer) {
                continue;
            }
            referrers.push((referrer, subject));
            let new = contents.manifests_below([referrer]);
            todo.extend(new.into_iter().filter(|digest| below.insert(digest)));
        }
    }
    unnamed.retain(|entry| !below.contains(&entry.digest));
    named.extend(unnamed);
    (named, referrers)
}

fn size_of(contents: &Contents, blob: &Digest, declared: u64) -> u64 {
    match contents.place(blob) {
        Place::Stored(range) => range.end - range.start,
        Place::Foreign | Place::Missing(_) => declared,
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
