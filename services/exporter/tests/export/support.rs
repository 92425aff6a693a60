//! A source registry with artifacts, a container, and a way to look into the bundle.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use transship_bundle::{Catalog, Location, Opened, open};
use transship_exporter::{ExportSettings, Exporter};
use transship_messages::{ArtifactOutcome, ArtifactResult, ExportPart, FactBody};
use transship_model::*;
use transship_registry::{MemoryRegistry, Source};
use transship_secrets::FixedSecrets;
use transship_stage::{ByteBudget, Context, Outcome, Verb};
use transship_storage::{Containers, MemoryContainer, Operation, ReadContainer, StorageError};
use transship_telemetry::Metrics;

pub(crate) const MIB: usize = 1 << 20;

/// Longer than any test.
pub(crate) const SLICE: Duration = Duration::from_secs(600);

/// A registry and a container in memory, and an exporter between them.
pub(crate) struct World {
    pub(crate) registry: MemoryRegistry,
    pub(crate) container: MemoryContainer,
    pub(crate) exporter: Exporter,
    pub(crate) routes: Vec<Route>,
}

pub(crate) fn repository(name: &str) -> Repository {
    name.parse().unwrap()
}

pub(crate) fn blob_name() -> BlobName {
    "bundle".parse().unwrap()
}

/// Bytes that no two names share and that do not repeat; made once, since making them is slow unoptimised.
pub(crate) fn content(name: &str, size: usize) -> Bytes {
    static MADE: LazyLock<Mutex<HashMap<(String, usize), Bytes>>> = LazyLock::new(Mutex::default);
    let mut made = MADE.lock().unwrap();
    made.entry((name.to_owned(), size)).or_insert_with(|| make_content(name, size)).clone()
}

fn make_content(name: &str, size: usize) -> Bytes {
    let seed = Digest::sha256(name.as_bytes());
    let mut state = u64::from_str_radix(&seed.hex()[..16], 16).unwrap() | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes.into()
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(MemoryRegistry::new("source.example"))
    }

    pub(crate) fn of(registry: MemoryRegistry) -> Self {
        let source = Arc::new(registry.clone());
        Self::reading(registry, source)
    }

    /// The content of `registry`, read through `source`.
    pub(crate) fn reading(registry: MemoryRegistry, source: Arc<dyn Source>) -> Self {
        let url: ContainerUrl = "file:///memory/source".parse().unwrap();
        let container = MemoryContainer::new(url.clone());
        let containers = Containers::new(Arc::new(FixedSecrets::default()));
        containers.insert(Arc::new(container.clone()));
        let routes = vec![Route {
            source: url,
            pattern: NamePattern::default(),
            target: "file:///memory/target".parse().unwrap(),
            target_secret: None,
            overwrite: false,
            import_pipeline: Some("default".parse().unwrap()),
            import_destination: None,
        }];
        let sources = BTreeMap::from([("source".parse().unwrap(), source)]);
        let exporter =
            Exporter::new(sources, Arc::new(containers), routes.clone(), ExportSettings::default());
        Self { registry, container, exporter, routes }
    }

    pub(crate) fn put(&self, repository: &str, tag: Option<&str>, manifest: &Value) -> Digest {
        let media_type = manifest["mediaType"].as_str().unwrap_or(MediaType::OCI_MANIFEST).parse().unwrap();
        let tag = tag.map(|tag| tag.parse().unwrap());
        // Pretty-printed, as no writer of ours would.
        let bytes = serde_json::to_vec_pretty(manifest).unwrap();
        self.registry.put_manifest_as(&self::repository(repository), tag.as_ref(), &media_type, bytes)
    }

    pub(crate) fn blob(&self, repository: &str, bytes: Bytes, media_type: &str) -> Value {
        let size = bytes.len();
        let digest = self.registry.put_blob(&self::repository(repository), bytes);
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": size})
    }

    /// An image of a config and one layer for each size.
    pub(crate) fn image(&self, repository: &str, tag: Option<&str>, layers: &[usize]) -> Digest {
        let config = self.blob(
            repository,
            content(&format!("{repository}{tag:?}"), 200),
            "application/vnd.oci.image.config.v1+json",
        );
        let layers: Vec<_> = layers
            .iter()
            .map(|size| {
                self.blob(
                    repository,
                    content(&format!("layer {size}"), *size),
                    "application/vnd.oci.image.layer.v1.tar",
                )
            })
            .collect();
        self.put(repository, tag, &json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config, "layers": layers}))
    }

    /// An image of a config of 200 bytes and one layer that is named by its SHA-512. Returns the layer's digest.
    pub(crate) fn image_of_sha512(&self, repository: &str, tag: &str, size: usize) -> Digest {
        let config = self.blob(repository, content("config", 200), "application/x");
        let layer = content("layer by its SHA-512", size);
        let digest = Digest::compute(Algorithm::Sha512, &layer);
        self.registry.put_blob_as(&self::repository(repository), digest.clone(), layer);
        let layer = json!({"mediaType": "application/x", "digest": digest.to_string(), "size": size});
        self.put(repository, Some(tag), &json!({"schemaVersion": 2, "config": config, "layers": [layer]}));
        digest
    }

    pub(crate) fn work(&self, artifacts: &[&str]) -> ExportPart {
        ExportPart {
            execution: Execution { id: "run-1".parse().unwrap(), generation: 5 },
            part: Part::ONLY,
            registry: "source".parse().unwrap(),
            container: self.container.url().clone(),
            container_secret: None,
            blob: blob_name(),
            artifacts: artifacts.iter().map(|artifact| artifact.parse().unwrap()).collect(),
            options: ExportOptions::default(),
            routes: None,
            slice: 0,
            carried: Counters::default(),
        }
    }

    pub(crate) async fn export(&self, work: &ExportPart) -> Result<Outcome<ExportPart>, Failure> {
        self.exporter.handle(work, &context(SLICE)).await
    }

    /// What the committed bundle holds, with every byte of it verified.
    pub(crate) async fn verified(&self) -> Catalog {
        let bytes = self.container.content(&blob_name()).expect("the bundle is committed");
        let read = |range: std::ops::Range<u64>| {
            std::future::ready(Ok::<_, Failure>(bytes.slice(range.start as usize..range.end as usize)))
        };
        let Opened { catalog, head } = open(bytes.len() as u64, read).await.unwrap();
        assert!(head.is_some());
        for (digest, location) in &catalog.locations {
            if let Location::Stored { offset, size } = location {
                let stored = &bytes[*offset as usize..(*offset + *size) as usize];
                assert!(digest.matches(stored), "{digest} is in the bundle as it is in the registry");
            }
        }
        assert!(bytes.ends_with(&[0; 1024]) && bytes.len().is_multiple_of(512));
        catalog
    }
}

