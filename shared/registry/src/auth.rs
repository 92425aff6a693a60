//! Which credential a request carries: the challenge that the registry made, the credentials for it, and the
//! tokens that they gave.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oci_client::secrets::RegistryAuth;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use tokio::time::Instant;

use crate::call::Scopes;
use crate::challenge::Challenge;
use crate::credentials::Kind;
use crate::guard::Guard;
use crate::token_endpoint::{TokenEndpoint, basic};
use crate::transport::{Fault, Transport};
use crate::{CredentialSource, Credentials, Limits, RegistryError};

/// A token is renewed this long before it ends, so that a request that starts with it is not overtaken.
const SKEW: Duration = Duration::from_secs(30);
/// The most tokens that are kept. Each belongs to a repository or a pair of them.
const MAX_TOKENS: usize = 4096;

/// What a request carries.
#[derive(Debug, Clone)]
pub(crate) enum Authorization {
    /// Nothing: the registry has not asked.
    None,
    /// The credentials themselves.
    Direct { value: HeaderValue, credentials: Arc<Credentials> },
    /// A token. `fresh` where it was fetched for this very request.
    Token { value: HeaderValue, slot: Arc<Slot>, number: u64, fresh: bool },
}

impl Authorization {
    pub(crate) fn header(&self) -> Option<&HeaderValue> {
        match self {
            Self::None => None,
            Self::Direct { value, .. } | Self::Token { value, .. } => Some(value),
        }
    }
}

/// The place of one token. Whoever finds it empty fetches, and everybody else waits for that.
#[derive(Debug, Default)]
pub(crate) struct Slot(tokio::sync::Mutex<SlotState>);

#[derive(Debug, Default)]
struct SlotState {
    token: Option<Kept>,
    fetched: u64,
    failure: Option<(Instant, RegistryError)>,
}

#[derive(Debug)]
struct Kept {
    value: HeaderValue,
    until: Instant,
}

impl SlotState {
    fn valid(&self) -> Option<&HeaderValue> {
        self.token.as_ref().filter(|kept| Instant::now() < kept.until).map(|kept| &kept.value)
    }
}

/// The authorization of one client.
pub(crate) struct Auth {
    host: String,
    source: Arc<dyn CredentialSource>,
    challenge: Mutex<Option<Arc<Challenge>>>,
    credentials: tokio::sync::Mutex<Option<Arc<Credentials>>>,
    slots: Mutex<HashMap<Scopes, Arc<Slot>>>,
}

impl Auth {
    pub(crate) fn new(host: String, source: Arc<dyn CredentialSource>) -> Self {
        let (challenge, credentials, slots) = Default::default();
        Self { host, source, challenge, credentials, slots }
    }

    /// What a request with this access carries.
    ///
    /// # Errors
    /// Where there should be a credential, and it cannot be had: then nothing may be sent.
    pub(crate) async fn authorization(
        &self,
        transport: &Transport,
        limits: &Limits,
        scopes: &Scopes,
    ) -> Result<Authorization, RegistryError> {
        let challenge = self.challenge.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(challenge) = challenge else { return Ok(Authorization::None) };
        let credentials = self.credentials(scopes).await?;
        let value = match (&*challenge, &credentials.0) {
            (_, Kind::Plain(RegistryAuth::Bearer(token))) => {
                HeaderValue::from_str(&format!("Bearer {token}")).ok()
            }
            (Challenge::Bearer { realm, service }, _) => {
                let (host, service) = (self.host.as_str(), service.as_deref());
                let endpoint = TokenEndpoint { transport, limits, host, realm, service };
                return self.token(&endpoint, scopes).await;
            }
            (Challenge::Basic, Kind::Plain(RegistryAuth::Basic(user, password))) => basic(user, password),
            (Challenge::Basic, Kind::Plain(RegistryAuth::Anonymous)) => return Ok(Authorization::None),
            (Challenge::Basic, Kind::Refresh(_) | Kind::Entra(_)) => None,
        };
        let Some(mut value) = value else {
            return Err(
                self.forbidden(scopes, "it asks for a name and password, and the credential is another one")
            );
        };
        value.set_sensitive(true);
        Ok(Authorization::Direct { value, credentials })
    }

