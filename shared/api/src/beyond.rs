//! What transship answers beyond Azure Container Registry's interface, below `/transship/v1`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whether the control plane can work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// The control plane's version.
    pub version: String,
    /// Whether it takes work and passes it on.
    pub ready: bool,
    /// Why not: `dependency: reason`, each.
    pub reasons: Vec<String>,
    /// The queues of work that no service consumes, as far as the broker says so: work for them waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unattended: Vec<String>,
}

/// A message that was given up, by a stage or by the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterView {
    /// Names it here.
    pub id: i64,
    /// The work queue that it was for: `exporter-parts`, `blob-copier-copies` or `importer-imports`.
    pub queue: String,
    /// Its message id; empty where it had none.
    pub message_id: String,
    /// Its kind; empty where it had none.
    pub kind: String,
    /// The execution's identity, where it said one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<String>,
    /// The runs of that execution, by resource id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<String>,
    /// Why it was given up.
    pub reason: String,
    /// The size of its body in bytes.
    pub body_bytes: u64,
    /// When it was stored (RFC 3339).
    pub at: String,
    /// When it was put back into its queue, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requeued_at: Option<String>,
}

/// A blob that the trigger of an import pipeline has seen, and what it did about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SeenBlobView {
    /// The blob's name.
    pub blob: String,
    /// Its entity tag.
    pub etag: String,
    /// Its length in bytes.
    pub length: u64,
    /// `Imported`, `Waiting` or `Ignored`.
    pub verdict: String,
    /// The run that imports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// How that run stands: `Waiting`, `Running`, `Succeeded`, `Failed`, or `Deleted` where it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_status: Option<String>,
    /// Why it waits or is not imported, and what to do about it; of one that is imported, what copying stripped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When a blob that waits is looked at again (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// When it was first seen.
    pub first_seen: String,
    /// When the verdict last changed.
    pub changed: String,
}

/// What the trigger of an import pipeline or the schedule of an export pipeline is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WatchView {
    /// Whether this control plane watches: false where the trigger is switched off, where there is no schedule, and
    /// until it was looked at for the first time.
    pub watching: bool,
    /// Whether another replica watches; then that one knows the rest.
    pub elsewhere: bool,
    /// When it last looked at everything (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<String>,
    /// How many blobs or tags it saw then.
    pub seen: u64,
    /// What keeps it from its work, and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A run that carried an artifact, and where the artifact is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactSighting {
    /// The run's resource id.
    pub run: String,
    /// `Running`, `Succeeded` or `Failed`: the run's status.
    pub status: String,
    /// When the run was accepted (RFC 3339).
    pub start_time: String,
    /// What became of the artifact in it.
    pub artifact: crate::ArtifactProgress,
    /// The run's stages: the last one that has succeeded says how far the artifact has come.
    pub stages: Vec<crate::StageProgress>,
}
