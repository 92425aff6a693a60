//! **Owns** one verb: export. It resolves the artifacts of a part, walks everything below them, and streams the
//! content from the source registry into the blocks of one bundle.
//! **May know** registries as sources, containers, bundles, routes.
//! **Never knows** the other services, or how to write to a registry.

mod assemble;
mod commit;
mod config;
mod content;
mod export;
mod fetch;
mod group;
mod large;
mod left_out;
mod manifests;
mod service;
mod staged;
mod stream;
mod walking;

pub use config::Config;
pub use export::{ExportSettings, Exporter};
pub use service::run;
