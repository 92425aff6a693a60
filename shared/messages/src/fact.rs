//! Facts: what happened, in the past tense. They carry absolute values keyed by (execution, part, stage,
//! attempt), never increments, so that receiving one twice changes nothing.

use serde::{Deserialize, Serialize};
use transship_model::{
    ArtifactReference, BlobName, Code, ContainerUrl, Counters, Digest, Execution, Part, PipelineName, Stage,
};

/// A fact and whom it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// The execution.
    pub execution: Execution,
    /// The part.
    pub part: Part,
    /// The stage that reports.
    pub stage: Stage,
    /// Which attempt of the stage, from 1.
    pub attempt: u32,
    /// The container at the end of the way, where the stage works on one of several. Since version 2.
    #[serde(default)]
    pub target: Option<ContainerUrl>,
    /// When, in milliseconds since the Unix epoch by the clock of the stage. For people, never for logic.
    pub at_ms: u64,
    /// What happened.
    pub body: FactBody,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FactBody {
    /// The exporter knows what belongs to the part.
    PartPlanned {
        /// Discovered artifacts, blobs and bytes.
        counters: Counters,
    },
    /// The bundle is in the source container.
    BundleExported {
        /// The container.
        container: ContainerUrl,
        /// The blob.
        blob: BlobName,
        /// Its entity tag.
        etag: String,
        /// Its length in bytes.
        length: u64,
        /// The SHA-256 of its `index.json`.
        catalog_digest: Digest,
        /// What was done, of all attempts and slices.
        counters: Counters,
        /// The artifacts that are not in it, and why (`ContinueOnErrors`); at most 48 KiB of them.
        failed: Vec<ArtifactResult>,
        /// Where it goes next.
        routes: Vec<RouteTaken>,
    },
    /// The bundle is in a target container.
    BundleCopied {
        /// The target container.
        container: ContainerUrl,
        /// The blob.
        blob: BlobName,
        /// Its entity tag there.
        etag: String,
        /// Its length in bytes.
        length: u64,
        /// How the bytes went.
        mode: CopyMode,
        /// What was done.
        counters: Counters,
    },
    /// Some artifacts of a bundle are in the target registry, or failed. At most 48 KiB a fact.
    ArtifactImported {
        /// The container that the bundle is in.
        container: ContainerUrl,
        /// The artifacts.
        results: Vec<ArtifactResult>,
    },
    /// The importer is done with a bundle.
    BundleImported {
        /// The pipeline.
        pipeline: PipelineName,
        /// The container that the bundle is in.
        container: ContainerUrl,
        /// The blob.
        blob: BlobName,
        /// The SHA-256 of its `index.json`. Since version 2.
        #[serde(default)]
        catalog_digest: Option<Digest>,
        /// What was done.
        counters: Counters,
        /// What a person should know: the artifacts that failed under `ContinueOnErrors`, tags left alone.
        message: Option<String>,
    },
    /// Where a stage is. At most one a second for each part.
    Progress {
        /// What was done so far.
        counters: Counters,
        /// The artifacts or blobs that are being moved, at most 16.
        in_flight: Vec<String>,
    },
    /// The stage failed.
    Failed {
        /// The stable code.
        code: Code,
        /// Operation and subject.
        message: String,
        /// What to do next.
        hint: Option<String>,
        /// Whether nobody will try again.
        terminal: bool,
        /// The target container, where one route of several failed.
        container: Option<ContainerUrl>,
    },
}

impl FactBody {
    /// The kind, as it stands in the routing key.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::PartPlanned { .. } => "part.planned",
            Self::BundleExported { .. } => "bundle.exported",
            Self::BundleCopied { .. } => "bundle.copied",
            Self::ArtifactImported { .. } => "artifact.imported",
            Self::BundleImported { .. } => "bundle.imported",
            Self::Progress { .. } => "progress",
            Self::Failed { .. } => "failed",
        }
    }
}

/// A route that an exported bundle takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTaken {
    /// The target container.
    pub target: ContainerUrl,
    /// The import pipeline that is started there.
    pub import_pipeline: Option<PipelineName>,
}

/// How a copier moved the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopyMode {
    /// The target's service read the source itself.
    ServerSide,
    /// Through the copier.
    Streamed,
    /// It was there already.
    Present,
}

/// What became of one artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactResult {
    /// The artifact as the run named it.
    pub reference: ArtifactReference,
    /// The artifact at the target, where a rule renamed it.
    pub imported_as: Option<ArtifactReference>,
    /// The digest that it resolved to.
    pub digest: Option<Digest>,
    /// What became of it.
    pub outcome: ArtifactOutcome,
}

/// What became of one artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ArtifactOutcome {
    /// It was moved.
    Moved,
    /// It was there already.
    Skipped {
        /// Why it did not move.
        reason: String,
    },
    /// It failed.
    Failed {
        /// The stable code.
        code: Code,
        /// Operation and subject.
        message: String,
        /// What to do next.
        hint: Option<String>,
    },
}
