//! Compares an artifact in two registries, byte for byte, with everything below it.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::client::{Client, digest_of};

/// What was compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compared {
    /// Manifests.
    pub manifests: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes of both.
    pub bytes: u64,
}

/// Compares the artifact `reference` (`repository:tag` or `repository@digest`).
///
/// # Errors
/// Names the first difference.
pub async fn artifact(source: &Client, target: &Client, reference: &str) -> Result<Compared> {
    let (repository, selector) =
        reference.split_once('@').or_else(|| reference.rsplit_once(':')).context("a reference")?;
    let mut comparison =
        Comparison { source, target, repository, seen: BTreeSet::new(), compared: Compared::default() };
    let mut open = vec![selector.to_owned()];
    while let Some(selector) = open.pop() {
        open.extend(
            comparison.manifest(&selector).await.with_context(|| format!("{reference} at {selector}"))?,
        );
    }
    Ok(comparison.compared)
}

struct Comparison<'a> {
    source: &'a Client,
    target: &'a Client,
    repository: &'a str,
    seen: BTreeSet<String>,
    compared: Compared,
}

impl Comparison<'_> {
    /// Compares one manifest and its blobs, and returns what to compare next: children, what refers to it.
    async fn manifest(&mut self, selector: &str) -> Result<Vec<String>> {
        let there = self.source.fetch(self.repository, selector).await?.context("not at the source")?;
        let here = self.target.fetch(self.repository, selector).await?.context("not at the target")?;
        ensure!(there == here, "the manifests or their media types differ");
        let digest = digest_of(&there.bytes);
        if !self.seen.insert(digest.clone()) {
            return Ok(Vec::new());
        }
        self.compared.manifests += 1;
        self.compared.bytes += there.bytes.len() as u64;
        let manifest: Value = serde_json::from_slice(&there.bytes)?;
        let list = |key: &str| manifest[key].as_array().cloned().unwrap_or_default();
        let config = manifest.get("config").cloned();
        for blob in config.into_iter().chain(list("layers")) {
            let blob = blob["digest"].as_str().context("a digest")?.to_owned();
            if self.seen.insert(blob.clone()) {
                self.blob(&blob).await?;
            }
        }
        let mut next: Vec<String> =
            list("manifests").iter().filter_map(|child| Some(child["digest"].as_str()?.to_owned())).collect();
        for suffix in ["", ".sig", ".att", ".sbom"] {
            let tag = format!("{}{suffix}", digest.replace(':', "-"));
            if self.source.fetch(self.repository, &tag).await?.is_some() {
                next.push(tag);
            }
        }
        Ok(next)
    }

    async fn blob(&mut self, digest: &str) -> Result<()> {
        let (actual, length) = self.target.blob_digest(self.repository, digest).await?;
        ensure!(actual == digest, "blob {digest} has the digest {actual} at the target");
        self.compared.blobs += 1;
        self.compared.bytes += length;
        Ok(())
    }
}
