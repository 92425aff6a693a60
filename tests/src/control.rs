//! A client of the control plane for tests: plain HTTP, as any client would speak it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::client::digest_of;

/// The host of a vault that is a directory of files on this machine.
pub const VAULT: &str = "local.vault.azure.net";

/// How clients of the control plane are known.
#[derive(Clone)]
pub struct Access {
    /// The token of a contributor.
    pub token: String,
    /// The token of a notifier, for a registry that tells of what is pushed.
    pub notifier: String,
    /// The subscription.
    pub subscription: String,
    /// The resource group: that of the command line where nothing names one, so that it lists what tests make.
    pub group: &'static str,
}

impl Access {
    /// Tokens that nobody had before.
    pub fn new() -> Self {
        // Random by the standard library's own keys: good for servers of a test that only this machine reaches.
        let random = || std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u8);
        let token = || format!("{:016x}{:016x}{:016x}", random(), random(), random());
        Self {
            token: token(),
            notifier: token(),
            subscription: "00000000-0000-0000-0000-000000000001".to_owned(),
            group: "transship",
        }
    }

    /// The file of tokens that the control plane reads: it holds hashes.
    pub fn tokens_file(&self) -> String {
        let line = |role: &str, name: &str, token: &str| {
            format!("{role} {name} {}\n", digest_of(token.as_bytes()).trim_start_matches("sha256:"))
        };
        line("contributor", "local", &self.token) + &line("notifier", "source-registry", &self.notifier)
    }
}

impl Default for Access {
    fn default() -> Self {
        Self::new()
    }
}

/// The `keyVaultUri` of a secret of the local vault.
pub fn secret_uri(name: &str) -> String {
    format!("https://{VAULT}/secrets/{name}")
}

/// The control plane's own sections of its configuration.
pub(crate) fn configuration(folder: &str, name: &str, registries: &[(&str, String)]) -> String {
    let mut text = format!(
        "[api]\nlisten = \"127.0.0.1:0\"\naddress_file = \"{folder}/{name}.api\"\n\n\
         [auth]\ntokens_file = \"{folder}/tokens\"\n\n\
         [state]\nurl = \"sqlite://{folder}/{name}.db\"\n\n\
         [trigger]\ninterval_seconds = 2\n"
    );
    for (registry, url) in registries {
        text += &format!("\n[registries.{registry}]\nurl = \"{url}\"\n");
    }
    text
}

/// The control plane of a stack, as one client sees it.
#[derive(Clone)]
pub struct Control {
    http: reqwest::Client,
    url: String,
    access: Access,
}

/// The api-version that is sent; any is accepted.
const API_VERSION: &str = "2025-06-01-preview";

impl Control {
    /// A client of the control plane at `url`.
    pub fn new(url: &str, access: &Access) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
        Ok(Self { http, url: url.to_owned(), access: access.clone() })
    }

    /// The resource id of something below a registry.
    pub fn id(&self, registry: &str, kind: &str, name: &str) -> String {
        let Access { subscription, group, .. } = &self.access;
        format!(
            "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.ContainerRegistry/\
             registries/{registry}/{kind}/{name}"
        )
    }

    /// Sends a request to the resource `id`; the status and the body.
    pub async fn send(
        &self,
        method: reqwest::Method,
        id: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value)> {
        let separator = if id.contains('?') { '&' } else { '?' };
        let address = format!("{}{id}{separator}api-version={API_VERSION}", self.url);
        self.send_to(method, &address, body).await
    }

    /// Sends a request to an absolute address.
    pub async fn send_to(
        &self,
        method: reqwest::Method,
        address: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value)> {
        let mut request = self.http.request(method, address).bearer_auth(&self.access.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.with_context(|| format!("ask {address}"))?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? };
        Ok((status, body))
    }

    /// PUTs a resource, which must succeed.
    pub async fn put(&self, id: &str, body: &Value) -> Result<Value> {
        let (status, answer) = self.send(reqwest::Method::PUT, id, Some(body)).await?;
        ensure!(matches!(status, 200 | 201), "PUT {id}: {status}: {answer}");
        Ok(answer)
    }

    /// GETs a resource, which must be there.
    pub async fn get(&self, id: &str) -> Result<Value> {
        let (status, answer) = self.send(reqwest::Method::GET, id, None).await?;
        ensure!(status == 200, "GET {id}: {status}: {answer}");
        Ok(answer)
    }

    /// Everything on all pages of a list.
    pub async fn list(&self, registry: &str, kind: &str) -> Result<Vec<Value>> {
        let id = self.id(registry, kind, "");
        let mut page = format!("{}{}?api-version={API_VERSION}", self.url, id.trim_end_matches('/'));
        let mut all = Vec::new();
        loop {
            let (status, answer) = self.send_to(reqwest::Method::GET, &page, None).await?;
            ensure!(status == 200, "GET {page}: {status}: {answer}");
            all.extend(answer["value"].as_array().context("a list has a value")?.iter().cloned());
            match answer["nextLink"].as_str() {
                Some(next) => page = next.to_owned(),
                None => return Ok(all),
            }
        }
    }

    /// Makes an export pipeline with access by a secret of the vault; `more` are further properties.
    pub async fn export_pipeline(
        &self,
        registry: &str,
        name: &str,
        container: &str,
        secret: &str,
        more: Value,
    ) -> Result<String> {
        let id = self.id(registry, "exportPipelines", name);
        self.pipeline(id, "target", container, secret, more).await
    }

    /// Makes an import pipeline with access by a secret of the vault; `more` are further properties.
    pub async fn import_pipeline(
        &self,
        registry: &str,
        name: &str,
        container: &str,
        secret: &str,
        more: Value,
    ) -> Result<String> {
        let id = self.id(registry, "importPipelines", name);
        self.pipeline(id, "source", container, secret, more).await
    }

    async fn pipeline(
        &self,
        id: String,
        end: &str,
        container: &str,
        secret: &str,
        mut properties: Value,
    ) -> Result<String> {
        properties[end] =
            json!({"type": "AzureStorageBlobContainer", "uri": container, "keyVaultUri": secret});
        self.put(&id, &json!({"identity": {"type": "SystemAssigned"}, "properties": properties})).await?;
        Ok(id)
    }

    /// The body of an export run.
    pub fn export_run(pipeline: &str, blob: &str, artifacts: &[&str]) -> Value {
        json!({"properties": {"request": {
            "pipelineResourceId": pipeline,
            "target": {"type": "AzureStorageBlob", "name": blob},
            "artifacts": artifacts,
        }}})
    }

    /// Waits until a run is over.
    pub async fn ended(&self, id: &str, within: Duration) -> Result<Value> {
        self.until(id, within, |run| {
            matches!(run["properties"]["provisioningState"].as_str(), Some("Succeeded" | "Failed"))
        })
        .await
    }

    /// Waits until a run is over, and has succeeded.
    pub async fn succeeded(&self, id: &str, within: Duration) -> Result<Value> {
        let run = self.ended(id, within).await?;
        ensure!(run["properties"]["provisioningState"] == "Succeeded", "{id} failed: {run:#}");
        Ok(run)
    }

    /// Waits until what is served of a resource fits; a control plane that is away meanwhile is waited for.
    pub async fn until(&self, id: &str, within: Duration, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + within;
        loop {
            let last = self.get(id).await;
            match &last {
                Ok(value) if fits(value) => return last,
                _ if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(100)).await,
                _ => bail!("{id} did not become what was waited for within {within:?}: {last:#?}"),
            }
        }
    }
}
