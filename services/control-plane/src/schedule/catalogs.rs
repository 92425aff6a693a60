//! Clients of the registries whose tags are watched.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use transship_model::{Code, Failure, RegistryName};
use transship_registry::{Catalog, RegistryConfig};
use transship_secrets::Keyring;

use crate::registries::Registries;

/// Gives a registry by its name.
pub trait Catalogs: Send + Sync {
    /// The registry `name`.
    ///
    /// # Errors
    /// Where the configuration does not have it, or has it wrong.
    fn catalog(&self, name: &RegistryName) -> Result<Arc<dyn Catalog>, Failure>;
}

/// The registries of the configuration. Each client is made once and kept, with its connections and tokens.
pub struct RegistryCatalogs {
    registries: Arc<Registries>,
    keyring: Keyring,
    clients: Mutex<HashMap<RegistryName, Arc<dyn Catalog>>>,
}

impl RegistryCatalogs {
    /// Clients of `registries`, whose passwords and identities are in `keyring`.
    pub fn new(registries: Arc<Registries>, keyring: Keyring) -> Self {
        Self { registries, keyring, clients: Mutex::default() }
    }
}

impl Catalogs for RegistryCatalogs {
    fn catalog(&self, name: &RegistryName) -> Result<Arc<dyn Catalog>, Failure> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(name) {
            return Ok(Arc::clone(client));
        }
        let resolved = self.registries.resolve(name.as_str()).ok_or_else(|| {
            let message = format!("the registry {name} is not in the configuration");
            Failure::permanent(Code::ConfigurationInvalid, message)
                .with_hint("add [registries.NAME] to the control plane's configuration")
        })?;
        let config = match &resolved.config {
            Some(entry) => RegistryConfig { url: resolved.url, ..entry.reach() },
            None => RegistryConfig::new(resolved.url),
        };
        let client: Arc<dyn Catalog> = Arc::new(config.client(name, &self.keyring)?);
        clients.insert(name.clone(), Arc::clone(&client));
        Ok(client)
    }
}
