//! Work items: each goes to exactly one queue. They carry names of registries and of secrets, options and
//! routes; never credentials, and never repositories or tags to write.

use serde::{Deserialize, Serialize};
use transship_model::{
    ArtifactReference, BlobName, ContainerUrl, Counters, Digest, Execution, ExportOptions, ImportDestination,
    Part, PipelineName, RegistryName, Route, StorageCredential,
};

/// `export.part`: write one bundle of these artifacts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportPart {
    /// The execution that this belongs to.
    pub execution: Execution,
    /// Which of its parts this is.
    pub part: Part,
    /// The source registry, by its name in the exporter's configuration.
    pub registry: RegistryName,
    /// The source container.
    pub container: ContainerUrl,
    /// How it is accessed. A local directory needs nothing.
    pub container_secret: Option<StorageCredential>,
    /// The blob's name as the run asked for it; a run of several parts numbers it.
    pub blob: BlobName,
    /// The artifacts, at most [`Part::MAX_ARTIFACTS`].
    pub artifacts: Vec<ArtifactReference>,
    /// The export's options.
    pub options: ExportOptions,
    /// Routes that take the place of those in the exporter's configuration.
    pub routes: Option<Vec<Route>>,
    /// How many slices of this part came before, from 0.
    pub slice: u32,
    /// What the slices before have done.
    pub carried: Counters,
}

/// `copy.requested`: copy one bundle along one route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRequested {
    /// The execution that this belongs to.
    pub execution: Execution,
    /// Which of its parts this is.
    pub part: Part,
    /// How the source container is accessed.
    pub source_secret: Option<StorageCredential>,
    /// The bundle's blob in the source container, and in the target container.
    pub blob: BlobName,
    /// The entity tag of the bundle that was exported.
    pub etag: String,
    /// Its length in bytes.
    pub length: u64,
    /// How many artifacts it holds.
    pub artifacts: u64,
    /// The SHA-256 of its `index.json`.
    pub catalog_digest: Digest,
    /// Where it goes.
    pub route: Route,
    /// How many slices of this copy came before, from 0.
    pub slice: u32,
    /// What the slices before have done.
    pub carried: Counters,
}

/// `import.requested`: import one bundle by a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportRequested {
    /// The execution that this belongs to.
    pub execution: Execution,
    /// Which of its parts this is.
    pub part: Part,
    /// The import pipeline. Where the importer's configuration has it, that says which registry, which secret,
    /// which options and which names; else `destination` does.
    pub pipeline: PipelineName,
    /// What the pipeline is, where the importer's configuration does not have it. Since version 2.
    #[serde(default)]
    pub destination: Option<ImportDestination>,
    /// The container; it must be the pipeline's own.
    pub container: ContainerUrl,
    /// The bundle.
    pub blob: BlobName,
    /// Its entity tag where it is known; another one is another bundle.
    pub etag: Option<String>,
    /// The catalog digest that the bundle must have, where the run names one. Since version 2.
    #[serde(default)]
    pub catalog_digest: Option<Digest>,
    /// How many slices of this import came before, from 0.
    pub slice: u32,
    /// What the slices before have done.
    pub carried: Counters,
    /// Where an upload stands that the last slice could not end: its location and offset, sealed with the
    /// importers' key, so that no one else reads or forges it. Since version 2.
    #[serde(default)]
    pub sealed_upload: Option<serde_bytes::ByteBuf>,
}
