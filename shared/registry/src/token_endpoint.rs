//! Token endpoints (token specification of distribution; OAuth 2.0 of Azure Container Registry). An endpoint
//! that fails is an error: a request is never sent anonymously because there was no token.

use std::time::Duration;

use jiff::Timestamp;
use oci_client::secrets::RegistryAuth;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use transship_model::Secret;
use url::Url;
use url::form_urlencoded::Serializer;

use crate::answer::read_bounded;
use crate::call::Scopes;
use crate::credentials::Kind;
use crate::pace::{pauses, retry_after};
use crate::transport::{Fault, Transport};
use crate::{Credentials, Limits, RegistryError};

/// The largest answer of a token endpoint, in bytes.
const MAX_ANSWER: u64 = 256 * 1024;
/// How long a token is good where its endpoint does not say (token specification: 60 seconds).
const DEFAULT_LIFETIME: u64 = 60;
/// The longest lifetime that is believed, in seconds.
const MAX_LIFETIME: u64 = 24 * 60 * 60;

/// A token endpoint of one registry, as its challenge named it, checked by the guard.
pub(crate) struct TokenEndpoint<'a> {
    pub(crate) transport: &'a Transport,
    pub(crate) limits: &'a Limits,
    /// The registry, for messages and for Azure's exchange.
    pub(crate) host: &'a str,
    pub(crate) realm: &'a Url,
    pub(crate) service: Option<&'a str>,
}

/// A token as an endpoint gave it.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) header: HeaderValue,
    pub(crate) lifetime: Duration,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<Secret>,
    access_token: Option<Secret>,
    expires_in: Option<u64>,
}

#[derive(Deserialize)]
struct ExchangeAnswer {
    refresh_token: Secret,
}

