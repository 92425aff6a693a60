//! The registries that a process knows by name: those of its configuration, and those of Azure that nobody listed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use transship_model::{Failure, RegistryName};
use transship_secrets::Keyring;

use crate::{RegistryClient, RegistryConfig, registry_clients};

/// The most registries beside the configured ones that are kept; beyond that their memory starts anew.
const KEPT: usize = 256;

/// Makes the client of a registry that is not configured.
type Make<P> = Box<dyn Fn(&RegistryName) -> Result<Arc<P>, Failure> + Send + Sync>;

/// Registries by name, each as the port that the process may hold.
pub struct RegistryClients<P: ?Sized> {
    configured: BTreeMap<RegistryName, Arc<P>>,
    others: Mutex<BTreeMap<RegistryName, Arc<P>>>,
    azure: Option<Make<P>>,
}

impl<P: ?Sized> From<BTreeMap<RegistryName, Arc<P>>> for RegistryClients<P> {
    fn from(configured: BTreeMap<RegistryName, Arc<P>>) -> Self {
        Self { configured, others: Mutex::default(), azure: None }
    }
}

impl<P: ?Sized + 'static> RegistryClients<P> {
    /// The registries of a configuration and, where `azure` says so, those of Azure; see [`Self::with_azure`].
    ///
    /// # Errors
    /// See [`RegistryConfig::client`].
    pub fn of(
        registries: &BTreeMap<RegistryName, RegistryConfig>,
        azure: bool,
        keyring: &Keyring,
        as_port: fn(RegistryClient) -> Arc<P>,
    ) -> Result<Self, Failure> {
        let clients = Self::from(registry_clients(registries, keyring, as_port)?);
        Ok(if azure { clients.with_azure(keyring.clone(), as_port) } else { clients })
    }

    /// The same, and a name without an entry means `NAME.azurecr.io`, where a registry in Azure can have it. Its
    /// credentials come from the Docker configuration file.
    #[must_use]
    pub fn with_azure(self, keyring: Keyring, as_port: fn(RegistryClient) -> Arc<P>) -> Self {
        let make = move |name: &RegistryName| {
            let url = format!("https://{}.azurecr.io", name.as_str().to_ascii_lowercase());
            RegistryConfig::new(url).client(name, &keyring).map(as_port)
        };
        Self { azure: Some(Box::new(make)), ..self }
    }

    /// The registry of this name; `None` where the process does not know it.
    ///
    /// # Errors
    /// Where the client cannot be made.
    pub fn get(&self, name: &RegistryName) -> Result<Option<Arc<P>>, Failure> {
        if let Some(client) = self.configured.get(name) {
            return Ok(Some(Arc::clone(client)));
        }
        let Some(make) = self.azure.as_ref().filter(|_| is_name_in_azure(name.as_str())) else {
            return Ok(None);
        };
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = others.get(name) {
            return Ok(Some(Arc::clone(client)));
        }
        if others.len() >= KEPT {
            others.clear();
        }
        let client = make(name)?;
        others.insert(name.clone(), Arc::clone(&client));
        Ok(Some(client))
    }
}

/// Azure's grammar: 5 to 50 letters and digits.
fn is_name_in_azure(name: &str) -> bool {
    (5..=50).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use transship_secrets::FixedSecrets;

    use super::*;
    use crate::Source;

    #[test]
    fn a_name_without_an_entry_means_a_registry_in_azure_where_the_process_says_so() {
        let keyring = Keyring::of_secrets(Arc::new(FixedSecrets::default()));
        let name = |text: &str| text.parse::<RegistryName>().unwrap();
        let own = RegistryConfig::new("https://r.example").client(&name("source"), &keyring).unwrap();
        let own: Arc<dyn Source> = Arc::new(own);
        let clients = RegistryClients::from(BTreeMap::from([(name("source"), own)]));
        assert_eq!(clients.get(&name("source")).unwrap().unwrap().host(), "r.example");
        assert!(clients.get(&name("Contoso")).unwrap().is_none());
        let clients = clients.with_azure(keyring, |client| Arc::new(client));
        assert_eq!(clients.get(&name("source")).unwrap().unwrap().host(), "r.example");
        let contoso = clients.get(&name("Contoso")).unwrap().unwrap();
        assert_eq!(contoso.host(), "contoso.azurecr.io");
        assert!(Arc::ptr_eq(&contoso, &clients.get(&name("Contoso")).unwrap().unwrap()));
        assert!(clients.get(&name("con-toso")).unwrap().is_none());
    }
}
