//! Everything at once: what the whole path needs.

use anyhow::Result;

use crate::endpoints::Endpoints;
use crate::{Azurite, RabbitMq, Registry};

/// One broker, two storage accounts and two registries, all private.
pub struct Servers {
    /// The broker of both sides.
    pub rabbitmq: RabbitMq,
    /// The source's storage account.
    pub source_azurite: Azurite,
    /// The target's storage account.
    pub target_azurite: Azurite,
    /// The source registry.
    pub source_registry: Registry,
    /// The target registry.
    pub target_registry: Registry,
}

impl Servers {
    /// Starts all of them in parallel, in about five seconds.
    pub async fn start() -> Result<Self> {
        let (rabbitmq, source_azurite, target_azurite, source_registry, target_registry) = tokio::try_join!(
            RabbitMq::start(),
            Azurite::start(),
            Azurite::start(),
            Registry::start(),
            Registry::start(),
        )?;
        Ok(Self { rabbitmq, source_azurite, target_azurite, source_registry, target_registry })
    }

    /// What another process needs to reach them.
    pub fn endpoints(&self) -> Endpoints {
        let registry = |registry: &Registry| crate::RegistryEndpoint { host: registry.host().to_owned() };
        Endpoints {
            rabbitmq: self.rabbitmq.endpoint().clone(),
            source_azurite: self.source_azurite.endpoint().clone(),
            target_azurite: self.target_azurite.endpoint().clone(),
            source_registry: registry(&self.source_registry),
            target_registry: registry(&self.target_registry),
        }
    }
}

/// A client that goes to loopback directly, whatever proxy the environment names.
pub(crate) fn loopback_client() -> Result<reqwest::Client> {
    let client = reqwest::Client::builder().no_proxy().timeout(std::time::Duration::from_secs(30));
    Ok(client.build()?)
}
