//! **Owns** the copy of a bundle from one storage account to another: what is left to move, how it moves, and
//! under which condition it is committed; the configuration and the composition of the service.
//! **May know** containers, their block lists and conditions, and whose bundle a blob is.
//! **Never knows** what is inside of a bundle, registries, or the other stages.

mod config;
mod copier;
mod decide;
mod error;
mod job;
mod pairs;
mod plan;
mod service;
mod settings;
mod tally;
mod transfer;

pub use config::Config;
pub use copier::Copier;
pub use decide::{SourceDecision, TargetDecision, decide_source, decide_target};
pub use error::{CopyError, Side};
pub use plan::{CopyPlan, PlanError, PlannedBlock, SourceVersion, plan_copy};
pub use service::run;
pub use settings::CopySettings;
