//! The commands: each takes its arguments and a screen, and says how it ended.

mod bundle;
mod completion;
mod export;
mod import;
mod run_export;
mod transfer;
mod version;

pub(crate) use bundle::bundle;
pub(crate) use completion::completion;
pub(crate) use export::export;
pub(crate) use import::import;
pub(crate) use run_export::run_export;
pub(crate) use transfer::transfer;
pub(crate) use version::version;
