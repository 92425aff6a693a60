//! Media types (RFC 6838, section 4.2), and those that the OCI and Docker formats give a meaning.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A media type: `type/subtype`, at most 255 bytes, no parameters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MediaType(Box<str>);

/// Why a string is not a media type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{shown:?} is not a media type: expected type/subtype (RFC 6838), at most 255 characters")]
pub struct MediaTypeError {
    shown: String,
}

impl MediaType {
    /// An OCI image manifest.
    pub const OCI_MANIFEST: &'static str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index.
    pub const OCI_INDEX: &'static str = "application/vnd.oci.image.index.v1+json";
    /// A Docker image manifest, version 2, schema 2.
    pub const DOCKER_MANIFEST: &'static str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker manifest list.
    pub const DOCKER_LIST: &'static str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// The artifact manifest that OCI 1.1 had and dropped.
    pub const OCI_ARTIFACT: &'static str = "application/vnd.oci.artifact.manifest.v1+json";

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is a type that describes a manifest of any of the known formats.
    pub fn is_known_manifest(&self) -> bool {
        matches!(
            self.as_str(),
            Self::OCI_MANIFEST
                | Self::OCI_INDEX
                | Self::DOCKER_MANIFEST
                | Self::DOCKER_LIST
                | Self::OCI_ARTIFACT
        )
    }

    /// Whether a layer of this type need not be distributed: Docker's foreign layers and OCI's
    /// non-distributable ones (image specification, "Non-Distributable Layers").
    pub fn is_foreign_layer(&self) -> bool {
        self.0.starts_with("application/vnd.docker.image.rootfs.foreign.diff.")
            || self.0.starts_with("application/vnd.oci.image.layer.nondistributable.")
    }
}

fn is_restricted_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b);
    !name.is_empty()
        && name.as_bytes()[0].is_ascii_alphanumeric()
        && name.len() <= 127
        && name.bytes().all(allowed)
}

impl FromStr for MediaType {
    type Err = MediaTypeError;

    fn from_str(text: &str) -> Result<Self, MediaTypeError> {
        match text.split_once('/') {
            Some((kind, subtype)) if is_restricted_name(kind) && is_restricted_name(subtype) => {
                Ok(Self(text.into()))
            }
            _ => Err(MediaTypeError { shown: text.chars().take(100).collect() }),
        }
    }
}

impl TryFrom<String> for MediaType {
    type Error = MediaTypeError;

    fn try_from(text: String) -> Result<Self, MediaTypeError> {
        text.parse()
    }
}

impl From<MediaType> for String {
    fn from(media_type: MediaType) -> Self {
        media_type.0.into()
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_nobody_has_heard_of_is_accepted_and_a_hostile_one_is_not() {
        for good in ["application/vnd.acme.rocket+json", MediaType::OCI_INDEX, "text/plain", "a/b"] {
            assert_eq!(good.parse::<MediaType>().unwrap().as_str(), good);
        }
        let long = format!("application/{}", "x".repeat(300));
        for bad in
            ["", "text", "text/", "/html", "text/html; <script>", "a/b/c", "a/b\r\nX: y", " a/b", &long]
        {
            assert!(bad.parse::<MediaType>().is_err(), "{bad:?}");
        }
    }
}
