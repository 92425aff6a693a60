//! **Owns** what crosses the broker: work items and facts, their versioned envelope in MessagePack, their
//! golden files.
//! **May know** the vocabulary of `model`.
//! **Never knows** lapin, storage or registries.

mod codec;
mod fact;
mod work;

pub use codec::{DecodeError, MAX_BYTES, VERSION, WorkItem, decode_fact, encode_fact};
pub use fact::{ArtifactOutcome, ArtifactResult, CopyMode, Fact, FactBody, RouteTaken};
pub use work::{CopyRequested, ExportPart, ImportRequested};
