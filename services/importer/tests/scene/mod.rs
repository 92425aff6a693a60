//! What the tests of the verb play with: bundles, a registry whose calls are written down, and an importer.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod archive;
pub(crate) mod bundle;
pub(crate) mod recorder;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bundle::BundleBuilder;
use recorder::Recorder;
use tempfile::TempDir;
use transship_bundle::bundle_metadata;
use transship_importer::{ImportPipeline, ImportSettings, Importer};
use transship_messages::{ArtifactOutcome, ArtifactResult, FactBody, ImportRequested};
use transship_model::{
    BlobName, ContainerUrl, Counters, Digest, Execution, Failure, ImportOptions, Part, RenameRules,
    Repository, Secret, SecretName, Stage, Tag,
};
use transship_registry::{MemoryRegistry, Target};
use transship_secrets::FixedSecrets;
use transship_stage::{ByteBudget, Context, Outcome, Verb};
use transship_storage::{BlockId, Condition, Containers, DirectoryContainer, ReadContainer, WriteContainer};
use transship_telemetry::Metrics;

/// A container in a directory, a registry in memory, and a pipeline between them.
pub(crate) struct Scene {
    pub(crate) registry: MemoryRegistry,
    pub(crate) target: Arc<Recorder>,
    pub(crate) pipeline: ImportPipeline,
    pub(crate) settings: ImportSettings,
    pub(crate) budget: ByteBudget,
    pub(crate) slice: Duration,
    pub(crate) secrets: FixedSecrets,
    container: DirectoryContainer,
    _directory: TempDir,
}

/// What an import came to.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) results: Vec<ArtifactResult>,
    pub(crate) counters: Counters,
    pub(crate) message: Option<String>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with(MemoryRegistry::new("registry.example"))
    }

    pub(crate) fn with(registry: MemoryRegistry) -> Self {
        let directory = TempDir::new().unwrap();
        let url = ContainerUrl::of_directory(directory.path()).unwrap();
        let pipeline = ImportPipeline {
            registry: "target".parse().unwrap(),
            container: url.clone(),
            secret: None,
            options: ImportOptions::default(),
            rename: RenameRules::default(),
            mount_from: Vec::new(),
            name_as: None,
        };
        Self {
            target: Arc::new(Recorder::new(registry.clone())),
            registry,
            pipeline,
            settings: ImportSettings::default(),
            budget: ByteBudget::new(ByteBudget::DEFAULT_BYTES),
            slice: Duration::from_secs(600),
            secrets: FixedSecrets::default(),
            container: DirectoryContainer::new(url).unwrap(),
            _directory: directory,
        }
    }

    /// An importer with the pipeline as it stands now. Its memory is empty.
    pub(crate) fn importer(&self) -> Importer {
        let target: Arc<dyn Target> = Arc::<Recorder>::clone(&self.target);
        Importer::new(
            BTreeMap::from([("target".parse().unwrap(), target)]),
            Arc::new(Containers::new(Arc::new(FixedSecrets::default()))),
            BTreeMap::from([("default".parse().unwrap(), self.pipeline.clone())]),
            self.settings.clone(),
        )
        .with_secrets(Arc::new(self.secrets.clone()))
    }

    /// Gives the importers a key for their seals: these 32 bytes in base64.
    pub(crate) fn with_seal_key(mut self, key: &str) -> Self {
        let name: SecretName = "seal".parse().unwrap();
        self.secrets = FixedSecrets::new([(name.clone(), Secret::new(key))]);
        self.settings.seal_key_secret = Some(name);
        self
    }

    pub(crate) fn context(&self) -> Context {
        Context::new(self.budget.clone(), Metrics::new(Stage::Importer), self.slice)
    }

    /// Puts a blob into the container, as `execution` would.
    pub(crate) async fn put(&self, name: &str, bytes: &[u8], execution: &Execution) -> ImportRequested {
        let blob: BlobName = name.parse().unwrap();
        let mut ids = Vec::new();
        for (index, block) in bytes.chunks(8 << 20).enumerate() {
            let hash = Digest::sha256(block);
            let id = BlockId::new([&hash.hex().as_bytes()[..40], &(index as u32).to_be_bytes()].concat());
            self.container.stage(&blob, &id, block.to_vec().into()).await.unwrap();
            ids.push(id);
        }
        let metadata = bundle_metadata(execution, Part::ONLY, &Digest::sha256(b"catalog"));
        let condition = match self.container.properties(&blob).await.unwrap() {
            Some(there) => Condition::Matches(there.etag),
            None => Condition::Absent,
        };
        let etag = self.container.commit(&blob, &ids, &metadata, &condition).await.unwrap();
        ImportRequested {
            execution: execution.clone(),
            part: Part::ONLY,
            pipeline: "default".parse().unwrap(),
            container: self.pipeline.container.clone(),
            blob,
            etag: Some(etag.0),
            slice: 0,
            carried: Counters::default(),
            destination: None,
            catalog_digest: None,
            sealed_upload: None,
        }
    }

    pub(crate) async fn put_bundle(&self, bundle: &BundleBuilder) -> ImportRequested {
        self.put("bundle", &bundle.encode(), &execution(1)).await
    }

    pub(crate) async fn has_blob(&self, name: &str) -> bool {
        self.container.properties(&name.parse().unwrap()).await.unwrap().is_some()
    }

    pub(crate) async fn handle(&self, work: &ImportRequested) -> Result<Outcome<ImportRequested>, Failure> {
        self.importer().handle(work, &self.context()).await
    }

    /// Puts a bundle and imports it.
    pub(crate) async fn import(&self, bundle: &BundleBuilder) -> Result<Done, Failure> {
        let work = self.put_bundle(bundle).await;
        self.handle(&work).await.map(done)
    }

    pub(crate) fn tagged(&self, repository: &str, tag: &str) -> Option<Digest> {
        self.registry.tagged(&repo(repository), &tag.parse::<Tag>().unwrap())
    }

    /// Whether any tag is visible anywhere.
    pub(crate) fn shows_a_tag(&self) -> bool {
        self.target.tags_put() > 0
    }
}

