//! **Owns** the wire types of the control plane: resources, runs, lists, operations and errors as clients of
//! Azure Resource Manager speak them, and what transship adds to them.
//! **May know** JSON and the grammar of ARM resource identifiers.
//! **Never knows** how a run is carried out, where state is kept, or the other rooms' types.

mod beyond;
mod deployment;
mod error;
mod id;
mod lenient;
mod list;
mod pipeline;
mod registry;
mod route;
mod run;
mod schedule;

pub use beyond::{ArtifactSighting, DeadLetterView, Health, SeenBlobView, WatchView};
pub use deployment::{
    Deployment, DeploymentProperties, DeploymentRequest, DeploymentRequestProperties, NotApplied,
    OutputResource,
};
pub use error::{ErrorBody, ErrorDetail};
pub use id::{Kind, PROVIDER, ResourceId, ResourceIdError, is_name, is_registry_name};
pub use list::{OperationStatus, Page};
pub use pipeline::{
    ExportPipeline, ExportPipelineProperties, ExportTarget, IdentityProperties, ImportPipeline,
    ImportPipelineProperties, ImportSource, PipelineTrigger, SourceTrigger, SystemData, UserAssignedIdentity,
};
pub use registry::{ExportPolicy, Registry, RegistryPolicies, RegistryProperties};
pub use route::{RouteProperties, RouteResource};
pub use run::{
    ArtifactProgress, ByteTotals, PipelineRun, PipelineRunProperties, RunEnd, RunProgress, RunRequest,
    RunResponse, RunTrigger, StageProgress,
};
pub use schedule::{Schedule, TagSelector};
