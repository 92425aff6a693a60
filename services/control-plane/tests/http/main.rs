//! The HTTP interface over a real store and a real listener.

mod access;
mod beyond;
mod deployments;
mod lists;
mod pipelines;
mod runs;
mod scene;
mod speed;
mod wrong;
