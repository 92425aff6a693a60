//! **Owns** the OCI distribution protocol: manifests and blobs, referrers, tags, mounts, uploads, tokens,
//! Retry-After, and the guard of where requests may go; and the walk over everything below an artifact,
//! which is pure.
//! **May know** the quirks of registries, and the names of the secrets that open them.
//! **Never knows** storage or bundles.

mod address;
mod answer;
mod auth;
mod beginning;
mod call;
mod catalog;
mod challenge;
mod client;
mod clients;
mod config;
mod content_range;
mod credentials;
mod docker_config;
mod docker_helper;
mod error;
mod guard;
mod incoming;
mod link;
mod listing;
mod outgoing;
mod pace;
mod port;
mod quirks;
mod resolver;
mod resumable;
mod session;
mod settings;
mod source;
mod target;
mod token_endpoint;
mod transport;
mod twin;
mod upload;
mod walk;
mod wire;

pub use catalog::Catalog;
pub use client::RegistryClient;
pub use clients::RegistryClients;
pub use config::{REGISTRY_AUDIENCE, RegistryConfig, registry_clients};
pub use credentials::{CredentialError, CredentialSource, Credentials, StaticCredentials};
pub use docker_config::DockerConfig;
pub use error::RegistryError;
pub use outgoing::ContentStream;
pub use port::{BlobRead, ByteStream, Content, Manifest, Mount, Referrers, Source, Target};
pub use resumable::ResumableTarget;
pub use session::UploadSession;
pub use settings::{Limits, RegistrySettings, SettingsError};
pub use twin::{MemoryRegistry, Operation};
pub use walk::{
    Answer, Ask, BlobSource, Closure, Found, FoundManifest, NewManifest, Role, Walk, WalkLimits, Walked,
    closure,
};
