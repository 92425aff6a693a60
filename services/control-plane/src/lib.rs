//! **Owns** what is wanted and what became of it: pipelines, routes, runs, triggers, schedules, their state, and
//! the HTTP interface that clients of Azure Container Registry speak.
//! **May know** the messages, the names of registries and credentials, containers as lists of bundles.
//! **Never knows** how bytes move.

pub mod deployment;
pub mod fold;
pub mod state;
