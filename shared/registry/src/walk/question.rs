//! What a walk asks, what it is answered, and what it finds.

use std::collections::{BTreeMap, BTreeSet};

use transship_model::{
    ArtifactReference, Digest, Failure, ManifestView, MediaType, Repository, Selector, Tag,
};

use crate::port::{Manifest, Referrers};

/// Bounds of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalkLimits {
    /// How deep indexes and referrers may nest below an artifact.
    pub depth: u32,
    /// How many manifests the walk may ask for, in all.
    pub nodes: usize,
    /// How many bytes the manifests and lists of referrers may have in all: what the walk knows of them takes about
    /// as much memory.
    pub bytes: u64,
}

impl Default for WalkLimits {
    fn default() -> Self {
        Self { depth: 16, nodes: 200_000, bytes: 128 << 20 }
    }
}

/// What the walk wants to know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    /// All tags of a repository, to find cosign's and those of referrers.
    Tags(Repository),
    /// A manifest; `Answer::NotThere` where the registry has none.
    Manifest {
        /// The repository.
        repository: Repository,
        /// Which one.
        selector: Selector,
        /// Why.
        role: Role,
    },
    /// The referrers of a manifest.
    Referrers {
        /// The repository.
        repository: Repository,
        /// The manifest.
        subject: Digest,
        /// How deep below its artifact it is.
        depth: u32,
        /// Whether it may have a fallback tag: the list of tags has it, or could not be read.
        fallback: bool,
    },
}

/// Why a manifest is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It is the artifact with this index in the part.
    Artifact(usize),
    /// An index lists it, with this media type and declared size.
    Child {
        /// The media type in the index.
        media_type: MediaType,
        /// The size in the index.
        size: u64,
        /// How deep it is.
        depth: u32,
    },
    /// It was listed as a referrer.
    Referrer {
        /// Of this manifest.
        subject: Digest,
        /// How deep it is.
        depth: u32,
    },
    /// It has one of cosign's tags.
    Cosign {
        /// For this manifest.
        subject: Digest,
        /// How deep it is.
        depth: u32,
    },
}

/// What the registry answered.
#[derive(Debug, Clone)]
pub enum Answer {
    /// To [`Ask::Tags`].
    Tags(Vec<Tag>),
    /// To [`Ask::Manifest`].
    Manifest(Manifest),
    /// To [`Ask::Manifest`] where there is none.
    NotThere,
    /// To [`Ask::Referrers`].
    Referrers(Referrers),
}

/// How something that was not asked for was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Found {
    /// It refers to its subject.
    Referrer,
    /// It is the index under the subject's fallback tag.
    FallbackIndex(Tag),
    /// It has one of cosign's tags.
    CosignTag(Tag),
}

/// A manifest that was found beside the artifacts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundManifest {
    /// Where.
    pub repository: Repository,
    /// What.
    pub digest: Digest,
    /// What it belongs to.
    pub subject: Digest,
    /// How.
    pub found: Found,
}

/// A blob that manifests refer to, and where to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobSource {
    /// A repository that has it.
    pub repository: Repository,
    /// The largest size that is declared for it.
    pub declared: u64,
    /// Whether it need not be there: a foreign layer.
    pub foreign: bool,
}

/// A manifest that the walk sees for the first time: to be stored, in this order.
#[derive(Debug, Clone)]
pub struct NewManifest {
    /// Its digest.
    pub digest: Digest,
    /// The media type that it is pushed with.
    pub media_type: MediaType,
    /// Its bytes.
    pub bytes: bytes::Bytes,
}

/// What a walk found.
pub struct Walked {
    /// The artifacts in the order of the part, each with its digest or why it cannot be carried.
    pub artifacts: Vec<(ArtifactReference, Result<Digest, Failure>)>,
    /// What was found beside them.
    pub found: BTreeSet<FoundManifest>,
    /// Every manifest.
    pub views: BTreeMap<Digest, ManifestView>,
    /// Every blob.
    pub blobs: BTreeMap<Digest, BlobSource>,
    /// What a person should know and nobody needs to act on.
    pub warnings: Vec<String>,
}
