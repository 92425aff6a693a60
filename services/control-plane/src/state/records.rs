//! What the control plane remembers: resources, runs, their parts, and what is still to be done for them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use transship_api::{ErrorDetail, Kind, ResourceId, RunRequest};
use transship_bus::WorkQueue;
use transship_model::{
    BlobName, Code, ContainerUrl, Execution, ExecutionId, ExportOptions, Failure, ImportDestination,
    PipelineName, RegistryName, Route, StorageCredential,
};

use crate::fold::{PartState, PartSummary, RunView};

/// A pipeline or route. Runs are [`RunRecord`]s.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourceRecord {
    /// The order in which resources were made, oldest first. A replacement keeps it.
    pub seq: i64,
    /// The identifier as its maker wrote it.
    pub id: ResourceId,
    /// Which kind.
    pub kind: Kind,
    /// The resource as it is served, in JSON.
    pub body: String,
    /// Who made it.
    pub created_by: String,
    /// When, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Who changed it last.
    pub modified_by: String,
    /// When, in milliseconds since the Unix epoch.
    pub modified_ms: i64,
}

/// Whether a run exports or imports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunKind {
    /// Registry to storage.
    Export,
    /// Storage to registry.
    Import,
}

/// What started a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A client's PUT.
    Request,
    /// A bundle that arrived, found at this time (milliseconds since the Unix epoch).
    SourceTrigger {
        /// When it was found.
        found_ms: i64,
    },
    /// A tag that appeared or moved.
    Schedule,
}

impl RunKind {
    /// The name under which it is stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Export => "export",
            Self::Import => "import",
        }
    }
}

/// Where a run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// Accepted; nothing was sent yet. It says what it waits for.
    Waiting {
        /// What it waits for, for a person.
        on: String,
    },
    /// Work was sent.
    Running,
    /// Over, and this will not change any more until the run is forced again.
    Succeeded {
        /// What a person should know, such as artifacts that were left out.
        message: Option<String>,
    },
    /// Over, and this will not change any more until the run is forced again.
    Failed {
        /// The stable code.
        code: Code,
        /// What went wrong, and what to do about it.
        message: String,
    },
}

impl RunState {
    /// Whether the run is over.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Succeeded { .. } | Self::Failed { .. })
    }

    /// The end that `failure` makes: its message with its hint behind it.
    pub fn failed(failure: &Failure) -> Self {
        let hint = failure.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        Self::Failed { code: failure.code, message: format!("{}{hint}", failure.message) }
    }
}

/// What a run's pipeline said when the run was accepted. A pipeline that changes later changes no run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PipelineSnapshot {
    /// The pipeline's resource id, as the run named it.
    pub id: String,
    /// The registry, by the name that the stages know it by.
    pub registry: RegistryName,
    /// The container of bundles.
    pub container: ContainerUrl,
    /// How it is accessed. A local directory needs nothing.
    pub credential: Option<StorageCredential>,
    /// What to do with them.
    pub action: Action,
}

impl PipelineSnapshot {
    /// What a run of this pipeline looks at.
    pub fn view(&self, part: Option<u32>) -> RunView {
        match &self.action {
            Action::Export { options, .. } => {
                let continues = options.continue_on_errors;
                RunView { kind: RunKind::Export, target: None, part, continues }
            }
            Action::Import { destination, .. } => {
                let (target, continues) =
                    (Some(self.container.clone()), destination.options.continue_on_errors);
                RunView { kind: RunKind::Import, target, part, continues }
            }
        }
    }
}

/// What a pipeline does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Exports, with these options, and takes these routes (`None`: those of the exporter's configuration).
    Export {
        /// The options.
        options: ExportOptions,
        /// The routes that were there when the run was accepted.
        routes: Option<Vec<Route>>,
    },
    /// Imports.
    Import {
        /// The pipeline's name in messages: `REGISTRY.PIPELINE`.
        pipeline: PipelineName,
        /// What the importer needs to know of it.
        destination: ImportDestination,
    },
}

