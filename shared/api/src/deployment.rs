//! Deployments of ARM templates.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{ErrorDetail, lenient};

/// What a client sends to have a template deployed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct DeploymentRequest {
    /// The location of the deployment's own record; ignored.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::text")]
    pub location: Option<String>,
    /// What is to be deployed.
    pub properties: DeploymentRequestProperties,
}

/// What is to be deployed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentRequestProperties {
    /// `Incremental` (the default). `Complete`, which deletes what the template does not name, is refused.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::text")]
    pub mode: Option<String>,
    /// The template itself.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub template: Value,
    /// The values of its parameters: `{"name": {"value": …}}`.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub parameters: Value,
    /// A template elsewhere. Refused: nothing is fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    pub template_link: Option<Value>,
}

/// A deployment, and what became of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Deployment {
    /// The resource id.
    pub id: String,
    /// The name.
    pub name: String,
    /// `Microsoft.Resources/deployments`.
    #[serde(rename = "type")]
    pub resource_type: String,
    /// The deployment's own properties.
    pub properties: DeploymentProperties,
}

/// What became of a deployment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentProperties {
    /// `Running` until its runs are over, then `Succeeded` or `Failed`.
    pub provisioning_state: String,
    /// Names the deployment in logs.
    pub correlation_id: String,
    /// When it began (RFC 3339).
    pub timestamp: String,
    /// How long it took (ISO 8601), such as `PT1.25S`.
    pub duration: String,
    /// `Incremental`.
    pub mode: String,
    /// The parameters with their types and values; secure ones without a value.
    #[schema(value_type = Object)]
    pub parameters: BTreeMap<String, Value>,
    /// The outputs with their types and values.
    #[schema(value_type = Object)]
    pub outputs: BTreeMap<String, Value>,
    /// The resources in the order of the template, those whose condition is false left out.
    pub output_resources: Vec<OutputResource>,
    /// The resources of `outputResources` that the control plane does not hold, and why they were left as they
    /// are. Beyond ARM's schema.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_applied: Vec<NotApplied>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorDetail>,
}

/// A resource of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutputResource {
    /// The resource id.
    pub id: String,
}

/// A resource that a template names and that was left as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotApplied {
    /// The resource id.
    pub id: String,
    /// The resource type.
    #[serde(rename = "type")]
    pub resource_type: String,
    /// Why, and what to do about it.
    pub reason: String,
}
