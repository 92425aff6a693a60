//! The verb: one bundle becomes artifacts in the target registry.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use transship_bus::WorkQueue;
use transship_messages::ImportRequested;
use transship_model::{Failure, PipelineName, RegistryName, Stage};
use transship_registry::{RegistryClients, Target};
use transship_secrets::{FixedSecrets, Secrets};
use transship_stage::{ByteBudget, Context, Outcome, Verb};
use transship_storage::{Access, Container, Containers};

use crate::arrival::{Arrival, decide_arrival, decide_catalog};
use crate::bundle::ArrivedBundle;
use crate::load::load;
use crate::memory::Memory;
use crate::pipeline::decide_pipeline;
use crate::report::bundle_imported;
use crate::run::{Held, Import};
use crate::seal::Seal;
use crate::{ImportError, ImportPipeline, ImportSettings, plan_import};

/// The registries that are remembered; beyond that their memory starts anew.
const MEMORIES: usize = 256;

/// The bytes of small blobs that are held at a time, beside the budget of the process.
const STRETCHES: u32 = 8 << 20;

/// The importer.
pub struct Importer {
    targets: RegistryClients<dyn Target>,
    /// What this process put into each registry.
    memories: Mutex<BTreeMap<RegistryName, Arc<Memory>>>,
    containers: Arc<Containers>,
    pipelines: BTreeMap<PipelineName, ImportPipeline>,
    settings: ImportSettings,
    secrets: Arc<dyn Secrets>,
    /// Bytes of small blobs, which wait for their turn at the registry: see [`Import::stretches`].
    stretches: ByteBudget,
}

impl Importer {
    /// An importer that knows these registries and pipelines.
    pub fn new(
        targets: impl Into<RegistryClients<dyn Target>>,
        containers: Arc<Containers>,
        pipelines: BTreeMap<PipelineName, ImportPipeline>,
        settings: ImportSettings,
    ) -> Self {
        let (targets, memories) = (targets.into(), Mutex::default());
        let secrets = Arc::new(FixedSecrets::default());
        let stretches = ByteBudget::new(STRETCHES);
        Self { targets, memories, containers, pipelines, settings: settings.bounded(), secrets, stretches }
    }

    /// The same, with the secrets that hold the key of [`ImportSettings::seal_key_secret`].
    #[must_use]
    pub fn with_secrets(self, secrets: Arc<dyn Secrets>) -> Self {
        Self { secrets, ..self }
    }

    /// The pipeline that the work names, and its registry. Repositories, tags and credentials follow from it
    /// and from the bundle alone.
    fn pipeline(
        &self,
        work: &ImportRequested,
    ) -> Result<(Cow<'_, ImportPipeline>, Arc<dyn Target>), Failure> {
        let pipeline = decide_pipeline(&self.pipelines, work, self.settings.pipelines_from_messages)?;
        let target = self.targets.get(&pipeline.registry)?;
        let target = target.ok_or_else(|| ImportError::UnknownRegistry {
            pipeline: work.pipeline.clone(),
            registry: pipeline.registry.clone(),
        })?;
        Ok((pipeline, target))
    }

    /// What this process put into `registry`.
    fn memory(&self, registry: &RegistryName) -> Arc<Memory> {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        if memories.len() >= MEMORIES && !memories.contains_key(registry) {
            memories.clear();
        }
        Arc::clone(memories.entry(registry.clone()).or_default())
    }

    async fn import(
        &self,
        work: &ImportRequested,
        context: &Context,
    ) -> Result<Outcome<ImportRequested>, Failure> {
        let (pipeline, target) = self.pipeline(work)?;
        let pipeline = &*pipeline;
        let memory = &*self.memory(&pipeline.registry);
        let deletes = pipeline.options.delete_source_blob_on_success;
        let access = if deletes { Access::READ_DELETE } else { Access::READ };
        let container = self.containers.open(&pipeline.container, pipeline.secret.as_ref(), access).await?;
        let properties = container.properties(&work.blob).await?;
        let arrival = decide_arrival(properties.as_ref(), work, deletes, context.redelivered)?;
        let (etag, length) = match arrival {
            Arrival::Import(properties) => (properties.etag.clone(), properties.length),
            Arrival::Superseded => return Ok(Outcome::Superseded),
            Arrival::Deleted => return Ok(deleted(work)),
        };
        let container: Arc<dyn Container> = container;
        let bundle = ArrivedBundle::new(container, work.blob.clone(), etag, length, context.budget.clone());
        let bundle = Arc::new(bundle);
        // Its head is as large as its catalog, and is not needed any more.
        let catalog = bundle.open().await?.catalog;
        decide_catalog(work, &catalog.catalog_digest)?;
        let contents = load(&bundle, catalog, &self.settings).await?;
        let plan = plan_import(&contents, pipeline)?;
        fail::fail_point!("importer.planned");
        let questions = Semaphore::new(self.settings.parallel_questions);
        let (seal, held) = unseal(self.seal().await?, work, target.host());
        let (target, settings, stretches) = (&*target, &self.settings, &self.stretches);
        let import = Import {
            work,
            context,
            pipeline,
            target,
            memory,
            settings,
            stretches,
            bundle,
            contents,
            plan,
            questions,
            seal,
            held,
        };
        Box::pin(import.run()).await
    }

    /// The key that seals uploads between two slices, read anew each time. `None` where none is configured.
    async fn seal(&self) -> Result<Option<Seal>, Failure> {
        let Some(name) = &self.settings.seal_key_secret else { return Ok(None) };
        let seal = Seal::new(&self.secrets.secret(name).await?);
        Ok(Some(seal.ok_or_else(|| ImportError::SealKey(name.clone()))?))
    }
}

/// The uploads that the slice before ended inside. A seal that does not open is no failure: they start anew, and
/// this slice ends inside none, since importers that cannot read each other would never come to an end.
fn unseal(seal: Option<Seal>, work: &ImportRequested, registry: &str) -> (Option<Seal>, Held) {
    let Some(sealed) = &work.sealed_upload else { return (seal, Held::default()) };
    if let Some(uploads) = seal.as_ref().and_then(|seal| seal.open(work, registry, sealed)) {
        return (seal, Held::new(uploads));
    }
    tracing::warn!(
        blob = %work.blob, has_key = seal.is_some(),
        "where the last slice left its uploads cannot be read, so they start anew; give all importers of this \
         broker the same key in seal_key_secret, and the pipeline's registry the same address"
    );
    (None, Held::default())
}

/// The blob is gone, and an earlier delivery of the work may have imported it: see [`decide_arrival`].
fn deleted(work: &ImportRequested) -> Outcome<ImportRequested> {
    tracing::warn!(blob = %work.blob, "the bundle is gone; an earlier delivery of this work seems to have imported and deleted it");
    let message = format!(
        "{} is no longer in the container. This pipeline deletes what it has imported, and this work was delivered \
         before, so that delivery has imported it; nothing was imported now. Where something else deleted it, export \
         it again",
        work.blob
    );
    Outcome::Done { facts: vec![bundle_imported(work, None, work.carried, Some(message))], next: Vec::new() }
}

#[async_trait]
impl Verb for Importer {
    type Work = ImportRequested;
    const STAGE: Stage = Stage::Importer;
    const QUEUE: WorkQueue = WorkQueue::ImporterImports;

    async fn handle(
        &self,
        work: &ImportRequested,
        context: &Context,
    ) -> Result<Outcome<ImportRequested>, Failure> {
        let imported = context.unless_cancelled(Box::pin(self.import(work, context))).await;
        imported.map_err(|failure| failure.while_doing(format_args!("import of {}", work.blob)))
    }
}