    /// Takes up the challenge of a 401. `false` where there is none that can be met.
    ///
    /// # Errors
    /// Where the challenge names a token endpoint that the guard does not let through.
    pub(crate) fn learn(&self, guard: &Guard, headers: &HeaderMap) -> Result<bool, Fault> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let Some(challenge) = Challenge::parse(values) else { return Ok(false) };
        if let Challenge::Bearer { realm, .. } = &challenge {
            guard.trusted(realm)?;
        }
        *self.challenge.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(challenge));
        Ok(true)
    }

    /// Gives up what the registry refused. Whether asking again may help: not where the token was new, and not
    /// where the credentials are still the same.
    pub(crate) async fn renew(&self, used: &Authorization, scopes: &Scopes) -> Result<bool, RegistryError> {
        match used {
            Authorization::None => Ok(false),
            Authorization::Token { fresh: true, .. } => Ok(false),
            Authorization::Token { slot, number, .. } => {
                let mut state = slot.0.lock().await;
                if state.fetched == *number {
                    state.token = None;
                    // The credentials may have been rotated with the token.
                    *self.credentials.lock().await = None;
                }
                Ok(true)
            }
            Authorization::Direct { credentials, .. } => self.ask_again(credentials, scopes).await,
        }
    }

    /// Asks the source again, unless somebody did. Whether the answer is another one than `before`.
    async fn ask_again(&self, before: &Arc<Credentials>, scopes: &Scopes) -> Result<bool, RegistryError> {
        {
            let mut known = self.credentials.lock().await;
            if known.as_ref().is_some_and(|known| Arc::ptr_eq(known, before)) {
                *known = None;
            }
        }
        Ok(*self.credentials(scopes).await? != **before)
    }

    async fn credentials(&self, scopes: &Scopes) -> Result<Arc<Credentials>, RegistryError> {
        let mut known = self.credentials.lock().await;
        if let Some(known) = &*known {
            return Ok(known.clone());
        }
        let found = self.source.credentials(&self.host).await;
        let found = Arc::new(found.map_err(|error| self.forbidden(scopes, &error.to_string()))?);
        *known = Some(found.clone());
        Ok(found)
    }

    /// The token for `scopes`: one that is valid, else one that is fetched, once for everybody who waits.
    async fn token(
        &self,
        endpoint: &TokenEndpoint<'_>,
        scopes: &Scopes,
    ) -> Result<Authorization, RegistryError> {
        if let Some(slot) = scopes.wider().and_then(|wider| self.existing_slot(&wider)) {
            let held = slot.0.try_lock().ok().and_then(|state| Some((state.valid()?.clone(), state.fetched)));
            if let Some((value, number)) = held {
                return Ok(Authorization::Token { value, slot, number, fresh: false });
            }
        }
        let asked = Instant::now();
        let slot = self.slot(scopes);
        let mut state = slot.0.lock().await;
        if let Some(value) = state.valid() {
            let (value, number) = (value.clone(), state.fetched);
            drop(state);
            return Ok(Authorization::Token { value, slot, number, fresh: false });
        }
        // Whoever waited while another fetch failed shares its failure instead of repeating its tries.
        if let Some((_, error)) = state.failure.as_ref().filter(|(at, _)| *at >= asked) {
            return Err(error.clone());
        }
        match self.fetch(endpoint, scopes).await {
            Ok(kept) => {
                let value = kept.value.clone();
                *state = SlotState { token: Some(kept), fetched: state.fetched + 1, failure: None };
                let number = state.fetched;
                drop(state);
                Ok(Authorization::Token { value, slot, number, fresh: true })
            }
            Err(error) => {
                state.failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn fetch(&self, endpoint: &TokenEndpoint<'_>, scopes: &Scopes) -> Result<Kept, RegistryError> {
        let credentials = self.credentials(scopes).await?;
        let token = match endpoint.token(&credentials, scopes).await {
            // The secret may have been rotated since it was read.
            Err(RegistryError::Forbidden { .. }) if self.ask_again(&credentials, scopes).await? => {
                let credentials = self.credentials(scopes).await?;
                endpoint.token(&credentials, scopes).await?
            }
            result => result?,
        };
        let usable = token.lifetime.saturating_sub(SKEW).max(token.lifetime / 2);
        Ok(Kept { value: token.header, until: Instant::now() + usable })
    }

    fn existing_slot(&self, scopes: &Scopes) -> Option<Arc<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).get(scopes).cloned()
    }

    fn slot(&self, scopes: &Scopes) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MAX_TOKENS && !slots.contains_key(scopes) {
            // Those that nobody uses at this moment can be fetched again.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        slots.entry(scopes.clone()).or_default().clone()
    }

    fn forbidden(&self, scopes: &Scopes, reason: &str) -> RegistryError {
        let (host, repository) = (self.host.clone(), scopes.to_string());
        RegistryError::Forbidden { host, repository, reason: reason.to_owned() }
    }
}