/// A run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    /// The order in which runs were made, oldest first. A run that is forced again keeps it.
    pub seq: i64,
    /// The identifier as its maker wrote it.
    pub id: ResourceId,
    /// Whether it exports or imports.
    pub kind: RunKind,
    /// The location that the client sent, echoed.
    pub location: Option<String>,
    /// The current execution: the same identity for the life of the run, a generation for each start.
    pub execution: Execution,
    /// The name of the current long-running operation: `pipelineruns-GUID`.
    pub operation: String,
    /// What was asked for.
    pub request: RunRequest,
    /// What makes the same request run again.
    pub force_update_tag: Option<String>,
    /// What started it.
    pub origin: Origin,
    /// The pipeline as it was.
    pub pipeline: PipelineSnapshot,
    /// The blob that was asked for.
    pub blob: BlobName,
    /// How many parts its execution has; 0 while that is not known.
    pub parts: u32,
    /// What it looks at of the execution's parts.
    pub view: RunView,
    /// Where it is.
    pub state: RunState,
    /// What lists show of its parts, in JSON: see `fold::RunSummary`.
    pub summary: String,
    /// The W3C trace context of the run: its trace id is the correlation id.
    pub traceparent: String,
    /// Who made it.
    pub created_by: String,
    /// When, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// When the current execution was accepted.
    pub started_ms: i64,
    /// When it ended.
    pub finished_ms: Option<i64>,
    /// When something was last heard of it.
    pub heard_ms: i64,
}

/// A run to be made, or made again.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRun {
    /// The identifier as its maker wrote it.
    pub id: ResourceId,
    /// Whether it exports or imports.
    pub kind: RunKind,
    /// The location that the client sent.
    pub location: Option<String>,
    /// What it carries out.
    pub execution: NewExecution,
    /// The name of its long-running operation, never used before.
    pub operation: String,
    /// What was asked for.
    pub request: RunRequest,
    /// What makes the same request run again.
    pub force_update_tag: Option<String>,
    /// What started it.
    pub origin: Origin,
    /// The pipeline as it is.
    pub pipeline: PipelineSnapshot,
    /// The blob that was asked for.
    pub blob: BlobName,
    /// The W3C trace context of the run.
    pub traceparent: String,
    /// Who makes it.
    pub by: String,
    /// Now, in milliseconds since the Unix epoch.
    pub now_ms: i64,
}

/// What a new run carries out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewExecution {
    /// An execution of its own, which is started: the run waits, with a `Start` in the outbox. The identity is that
    /// of a run that was never made before; one that is made again keeps its own. The store gives the generation.
    Own(ExecutionId),
    /// Work of another execution that is under way already, such as the import that a copier asked for: nothing is
    /// started, and the run runs at once.
    Adopted {
        /// The other execution.
        execution: Execution,
        /// How many parts it has.
        parts: u32,
        /// The only part that the run is about, where it is not about all of them.
        only: Option<u32>,
    },
}

/// What to do about a run that is asked for.
#[derive(Debug)]
pub enum RunDecision {
    /// Make it, or make it again.
    Start(Box<NewRun>),
    /// It is there, and the same was asked for.
    Same,
    /// It cannot be: the HTTP status and why.
    Refuse(u16, ErrorDetail),
}

/// What became of a run that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum PutOutcome {
    /// It was made, or made again.
    Started(RunRecord),
    /// It was there.
    Unchanged(RunRecord),
    /// It cannot be.
    Refused {
        /// The HTTP status.
        status: u16,
        /// Why.
        error: ErrorDetail,
    },
}

/// A part of an execution.
#[derive(Debug, Clone, PartialEq)]
pub struct PartRecord {
    /// Which part, from 1.
    pub number: u32,
    /// What is known of it.
    pub state: PartState,
    /// The same for the run.
    pub summary: PartSummary,
}

/// What became of a fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Folded {
    /// It is part of the state now, and these runs ended by it.
    Applied {
        /// The runs.
        ended: Vec<ResourceId>,
    },
    /// It is about a run that was deleted, or about an earlier generation.
    Ignored,
    /// Its execution was never here.
    Unknown,
}