/// The facts of an import that is done.
pub(crate) fn done(outcome: Outcome<ImportRequested>) -> Done {
    let Outcome::Done { facts, next } = outcome else { panic!("not done: {outcome:?}") };
    assert!(next.is_empty(), "nothing comes after an import");
    let mut done = Done { results: Vec::new(), counters: Counters::default(), message: None };
    for fact in facts {
        match fact {
            FactBody::ArtifactImported { results, .. } => done.results.extend(results),
            FactBody::BundleImported { counters, message, .. } => {
                (done.counters, done.message) = (counters, message);
            }
            other => panic!("not a fact of an import: {other:?}"),
        }
    }
    reconciles(&done.counters);
    done
}

/// Discovered = moved + skipped + failed.
pub(crate) fn reconciles(c: &Counters) {
    assert_eq!(c.artifacts_discovered, c.artifacts_moved + c.artifacts_skipped + c.artifacts_failed, "{c:?}");
    assert_eq!(c.bytes_discovered, c.bytes_moved + c.bytes_skipped + c.bytes_failed, "{c:?}");
}

impl Done {
    /// `moved`, `skipped` or the failure's code, by artifact.
    pub(crate) fn outcomes(&self) -> Vec<(String, String)> {
        let text = |outcome: &ArtifactOutcome| match outcome {
            ArtifactOutcome::Moved => "moved".to_owned(),
            ArtifactOutcome::Skipped { .. } => "skipped".to_owned(),
            ArtifactOutcome::Failed { code, .. } => code.to_string(),
        };
        self.results.iter().map(|result| (result.reference.to_string(), text(&result.outcome))).collect()
    }
}

pub(crate) fn execution(generation: u64) -> Execution {
    Execution { id: "run".parse().unwrap(), generation }
}

pub(crate) fn repo(name: &str) -> Repository {
    name.parse().unwrap()
}
