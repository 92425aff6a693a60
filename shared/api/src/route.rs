//! Routes: where bundles go after an export. A resource of transship's own.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{SystemData, lenient};

/// A route, below the registry whose exports take it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteResource {
    /// The resource id. Read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The name. Read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The resource type. Read-only.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub resource_type: Option<String>,
    /// Who made it, and when. Read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_data: Option<SystemData>,
    /// The route's own properties.
    pub properties: RouteProperties,
}

/// The properties of a route.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteProperties {
    /// The container that bundles are exported to.
    pub source_uri: String,
    /// The names of the bundles that take this route; `*` stands for any run of characters. Default `*`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::text")]
    pub name_pattern: Option<String>,
    /// The container that they are copied to.
    pub target_uri: String,
    /// The Key Vault secret with the target container's SAS token, or the name of a secret that the copier has.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::text")]
    pub target_key_vault_uri: Option<String>,
    /// `SasToken` (the default) or `ManagedIdentity`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::text")]
    pub storage_access_mode: Option<String>,
    /// Whether a blob of another execution in the target container is replaced. Default false.
    #[serde(default)]
    pub overwrite: bool,
    /// The import pipeline to start: its resource id, where this control plane has it, or its name in the
    /// importer's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::text")]
    pub import_pipeline: Option<String>,
    /// `Succeeded`. Read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioning_state: Option<String>,
}
