//! A control plane's interface on a free port, with a store in a temporary file.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use transship_api::{Kind, ResourceId};
use transship_control_plane::api::{Api, LimitsConfig};
use transship_control_plane::dispatch::Wake;
use transship_control_plane::http::{
    AuthConfig, Authenticator, Hints, Listen, Server, ServerParts, TlsConfig, serve,
};
use transship_control_plane::notify::{BlobHint, PushHint};
use transship_control_plane::registries::Registries;
use transship_control_plane::state::{RunState, Store};
use transship_control_plane::trigger::WatchStatus;
use transship_host::Readiness;
use transship_model::{BlobName, Secret};

/// The version that tests speak.
pub(crate) const VERSION: &str = "2025-06-01-preview";
/// Where the resources of tests are.
pub(crate) const GROUP: &str = "/subscriptions/sub/resourceGroups/group";
/// A registry that is configured.
pub(crate) const REGISTRY: &str =
    "/subscriptions/sub/resourceGroups/group/providers/Microsoft.ContainerRegistry/registries/source";
/// A container.
pub(crate) const CONTAINER: &str = "https://acct.blob.core.windows.net/c";
/// A secret.
pub(crate) const VAULT: &str = "https://kv.vault.azure.net/secrets/sas";

/// What was hinted.
#[derive(Default)]
pub(crate) struct Heard {
    /// Blobs by their addresses, as far as they are in [`CONTAINER`].
    pub blobs: Mutex<Vec<BlobName>>,
    /// Pipelines, and blobs in them.
    pub looks: Mutex<Vec<(String, Option<String>)>>,
    /// Pushes.
    pub pushes: Mutex<Vec<PushHint>>,
}

impl Hints for Heard {
    fn blobs_created(&self, blobs: Vec<BlobHint>) {
        let container = CONTAINER.parse().unwrap();
        self.blobs.lock().unwrap().extend(blobs.iter().filter_map(|blob| blob.blob_in(&container)));
    }

    fn look(&self, pipeline: &ResourceId, blob: Option<BlobName>) {
        self.looks.lock().unwrap().push((pipeline.name().to_owned(), blob.map(|blob| blob.to_string())));
    }

    fn pushed(&self, pushes: Vec<PushHint>) {
        self.pushes.lock().unwrap().extend(pushes);
    }

    fn watching(&self, pipeline: &ResourceId) -> Option<WatchStatus> {
        let status = WatchStatus { checked_ms: Some(0), seen: 7, ..WatchStatus::default() };
        (pipeline.name() == "inbox").then_some(status)
    }
}

/// What a scene is made with.
#[derive(Default)]
pub(crate) struct With {
    /// Bounds.
    pub limits: LimitsConfig,
    /// Who may use it; open by default.
    pub auth: AuthConfig,
    /// A certificate.
    pub tls: Option<TlsConfig>,
}

/// An interface that answers.
pub(crate) struct Scene {
    /// Its state.
    pub store: Store,
    /// What was hinted.
    pub heard: Arc<Heard>,
    /// Where it answers.
    pub url: String,
    client: reqwest::Client,
    _stop: DropGuard,
    _folder: tempfile::TempDir,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body; null where there is none.
    pub body: Value,
}

impl Answer {
    /// A header's text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The code of the error.
    pub(crate) fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }
}

impl Scene {
    pub(crate) async fn start() -> Self {
        Self::with(With::default()).await
    }

    pub(crate) async fn with(with: With) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("state.db").display());
        let store = Store::open(&Secret::new(&url)).await.unwrap();
        let entries = [
            ("source", json!({ "url": "http://127.0.0.1:5000", "location": "here" })),
            ("closed", json!({ "url": "https://closed.example", "export_policy": "disabled" })),
        ];
        let entries =
            entries.map(|(name, entry)| (name.parse().unwrap(), serde_json::from_value(entry).unwrap()));
        let listen = Listen { listen: "127.0.0.1:0".parse().unwrap(), tls: with.tls, ..Listen::default() };
        let bound = listen.bind().await.unwrap();
        let api = Api {
            store: store.clone(),
            registries: Registries::new(BTreeMap::from(entries)),
            identity: Default::default(),
            limits: with.limits,
            wake: Wake::default(),
        };
        let heard = Arc::new(Heard::default());
        let parts = ServerParts {
            auth: Authenticator::new(&with.auth).unwrap(),
            hints: heard.clone(),
            readiness: Readiness::default(),
            public_url: None,
            is_tls: bound.is_tls,
            address: bound.address,
            vault_suffix: "vault.azure.cn".to_owned(),
            unattended: watch::channel(vec!["importer.imports".to_owned()]).1,
        };
        let scheme = if bound.is_tls { "https" } else { "http" };
        let url = format!("{scheme}://{}", bound.address);
        let stop = CancellationToken::new();
        tokio::spawn(serve(bound, Server::new(api, parts).router(), with.limits, stop.clone()));
        let client =
            reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).build().unwrap();
        Self { store, heard, url, client, _stop: stop.drop_guard(), _folder: folder }
    }

    /// A request, still to be sent.
    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.url) };
        self.client.request(method.parse().unwrap(), url)
    }

    /// Sends a request.
    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let bytes = answer.bytes().await.unwrap();
        Answer { status, headers, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", &versioned(path))).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request("PUT", &versioned(path)).json(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(self.request("DELETE", &versioned(path))).await
    }

    /// Makes an export pipeline `pipe` and an import pipeline `inbox`.
    pub(crate) async fn pipelines(&self) {
        let export = json!({ "properties": { "target": { "uri": CONTAINER, "keyVaultUri": VAULT } } });
        assert_eq!(self.put(&format!("{REGISTRY}/exportPipelines/pipe1"), &export).await.status, 200);
        let import = json!({ "properties": { "source": { "uri": CONTAINER, "keyVaultUri": VAULT } } });
        assert_eq!(self.put(&format!("{REGISTRY}/importPipelines/inbox"), &import).await.status, 200);
    }

    /// Ends a run, as the facts of its stages would.
    pub(crate) async fn end(&self, name: &str, state: RunState) {
        let id = ResourceId::registry("sub", "group", "source").child(Kind::PipelineRun, name);
        let run = self.store.run(&id).await.unwrap().unwrap();
        assert!(self.store.end_run(&run.execution, run.kind, state, run.started_ms + 1000).await.unwrap());
    }
}

/// An export run of these artifacts.
pub(crate) fn export_run(artifacts: &[&str]) -> Value {
    json!({ "properties": { "request": {
        "pipelineResourceId": format!("{REGISTRY}/exportPipelines/pipe1"),
        "artifacts": artifacts,
        "target": { "type": "AzureStorageBlob", "name": "blob" },
    } } })
}

fn versioned(path: &str) -> String {
    match (
        path.contains("api-version"),
        path.contains('?'),
        path.to_lowercase().starts_with("/subscriptions"),
    ) {
        (true, ..) | (.., false) => path.to_owned(),
        (false, true, _) => format!("{path}&api-version={VERSION}"),
        (false, false, _) => format!("{path}?api-version={VERSION}"),
    }
}
