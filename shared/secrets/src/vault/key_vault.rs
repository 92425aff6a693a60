//! Azure Key Vault ("Get Secret", Key Vault REST API): ask without a token, take the service from the challenge,
//! ask again with one.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tracing::debug;
use transship_model::{Identity, Secret, VaultSecret};
use url::Url;

use super::answer::{read_challenge, read_refusal, read_secret};
use super::{VaultError, Vaults};
use crate::hosts::{AllowedHosts, is_loopback};
use crate::http::{Answer, Call, Http};
use crate::{SecretError, Tokens};

/// The version of the service that every request names: the newest that every cloud has.
const API_VERSION: &str = "7.4";

/// Hosts of vaults in the public cloud, in US Government and in China.
pub const VAULT_SUFFIXES: [&str; 3] = [".vault.azure.net", ".vault.usgovcloudapi.net", ".vault.azure.cn"];

/// How vaults are asked.
#[derive(Debug, Clone)]
pub struct VaultSettings {
    /// The hosts that are asked; any other gets no request.
    pub hosts: AllowedHosts,
    /// The identity that reads secrets.
    pub identity: Identity,
    /// The service that tokens are for, where it is not to be taken from the vault's challenge.
    pub audience: Option<String>,
    /// Whether a vault on this machine is asked over plain http: for tests.
    pub plain_http_to_loopback: bool,
}

/// Key Vault. Each call reads anew: a rotated secret works at once.
pub struct KeyVault {
    settings: VaultSettings,
    tokens: Arc<dyn Tokens>,
    http: Http,
}

impl KeyVault {
    /// Vaults that are read with tokens out of `tokens`. Nothing is sent.
    ///
    /// # Errors
    /// Where TLS cannot be set up: what it said.
    pub fn new(settings: VaultSettings, tokens: Arc<dyn Tokens>) -> Result<Self, String> {
        Ok(Self { settings, tokens, http: Http::new()? })
    }

    /// The address of the secret, where its vault may be asked.
    fn address(&self, secret: &VaultSecret) -> Result<Url, VaultError> {
        let not_allowed =
            || VaultError::NotAllowed { secret: secret.clone(), allowed: self.settings.hosts.listed() };
        if !self.settings.hosts.allows(secret.host()) {
            return Err(not_allowed());
        }
        let mut url: Url = secret.to_string().parse().map_err(|_| not_allowed())?;
        if self.settings.plain_http_to_loopback && is_loopback(&url) {
            url = secret.to_string().replacen("https:", "http:", 1).parse().map_err(|_| not_allowed())?;
        }
        url.query_pairs_mut().append_pair("api-version", API_VERSION);
        Ok(url)
    }

    async fn get(
        &self,
        secret: &VaultSecret,
        url: &Url,
        token: Option<&Secret>,
    ) -> Result<Answer, VaultError> {
        let bearer = |token: &Secret| ("authorization", Secret::new(&format!("Bearer {}", token.expose())));
        let call = Call { url: url.clone(), header: token.map(bearer), form: None, nearby: is_loopback(url) };
        self.http.send(&call).await.map_err(|lost| VaultError::Unavailable {
            secret: secret.clone(),
            reason: lost.reason,
            retry_after: None,
        })
    }

    /// The service that a token must be for.
    async fn audience(&self, secret: &VaultSecret, url: &Url) -> Result<String, VaultError> {
        if let Some(audience) = &self.settings.audience {
            return Ok(audience.clone());
        }
        let answer = self.get(secret, url, None).await?;
        match answer.status {
            401 => read_challenge(secret, answer.challenge.as_deref()),
            // Nobody gives a secret away to someone without a token.
            200 => Err(VaultError::Challenge {
                secret: secret.clone(),
                problem: "from nobody, which no Key Vault does".to_owned(),
            }),
            _ => Err(read_refusal(secret, &self.settings.identity, &answer)),
        }
    }

    async fn read(&self, secret: &VaultSecret) -> Result<Secret, VaultError> {
        let url = self.address(secret)?;
        let audience = self.audience(secret, &url).await?;
        let identity = &self.settings.identity;
        debug!(%secret, %identity, "a secret is read from its vault");
        let mut again = true;
        loop {
            let token = self.tokens.token(identity, &audience).await;
            let token = token.map_err(|source| VaultError::NoToken { secret: secret.clone(), source })?;
            let answer = self.get(secret, &url, Some(&token)).await?;
            match answer.status {
                200 => return read_secret(secret, &answer.body, Timestamp::now()),
                // The token that was kept may have been revoked.
                401 if again => {
                    again = false;
                    self.tokens.forget(identity, &audience, &token).await;
                }
                _ => return Err(read_refusal(secret, identity, &answer)),
            }
        }
    }
}

#[async_trait]
impl Vaults for KeyVault {
    async fn vault_secret(&self, secret: &VaultSecret) -> Result<Secret, SecretError> {
        self.read(secret).await.map_err(SecretError::Vault)
    }
}