pub(crate) fn context(slice: Duration) -> Context {
    Context::new(ByteBudget::new(ByteBudget::DEFAULT_BYTES), Metrics::new(Stage::Exporter), slice)
}

/// The counters of the fact that says that the bundle is exported.
pub(crate) fn exported(outcome: &Outcome<ExportPart>) -> (Counters, Digest) {
    let Outcome::Done { facts, .. } = outcome else { panic!("{outcome:?}") };
    let [FactBody::BundleExported { counters, catalog_digest, .. }] = &facts[..] else { panic!("{facts:?}") };
    (*counters, catalog_digest.clone())
}

/// The artifacts that the fact says were left out, with code and message.
pub(crate) fn left_out(outcome: &Outcome<ExportPart>) -> Vec<(String, Code, String)> {
    let Outcome::Done { facts, .. } = outcome else { panic!("{outcome:?}") };
    let [FactBody::BundleExported { failed, .. }] = &facts[..] else { panic!("{facts:?}") };
    let of = |result: &ArtifactResult| match &result.outcome {
        ArtifactOutcome::Failed { code, message, .. } => {
            (result.reference.to_string(), *code, message.clone())
        }
        other => panic!("{other:?}"),
    };
    failed.iter().map(of).collect()
}

/// A storage error that passes.
pub(crate) fn outage(world: &World) -> StorageError {
    StorageError::Unavailable {
        container: world.container.url().clone(),
        reason: "outage".into(),
        retry_after: None,
    }
}

/// Lets the `nth` of these calls of the container fail, once.
pub(crate) fn fail_nth(world: &World, operation: Operation, nth: u64) {
    let (calls, error) = (AtomicU64::new(0), outage(world));
    world.container.observe(move |called, _| {
        let now = if called == operation { calls.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
        if now == nth { Err(error.clone()) } else { Ok(()) }
    });
}

/// Two images with small and large layers.
pub(crate) fn prepare(world: &World) {
    world.image("a", Some("1"), &[100, 30 * MIB]);
    world.image("b", Some("1"), &[100, 17 * MIB, 3 * MIB]);
}
