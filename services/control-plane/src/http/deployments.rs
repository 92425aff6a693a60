//! Deployments of ARM templates.

use async_trait::async_trait;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use serde_json::{Value, json as object};
use transship_api::{DeploymentRequest, ErrorDetail, Kind, ResourceId};

use super::answer::json;
use super::path::DeploymentId;
use super::{Asked, Server};
use crate::api::{By, unavailable};
use crate::check::shown;
use crate::deployment::{Deployer, DeploymentContext, deploy};
use crate::refusal::Refusal;

/// What vaults' hosts end with, for templates that put an address together.
const VAULT_SUFFIX: &str = "vault.azure.net";
/// The longest name of a deployment.
const MAX_NAME: usize = 64;

/// Puts a template's resources through the interface, as their caller would.
struct ThroughApi<'a> {
    server: &'a Server,
    by: By<'a>,
}

#[async_trait]
impl Deployer for ThroughApi<'_> {
    async fn put(&mut self, id: &ResourceId, _kind: Kind, body: Value) -> Result<Value, ErrorDetail> {
        let put = self.server.put(id, body, self.by).await.map_err(|refusal| refusal.error)?;
        Ok(put.body)
    }

    async fn get(&mut self, id: &ResourceId) -> Result<Value, ErrorDetail> {
        self.server.api.get_resource_json(id).await.map_err(|refusal| refusal.error)
    }
}

impl Server {
    /// Deploys a template. The answer says what came of its resources; runs go on behind it.
    pub(super) async fn put_deployment(
        &self,
        asked: &Asked,
        id: &DeploymentId,
        body: Value,
    ) -> Result<Response, Refusal> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.()".contains(&b);
        if id.name.len() > MAX_NAME || !id.name.bytes().all(fits) {
            let message = format!(
                "The name {:?} is not valid: use at most 64 letters, digits, '-', '_', '.' and parentheses.",
                shown(&id.name)
            );
            return Err(Refusal::new(400, "InvalidDeploymentName", message).at("deploymentName"));
        }
        let request: DeploymentRequest = crate::api::read(body)?;
        let properties = request.properties;
        if properties.template_link.is_some() || !properties.template.is_object() {
            let message = "The template is missing: send it in properties.template. Templates are not fetched from \
                           elsewhere.";
            return Err(Refusal::new(400, "InvalidTemplate", message).at("properties.template"));
        }
        let context = DeploymentContext {
            subscription: id.subscription.clone(),
            group: id.group.clone(),
            location: "local".to_owned(),
            tenant: self.api.identity.tenant(),
            name: id.name.clone(),
            mode: properties.mode.unwrap_or_else(|| "Incremental".to_owned()),
            vault_suffix: VAULT_SUFFIX.to_owned(),
            correlation_id: asked.identifiers.request.clone(),
            now: Timestamp::now(),
        };
        let key = context.id().to_ascii_lowercase();
        let parameters = if properties.parameters.is_null() { object!({}) } else { properties.parameters };
        let by = asked.by();
        let mut deployer = ThroughApi { server: self, by };
        let deployment = deploy(&properties.template, &parameters, context, &mut deployer)
            .await
            .map_err(|error| Refusal { status: 400, error })?;
        let kept = serde_json::to_string(&deployment).expect("the wire types are all JSON");
        let made = self.api.store.put_deployment(&key, kept).await.map_err(unavailable)?;
        // Whoever deploys hears why it failed; GET returns the rest.
        if let Some(error) = deployment.properties.error {
            return Err(Refusal { status: 409, error });
        }
        Ok(json(if made { StatusCode::CREATED } else { StatusCode::OK }, &deployment))
    }

    /// A deployment as it ended.
    pub(super) async fn get_deployment(&self, id: &DeploymentId) -> Result<Response, Refusal> {
        let DeploymentId { subscription, group, name } = id;
        let key = format!(
            "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Resources/deployments/{name}"
        );
        let found = self.api.store.deployment(&key.to_ascii_lowercase()).await.map_err(unavailable)?;
        let found = found.ok_or_else(|| {
            let message = format!("The deployment '{}' was not found.", shown(name));
            Refusal::new(404, "DeploymentNotFound", message)
        })?;
        let body: Value = serde_json::from_str(&found).unwrap_or(Value::Null);
        Ok(json(StatusCode::OK, &body))
    }
}
