//! The commands: each takes its arguments and a screen, and says how it ended.

mod bundle;
mod completion;
mod context;
mod deployment;
mod doctor;
mod export;
mod import;
mod lookup;
mod pipeline;
mod route;
mod run_export;
mod run_watch;
mod runs;
mod transfer;
mod version;
mod watching;

pub(crate) use bundle::bundle;
pub(crate) use completion::completion;
pub(crate) use context::context;
pub(crate) use deployment::deployment;
pub(crate) use doctor::doctor;
pub(crate) use export::export;
pub(crate) use import::import;
pub(crate) use lookup::{artifact, blob, repository};
pub(crate) use pipeline::pipeline;
pub(crate) use route::route;
pub(crate) use run_export::run_export;
pub(crate) use runs::runs;
pub(crate) use transfer::transfer;
pub(crate) use version::version;
