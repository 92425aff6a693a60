//! What clients ask for, without HTTP: resources are put, read, listed and deleted here, by the handlers of HTTP and
//! by deployments of templates alike.

mod lists;
mod pipelines;
mod runs;
mod view;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use transship_api::{Kind, ResourceId};

use crate::dispatch::Wake;
use crate::identity::IdentityConfig;
use crate::refusal::Refusal;
use crate::registries::{Registries, Resolved};
use crate::state::{Store, StoreError};

pub(crate) use lists::Order;
pub(crate) use view::{operation_status, run_view};

/// The bounds of what clients may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Artifacts that one run may name; 0 (the default) is no limit, 50 is Azure Container Registry's.
    pub artifacts_per_run: usize,
    /// Resources on one page of a list. Default 100.
    pub page_size: u32,
    /// The largest body of a request, in bytes. Default 4 MiB.
    pub body_bytes: usize,
    /// Requests a second of one caller; twice as many at once. 0 is no limit. Default 200.
    pub requests_per_second: u32,
    /// Connections at a time. Default 512.
    pub connections: usize,
    /// Whether a pipeline or route may name a directory (`file:`) as its container: who may make pipelines then
    /// decides where the stages write on their machines. Default false.
    pub local_containers: bool,
    /// How long a request's head, its body, and each piece of an answer may take, in seconds. Default 30.
    pub io_seconds: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            artifacts_per_run: 0,
            page_size: 100,
            body_bytes: 4 << 20,
            requests_per_second: 200,
            connections: 512,
            local_containers: false,
            io_seconds: 30,
        }
    }
}

impl LimitsConfig {
    /// What is wrong with the section, as key and problem.
    pub fn check(&self) -> Vec<(String, String)> {
        let rules = [
            ((1..=1000).contains(&self.page_size), "limits.page_size", "must be from 1 to 1000"),
            (
                (4096..=64 << 20).contains(&self.body_bytes),
                "limits.body_bytes",
                "must be from 4096 to 67108864 (64 MiB)",
            ),
            ((1..=65536).contains(&self.connections), "limits.connections", "must be from 1 to 65536"),
            ((1..=600).contains(&self.io_seconds), "limits.io_seconds", "must be from 1 to 600"),
        ];
        let broken = rules.into_iter().filter(|(holds, ..)| !holds);
        broken.map(|(_, key, problem)| (key.to_owned(), problem.to_owned())).collect()
    }
}

/// The interface, without HTTP.
#[derive(Debug, Clone)]
pub struct Api {
    /// What is remembered.
    pub store: Store,
    /// The registries of the configuration.
    pub registries: Registries,
    /// The identities of the configuration.
    pub identity: IdentityConfig,
    /// The bounds.
    pub limits: LimitsConfig,
    /// Wakes the dispatcher where a run was accepted.
    pub wake: Wake,
}

/// A resource that was put.
#[derive(Debug, Clone, PartialEq)]
pub struct Put {
    /// The resource as GET returns it.
    pub body: Value,
    /// Whether work was started: 201, else 200.
    pub started: bool,
    /// The name of the run's long-running operation, where it is not over or did not succeed.
    pub operation: Option<String>,
}

/// Who puts something, and in which trace.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// Their name.
    pub caller: &'a str,
    /// The W3C trace context of the request, where it has one.
    pub traceparent: Option<&'a str>,
}

impl Api {
    /// Makes or changes the resource `id` of `kind`: what HTTP's PUT does, and a deployment for each of its
    /// resources.
    ///
    /// # Errors
    /// What is wrong with it, and 503 where the store does not answer.
    pub async fn put_resource_json(&self, id: &ResourceId, body: Value, by: By<'_>) -> Result<Put, Refusal> {
        let Some((kind, _)) = id.resource else {
            let message =
                "Registries are named in the control plane's configuration; they are not made here.";
            return Err(Refusal::new(405, "RegistryNotManaged", message));
        };
        let registry = self.registries.resolve(&id.registry);
        crate::check::name_of_new(id, registry.is_some())?;
        match kind {
            Kind::ExportPipeline => self.put_export_pipeline(id, read(body)?, by).await,
            Kind::ImportPipeline => self.put_import_pipeline(id, read(body)?, by).await,
            Kind::Route => self.put_route(id, read(body)?, by).await,
            Kind::PipelineRun => self.put_run(id, read(body)?, by).await,
        }
    }

    /// The resource or registry `id` as clients see it.
    ///
    /// # Errors
    /// 404 where there is none.
    pub async fn get_resource_json(&self, id: &ResourceId) -> Result<Value, Refusal> {
        match id.resource {
            None => Ok(json_of(&self.registry(id)?.resource(id))),
            Some((Kind::PipelineRun, _)) => self.get_run(id).await,
            Some(_) => {
                let record = self.store.resource(id).await.map_err(unavailable)?;
                self.resource_view(&record.ok_or_else(|| Refusal::not_found(shown_id(id)))?)
            }
        }
    }

    /// Deletes a resource; false where there is none.
    ///
    /// # Errors
    /// 503 where the store does not answer.
    pub async fn delete(&self, id: &ResourceId) -> Result<bool, Refusal> {
        let deleted = match id.resource {
            Some((Kind::PipelineRun, _)) => self.store.delete_run(id).await,
            _ => self.store.delete_resource(id).await,
        };
        deleted.map_err(unavailable)
    }

    /// What the registry of `id` stands for.
    fn registry(&self, id: &ResourceId) -> Result<Resolved, Refusal> {
        self.registries.resolve(&id.registry).ok_or_else(|| Refusal::not_found(shown_id(&id.parent())))
    }
}

/// A body as the type that it must have.
pub(crate) fn read<T: DeserializeOwned>(body: Value) -> Result<T, Refusal> {
    serde_path_to_error::deserialize(body).map_err(|error| {
        let path = error.path().to_string();
        let message = format!("The request's content is not valid: {}.", error.inner());
        let refusal = Refusal::new(400, "InvalidRequestContent", message);
        if path == "." { refusal } else { refusal.at(path) }
    })
}

fn json_of(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).expect("the wire types are all JSON")
}

fn shown_id(id: &ResourceId) -> String {
    match &id.resource {
        Some((kind, name)) => {
            format!("The resource '{}/{name}' of the registry '{}'", kind.segment(), id.registry)
        }
        None => format!("The registry '{}'", id.registry),
    }
}

/// 503: the store does not answer. The log says why.
pub(crate) fn unavailable(error: StoreError) -> Refusal {
    tracing::error!(hint = error.hint(), "the store failed: {error}");
    let message = "The control plane cannot reach its state now. Try again; its log says why.";
    Refusal::new(503, "StateUnavailable", message)
}
