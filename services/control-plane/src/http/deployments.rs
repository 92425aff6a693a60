//! Deployments of ARM templates.

use async_trait::async_trait;
use axum::http::{StatusCode, header};
use axum::response::Response;
use jiff::Timestamp;
use serde_json::{Value, json as object};
use transship_api::{
    Deployment, DeploymentRequest, ErrorDetail, Kind, OperationStatus, OutputResource, ResourceId,
};

use super::answer::{json, set};
use super::path::DeploymentId;
use super::{Asked, RETRY_AFTER, Server, follow};
use crate::api::{By, unavailable};
use crate::check::shown;
use crate::deployment::{Deployer, DeploymentContext, deploy};
use crate::refusal::Refusal;
use crate::state::RunState;

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
    /// Deploys a template. Where it started runs, the answer names the operation that ends when they do.
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
            vault_suffix: self.vault_suffix.clone(),
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
        let deployment = self.with_its_runs(deployment).await?;
        let status = if made { StatusCode::CREATED } else { StatusCode::OK };
        let mut response = json(status, &deployment);
        if deployment.properties.provisioning_state != "Succeeded" {
            let operation =
                format!("{}/operationStatuses/{}", deployment.id, deployment.properties.correlation_id);
            follow(&mut response, asked, &operation);
        }
        Ok(response)
    }

    /// A deployment as it stands.
    pub(super) async fn deployment(&self, id: &DeploymentId) -> Result<Deployment, Refusal> {
        let DeploymentId { subscription, group, name } = id;
        let key = format!(
            "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Resources/deployments/{name}"
        );
        let found = self.api.store.deployment(&key.to_ascii_lowercase()).await.map_err(unavailable)?;
        let found = found.ok_or_else(|| {
            let message = format!("The deployment '{}' was not found.", shown(name));
            Refusal::new(404, "DeploymentNotFound", message)
        })?;
        let deployment = serde_json::from_str(&found).map_err(|error| {
            tracing::error!(key, "a stored deployment cannot be read: {error}");
            Refusal::new(500, "InternalServerError", "The stored deployment cannot be read. Deploy it again.")
        })?;
        self.with_its_runs(deployment).await
    }

    /// The status of a deployment's operation.
    pub(super) async fn deployment_operation(
        &self,
        id: &DeploymentId,
        operation: &str,
    ) -> Result<Response, Refusal> {
        let Deployment { id: full, properties, .. } = self.deployment(id).await?;
        if properties.correlation_id != operation {
            let message = "The operation was not found: the deployment was made again since. GET the deployment to see \
                           where it is.";
            return Err(Refusal::new(404, "OperationNotFound", message));
        }
        let is_open = properties.provisioning_state == "Running";
        let status = OperationStatus {
            id: format!("{full}/operationStatuses/{operation}"),
            name: operation.to_owned(),
            status: if is_open { "InProgress".to_owned() } else { properties.provisioning_state },
            start_time: properties.timestamp,
            end_time: None,
            percent_complete: if is_open { 0 } else { 100 },
            error: properties.error,
        };
        let mut response = json(StatusCode::OK, &status);
        if is_open {
            set(&mut response, header::RETRY_AFTER, RETRY_AFTER);
        }
        Ok(response)
    }

    /// A deployment whose resources were all put goes on until its runs are over, and fails with them.
    async fn with_its_runs(&self, mut deployment: Deployment) -> Result<Deployment, Refusal> {
        let properties = &mut deployment.properties;
        if properties.provisioning_state != "Succeeded" {
            return Ok(deployment);
        }
        for OutputResource { id } in &properties.output_resources {
            let Ok(id) = id.parse::<ResourceId>() else { continue };
            if !matches!(id.resource, Some((Kind::PipelineRun, _))) {
                continue;
            }
            // A run that was deleted since says nothing any more.
            let Some(run) = self.api.store.run(&id).await.map_err(unavailable)? else { continue };
            match run.state {
                RunState::Succeeded { .. } => {}
                RunState::Waiting { .. } | RunState::Running => {
                    properties.provisioning_state = "Running".to_owned();
                }
                RunState::Failed { code, message } => {
                    let cause = Refusal::new(409, code.as_str(), message).at(id.to_string()).error;
                    let message = format!("The run {} failed: {}", id.name(), cause.message);
                    let mut error = Refusal::new(409, "DeploymentFailed", message).at(id.to_string()).error;
                    error.details.push(cause);
                    properties.provisioning_state = "Failed".to_owned();
                    properties.error = Some(error);
                    break;
                }
            }
        }
        Ok(deployment)
    }
}
