//! Against real servers: docker-registry, RabbitMQ and skopeo.

mod narrow;
mod registry;
#[path = "../scene/mod.rs"]
mod scene;
mod service;
mod skopeo;
mod slices;

use anyhow::{Context as _, Result, ensure};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use scene::bundle::BundleBuilder;

/// An image that every tool accepts: a config in JSON, and layers.
fn image(bundle: &mut BundleBuilder, name: &str, layers: &[scene::bundle::Item]) -> scene::bundle::Item {
    let diffs: Vec<String> = layers.iter().map(|layer| layer.digest.to_string()).collect();
    let config = serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Labels": { "name": name } },
        "rootfs": { "type": "layers", "diff_ids": diffs },
    });
    let config = bundle.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let layers: Vec<_> = layers.iter().map(scene::bundle::Item::json).collect();
    let media_type = transship_model::MediaType::OCI_MANIFEST;
    let json = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type, "config": config.json(), "layers": layers,
    });
    bundle.manifest(media_type, &json)
}

/// What a registry answers to a plain client: status, media type, bytes.
async fn pull(url: &str, path: &str) -> Result<(u16, String, Vec<u8>)> {
    let request = reqwest::Client::new().get(format!("{url}/v2/{path}")).header(ACCEPT, "*/*");
    let types = [
        transship_model::MediaType::OCI_INDEX,
        transship_model::MediaType::OCI_MANIFEST,
        transship_model::MediaType::DOCKER_LIST,
        transship_model::MediaType::DOCKER_MANIFEST,
    ];
    let request = types.into_iter().fold(request, |request, media_type| request.header(ACCEPT, media_type));
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    let media_type = answer.headers().get(CONTENT_TYPE).map(|value| value.to_str().map(str::to_owned));
    let media_type = media_type.transpose()?.unwrap_or_default();
    Ok((status, media_type, answer.bytes().await?.to_vec()))
}

/// Asserts that a repository has everything of a bundle, byte for byte.
async fn has_everything(url: &str, repository: &str, bundle: &BundleBuilder) -> Result<()> {
    for (item, bytes) in &bundle.manifests {
        let (status, media_type, pulled) =
            pull(url, &format!("{repository}/manifests/{}", item.digest)).await?;
        ensure!(status == 200, "{repository} has no manifest {}: {status}", item.digest);
        ensure!(media_type == item.media_type, "{} is {media_type}, not {}", item.digest, item.media_type);
        ensure!(pulled == *bytes, "{} has other bytes", item.digest);
    }
    for (digest, bytes) in &bundle.blobs {
        let (status, _, pulled) = pull(url, &format!("{repository}/blobs/{digest}")).await?;
        ensure!(status == 200 && pulled == *bytes, "{repository} has no blob {digest}: {status}");
    }
    Ok(())
}

/// Asserts what a tag points to.
async fn points_to(
    url: &str,
    repository: &str,
    tag: &str,
    bundle: &BundleBuilder,
    item: &scene::bundle::Item,
) -> Result<()> {
    let (status, _, bytes) = pull(url, &format!("{repository}/manifests/{tag}")).await?;
    let expected = bundle.manifests.iter().find(|(known, _)| known.digest == item.digest);
    ensure!(status == 200, "{repository}:{tag}: {status}");
    ensure!(bytes == expected.context("the bundle has it")?.1, "{repository}:{tag} has other bytes");
    Ok(())
}
