//! The walk over everything below the artifacts of a part: indexes of any depth, images, referrers by the API
//! and by the fallback tag, referrers of referrers, cosign's tags. It is pure: it says what to ask, and takes
//! the answers in the same order, so the same registry gives the same walk.

mod closure;
mod finish;
mod question;

use std::collections::{BTreeMap, BTreeSet};

use transship_model::{
    ArtifactReference, Code, Descriptor, Digest, Failure, ManifestKind, ManifestView, MediaType, Repository,
    Selector, Tag,
};

pub use self::closure::{Closure, closure};
pub use self::question::{
    Answer, Ask, BlobSource, Found, FoundManifest, NewManifest, Role, WalkLimits, Walked,
};
use crate::port::{Manifest, Referrers};

/// The walk of one part.
pub struct Walk {
    artifacts: Vec<ArtifactReference>,
    resolved: Vec<Option<Result<Digest, Failure>>>,
    limits: WalkLimits,
    tags: BTreeMap<Repository, BTreeSet<Tag>>,
    asks: Vec<Ask>,
    asked: BTreeSet<Ask>,
    children: BTreeSet<(Repository, Digest)>,
    visited: BTreeSet<(Repository, Digest)>,
    views: BTreeMap<Digest, ManifestView>,
    blobs: BTreeMap<Digest, BlobSource>,
    found: BTreeSet<FoundManifest>,
    failed: BTreeMap<Digest, Failure>,
    /// Manifests with a referrer or a cosign tag that is there and cannot be carried.
    bereft: BTreeMap<(Repository, Digest), Failure>,
    /// Manifests that were met too deep, and nowhere else so far.
    too_deep: BTreeSet<(Repository, Digest)>,
    bytes: u64,
    /// How many manifests were asked for.
    manifests: usize,
    warnings: Vec<String>,
}

/// What a descriptor in a list of referrers counts, in bytes.
const DESCRIPTOR_BYTES: u64 = 256;

/// The suffixes of the tags that cosign gives to signatures, attestations and SBOMs.
const COSIGN_SUFFIXES: [&str; 3] = ["att", "sbom", "sig"];

impl Walk {
    /// A walk below `artifacts`.
    pub fn new(artifacts: Vec<ArtifactReference>, limits: WalkLimits) -> Self {
        let repositories: BTreeSet<_> =
            artifacts.iter().map(|artifact| artifact.repository.clone()).collect();
        let roots = artifacts.iter().enumerate().map(|(index, artifact)| Ask::Manifest {
            repository: artifact.repository.clone(),
            selector: artifact.selector.clone(),
            role: Role::Artifact(index),
        });
        Self {
            resolved: vec![None; artifacts.len()],
            asks: repositories.into_iter().map(Ask::Tags).chain(roots).collect(),
            artifacts,
            limits,
            tags: BTreeMap::new(),
            asked: BTreeSet::new(),
            children: BTreeSet::new(),
            visited: BTreeSet::new(),
            views: BTreeMap::new(),
            blobs: BTreeMap::new(),
            found: BTreeSet::new(),
            failed: BTreeMap::new(),
            bereft: BTreeMap::new(),
            too_deep: BTreeSet::new(),
            bytes: 0,
            manifests: 0,
            warnings: Vec::new(),
        }
    }

    /// What to ask now; empty when the walk is done. Answers come in this order.
    pub fn asks(&mut self) -> Vec<Ask> {
        std::mem::take(&mut self.asks)
    }

