//! A plain client of a registry (OCI distribution specification), for putting artifacts there and reading them back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::{Response, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// How long a registry that answers 5xx to a `GET` is asked again.
const BUSY: Duration = Duration::from_secs(5);

/// A registry on this machine, without authentication.
#[derive(Clone)]
pub struct Client {
    url: String,
    http: reqwest::Client,
}

/// A manifest as a registry answered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The `Content-Type`.
    pub media_type: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// `sha256:` and the digest of `bytes`.
pub fn digest_of(bytes: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Bytes that depend on the name alone and do not compress.
pub fn content(name: &str, size: usize) -> Vec<u8> {
    let mut state = Sha256::digest(name.as_bytes())
        .iter()
        .fold(1u64, |state, byte| state.rotate_left(8) ^ u64::from(*byte))
        | 1;
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

impl Client {
    /// A client of the registry at `url` (`http://127.0.0.1:PORT`).
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), http: reqwest::Client::new() }
    }

    /// Puts a blob, and returns its descriptor.
    pub async fn blob(&self, repository: &str, bytes: Vec<u8>, media_type: &str) -> Result<Value> {
        let (digest, size) = (digest_of(&bytes), bytes.len());
        if !self.has_blob(repository, &digest).await? {
            let started =
                self.http.post(format!("{}/v2/{repository}/blobs/uploads/", self.url)).send().await?;
            ensure!(started.status() == StatusCode::ACCEPTED, "starting an upload: {}", started.status());
            let location = started.headers().get(header::LOCATION).context("Location")?.to_str()?.to_owned();
            let separator = if location.contains('?') { '&' } else { '?' };
            let url = if location.starts_with("http") { location } else { format!("{}{location}", self.url) };
            let put = self.http.put(format!("{url}{separator}digest={digest}")).body(bytes).send().await?;
            ensure!(put.status() == StatusCode::CREATED, "putting {digest}: {}", put.status());
        }
        Ok(json!({"mediaType": media_type, "digest": digest, "size": size}))
    }

    /// Puts many small blobs, several at a time, and returns their descriptors in order.
    pub async fn blobs(
        &self,
        repository: &str,
        contents: Vec<Vec<u8>>,
        media_type: &str,
    ) -> Result<Vec<Value>> {
        stream::iter(contents)
            .map(|bytes| self.blob(repository, bytes, media_type))
            .buffered(16)
            .try_collect()
            .await
    }

    /// Whether the repository has the blob.
    pub async fn has_blob(&self, repository: &str, digest: &str) -> Result<bool> {
        Ok(self
            .http
            .head(format!("{}/v2/{repository}/blobs/{digest}", self.url))
            .send()
            .await?
            .status()
            .is_success())
    }

    /// Puts a manifest under a tag, or under its digest, and returns its descriptor.
    pub async fn manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        bytes: Vec<u8>,
        media_type: &str,
    ) -> Result<Value> {
        let (digest, size) = (digest_of(&bytes), bytes.len());
        let url = format!("{}/v2/{repository}/manifests/{}", self.url, tag.unwrap_or(&digest));
        let put = self.http.put(url).header(header::CONTENT_TYPE, media_type).body(bytes).send().await?;
        let status = put.status();
        ensure!(
            status == StatusCode::CREATED,
            "putting a manifest to {repository}: {status} {}",
            put.text().await?
        );
        Ok(json!({"mediaType": media_type, "digest": digest, "size": size}))
    }

    /// A manifest, or `None` where there is none.
    pub async fn fetch(&self, repository: &str, reference: &str) -> Result<Option<Fetched>> {
        let accept = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.docker.distribution.manifest.v2+json, */*";
        let answer = self.read(&format!("{repository}/manifests/{reference}"), accept).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let media_type =
            answer.headers().get(header::CONTENT_TYPE).context("Content-Type")?.to_str()?.to_owned();
        Ok(Some(Fetched { media_type, bytes: succeeded(answer).await?.bytes().await?.to_vec() }))
    }

    /// What the registry answers to a `GET` of `path`. docker-registry writes the link of a tag in place, so whoever
    /// reads the tag at that moment gets a 500: it is asked again then, for a while.
    async fn read(&self, path: &str, accept: &str) -> Result<Response> {
        let deadline = Instant::now() + BUSY;
        loop {
            let request = self.http.get(format!("{}/v2/{path}", self.url)).header(header::ACCEPT, accept);
            let answer = request.send().await.with_context(|| format!("reading {path}"))?;
            if !answer.status().is_server_error() || Instant::now() > deadline {
                return Ok(answer);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The digest and length of a blob's bytes, read to the end.
    pub async fn blob_digest(&self, repository: &str, digest: &str) -> Result<(String, u64)> {
        let answer = self.read(&format!("{repository}/blobs/{digest}"), "*/*").await?;
        let mut bytes = succeeded(answer).await?.bytes_stream();
        let (mut hash, mut length) = (Sha256::new(), 0);
        while let Some(piece) = bytes.try_next().await? {
            hash.update(&piece);
            length += piece.len() as u64;
        }
        let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok((format!("sha256:{hex}"), length))
    }
}

/// The answer, or an error with what the registry said.
async fn succeeded(answer: Response) -> Result<Response> {
    let (url, status) = (answer.url().clone(), answer.status());
    if status.is_success() {
        return Ok(answer);
    }
    anyhow::bail!("{url}: {status}: {}", answer.text().await?)
}
