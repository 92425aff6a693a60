//! A registry, as far as clients read it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A registry that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Registry {
    /// The resource id.
    pub id: String,
    /// The name.
    pub name: String,
    /// The resource type.
    #[serde(rename = "type")]
    pub resource_type: String,
    /// The location.
    pub location: String,
    /// The registry's own properties.
    pub properties: RegistryProperties,
}

/// The properties of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryProperties {
    /// The host that clients push to and pull from.
    pub login_server: String,
    /// `Succeeded`.
    pub provisioning_state: String,
    /// What the registry allows.
    pub policies: RegistryPolicies,
}

/// What a registry allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryPolicies {
    /// Whether artifacts may leave it.
    pub export_policy: ExportPolicy,
}

/// Whether artifacts may leave a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExportPolicy {
    /// `enabled` or `disabled`.
    pub status: String,
}
