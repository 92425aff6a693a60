//! **Owns** containers of blobs: properties, ranged reads, staged blocks and their commit, server-side copy,
//! listing, deletion under a condition; Azure Storage through its official crate, a local directory, and a
//! twin in memory.
//! **May know** SAS tokens, tokens of identities, conditions, and what each service cannot do.
//! **Never knows** bundles or registries.

#![allow(clippy::result_large_err, reason = "an error names its container; it is made once a failed request")]

mod access;
mod azure;
mod containers;
mod directory;
mod error;
mod limits;
mod memory;
mod open;
mod operation;
mod port;
mod sas;
mod sas_fault;

pub use access::Access;
pub use azure::{AzureContainer, AzureSettings, IdentityAccess};
pub use containers::Containers;
pub use directory::DirectoryContainer;
pub use error::StorageError;
pub use memory::MemoryContainer;
pub use open::{Container, open};
pub use operation::Operation;
pub use port::{
    BlobPage, BlobProperties, Block, BlockId, Condition, CopySource, DeleteBlob, ETag, ListedBlob, Metadata,
    ReadContainer, WriteContainer,
};
pub use sas::{SasError, SasToken};
pub use sas_fault::SasFault;
