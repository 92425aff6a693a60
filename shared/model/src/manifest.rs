//! An immutable view of a manifest: what it refers to, and nothing else. The bytes stay as they are; nothing
//! here can write a manifest, so nothing can re-serialise one.

use serde::Deserialize;

use crate::{Descriptor, MediaType};

/// The largest manifest that transship reads, in bytes: what registries accept (distribution, ACR: 4 MiB).
pub const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;

/// Whether a manifest lists other manifests or content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestKind {
    /// A list of manifests: an OCI index or a Docker manifest list.
    Index,
    /// A manifest of content: an image or an artifact.
    Image,
}

/// What a manifest says. Parsed once, from bytes whose digest was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestView {
    /// The media type: the `mediaType` field, or the `Content-Type` where the field is absent.
    pub media_type: MediaType,
    /// Index or image.
    pub kind: ManifestKind,
    /// The manifests that an index lists, in its order.
    pub manifests: Vec<Descriptor>,
    /// The content of an image, config first, in its order; the same blob may stand in it twice.
    pub blobs: Vec<Descriptor>,
    /// The manifest that this one refers to (`subject`), where it has one.
    pub subject: Option<Descriptor>,
    /// The `artifactType` field, where it has one.
    pub artifact_type: Option<String>,
}

/// Why bytes are not a manifest that transship can carry.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Larger than [`MAX_MANIFEST_BYTES`].
    #[error("the manifest has {0} bytes, more than the {MAX_MANIFEST_BYTES} that registries accept")]
    TooLarge(u64),
    /// Not JSON, a field twice, or a field of the wrong type.
    #[error("the manifest is not valid")]
    Json(#[from] serde_json::Error),
    /// The media type in the manifest is not the one that the registry answered with.
    #[error("the manifest says that it is {field}, and the registry says {header}")]
    TypesDiffer {
        /// The `mediaType` field.
        field: String,
        /// The `Content-Type` header or the descriptor's media type.
        header: String,
    },
    /// Neither the manifest nor the registry says what it is.
    #[error("neither the manifest nor the registry names its media type")]
    NoType,
    /// Both an index and an image (CVE-2021-41190).
    #[error("the manifest is both an index and an image")]
    Ambiguous,
    /// The retired schema 1, whose bytes change with their signature.
    #[error(
        "Docker schema 1 manifests cannot be moved byte for byte; push the image again with a current client"
    )]
    Schema1,
}

/// The fields that matter. A typed struct makes a field that stands twice an error, so no two readers can see
/// different manifests.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    blobs: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl ManifestView {
    /// Parses `bytes`. `outer_type` is the media type that came with them: the `Content-Type` without its
    /// parameters, or the media type of the descriptor that led here.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn parse(bytes: &[u8], outer_type: Option<&str>) -> Result<Self, ManifestError> {
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge(bytes.len() as u64));
        }
        let fields: Fields = serde_json::from_slice(bytes)?;
        if fields.fs_layers.is_some() || fields.schema_version == Some(1) {
            return Err(ManifestError::Schema1);
        }
        let media_type = agreed_type(fields.media_type.as_deref(), outer_type, fields.manifests.is_some())?;
        let has_content = fields.config.is_some() || fields.layers.is_some() || fields.blobs.is_some();
        let by_type = match media_type.as_str() {
            MediaType::OCI_INDEX | MediaType::DOCKER_LIST => Some(ManifestKind::Index),
            MediaType::OCI_MANIFEST | MediaType::DOCKER_MANIFEST | MediaType::OCI_ARTIFACT => {
                Some(ManifestKind::Image)
            }
            _ => None,
        };
        let by_shape = if fields.manifests.is_some() { ManifestKind::Index } else { ManifestKind::Image };
        if (fields.manifests.is_some() && has_content)
            || by_type.is_some_and(|kind| kind != by_shape && (has_content || fields.manifests.is_some()))
        {
            return Err(ManifestError::Ambiguous);
        }
        let blobs = fields.config.into_iter().chain(fields.layers.into_iter().flatten());
        Ok(Self {
            media_type,
            kind: by_type.unwrap_or(by_shape),
            manifests: fields.manifests.unwrap_or_default(),
            blobs: blobs.chain(fields.blobs.into_iter().flatten()).collect(),
            subject: fields.subject,
            artifact_type: fields.artifact_type,
        })
    }
}

