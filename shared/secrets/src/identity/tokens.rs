//! Tokens from the platform, kept until shortly before they expire; whoever asks meanwhile waits for the one
//! request that is under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use secrecy::zeroize::Zeroizing;
use tokio::time::Instant;
use tracing::{debug, warn};
use transship_model::{Identity, Secret};
use url::form_urlencoded;

use super::platform::Platform;
use super::request::{Granted, TokenRequest, plan_token, read_answer, read_refusal};
use super::{IdentityError, Tokens};
use crate::hosts::{host_of, is_loopback};
use crate::http::{Answer, Call, Http, Lost};

/// How long before its end a token is asked for anew; half its life where that is shorter.
const AHEAD: Duration = Duration::from_secs(300);

/// The most pairs of identity and audience that are kept; beyond that the memory starts anew.
const KEPT: usize = 256;

/// The most bytes of a federated token.
const FEDERATED_BYTES: usize = 64 * 1024;

/// What a client assertion is (RFC 7523).
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Tokens of the identities that a [`Platform`] has.
pub struct PlatformTokens {
    platform: Platform,
    http: Http,
    kept: Mutex<HashMap<(Identity, String), Arc<Slot>>>,
}

/// One identity at one service. The lock is held while a token is asked for, so that it is asked for once.
#[derive(Default)]
struct Slot(tokio::sync::Mutex<State>);

#[derive(Default)]
struct State {
    kept: Option<Kept>,
    /// How the last request failed, and when: whoever waited for that request shares its end.
    failed: Option<(Instant, IdentityError)>,
}

struct Kept {
    token: Secret,
    renew_at: Instant,
    ends_at: Instant,
}

impl Kept {
    fn of(granted: Granted, now: Instant) -> Self {
        let Granted { token, life } = granted;
        Self { token, renew_at: now + life - AHEAD.min(life / 2), ends_at: now + life }
    }
}

impl PlatformTokens {
    /// Tokens of the identities of `platform`. Nothing is sent.
    ///
    /// # Errors
    /// Where TLS cannot be set up: what it said.
    pub fn new(platform: Platform) -> Result<Self, String> {
        Ok(Self { platform, http: Http::new()?, kept: Mutex::default() })
    }

    fn slot(&self, identity: &Identity, audience: &str) -> Arc<Slot> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (identity.clone(), audience.to_owned());
        if kept.len() >= KEPT && !kept.contains_key(&key) {
            kept.clear();
        }
        Arc::clone(kept.entry(key).or_default())
    }

    /// Asks for a token; nothing is kept here.
    async fn ask(&self, identity: &Identity, audience: &str) -> Result<Granted, IdentityError> {
        let call = match plan_token(&self.platform, identity, audience)? {
            TokenRequest::Nearby { url, header } => {
                Call { url, header: Some(header), form: None, nearby: true }
            }
            TokenRequest::Exchange { url, client, token_file, scope } => {
                let assertion = read_federated(&token_file).await?;
                let form = Zeroizing::new(
                    form_urlencoded::Serializer::new(String::new())
                        .append_pair("grant_type", "client_credentials")
                        .append_pair("client_id", &client)
                        .append_pair("scope", &scope)
                        .append_pair("client_assertion_type", ASSERTION)
                        .append_pair("client_assertion", assertion.expose())
                        .finish(),
                );
                let nearby = is_loopback(&url);
                Call { url, header: None, form: Some(Secret::new(&form)), nearby }
            }
        };
        let asked =
            Asked { identity, audience, endpoint: host_of(&call.url), is_machine: call.form.is_none() };
        debug!(%identity, audience, endpoint = asked.endpoint, "a token is asked for");
        asked.judge(self.http.send(&call).await)
    }
}

#[async_trait]
impl Tokens for PlatformTokens {
    async fn token(&self, identity: &Identity, audience: &str) -> Result<Secret, IdentityError> {
        let (slot, asked_at) = (self.slot(identity, audience), Instant::now());
        let mut state = slot.0.lock().await;
        let now = Instant::now();
        if let Some(kept) = state.kept.as_ref().filter(|kept| now < kept.renew_at) {
            return Ok(kept.token.clone());
        }
        if let Some((failed_at, error)) = &state.failed
            && *failed_at >= asked_at
        {
            return Err(error.clone());
        }
        match self.ask(identity, audience).await {
            Ok(granted) => {
                let kept = Kept::of(granted, Instant::now());
                let token = kept.token.clone();
                *state = State { kept: Some(kept), failed: None };
                Ok(token)
            }
            Err(error) => {
                let now = Instant::now();
                if let Some(kept) = state.kept.as_ref().filter(|kept| now < kept.ends_at) {
                    warn!(%identity, audience, %error, "a token could not be renewed; the old one still holds");
                    return Ok(kept.token.clone());
                }
                state.failed = Some((now, error.clone()));
                Err(error)
            }
        }
    }

    async fn forget(&self, identity: &Identity, audience: &str, token: &Secret) {
        let slot = self.slot(identity, audience);
        let mut state = slot.0.lock().await;
        // Another one may have been given meanwhile.
        if state.kept.as_ref().is_some_and(|kept| kept.token.expose() == token.expose()) {
            state.kept = None;
        }
    }
}

/// What was asked of whom, for the verdict on the answer.
struct Asked<'a> {
    identity: &'a Identity,
    audience: &'a str,
    endpoint: String,
    /// Whether the endpoint is the machine's own.
    is_machine: bool,
}

impl Asked<'_> {
    fn judge(self, result: Result<Answer, Lost>) -> Result<Granted, IdentityError> {
        let identity = self.identity.clone();
        let answer = match result {
            Ok(answer) => answer,
            Err(lost) if self.is_machine && lost.unreached => {
                let reason =
                    format!("its identity endpoint {} is not there ({})", self.endpoint, lost.reason);
                return Err(IdentityError::NoIdentity { identity, reason });
            }
            Err(lost) => return Err(self.unavailable(lost.reason, None)),
        };
        match answer.status {
            200 => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let granted = read_answer(&answer.body, now);
                granted.ok_or_else(|| self.unavailable("its answer holds no token".to_owned(), None))
            }
            _ if answer.passes() => {
                Err(self.unavailable(format!("HTTP {}", answer.status), answer.retry_after))
            }
            // "Identity not found" of the metadata service, and of App Service.
            400 if self.is_machine => Err(IdentityError::NotAssigned { identity }),
            404 if self.is_machine => {
                let reason = format!("{} gives no tokens (HTTP 404)", self.endpoint);
                Err(IdentityError::NoIdentity { identity, reason })
            }
            status => Err(IdentityError::Refused {
                code: read_refusal(status, &answer.body),
                endpoint: self.endpoint,
                identity,
                audience: self.audience.to_owned(),
            }),
        }
    }

    fn unavailable(&self, reason: String, retry_after: Option<Duration>) -> IdentityError {
        IdentityError::Unavailable { endpoint: self.endpoint.clone(), reason, retry_after }
    }
}

/// The pod's own token, which the platform turns over about once an hour: read each time.
async fn read_federated(path: &std::path::Path) -> Result<Secret, IdentityError> {
    let failed =
        |reason: String| IdentityError::NoFederatedToken { path: path.display().to_string(), reason };
    let text = tokio::fs::read(path).await.map_err(|error| failed(error.kind().to_string()))?;
    let text = Zeroizing::new(text);
    let token = std::str::from_utf8(&text).ok().map(str::trim).filter(|token| {
        (1..=FEDERATED_BYTES).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic())
    });
    token.map(Secret::new).ok_or_else(|| failed("it holds no token".to_owned()))
}