impl TokenEndpoint<'_> {
    /// A token for `scopes`, by the way that fits the credentials.
    ///
    /// # Errors
    /// `Forbidden` where the endpoint refuses, `Unavailable` where it does not answer.
    pub(crate) async fn token(
        &self,
        credentials: &Credentials,
        scopes: &Scopes,
    ) -> Result<Token, RegistryError> {
        let answer = match &credentials.0 {
            Kind::Plain(auth) => self.by_get(auth, scopes).await?,
            Kind::Refresh(refresh) => self.by_refresh(refresh, scopes).await?,
            Kind::Entra(access) => {
                let refresh = self.exchange(access, scopes).await?;
                self.by_refresh(&refresh, scopes).await?
            }
        };
        let answer: TokenAnswer = self.parse(&answer)?;
        let text = answer.token.filter(|t| !t.expose().is_empty()).or(answer.access_token);
        let text =
            text.filter(|t| !t.expose().is_empty()).ok_or_else(|| self.broken("its answer has no token"))?;
        let mut header = HeaderValue::from_str(&format!("Bearer {}", text.expose()))
            .map_err(|_| self.broken("its token cannot be sent"))?;
        header.set_sensitive(true);
        let seconds = answer.expires_in.filter(|seconds| *seconds > 0).unwrap_or(DEFAULT_LIFETIME);
        Ok(Token { header, lifetime: Duration::from_secs(seconds.min(MAX_LIFETIME)) })
    }

    async fn by_get(&self, auth: &RegistryAuth, scopes: &Scopes) -> Result<Vec<u8>, RegistryError> {
        let mut url = self.realm.clone();
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = self.service {
                query.append_pair("service", service);
            }
            for scope in scopes.texts() {
                query.append_pair("scope", &scope);
            }
        }
        let authorization = match auth {
            RegistryAuth::Basic(user, password) => {
                Some(basic(user, password).ok_or_else(|| self.broken("the credentials cannot be sent"))?)
            }
            RegistryAuth::Anonymous | RegistryAuth::Bearer(_) => None,
        };
        self.ask(scopes, || {
            let mut request = Request::new(Method::GET, url.clone());
            if let Some(value) = &authorization {
                request.headers_mut().insert(AUTHORIZATION, value.clone());
            }
            request
        })
        .await
    }

    async fn by_refresh(&self, refresh: &Secret, scopes: &Scopes) -> Result<Vec<u8>, RegistryError> {
        let scope = scopes.texts().collect::<Vec<_>>().join(" ");
        let form = form(&[
            ("grant_type", "refresh_token"),
            ("service", self.service.unwrap_or(self.host)),
            ("client_id", "transship"),
            ("scope", &scope),
            ("refresh_token", refresh.expose()),
        ]);
        self.ask(scopes, || post(self.realm.clone(), &form)).await
    }

    /// Azure's exchange of an Entra ID access token for a refresh token of the registry.
    async fn exchange(&self, access: &Secret, scopes: &Scopes) -> Result<Secret, RegistryError> {
        let url = self.realm.join("/oauth2/exchange").map_err(|_| self.broken("it has no exchange"))?;
        let service = self.service.unwrap_or(self.host);
        let form =
            form(&[("grant_type", "access_token"), ("service", service), ("access_token", access.expose())]);
        let answer = self.ask(scopes, || post(url.clone(), &form)).await?;
        self.parse::<ExchangeAnswer>(&answer).map(|answer| answer.refresh_token)
    }

    /// Sends what `make` makes until it is answered, within the bounds of every request.
    async fn ask(&self, scopes: &Scopes, make: impl Fn() -> Request) -> Result<Vec<u8>, RegistryError> {
        let mut pauses = pauses(self.limits);
        loop {
            let (reason, wait) = match self.transport.send(make()).await {
                Ok(response) if response.status() == StatusCode::OK => {
                    match read_bounded(response, MAX_ANSWER, self.limits.idle).await {
                        Ok(Some(body)) => return Ok(body.to_vec()),
                        Ok(None) => return Err(self.broken("its answer is too large")),
                        Err(Fault::Lost(reason)) => (reason, None),
                        Err(fault) => return Err(fault.into_error(self.host, "token endpoint")),
                    }
                }
                Ok(response) => self.unexpected(&response, scopes)?,
                Err(Fault::Lost(reason)) => (reason, None),
                Err(fault) => return Err(fault.into_error(self.host, "token endpoint")),
            };
            let too_long = wait.is_some_and(|wait| wait > self.limits.longest_pause);
            let Some(pause) = pauses.next().filter(|_| !too_long) else {
                return Err(self.unavailable(reason, wait));
            };
            tokio::time::sleep(pause.max(wait.unwrap_or_default())).await;
        }
    }

    /// The reason to try again after an answer that is no token, or the error that it is.
    fn unexpected(
        &self,
        response: &Response,
        scopes: &Scopes,
    ) -> Result<(String, Option<Duration>), RegistryError> {
        let status = response.status();
        let reason = format!("the token endpoint answered {}", status.as_u16());
        if status.is_client_error() && !matches!(status.as_u16(), 408 | 429) {
            return Err(RegistryError::Forbidden {
                host: self.host.to_owned(),
                repository: scopes.to_string(),
                reason,
            });
        }
        if status.is_server_error() || status.is_client_error() {
            let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            return Ok((reason, wait.and_then(|wait| retry_after(wait, Timestamp::now()))));
        }
        Err(self.broken(&format!("it answered {}", status.as_u16())))
    }

    /// Reads an answer. What serde says of a value may repeat the value, so it is not repeated.
    fn parse<T: for<'de> Deserialize<'de>>(&self, answer: &[u8]) -> Result<T, RegistryError> {
        serde_json::from_slice(answer).map_err(|_| self.broken("its answer is not one"))
    }

    fn broken(&self, reason: &str) -> RegistryError {
        RegistryError::Protocol { host: self.host.to_owned(), reason: format!("token endpoint: {reason}") }
    }

    fn unavailable(&self, reason: String, retry_after: Option<Duration>) -> RegistryError {
        RegistryError::Unavailable {
            host: self.host.to_owned(),
            operation: "token endpoint".to_owned(),
            reason,
            retry_after,
        }
    }
}

/// The `Authorization` of a name and password.
pub(crate) fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    use base64::Engine as _;
    // A colon in the name would move into the password (RFC 7617, section 2).
    if user.contains(':') {
        return None;
    }
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn form(pairs: &[(&str, &str)]) -> Secret {
    Secret::new(&Serializer::new(String::new()).extend_pairs(pairs).finish())
}

fn post(url: Url, form: &Secret) -> Request {
    let mut request = Request::new(Method::POST, url);
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    *request.body_mut() = Some(form.expose().to_owned().into());
    request
}
