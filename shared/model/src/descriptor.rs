//! Descriptors (OCI image specification, "Descriptor").

use serde::{Deserialize, Serialize};

use crate::{Digest, MediaType};

/// What a manifest says of one thing that it refers to.
///
/// The size is what the manifest *declares*; registries accept manifests in which it is wrong, so the bytes
/// that are there, and the digest, decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type, opaque to transship unless it is a manifest's.
    pub media_type: MediaType,
    /// The digest of the content.
    pub digest: Digest,
    /// The declared size in bytes.
    pub size: u64,
    /// Where a foreign layer says that its bytes are. Never followed by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// The type of the artifact, where the descriptor names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}
