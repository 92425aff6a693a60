//! Secrets that the process was given: the in-memory twin of the directory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use transship_model::{Secret, SecretName};

use crate::{SecretError, Secrets};

/// Secrets that do not change: for one process that took them from its environment, and for tests.
#[derive(Debug, Clone, Default)]
pub struct FixedSecrets(BTreeMap<SecretName, Secret>);

impl FixedSecrets {
    /// These secrets and no others.
    pub fn new(secrets: impl IntoIterator<Item = (SecretName, Secret)>) -> Self {
        Self(secrets.into_iter().collect())
    }
}

#[async_trait]
impl Secrets for FixedSecrets {
    async fn secret(&self, name: &SecretName) -> Result<Secret, SecretError> {
        match self.0.get(name) {
            None => Err(SecretError::NotGiven { name: name.clone() }),
            Some(secret) if secret.expose().is_empty() => Err(SecretError::Empty { name: name.clone() }),
            Some(secret) => Ok(secret.clone()),
        }
    }
}
