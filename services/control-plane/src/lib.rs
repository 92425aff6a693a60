//! **Owns** what is wanted and what became of it: pipelines, routes, runs, triggers, schedules, their state, and
//! the HTTP interface that clients of Azure Container Registry speak.
//! **May know** the messages, the names of registries and credentials, containers as lists of bundles.
//! **Never knows** how bytes move.

pub mod api;
mod check;
mod clock;
mod config;
pub mod dead_letters;
pub mod deployment;
pub mod dispatch;
pub mod facts;
pub mod fold;
pub mod http;
mod identity;
pub mod notify;
mod put;
mod random;
mod recent;
mod refusal;
pub mod registries;
pub mod runtime;
pub mod schedule;
mod service;
pub mod snapshot;
pub mod state;
#[cfg(test)]
mod testing;
pub mod trigger;
pub mod watchdog;

pub use config::{Config, DispatchConfig, StateConfig, TriggerConfig, WatchdogConfig};
pub use identity::{IdentityConfig, UserAssignedConfig};
pub use refusal::Refusal;
pub use service::run;