    /// Takes an answer. Returns the manifest where it is seen for the first time.
    ///
    /// # Errors
    /// Where a bound is exceeded. What is wrong with one artifact is kept for [`Walk::finish`].
    pub fn answer(
        &mut self,
        ask: &Ask,
        answer: Result<Answer, Failure>,
    ) -> Result<Vec<NewManifest>, Failure> {
        match (ask, answer) {
            (Ask::Tags(repository), Ok(Answer::Tags(tags))) => {
                // A repository may have a million: only those that a digest makes are ever looked for.
                let made =
                    |tag: &Tag| ["sha256-", "sha512-"].iter().any(|start| tag.as_str().starts_with(start));
                self.tags.insert(repository.clone(), tags.into_iter().filter(made).collect());
                Ok(Vec::new())
            }
            (Ask::Tags(repository), Err(failure)) => {
                // Some registries and accounts refuse the list; then only what cosign attached by tag stays behind.
                self.warnings.push(format!(
                    "the tags of {repository} cannot be listed ({failure}); cosign's tags are not looked for"
                ));
                Ok(Vec::new())
            }
            (Ask::Manifest { repository, selector, role }, Ok(Answer::Manifest(manifest))) => {
                self.take_manifest(repository, selector, role, manifest)
            }
            (Ask::Manifest { repository, selector, role }, Ok(Answer::NotThere)) => {
                self.take_absence(repository, selector, role);
                Ok(Vec::new())
            }
            (Ask::Manifest { repository, selector, role }, Err(failure)) => {
                self.take_failure(repository, selector, role, failure);
                Ok(Vec::new())
            }
            (Ask::Referrers { repository, subject, depth, .. }, Ok(Answer::Referrers(referrers))) => {
                self.take_referrers(repository, subject, *depth, referrers)
            }
            (Ask::Referrers { repository, subject, .. }, Err(failure)) => {
                let failure = failure.while_doing(format_args!("listing the referrers of {subject}"));
                self.bereft.entry((repository.clone(), subject.clone())).or_insert(failure);
                Ok(Vec::new())
            }
            (ask, Ok(_)) => {
                Err(Failure::permanent(Code::Internal, format!("{ask:?} was answered with something else")))
            }
        }
    }

    fn take_manifest(
        &mut self,
        repository: &Repository,
        selector: &Selector,
        role: &Role,
        manifest: Manifest,
    ) -> Result<Vec<NewManifest>, Failure> {
        let digest = manifest.digest.clone();
        let outer = match role {
            Role::Child { media_type, .. } => Some(media_type),
            _ => manifest.content_type.as_ref(),
        };
        let view = match self.views.get(&digest) {
            Some(view) => view.clone(),
            None => match ManifestView::parse(&manifest.bytes, outer.map(MediaType::as_str)) {
                Ok(view) => view,
                Err(error) => {
                    let subject = format!("the manifest {digest} of {repository}");
                    let failure = Failure::permanent(Code::ManifestInvalid, format!("{subject}: {error}"));
                    self.take_failure(repository, selector, role, failure);
                    return Ok(Vec::new());
                }
            },
        };
        let depth = match role {
            Role::Artifact(index) => {
                self.resolved[*index] = Some(Ok(digest.clone()));
                0
            }
            Role::Child { depth, .. } => *depth,
            Role::Referrer { subject, depth } => {
                if view.subject.as_ref().map(|subject| &subject.digest) != Some(subject) {
                    self.warnings.push(format!("{repository}: {digest} is listed as a referrer of {subject}, and refers to something else; left out"));
                    return Ok(Vec::new());
                }
                self.note(repository, &digest, subject, Found::Referrer);
                *depth
            }
            Role::Cosign { subject, depth } => {
                if let Selector::Tag(tag) = selector {
                    self.note(repository, &digest, subject, Found::CosignTag(tag.clone()));
                }
                *depth
            }
        };
        let media_type = view.media_type.clone();
        let is_new = self.views.insert(digest.clone(), view).is_none();
        if is_new {
            self.remember(repository, manifest.bytes.len() as u64)?;
        }
        self.visit(repository, &digest, depth)?;
        Ok(is_new.then_some(NewManifest { digest, media_type, bytes: manifest.bytes }).into_iter().collect())
    }

