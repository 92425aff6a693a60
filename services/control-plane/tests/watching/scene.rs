//! A store with pipelines, a container with blobs, and a registry with tags.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use transship_api::{Kind, ResourceId};
use transship_control_plane::registries::Registries;
use transship_control_plane::state::{RunKind, RunRecord, SeenBlob, SeenVerdict, Store};
use transship_model::{BlobName, Secret, VaultSecret};
use transship_rig::{Azurite, Container as RigContainer, Side};
use transship_secrets::{FixedSecrets, Keyring, SecretError, Vaults};
use transship_storage::{BlockId, Condition, Container, Containers, ETag, Metadata, open};

/// How long a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A vault whose secrets a test may change.
#[derive(Default)]
pub(crate) struct Vault(Mutex<HashMap<String, Secret>>);

impl Vault {
    pub(crate) fn put(&self, name: &str, token: &str) {
        self.0.lock().expect("nobody panics with it").insert(name.to_owned(), Secret::new(token));
    }
}

#[async_trait]
impl Vaults for Vault {
    async fn vault_secret(&self, secret: &VaultSecret) -> Result<Secret, SecretError> {
        let found = self.0.lock().expect("nobody panics with it").get(secret.name()).cloned();
        found.ok_or_else(|| SecretError::NotGiven { name: "inbox-sas".parse().expect("a name") })
    }
}

/// A store of its own, and what triggers need beside it.
pub(crate) struct Scene {
    pub(crate) store: Store,
    pub(crate) registries: Arc<Registries>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) containers: Arc<Containers>,
    _folder: Option<TempDir>,
}

impl Scene {
    /// A scene whose registry `source` is at `registry`.
    pub(crate) async fn new(registry: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let url = format!("sqlite://{}", folder.path().join("state.db").display());
        let store = Store::open(&Secret::new(&url)).await?;
        Ok(Self { _folder: Some(folder), ..Self::on(store, registry)? })
    }

    /// A scene on this store.
    pub(crate) fn on(store: Store, registry: &str) -> Result<Self> {
        let entry = serde_json::from_value(json!({ "url": registry }))?;
        let registries = Arc::new(Registries::new(BTreeMap::from([("source".parse()?, entry)])));
        let vault = Arc::new(Vault::default());
        let keyring = Keyring {
            vaults: Arc::<Vault>::clone(&vault),
            ..Keyring::of_secrets(Arc::new(FixedSecrets::default()))
        };
        let containers = Arc::new(Containers::with_keyring(keyring));
        Ok(Self { store, registries, vault, containers, _folder: None })
    }

    /// Makes an import pipeline that watches `inbox`.
    pub(crate) async fn import_pipeline(
        &self,
        name: &str,
        inbox: &Inbox,
        status: &str,
    ) -> Result<ResourceId> {
        let id = registry().child(Kind::ImportPipeline, name);
        let secret = format!("https://kv.vault.azure.net/secrets/{name}");
        self.vault.put(name, &inbox.rig.full_sas());
        let body = json!({ "properties": {
            "source": { "uri": inbox.rig.url, "keyVaultUri": secret, "storageAccessMode": "SasToken" },
            "trigger": { "sourceTrigger": { "status": status } },
        } });
        self.store.put_resource(&id, Kind::ImportPipeline, body.to_string(), "me", 1).await?;
        Ok(id)
    }

    /// Makes an export pipeline with a schedule.
    pub(crate) async fn schedule(&self, name: &str, schedule: serde_json::Value) -> Result<ResourceId> {
        let id = registry().child(Kind::ExportPipeline, name);
        let body =
            json!({ "properties": { "target": { "uri": "file:///nowhere/outbox" }, "schedule": schedule } });
        self.store.put_resource(&id, Kind::ExportPipeline, body.to_string(), "me", 1).await?;
        Ok(id)
    }

    /// All runs, oldest first.
    pub(crate) async fn runs(&self) -> Result<Vec<RunRecord>> {
        Ok(self.store.runs(&registry(), 0, 1_000).await?)
    }

    /// The blobs that runs import, sorted.
    pub(crate) async fn imports(&self) -> Result<Vec<String>> {
        let imports = self.runs().await?.into_iter().filter(|run| run.kind == RunKind::Import);
        let mut blobs: Vec<String> = imports.map(|run| run.blob.to_string()).collect();
        blobs.sort();
        Ok(blobs)
    }

    /// The visible list of a pipeline.
    pub(crate) async fn seen(&self, pipeline: &ResourceId) -> Result<BTreeMap<String, SeenVerdict>> {
        let seen = self.store.seen_blobs(&pipeline.key(), None, 1_000).await?;
        Ok(seen.into_iter().map(|SeenBlob { blob, verdict, .. }| (blob.to_string(), verdict)).collect())
    }
}

pub(crate) fn registry() -> ResourceId {
    ResourceId::registry("s", "g", "source")
}

/// A container in Azurite.
pub(crate) struct Inbox {
    pub(crate) rig: RigContainer,
    container: Arc<dyn Container>,
    _azurite: Azurite,
}

impl Inbox {
    pub(crate) async fn new() -> Result<Self> {
        let azurite = Azurite::shared(Side::Target).await?;
        let rig = azurite.container("inbox").await?;
        let container = open(&rig.url.parse()?, Some(Secret::new(&rig.full_sas())))?;
        Ok(Self { rig, container, _azurite: azurite })
    }

    /// Puts a blob, or replaces it.
    pub(crate) async fn put(&self, name: &str, bytes: Bytes, metadata: &Metadata) -> Result<ETag> {
        let (blob, id): (BlobName, _) = (name.parse()?, BlockId::new(*b"1"));
        let condition = match self.container.properties(&blob).await? {
            Some(properties) => Condition::Matches(properties.etag),
            None => Condition::Absent,
        };
        let blocks = if bytes.is_empty() { vec![] } else { vec![id.clone()] };
        if !bytes.is_empty() {
            self.container.stage(&blob, &id, bytes).await?;
        }
        Ok(self.container.commit(&blob, &blocks, metadata, &condition).await?)
    }

    /// Deletes a blob.
    pub(crate) async fn delete(&self, name: &str) -> Result<()> {
        let blob: BlobName = name.parse()?;
        let properties = self.container.properties(&blob).await?.context("the blob is there")?;
        Ok(self.container.delete(&blob, &properties.etag).await?)
    }
}

/// Ends what runs in the background when the test is over.
pub(crate) struct Running(CancellationToken);

impl Running {
    pub(crate) fn start<F: Future<Output = ()> + Send + 'static>(
        work: impl FnOnce(CancellationToken) -> F,
    ) -> Self {
        let stop = CancellationToken::new();
        tokio::spawn(work(stop.clone()));
        Self(stop)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Asks until `holds`, and says how long that took.
pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> Result<bool>) -> Result<Duration> {
    let began = Instant::now();
    while !holds().await? {
        ensure!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(began.elapsed())
}

/// A name that no other test on the same servers uses.
pub(crate) fn fresh(name: &str) -> String {
    static COUNT: OnceLock<std::sync::atomic::AtomicU32> = OnceLock::new();
    let number = COUNT.get_or_init(Default::default).fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let now = jiff::Timestamp::now().as_nanosecond();
    format!("{name}-{}-{now}-{number}", std::process::id())
}
