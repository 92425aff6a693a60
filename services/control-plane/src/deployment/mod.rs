//! ARM templates of the resources that the control plane holds: read, checked and evaluated here, put in order
//! through a [`Deployer`].
//!
//! Everything is decided purely: a template is checked as a whole before anything is put, an evaluation that
//! refers to a resource which is not known yet says which one, and [`deploy`] then asks for it.
//!
//! What is bounded: an expression by 24,576 bytes and 48 levels, a template by 800 resources and 256 parameters,
//! variables and outputs each, nested deployments by 4 levels, an evaluation by its depth and by what it makes.

mod budget;
mod deploy;
mod evaluate;
mod fault;
mod functions;
mod identifiers;
mod nested;
mod order;
mod parameters;
mod plan;
mod scope;
mod template;

mod syntax;

use async_trait::async_trait;
use serde_json::Value;
use transship_api::{ErrorDetail, Kind, ResourceId};

pub use deploy::deploy;

/// Puts and reads resources for a deployment.
#[async_trait]
pub trait Deployer: Send {
    /// Puts the resource `id` with this body (`location`, `identity`, `properties` and whatever else the template
    /// says, without `id`, `name` and `type`), and returns it as GET would.
    ///
    /// # Errors
    /// ARM's error, which ends the deployment.
    async fn put(&mut self, id: &ResourceId, kind: Kind, body: Value) -> Result<Value, ErrorDetail>;

    /// The resource or registry `id` as GET returns it.
    ///
    /// # Errors
    /// ARM's error, `ResourceNotFound` where there is none.
    async fn get(&mut self, id: &ResourceId) -> Result<Value, ErrorDetail>;
}

/// Where and when a deployment happens.
#[derive(Debug, Clone)]
pub struct DeploymentContext {
    /// The subscription.
    pub subscription: String,
    /// The resource group.
    pub group: String,
    /// What `resourceGroup().location` is.
    pub location: String,
    /// What `subscription().tenantId` is.
    pub tenant: String,
    /// The deployment's name.
    pub name: String,
    /// `Incremental`; nothing else is done.
    pub mode: String,
    /// What a vault's host ends with, without the first dot: `vault.azure.net`.
    pub vault_suffix: String,
    /// Names the deployment in logs.
    pub correlation_id: String,
    /// When it begins.
    pub now: jiff::Timestamp,
}

impl DeploymentContext {
    /// The deployment's own identifier.
    pub fn id(&self) -> String {
        let Self { subscription, group, name, .. } = self;
        format!("{}/providers/{DEPLOYMENTS}/{name}", identifiers::group(subscription, group))
    }
}

/// The type of deployments.
pub const DEPLOYMENTS: &str = "Microsoft.Resources/deployments";

/// How many deployments may be in each other: a mistake has more.
const MAX_NESTED: usize = 4;
