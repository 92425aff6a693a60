//! **Owns** one verb: import. It reads a bundle by ranges, asks the target registry what it has, mounts or
//! uploads the rest, then pushes manifests, children first, then referrers and signatures, then tags.
//! **May know** registries as targets, containers that it reads and deletes from, bundles, pipelines.
//! **Never knows** the other services, or how a bundle is written.

#![allow(clippy::result_large_err, reason = "an error names its container; it is made once a failed import")]

mod arrival;
mod blobs;
mod bundle;
mod config;
mod content;
mod contents;
mod counting;
mod decide;
mod error;
mod fallback;
mod import;
mod importer;
mod ledger;
mod load;
mod manifests;
mod memory;
mod names;
mod pace;
mod pieces;
mod pipeline;
mod plan;
mod report;
mod run;
mod seal;
mod service;
mod survey;
mod tags;
mod upload;

pub use config::{Config, PipelineConfig};
pub use contents::Contents;
pub use error::{ImportError, WhyMissing};
pub use importer::Importer;
pub use pipeline::{ImportPipeline, ImportSettings};
pub use plan::{Attached, ImportPlan, PlannedArtifact, Rank, RepositoryPlan, plan_import};
pub use service::run;
