//! **Owns** the vocabulary of transship: digests, references, descriptors, parsed views of manifests,
//! executions and parts, options, routes, counters, failures, secrets and URLs that are safe to show.
//! **May know** the grammars of the OCI image and distribution specifications and of blob names.
//! **Never knows** I/O, async, clocks, or any other room.

mod blob_name;
mod container;
mod counters;
mod credential;
mod descriptor;
mod digest;
mod execution;
mod failure;
mod manifest;
mod media_type;
mod names;
mod options;
mod reference;
mod rename;
mod route;
mod secret;

pub use blob_name::{BlobName, BlobNameError};
pub use container::{ContainerUrl, ContainerUrlError, SafeUrl};
pub use counters::Counters;
pub use credential::{CredentialNameError, Identity, StorageCredential, VaultSecret};
pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use execution::{Execution, ExecutionId, ExecutionIdError, Part, Stage};
pub use failure::{Class, Code, Failure};
pub use manifest::{MAX_MANIFEST_BYTES, ManifestError, ManifestKind, ManifestView};
pub use media_type::{MediaType, MediaTypeError};
pub use names::{ConfiguredName, ConfiguredNameError, PipelineName, RegistryName, SecretName};
pub use options::{ExportOptions, ImportOptions};
pub use reference::{ArtifactReference, ReferenceError, Repository, Selector, Tag};
pub use rename::{RenameError, RenameRule, RenameRules};
pub use route::{ImportDestination, NamePattern, Route};
pub use secret::Secret;
