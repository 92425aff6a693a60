//! Where the shared servers are: the file that `TRANSSHIP_RIG` names.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// Which of the two clouds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where the artifacts come from.
    Source,
    /// Where the artifacts go.
    Target,
}

/// A RabbitMQ broker. Its user is an administrator that exists on this instance only.
#[derive(Clone, Serialize, Deserialize)]
pub struct RabbitMqEndpoint {
    /// `amqp://127.0.0.1:PORT`, without user and virtual host.
    pub amqp: String,
    /// The user's name.
    pub user: String,
    /// The user's password.
    pub password: String,
    /// `http://USER:PASSWORD@127.0.0.1:PORT` of the management API.
    pub management_url: String,
}

/// An Azurite blob service with one account.
#[derive(Clone, Serialize, Deserialize)]
pub struct AzuriteEndpoint {
    /// `http://127.0.0.1:PORT/ACCOUNT`.
    pub url: String,
    /// The account's name.
    pub account: String,
    /// The account's key, base64.
    pub key: String,
}

/// A registry that needs no credentials.
#[derive(Clone, Serialize, Deserialize)]
pub struct RegistryEndpoint {
    /// `127.0.0.1:PORT`.
    pub host: String,
}

/// All servers of [`crate::Servers`].
#[derive(Clone, Serialize, Deserialize)]
pub struct Endpoints {
    /// The one broker.
    pub rabbitmq: RabbitMqEndpoint,
    /// The source's storage account.
    pub source_azurite: AzuriteEndpoint,
    /// The target's storage account.
    pub target_azurite: AzuriteEndpoint,
    /// The source registry.
    pub source_registry: RegistryEndpoint,
    /// The target registry.
    pub target_registry: RegistryEndpoint,
}

impl Endpoints {
    /// The environment variable that names the file.
    pub const VARIABLE: &str = "TRANSSHIP_RIG";

    /// Reads the file that `TRANSSHIP_RIG` names; `None` where the variable is not set.
    pub fn from_environment() -> Result<Option<Self>> {
        let Some(path) = std::env::var_os(Self::VARIABLE) else { return Ok(None) };
        let text = std::fs::read(&path)
            .with_context(|| format!("read {}, which {} names", path.display(), Self::VARIABLE))?;
        Ok(Some(serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))?))
    }

    /// Writes the file, readable by its owner only: it holds keys and a password.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_private(path, &serde_json::to_vec_pretty(self)?)
    }

    /// One side's storage account.
    pub(crate) fn azurite(self, side: Side) -> AzuriteEndpoint {
        match side {
            Side::Source => self.source_azurite,
            Side::Target => self.target_azurite,
        }
    }

    /// One side's registry.
    pub(crate) fn registry(self, side: Side) -> RegistryEndpoint {
        match side {
            Side::Source => self.source_registry,
            Side::Target => self.target_registry,
        }
    }
}

/// Writes a file with mode 0600.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).with_context(|| format!("write {}", path.display()))?;
    Ok(file.write_all(bytes)?)
}

/// The error of an operation that would disturb every other test.
pub(crate) fn not_private<T>(what: &str) -> Result<T> {
    bail!("this {what} is shared by all tests and cannot be stopped; start a private one")
}
