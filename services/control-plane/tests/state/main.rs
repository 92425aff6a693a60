//! The store's contract, on each database that it knows.

mod runs;
mod scene;
