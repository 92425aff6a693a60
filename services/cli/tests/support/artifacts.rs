//! Pushes artifacts to a registry over HTTP, byte for byte as they are given.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use transship_model::Digest;

pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Bytes that no two seeds share and that do not repeat.
pub(crate) fn content(seed: &str, size: usize) -> Vec<u8> {
    let mut state = Digest::sha256(seed.as_bytes()).hex()[..16].parse_hex() | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

trait ParseHex {
    fn parse_hex(&self) -> u64;
}

impl ParseHex for str {
    fn parse_hex(&self) -> u64 {
        u64::from_str_radix(self, 16).expect("hexadecimal digits")
    }
}

/// A registry to push to and to read from.
pub(crate) struct Pusher {
    client: reqwest::Client,
    url: String,
}

impl Pusher {
    pub(crate) fn new(url: &str) -> Self {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { client, url: url.to_owned() }
    }

    /// Uploads a blob, and returns its descriptor.
    pub(crate) async fn blob(&self, repository: &str, media_type: &str, bytes: Vec<u8>) -> Result<Value> {
        let digest = Digest::sha256(&bytes);
        let size = bytes.len();
        let begun = self.client.post(format!("{}/v2/{repository}/blobs/uploads/", self.url)).send().await?;
        let begun = begun.error_for_status()?;
        let location = begun.headers().get("location").context("no location")?.to_str()?.to_owned();
        let separator = if location.contains('?') { '&' } else { '?' };
        let put = self.client.put(format!("{location}{separator}digest={digest}")).body(bytes).send().await?;
        put.error_for_status()?;
        Ok(json!({"mediaType": media_type, "digest": digest.to_string(), "size": size}))
    }

    /// Puts a manifest, pretty-printed, under a tag or its digest, and returns its descriptor.
    pub(crate) async fn manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        manifest: &Value,
    ) -> Result<Value> {
        let media_type = manifest["mediaType"].as_str().unwrap_or(IMAGE).to_owned();
        let bytes = serde_json::to_vec_pretty(manifest)?;
        let (digest, size) = (Digest::sha256(&bytes), bytes.len());
        let name = tag.map_or_else(|| digest.to_string(), str::to_owned);
        let put = self.client.put(format!("{}/v2/{repository}/manifests/{name}", self.url));
        let answer = put.header("content-type", &media_type).body(bytes).send().await?;
        ensure!(answer.status().is_success(), "{}: {}", answer.status(), answer.text().await?);
        Ok(json!({"mediaType": media_type, "digest": digest.to_string(), "size": size}))
    }

    /// An image with a config and one layer for each size; equal sizes are equal layers in every image.
    pub(crate) async fn image(&self, repository: &str, tag: Option<&str>, layers: &[usize]) -> Result<Value> {
        let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
            "name": format!("{repository} {tag:?} {layers:?}")});
        let config = self.blob(repository, CONFIG, serde_json::to_vec(&config)?).await?;
        let mut descriptors = Vec::new();
        for size in layers {
            descriptors.push(self.blob(repository, LAYER, content(&format!("layer {size}"), *size)).await?);
        }
        let manifest =
            json!({"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": descriptors});
        self.manifest(repository, tag, &manifest).await
    }

    /// The bytes and the media type of a manifest; `None` where there is none.
    pub(crate) async fn read(&self, repository: &str, name: &str) -> Result<Option<(Vec<u8>, String)>> {
        let request = self.client.get(format!("{}/v2/{repository}/manifests/{name}", self.url));
        let answer = request.header("accept", format!("{IMAGE}, {INDEX}, */*")).send().await?;
        if answer.status().as_u16() == 404 {
            return Ok(None);
        }
        let answer = answer.error_for_status()?;
        let media_type = answer.headers().get("content-type").context("no type")?.to_str()?.to_owned();
        Ok(Some((answer.bytes().await?.to_vec(), media_type)))
    }

    /// Whether a repository has a blob.
    pub(crate) async fn has_blob(&self, repository: &str, digest: &str) -> bool {
        let head = self.client.head(format!("{}/v2/{repository}/blobs/{digest}", self.url)).send().await;
        head.is_ok_and(|answer| answer.status().is_success())
    }

    /// Deletes a blob.
    pub(crate) async fn delete_blob(&self, repository: &str, digest: &str) -> Result<()> {
        let delete =
            self.client.delete(format!("{}/v2/{repository}/blobs/{digest}", self.url)).send().await?;
        delete.error_for_status()?;
        Ok(())
    }
}

/// Pushes an image index of two platforms as `team/app:1`, and a chart as `team/chart:0.1.0`.
pub(crate) async fn push_zoo(registry: &Pusher) -> Result<()> {
    let mut platforms = Vec::new();
    for (architecture, layers) in [("amd64", [40_000, 3_000_000]), ("arm64", [40_000, 50_000])] {
        let mut image = registry.image("team/app", None, &layers).await?;
        image["platform"] = json!({"os": "linux", "architecture": architecture});
        platforms.push(image);
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": platforms});
    registry.manifest("team/app", Some("1"), &index).await?;
    let config = registry
        .blob(
            "team/chart",
            "application/vnd.cncf.helm.config.v1+json",
            br#"{"name":"chart","version":"0.1.0"}"#.to_vec(),
        )
        .await?;
    let layer = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
    let layer = registry.blob("team/chart", layer, content("chart", 9_000)).await?;
    let chart = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    registry.manifest("team/chart", Some("0.1.0"), &chart).await?;
    Ok(())
}
