//! What an artifact is, in a word or two, from its manifest. For people: nothing depends on it.

use transship_model::{ManifestKind, ManifestView, MediaType};

/// The kind of artifact that a manifest describes.
pub(crate) fn kind_of(view: &ManifestView) -> &'static str {
    if view.kind == ManifestKind::Index {
        return if view.media_type.as_str() == MediaType::DOCKER_LIST { "manifest list" } else { "index" };
    }
    let config = view.blobs.first().map(|blob| blob.media_type.as_str()).unwrap_or_default();
    let layers = view.blobs.iter().skip(1).map(|blob| blob.media_type.as_str());
    let named = view.artifact_type.as_deref().into_iter().chain([config]).chain(layers);
    named.filter_map(known).next().unwrap_or_else(|| by_config(view, config))
}

/// The kind that one media type stands for. The first that says something decides: the artifact's own type,
/// then its config's, then its layers'.
fn known(media_type: &str) -> Option<&'static str> {
    const KINDS: &[(&str, &str)] = &[
        ("application/vnd.cncf.helm.config.", "helm chart"),
        ("application/vnd.cncf.helm.chart.", "helm chart"),
        ("application/vnd.dev.cosign.simplesigning.", "signature"),
        ("application/vnd.dev.cosign.artifact.sig.", "signature"),
        ("application/vnd.cncf.notary.signature", "signature"),
        ("application/vnd.dev.sigstore.bundle", "signature"),
        ("application/vnd.in-toto", "attestation"),
        ("application/vnd.dsse.envelope", "attestation"),
        ("application/spdx", "sbom"),
        ("text/spdx", "sbom"),
        ("application/vnd.cyclonedx", "sbom"),
        ("application/vnd.syft", "sbom"),
        ("application/wasm", "wasm"),
        ("application/vnd.wasm.", "wasm"),
        ("application/vnd.module.wasm", "wasm"),
        ("application/vnd.cncf.model.", "model"),
        ("application/vnd.ollama.image.model", "model"),
        ("application/vnd.cncf.openpolicyagent.", "policy"),
    ];
    KINDS.iter().find(|(prefix, _)| media_type.starts_with(prefix)).map(|(_, kind)| *kind)
}

fn by_config(view: &ManifestView, config: &str) -> &'static str {
    match config {
        "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
            if view.artifact_type.is_none() =>
        {
            "image"
        }
        _ => "artifact",
    }
}

#[cfg(test)]
mod tests {
    use transship_model::Digest;

    use super::*;

    fn kind(manifest_type: &str, artifact_type: Option<&str>, blobs: &[&str]) -> &'static str {
        let descriptor = |media_type: &&str| serde_json::json!({"mediaType": media_type, "digest": Digest::sha256(b"x").to_string(), "size": 1});
        let mut manifest = serde_json::json!({"schemaVersion": 2, "mediaType": manifest_type});
        if let [config, layers @ ..] = blobs {
            manifest["config"] = descriptor(config);
            manifest["layers"] = layers.iter().map(descriptor).collect();
        } else {
            manifest["manifests"] = serde_json::json!([]);
        }
        if let Some(artifact_type) = artifact_type {
            manifest["artifactType"] = artifact_type.into();
        }
        kind_of(&ManifestView::parse(manifest.to_string().as_bytes(), None).unwrap())
    }

    #[test]
    fn artifacts_are_known_by_their_types() {
        let image = "application/vnd.oci.image.config.v1+json";
        let empty = "application/vnd.oci.empty.v1+json";
        let tar = "application/vnd.oci.image.layer.v1.tar+gzip";
        for (manifest_type, artifact_type, blobs, expected) in [
            (MediaType::OCI_INDEX, None, &[][..], "index"),
            (MediaType::DOCKER_LIST, None, &[], "manifest list"),
            (MediaType::OCI_MANIFEST, None, &[image, tar], "image"),
            (
                MediaType::DOCKER_MANIFEST,
                None,
                &["application/vnd.docker.container.image.v1+json", tar],
                "image",
            ),
            (MediaType::OCI_MANIFEST, None, &["application/vnd.cncf.helm.config.v1+json", tar], "helm chart"),
            (
                MediaType::OCI_MANIFEST,
                None,
                &[image, "application/vnd.dev.cosign.simplesigning.v1+json"],
                "signature",
            ),
            (MediaType::OCI_MANIFEST, Some("application/spdx+json"), &[empty], "sbom"),
            (MediaType::OCI_MANIFEST, None, &[image, "application/vnd.in-toto+json"], "attestation"),
            (MediaType::OCI_MANIFEST, Some("application/vnd.acme.thing"), &[empty, tar], "artifact"),
            (MediaType::OCI_MANIFEST, None, &["application/vnd.acme.config", tar], "artifact"),
        ] {
            assert_eq!(kind(manifest_type, artifact_type, blobs), expected, "{artifact_type:?} {blobs:?}");
        }
    }
}