/// Something that is still to be done, written with what it follows from in one transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxRow {
    /// The order.
    pub id: i64,
    /// The execution.
    pub execution: Execution,
    /// What is to be done.
    pub item: OutboxItem,
    /// Not before this time, in milliseconds since the Unix epoch.
    pub due_ms: i64,
    /// How often it was tried.
    pub attempts: i64,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutboxItem {
    /// Check the credential, find the bundle of an import, split an export: what comes of it is the parts.
    Start,
    /// Publish a work item. The message id makes a repetition harmless.
    Publish {
        /// Where to: the queue's name.
        queue: Queue,
        /// The message id.
        message_id: String,
        /// The kind.
        kind: String,
        /// Text headers, such as the trace context.
        headers: BTreeMap<String, String>,
        /// The body.
        body: Vec<u8>,
    },
}

/// A work queue, as it is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Queue {
    /// See [`WorkQueue::ExporterParts`].
    ExporterParts,
    /// See [`WorkQueue::BlobCopierCopies`].
    BlobCopierCopies,
    /// See [`WorkQueue::ImporterImports`].
    ImporterImports,
}

impl Queue {
    /// The name under which it is stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::ExporterParts => "exporter-parts",
            Self::BlobCopierCopies => "blob-copier-copies",
            Self::ImporterImports => "importer-imports",
        }
    }

    /// The queue of a name under which it is stored.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::ExporterParts, Self::BlobCopierCopies, Self::ImporterImports]
            .into_iter()
            .find(|queue| queue.name() == name)
    }
}

impl From<Queue> for WorkQueue {
    fn from(queue: Queue) -> Self {
        match queue {
            Queue::ExporterParts => Self::ExporterParts,
            Queue::BlobCopierCopies => Self::BlobCopierCopies,
            Queue::ImporterImports => Self::ImporterImports,
        }
    }
}

/// A message that was given up, by a stage or by the broker.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// The order.
    pub id: i64,
    /// The work queue that it was for.
    pub queue: Queue,
    /// Its message id; empty where it had none.
    pub message_id: String,
    /// Its kind; empty where it had none.
    pub kind: String,
    /// The execution's identity, where it said one.
    pub execution: Option<String>,
    /// Text headers.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
    /// Why it was given up.
    pub reason: String,
    /// When it was stored, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// When it was put back into its queue, where it was.
    pub requeued_ms: Option<i64>,
}

/// A message that was given up, to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDeadLetter {
    /// The work queue that it was for.
    pub queue: Queue,
    /// Its message id; empty where it had none.
    pub message_id: String,
    /// Its kind; empty where it had none.
    pub kind: String,
    /// The execution's identity, where it said one.
    pub execution: Option<String>,
    /// Text headers.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
    /// Why it was given up.
    pub reason: String,
    /// Now, in milliseconds since the Unix epoch.
    pub at_ms: i64,
}

/// Whose import of a bundle it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The caller's.
    Mine,
    /// Another run's.
    Taken {
        /// The run's resource id.
        run: String,
    },
}

/// What a schedule last did about a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagState {
    /// The digest that the tag had.
    pub digest: String,
    /// The run that carries it.
    pub run: String,
}

/// A bundle that the trigger of a pipeline has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenBlob {
    /// The pipeline's key (its resource id in lower case).
    pub pipeline: String,
    /// The blob.
    pub blob: BlobName,
    /// Its entity tag.
    pub etag: String,
    /// Its length in bytes.
    pub length: u64,
    /// What the trigger did about it.
    pub verdict: SeenVerdict,
    /// When it was first seen, in milliseconds since the Unix epoch.
    pub first_ms: i64,
    /// When the verdict last changed.
    pub changed_ms: i64,
}

/// What a trigger did about a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeenVerdict {
    /// A run imports it: the run's name.
    Imported {
        /// The run.
        run: String,
        /// What a person should know all the same, such as what copying took away.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// It is left for now, and looked at again.
    Waiting {
        /// Why, for a person.
        reason: String,
        /// Not before this time, in milliseconds since the Unix epoch.
        until_ms: i64,
    },
    /// It is not imported.
    Ignored {
        /// Why, for a person, with what to do about it.
        reason: String,
    },
}
