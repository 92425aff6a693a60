//! Pipeline runs: one execution of a pipeline each.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ExportTarget, ImportSource, PipelineTrigger, SystemData, lenient};

/// A run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PipelineRun {
    /// The resource id. Read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The name. Read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The resource type. Read-only.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub resource_type: Option<String>,
    /// The location, echoed.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::text")]
    pub location: Option<String>,
    /// Who made it, and when. Read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_data: Option<SystemData>,
    /// The run's own properties.
    pub properties: PipelineRunProperties,
}

/// The properties of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PipelineRunProperties {
    /// `Creating` until it is over, then `Succeeded` or `Failed`. Read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioning_state: Option<String>,
    /// What is to be done.
    pub request: RunRequest,
    /// What became of it. Read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<RunResponse>,
    /// Another value than last time makes the same request run again.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::text")]
    pub force_update_tag: Option<String>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunRequest {
    /// The pipeline's resource id. Required.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::text")]
    pub pipeline_resource_id: Option<String>,
    /// Of an export: `repository`, `repository:tag` or `repository@digest`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "lenient::or_default")]
    pub artifacts: Vec<String>,
    /// Of an import: the blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<RunEnd>,
    /// Of an export: the blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<RunEnd>,
    /// Of an import: the catalog digest that the bundle must have.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::text")]
    pub catalog_digest: Option<String>,
}

/// A blob, by its name in the pipeline's container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct RunEnd {
    /// `AzureStorageBlob` (the default).
    #[serde(
        default,
        rename = "type",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub storage_type: Option<String>,
    /// The blob's name.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::text")]
    pub name: Option<String>,
}

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunResponse {
    /// `Running`, `Succeeded` or `Failed`.
    pub status: String,
    /// The artifacts that are at the target now, those that were there already included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub imported_artifacts: Vec<String>,
    /// How far it is.
    pub progress: RunProgress,
    /// When it was accepted (RFC 3339).
    pub start_time: String,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<String>,
    /// Of an import: the bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ImportSource>,
    /// Of an export: the bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ExportTarget>,
    /// The bundle's catalog digest. A run of several parts has one for each; this is the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog_digest: Option<String>,
    /// What started it, where that was a bundle that arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<RunTrigger>,
    /// Why it failed, or which artifacts of a run that succeeded did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline_run_error_message: Option<String>,
    /// What it waits for, where it does. Beyond ACR's schema, like everything below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// Each artifact. Only where one run is asked for, not in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<ArtifactProgress>,
    /// Each stage, and for each route its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageProgress>,
    /// Names the run in logs and traces: its trace id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
}

/// What started a run, as ACR shows it.
pub type RunTrigger = PipelineTrigger;

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct RunProgress {
    /// `"0"` to `"100"`: a string, as ACR sends it.
    pub percentage: String,
}

/// What became of one artifact.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactProgress {
    /// The artifact as the run named it.
    pub artifact: String,
    /// The artifact at the target, where a rule renamed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported_as: Option<String>,
    /// Its digest, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// `Pending`, `Succeeded`, `Skipped` or `Failed`.
    pub result: String,
    /// Why it was skipped or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The code of the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The stage that it is in, or that it ended in.
    pub stage: String,
}

/// How far a stage is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageProgress {
    /// `exporter`, `blob-copier` or `importer`.
    pub stage: String,
    /// The container at its end, where it is one of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// `Waiting`, `Running`, `Retrying`, `Succeeded` or `Failed`.
    pub status: String,
    /// How many of the run's parts have ended in it, and how many there are.
    pub parts_done: u32,
    /// How many parts the run has.
    pub parts: u32,
    /// The highest attempt of any part.
    pub attempts: u32,
    /// Bytes: discovered = moved + skipped + failed, once it has ended.
    pub bytes: ByteTotals,
    /// What is being moved, at most 16 names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_flight: Vec<String>,
    /// The last failure, where the stage retries or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Bytes of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ByteTotals {
    /// Below the run's artifacts.
    pub discovered: u64,
    /// That the stage moved.
    pub moved: u64,
    /// That were there already.
    pub skipped: u64,
    /// Of what failed.
    pub failed: u64,
}
