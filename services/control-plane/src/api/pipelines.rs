//! Pipelines and routes.

use serde_json::Value;
use transship_api::{ExportPipeline, ImportPipeline, Kind, ResourceId, RouteResource, SystemData};
use transship_model::ContainerUrl;

use super::{Api, By, Put, json_of, read, unavailable};
use crate::refusal::Refusal;
use crate::registries::Policy;
use crate::state::ResourceRecord;
use crate::{check, clock};

impl Api {
    pub(super) async fn put_export_pipeline(
        &self,
        id: &ResourceId,
        pipeline: ExportPipeline,
        by: By<'_>,
    ) -> Result<Put, Refusal> {
        self.may_export(id)?;
        let mut pipeline = check::export_pipeline(pipeline)?;
        self.may_name(pipeline.properties.target.uri.as_deref(), "properties.target.uri")?;
        (pipeline.id, pipeline.name, pipeline.resource_type, pipeline.system_data) = (None, None, None, None);
        self.keep(id, Kind::ExportPipeline, json_of(&pipeline), by).await
    }

    pub(super) async fn put_import_pipeline(
        &self,
        id: &ResourceId,
        pipeline: ImportPipeline,
        by: By<'_>,
    ) -> Result<Put, Refusal> {
        let mut pipeline = check::import_pipeline(pipeline)?;
        self.may_name(pipeline.properties.source.uri.as_deref(), "properties.source.uri")?;
        (pipeline.id, pipeline.name, pipeline.resource_type, pipeline.system_data) = (None, None, None, None);
        self.keep(id, Kind::ImportPipeline, json_of(&pipeline), by).await
    }

    pub(super) async fn put_route(
        &self,
        id: &ResourceId,
        route: RouteResource,
        by: By<'_>,
    ) -> Result<Put, Refusal> {
        self.may_export(id)?;
        let mut route = check::route(route)?;
        self.may_name(Some(&route.properties.source_uri), "properties.sourceUri")?;
        self.may_name(Some(&route.properties.target_uri), "properties.targetUri")?;
        let import = route.properties.import_pipeline.as_deref();
        if let Some(Ok(import)) = import.map(str::parse::<ResourceId>)
            && self.store.resource(&import).await.map_err(unavailable)?.is_none()
        {
            let message = format!(
                "The import pipeline {import} was not found here. Create it first; where another control plane has \
                 it, name it as the importer's configuration does."
            );
            return Err(Refusal::new(400, "ImportPipelineNotFound", message).at("properties.importPipeline"));
        }
        (route.id, route.name, route.resource_type, route.system_data) = (None, None, None, None);
        self.keep(id, Kind::Route, json_of(&route), by).await
    }

    /// 403 where a container is a directory, and the configuration does not allow that.
    fn may_name(&self, container: Option<&str>, target: &str) -> Result<(), Refusal> {
        // As everybody else reads it: `FILE:` and spaces before it are a directory too.
        let container = container.and_then(|uri| uri.parse::<ContainerUrl>().ok());
        let is_local = container.is_some_and(|container| container.directory().is_some());
        if self.limits.local_containers || !is_local {
            return Ok(());
        }
        let message = "A container must be https://ACCOUNT.blob.core.windows.net/CONTAINER: directories are not \
                       allowed here. An operator may set limits.local_containers in the control plane's configuration.";
        Err(Refusal::new(403, "LocalContainersDisabled", message).at(target))
    }

    /// 403 where artifacts may not leave the registry.
    pub(super) fn may_export(&self, id: &ResourceId) -> Result<(), Refusal> {
        if self.registry(id)?.export_policy == Policy::Enabled {
            return Ok(());
        }
        let message = format!(
            "The export policy of the registry {} is disabled, so nothing may leave it. Enable export_policy in its \
             entry in the control plane's configuration.",
            id.registry
        );
        Err(Refusal::new(403, "ExportPolicyDisabled", message))
    }

    async fn keep(&self, id: &ResourceId, kind: Kind, mut body: Value, by: By<'_>) -> Result<Put, Refusal> {
        body["properties"]["provisioningState"] = "Succeeded".into();
        let record = self.store.put_resource(id, kind, body.to_string(), by.caller, clock::now_ms()).await;
        let body = self.resource_view(&record.map_err(unavailable)?)?;
        Ok(Put { body, started: false, operation: None })
    }

    /// A resource as clients see it.
    pub(super) fn resource_view(&self, record: &ResourceRecord) -> Result<Value, Refusal> {
        let body: Value = serde_json::from_str(&record.body).map_err(|error| {
            tracing::error!(id = %record.id, "a stored resource cannot be read: {error}");
            Refusal::new(500, "InternalServerError", "The stored resource cannot be read. PUT it again.")
        })?;
        let id = Some(record.id.to_string());
        let name = Some(record.id.name().to_owned());
        let resource_type = Some(record.kind.resource_type());
        let system_data = Some(system_data(record));
        Ok(match record.kind {
            Kind::ExportPipeline => {
                let stored: ExportPipeline = read(body)?;
                let identity =
                    Some(self.identity.fill(stored.identity.unwrap_or_default(), &record.id.key()));
                json_of(&ExportPipeline { id, name, resource_type, identity, system_data, ..stored })
            }
            Kind::ImportPipeline => {
                let stored: ImportPipeline = read(body)?;
                let identity =
                    Some(self.identity.fill(stored.identity.unwrap_or_default(), &record.id.key()));
                json_of(&ImportPipeline { id, name, resource_type, identity, system_data, ..stored })
            }
            Kind::Route | Kind::PipelineRun => {
                let stored: RouteResource = read(body)?;
                json_of(&RouteResource { id, name, resource_type, system_data, ..stored })
            }
        })
    }
}

fn system_data(record: &ResourceRecord) -> SystemData {
    SystemData {
        created_by: record.created_by.clone(),
        created_by_type: "User".to_owned(),
        created_at: clock::shown(record.created_ms),
        last_modified_by: record.modified_by.clone(),
        last_modified_by_type: "User".to_owned(),
        last_modified_at: clock::shown(record.modified_ms),
    }
}
