//! The table: where everything is, and what belongs to what. A blob that `index.json` annotates. It holds only
//! what follows from the artifacts, so equal artifacts make an equal table.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use transship_model::{Digest, MediaType, Repository, Tag};

/// The version of the table that is written. Readers refuse a newer one.
pub const TABLE_VERSION: u32 = 1;

/// The table of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// [`TABLE_VERSION`].
    pub version: u32,
    /// Where the manifests begin in the blob, as text of fixed width: the head's length must not depend on it.
    #[serde(serialize_with = "fixed_width", deserialize_with = "from_fixed_width")]
    pub manifests_offset: u64,
    /// Where the content begins in the blob, of fixed width too.
    #[serde(serialize_with = "fixed_width", deserialize_with = "from_fixed_width")]
    pub content_offset: u64,
    /// The artifacts that were asked for, in the order of `index.json`.
    pub artifacts: Vec<TableArtifact>,
    /// What belongs to them and was found: referrers, signatures, fallback indexes.
    pub discovered: Vec<Discovered>,
    /// The manifests, in their order in the blob.
    pub manifests: Vec<StoredManifest>,
    /// The content, in its order in the blob; what is absent has no place in that order.
    pub content: Vec<StoredBlob>,
}

/// An artifact that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableArtifact {
    /// Its repository at the source.
    pub repository: Repository,
    /// Its tag, where it was named by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// What it resolved to.
    pub digest: Digest,
}

/// A manifest that was found, and not asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Discovered {
    /// The repository that it is in.
    pub repository: Repository,
    /// The manifest.
    pub digest: Digest,
    /// The manifest that it belongs to.
    pub subject: Digest,
    /// How it was found.
    pub by: Discovery,
}

/// How a manifest was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Discovery {
    /// It refers to its subject (the referrers API or a fallback index listed it).
    Referrer,
    /// It is the index under the subject's fallback tag.
    FallbackIndex {
        /// That tag.
        tag: Tag,
    },
    /// It has one of cosign's tags for the subject (`sha256-….sig`, `.att`, `.sbom`).
    CosignTag {
        /// That tag.
        tag: Tag,
    },
}

/// A manifest and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredManifest {
    /// The digest.
    pub digest: Digest,
    /// The media type that it is pushed with.
    pub media_type: MediaType,
    /// The size of its bytes.
    pub size: u64,
    /// Where its bytes begin, counted from `manifestsOffset`.
    pub offset: u64,
}

/// A blob, and where it is or why it is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBlob {
    /// The digest.
    pub digest: Digest,
    /// The size that the manifests declare.
    pub declared: u64,
    /// The size of the bytes that are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Where its bytes begin, counted from `contentOffset`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Why it is not in the bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<Absence>,
}

/// Why a blob is not in the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Absence {
    /// A foreign layer whose bytes the source does not have.
    NotDistributable,
    /// The target has acknowledged that it has it.
    Acknowledged,
    /// It could not be read.
    Failed,
    /// An earlier part of the run holds it.
    InPart(u32),
}

/// As many digits as the largest offset has.
fn fixed_width<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{value:020}"))
}

fn from_fixed_width<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| serde::de::Error::custom("an offset is 20 decimal digits"))
}