    fn note(&mut self, repository: &Repository, digest: &Digest, subject: &Digest, found: Found) {
        let (repository, digest, subject) = (repository.clone(), digest.clone(), subject.clone());
        self.found.insert(FoundManifest { repository, digest, subject, found });
    }

    /// Counts bytes of which the walk keeps what it needs.
    fn remember(&mut self, repository: &Repository, bytes: u64) -> Result<(), Failure> {
        self.bytes += bytes;
        if self.bytes <= self.limits.bytes {
            return Ok(());
        }
        let bound = format!("more than {} bytes of manifests, at {repository}", self.limits.bytes);
        Err(Failure::permanent(Code::LimitExceeded, bound).with_hint("split the run into smaller ones"))
    }

    /// Visits a manifest whose view is known, in one repository: asks for what is below and beside it.
    fn visit(&mut self, repository: &Repository, digest: &Digest, depth: u32) -> Result<(), Failure> {
        let place = (repository.clone(), digest.clone());
        if self.visited.contains(&place) {
            return Ok(());
        }
        if depth > self.limits.depth {
            self.too_deep.insert(place);
            return Ok(());
        }
        self.too_deep.remove(&place);
        self.visited.insert(place);
        let view = self.views.get(digest).cloned();
        let Some(view) = view else { return Ok(()) };
        for blob in &view.blobs {
            self.need_blob(repository, blob);
        }
        for child in &view.manifests {
            self.visit_child(repository, child, depth + 1)?;
        }
        let fallback = self.may_have(repository, &Tag::referrers_fallback(digest));
        self.ask(Ask::Referrers {
            repository: repository.clone(),
            subject: digest.clone(),
            depth,
            fallback,
        })?;
        self.ask_cosign(repository, digest, depth + 1)
    }

    fn visit_child(
        &mut self,
        repository: &Repository,
        child: &Descriptor,
        depth: u32,
    ) -> Result<(), Failure> {
        if self.views.contains_key(&child.digest) {
            return self.visit(repository, &child.digest, depth);
        }
        // Two indexes may list it before the answer is there: one question is enough.
        if !self.children.insert((repository.clone(), child.digest.clone())) {
            return Ok(());
        }
        self.ask(Ask::Manifest {
            repository: repository.clone(),
            selector: Selector::Digest(child.digest.clone()),
            role: Role::Child { media_type: child.media_type.clone(), size: child.size, depth },
        })
    }

    /// Whether the repository has this tag, or does not tell.
    fn may_have(&self, repository: &Repository, tag: &Tag) -> bool {
        self.tags.get(repository).is_none_or(|tags| tags.contains(tag))
    }

    fn ask_cosign(&mut self, repository: &Repository, digest: &Digest, depth: u32) -> Result<(), Failure> {
        for suffix in COSIGN_SUFFIXES {
            let tag = format!("{}-{}.{suffix}", digest.algorithm().name(), digest.hex()).parse::<Tag>();
            let Ok(tag) = tag else { continue };
            if self.tags.get(repository).is_some_and(|tags| tags.contains(&tag)) {
                let role = Role::Cosign { subject: digest.clone(), depth };
                self.ask(Ask::Manifest {
                    repository: repository.clone(),
                    selector: Selector::Tag(tag),
                    role,
                })?;
            }
        }
        Ok(())
    }

    /// Asks what was not asked before. What is asked for counts, whether it will be there or not: a list costs its
    /// sender nothing.
    fn ask(&mut self, ask: Ask) -> Result<(), Failure> {
        if !self.asked.insert(ask.clone()) {
            return Ok(());
        }
        if let Ask::Manifest { repository, .. } = &ask {
            self.manifests += 1;
            if self.manifests > self.limits.nodes {
                let bound = format!("more than {} manifests, at {repository}", self.limits.nodes);
                return Err(Failure::permanent(Code::LimitExceeded, bound)
                    .with_hint("split the run into smaller ones"));
            }
        }
        self.asks.push(ask);
        Ok(())
    }