/// The one media type that the field and the header agree on. A generic header says nothing; where nobody
/// says anything, the shape decides between the two OCI types, as the field is optional in both.
fn agreed_type(field: Option<&str>, header: Option<&str>, is_list: bool) -> Result<MediaType, ManifestError> {
    let header = header.filter(|h| {
        !h.is_empty() && !matches!(*h, "application/json" | "text/plain" | "application/octet-stream")
    });
    let named = match (field.filter(|f| !f.is_empty()), header) {
        (Some(field), Some(header)) if field != header => {
            return Err(ManifestError::TypesDiffer { field: short(field), header: short(header) });
        }
        (Some(named), _) | (None, Some(named)) => named,
        (None, None) if is_list => MediaType::OCI_INDEX,
        (None, None) => MediaType::OCI_MANIFEST,
    };
    named.parse().map_err(|_| ManifestError::NoType)
}

fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    fn descriptor(media_type: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":1}}"#, Digest::sha256(b"x"))
    }

    #[test]
    fn an_image_lists_its_config_before_its_layers_and_a_layer_twice() {
        let d = descriptor("application/x");
        let json = format!(r#"{{"schemaVersion":2,"config":{d},"layers":[{d},{d}],"subject":{d}}}"#);
        let view = ManifestView::parse(json.as_bytes(), Some(MediaType::OCI_MANIFEST)).unwrap();
        assert_eq!((view.kind, view.blobs.len(), view.manifests.len()), (ManifestKind::Image, 3, 0));
        assert!(view.subject.is_some());
    }

    #[test]
    fn a_manifest_without_a_media_type_takes_the_one_it_came_with() {
        let view =
            ManifestView::parse(br#"{"schemaVersion":2,"manifests":[]}"#, Some(MediaType::DOCKER_LIST));
        assert_eq!(view.unwrap().media_type.as_str(), MediaType::DOCKER_LIST);
        let view = ManifestView::parse(br#"{"schemaVersion":2,"manifests":[]}"#, Some("application/json"));
        assert_eq!(view.unwrap().media_type.as_str(), MediaType::OCI_INDEX);
    }

    #[test]
    fn a_media_type_nobody_has_heard_of_is_read_by_its_shape() {
        let json = format!(
            r#"{{"mediaType":"application/vnd.acme.list+json","manifests":[{}]}}"#,
            descriptor("a/b")
        );
        let view = ManifestView::parse(json.as_bytes(), None).unwrap();
        assert_eq!((view.kind, view.manifests.len()), (ManifestKind::Index, 1));
    }

    #[test]
    fn hostile_manifests_are_refused() {
        let d = descriptor("a/b");
        let deep = "[".repeat(200_000);
        let cases: Vec<(String, Option<&str>)> = vec![
            ("not json".into(), None),
            ("\u{feff}{}".into(), None),
            (deep, None),
            (format!(r#"{{"layers":[],"layers":[{d}]}}"#), None),
            (format!(r#"{{"layers":[{d}],"manifests":[{d}]}}"#), None),
            (format!(r#"{{"mediaType":"{}","layers":[{d}]}}"#, MediaType::OCI_INDEX), None),
            (format!(r#"{{"mediaType":"{}"}}"#, MediaType::OCI_INDEX), Some(MediaType::OCI_MANIFEST)),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#.into(), None),
            (r#"{"mediaType":"text/html; <script>"}"#.into(), None),
            (d.replace(":1}", ":-1}").replace('{', r#"{"config":{"#) + "}", None),
        ];
        for (json, outer) in cases {
            assert!(ManifestView::parse(json.as_bytes(), outer).is_err(), "{}", &json[..json.len().min(120)]);
        }
        let large = vec![b' '; MAX_MANIFEST_BYTES as usize + 1];
        assert!(matches!(ManifestView::parse(&large, None), Err(ManifestError::TooLarge(_))));
    }
}
