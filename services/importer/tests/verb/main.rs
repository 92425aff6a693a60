//! The verb against a registry in memory and a container in a directory.

mod archives;
mod arrivals;
mod blobs;
mod destinations;
mod failures;
mod order;
mod pieces;
mod referrers;
#[path = "../scene/mod.rs"]
mod scene;
mod slices;
mod tags;
