//! Triggers and schedules against a real store, Azurite and the CNCF distribution registry.

mod again;
mod bundles;
mod replicas;
mod scene;
mod schedules;
mod triggers;
mod trouble;