    fn need_blob(&mut self, repository: &Repository, blob: &Descriptor) {
        let foreign = blob.media_type.is_foreign_layer();
        let source = self.blobs.entry(blob.digest.clone()).or_insert_with(|| BlobSource {
            repository: repository.clone(),
            declared: blob.size,
            foreign,
        });
        source.declared = source.declared.max(blob.size);
        source.foreign &= foreign;
    }

    fn take_referrers(
        &mut self,
        repository: &Repository,
        subject: &Digest,
        depth: u32,
        referrers: Referrers,
    ) -> Result<Vec<NewManifest>, Failure> {
        self.remember(repository, referrers.descriptors.len() as u64 * DESCRIPTOR_BYTES)?;
        for descriptor in &referrers.descriptors {
            if descriptor.digest == *subject {
                continue;
            }
            self.ask(Ask::Manifest {
                repository: repository.clone(),
                selector: Selector::Digest(descriptor.digest.clone()),
                role: Role::Referrer { subject: subject.clone(), depth: depth + 1 },
            })?;
        }
        let Some(index) = referrers.fallback else { return Ok(Vec::new()) };
        let outer = index.content_type.as_ref().map(MediaType::as_str);
        match ManifestView::parse(&index.bytes, outer) {
            Ok(view) if view.kind == ManifestKind::Index => {
                self.note(
                    repository,
                    &index.digest,
                    subject,
                    Found::FallbackIndex(Tag::referrers_fallback(subject)),
                );
                let media_type = view.media_type.clone();
                let is_new = self.views.insert(index.digest.clone(), view).is_none();
                if is_new {
                    self.remember(repository, index.bytes.len() as u64)?;
                }
                let new = NewManifest { digest: index.digest, media_type, bytes: index.bytes };
                Ok(is_new.then_some(new).into_iter().collect())
            }
            _ => {
                self.warnings
                    .push(format!("{repository}: the fallback tag of {subject} is not an index; left out"));
                Ok(Vec::new())
            }
        }
    }

    /// Something that was listed is not in the registry.
    fn take_absence(&mut self, repository: &Repository, selector: &Selector, role: &Role) {
        match (role, selector) {
            (Role::Child { media_type, size, .. }, Selector::Digest(digest))
                if !media_type.is_known_manifest() =>
            {
                // An index may list anything: what is not a manifest is content.
                let descriptor = Descriptor {
                    media_type: media_type.clone(),
                    digest: digest.clone(),
                    size: *size,
                    urls: Vec::new(),
                    artifact_type: None,
                };
                self.need_blob(repository, &descriptor);
            }
            (Role::Referrer { subject, .. } | Role::Cosign { subject, .. }, _) => {
                self.warnings.push(format!(
                    "{repository}: {selector} is listed for {subject} and is not there; left out"
                ));
            }
            _ => {
                let reference = ArtifactReference::new(repository.clone(), selector.clone());
                let failure = Failure::permanent(Code::ArtifactNotFound, format!("the source registry has no {reference}"))
                    .with_hint("check the repository and the tag or digest; a registry may also say this where the credentials may not pull it");
                self.take_failure(repository, selector, role, failure);
            }
        }
    }

    fn take_failure(&mut self, repository: &Repository, selector: &Selector, role: &Role, failure: Failure) {
        match (role, selector) {
            (Role::Artifact(index), _) => self.resolved[*index] = Some(Err(failure)),
            (Role::Referrer { subject, .. } | Role::Cosign { subject, .. }, _) => {
                let failure = failure.while_doing(format_args!("{selector}, which belongs to {subject}"));
                self.bereft.entry((repository.clone(), subject.clone())).or_insert(failure);
            }
            (Role::Child { .. }, Selector::Digest(digest)) => {
                self.failed.insert(digest.clone(), failure);
            }
            (Role::Child { .. }, Selector::Tag(tag)) => {
                self.warnings.push(format!("{tag} cannot be carried: {failure}"));
            }
        }
    }
}
