//! Runs, and what they carry out.

use serde::{Deserialize, Serialize};
use transship_api::{ResourceId, RunRequest};
use transship_model::{
    BlobName, Code, ContainerUrl, Execution, ExportOptions, Failure, ImportDestination, PipelineName,
    RegistryName, Route, StorageCredential,
};

use crate::fold::{PartState, PartSummary, RunView};

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
        /// What a person should know, such as artifacts that were left out. Of an export it follows its copies, which
        /// go on when it is over.
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
