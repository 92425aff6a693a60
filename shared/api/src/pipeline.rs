//! Export and import pipelines: long-lived settings of a registry's transfers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Schedule, lenient};

/// An export pipeline.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportPipeline {
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
    /// The identity that reads the secret and the storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityProperties>,
    /// Who made it, and when. Read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_data: Option<SystemData>,
    /// The pipeline's own properties.
    pub properties: ExportPipelineProperties,
}

/// The properties of an export pipeline.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportPipelineProperties {
    /// Where bundles are written to.
    pub target: ExportTarget,
    /// `OverwriteBlobs`, `ContinueOnErrors`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "lenient::or_default")]
    pub options: Vec<String>,
    /// `Succeeded`. Read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioning_state: Option<String>,
    /// What is exported by itself as it changes. Beyond ACR's schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
}

/// A container that bundles are written to, or the blob of a run in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportTarget {
    /// `AzureStorageBlobContainer`; of a run's answer `AzureStorageBlob`.
    #[serde(
        default,
        rename = "type",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub storage_type: Option<String>,
    /// `https://ACCOUNT.blob.core.windows.net/CONTAINER`; of a run's answer with the blob's name behind it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::text")]
    pub uri: Option<String>,
    /// The Key Vault secret that holds the SAS token.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::text")]
    pub key_vault_uri: Option<String>,
    /// `SasToken` (the default) or `ManagedIdentity`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::text")]
    pub storage_access_mode: Option<String>,
}

/// A container that bundles are read from: of the same shape as [`ExportTarget`].
pub type ImportSource = ExportTarget;

/// An import pipeline.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImportPipeline {
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
    /// The identity that reads the secret and the storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityProperties>,
    /// Who made it, and when. Read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_data: Option<SystemData>,
    /// The pipeline's own properties.
    pub properties: ImportPipelineProperties,
}

/// The properties of an import pipeline.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImportPipelineProperties {
    /// Where bundles are read from.
    pub source: ImportSource,
    /// Whether each bundle that arrives is imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<PipelineTrigger>,
    /// `OverwriteTags`, `DeleteSourceBlobOnSuccess`, `ContinueOnErrors`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "lenient::or_default")]
    pub options: Vec<String>,
    /// `Succeeded`. Read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioning_state: Option<String>,
}

/// What starts an import by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PipelineTrigger {
    /// The trigger on bundles that arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_trigger: Option<SourceTrigger>,
}

/// The trigger on bundles that arrive.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceTrigger {
    /// `Enabled` (the default) or `Disabled`; absent in a run.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::text")]
    pub status: Option<String>,
    /// Of a run: when the bundle was found (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
}

/// The identity of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdentityProperties {
    /// The principal of a system-assigned identity. Read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal_id: Option<String>,
    /// Its tenant. Read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// `SystemAssigned`, `UserAssigned`, both, or `None`.
    #[serde(
        default,
        rename = "type",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub identity_type: Option<String>,
    /// User-assigned identities, by resource id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "lenient::or_default")]
    pub user_assigned_identities: BTreeMap<String, UserAssignedIdentity>,
    /// `configured` or `derived`: where the identifiers come from. Beyond ACR's schema; read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

/// A user-assigned identity.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserAssignedIdentity {
    /// Its principal. Read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal_id: Option<String>,
    /// Its client id. Read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
}

/// Who made and changed a resource, and when.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SystemData {
    /// Who made it.
    pub created_by: String,
    /// `User` or `Application`.
    pub created_by_type: String,
    /// When (RFC 3339).
    pub created_at: String,
    /// Who changed it last.
    pub last_modified_by: String,
    /// `User` or `Application`.
    pub last_modified_by_type: String,
    /// When (RFC 3339).
    pub last_modified_at: String,
}
