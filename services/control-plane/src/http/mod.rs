//! The HTTP interface: which endpoint, who asks, what they may do, and the answer. What is asked for is done by
//! [`Api`](crate::api::Api).

mod answer;
mod auth;
mod beyond;
mod deployments;
mod hooks;
mod openapi;
mod origin;
mod path;
mod query;
mod rate;
mod serve;
mod stalled;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderName, Method, Request, StatusCode, header};
use axum::response::Response;
use serde_json::Value;
use tokio::sync::watch;
use transship_api::{Kind, Page, ResourceId};
use transship_host::Readiness;

pub use auth::{AuthConfig, AuthError, Authenticator, Caller, IssuerConfig, Role};
pub use hooks::Hints;
pub use openapi::document as openapi_document;
pub use serve::{Listen, ServeError, serve};
pub use tls::{TlsConfig, TlsError};

use crate::api::{Api, By, Put};
use crate::refusal::Refusal;
use answer::{Identifiers, empty, identify, json, refused, set};
use path::Endpoint;
use query::Query;
use rate::RateLimit;

/// How soon a client should ask about a run again, in seconds: clients wait half a minute where they are not told.
const RETRY_AFTER: &str = "1";

/// The HTTP interface.
pub struct Server {
    api: Api,
    auth: Authenticator,
    hints: Arc<dyn Hints>,
    readiness: Readiness,
    rate: RateLimit,
    public_url: Option<String>,
    is_tls: bool,
    local: String,
    vault_suffix: String,
    unattended: watch::Receiver<Vec<String>>,
}

/// What a server is made of, beside the interface itself.
pub struct ServerParts {
    /// Who may use it.
    pub auth: Authenticator,
    /// Who takes hints.
    pub hints: Arc<dyn Hints>,
    /// Whether the process can work.
    pub readiness: Readiness,
    /// The base of absolute addresses, where it is not the one that clients use.
    pub public_url: Option<String>,
    /// Whether clients speak TLS to it.
    pub is_tls: bool,
    /// Where it listens: for clients that name no host.
    pub address: SocketAddr,
    /// What the hosts of vaults end with, for templates that put an address together.
    pub vault_suffix: String,
    /// The queues of work that nobody consumes.
    pub unattended: watch::Receiver<Vec<String>>,
}

/// A request, as far as every handler needs it.
struct Asked {
    caller: Caller,
    base: String,
    path: String,
    api_version: Option<String>,
    traceparent: Option<String>,
    identifiers: Identifiers,
}

impl Asked {
    fn by(&self) -> By<'_> {
        By { caller: &self.caller.name, traceparent: self.traceparent.as_deref() }
    }
}

impl Server {
    /// The interface over `api`.
    pub fn new(api: Api, parts: ServerParts) -> Self {
        let ServerParts { auth, hints, readiness, public_url, is_tls, address, vault_suffix, unattended } =
            parts;
        let (rate, local) = (RateLimit::new(api.limits.requests_per_second), address.to_string());
        Self { api, auth, hints, readiness, rate, public_url, is_tls, local, vault_suffix, unattended }
    }

    /// The router: one handler, since the words of Azure Resource Manager's paths have no certain case.
    pub fn router(self) -> Router {
        Router::new().fallback(handle).with_state(Arc::new(self))
    }
}

async fn handle(State(server): State<Arc<Server>>, request: Request<Body>) -> Response {
    let identifiers = Identifiers::of(request.headers());
    let answered = identifiers.clone();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let began = Instant::now();
    let mut response = server.answer(request, identifiers).await.unwrap_or_else(refused);
    identify(&mut response, &answered);
    let status = response.status().as_u16();
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::debug!(%method, path, status, took_ms, request_id = answered.request, "answered");
    response
}

impl Server {
    async fn answer(&self, request: Request<Body>, identifiers: Identifiers) -> Result<Response, Refusal> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let found = path::endpoint(path);
        if found == Some(Endpoint::OpenApi) && parts.method == Method::GET {
            return Ok(json(StatusCode::OK, &openapi::document()));
        }
        if let (Some(Endpoint::EventGrid), &Method::OPTIONS) = (&found, &parts.method) {
            return self::may_send(&parts);
        }
        let caller = self.caller(&parts).await?;
        let endpoint = found.ok_or_else(|| {
            let shown = crate::check::shown(path);
            Refusal::new(
                404,
                "InvalidResourcePath",
                format!("There is nothing at {shown}. See /openapi.json."),
            )
        })?;
        let method = match &parts.method {
            &Method::HEAD => &Method::GET,
            method => method,
        };
        if !endpoint.methods().contains(&method.as_str()) {
            return Ok(not_allowed(&endpoint, &parts.method));
        }
        auth::allow(&caller, endpoint.needs(method.as_str()))?;
        let query = Query::of(parts.uri.query());
        let api_version = match endpoint.is_arm() {
            true => Some(query.api_version()?.to_owned()),
            false => None,
        };
        let text = |name: &str| parts.headers.get(name)?.to_str().ok().map(str::to_owned);
        let asked = Asked {
            caller,
            base: origin::base_url(self.public_url.as_deref(), &parts.headers, self.is_tls, &self.local),
            path: path.to_owned(),
            api_version,
            traceparent: text("traceparent"),
            identifiers,
        };
        let body = self.body(&parts, body).await?;
        self.dispatch(&asked, endpoint, method, &query, &body).await
    }

    async fn caller(&self, parts: &Parts) -> Result<Caller, Refusal> {
        let authorization = parts.headers.get(header::AUTHORIZATION);
        // What is not text is a header all the same, and no token.
        let authorization = authorization.map(|value| value.to_str().unwrap_or_default());
        let caller = self.auth.authenticate(authorization).await?;
        if self.rate.takes(&caller.name, Instant::now()) {
            return Ok(caller);
        }
        let message = format!(
            "{} sends more requests than the control plane takes. Wait a second, or raise \
             limits.requests_per_second in its configuration.",
            caller.name
        );
        Err(Refusal::new(429, "TooManyRequests", message))
    }

    /// The body, within its bounds in size and time.
    async fn body(&self, parts: &Parts, body: Body) -> Result<Bytes, Refusal> {
        let limit = self.api.limits.body_bytes;
        let too_large = || {
            let message = format!(
                "The body has more than {limit} bytes. Split the run, or raise limits.body_bytes in the control \
                 plane's configuration."
            );
            Refusal::new(413, "RequestBodyTooLarge", message)
        };
        let declared =
            parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if declared.is_some_and(|length: usize| length > limit) {
            return Err(too_large());
        }
        let patience = Duration::from_secs(self.api.limits.io_seconds);
        match tokio::time::timeout(patience, to_bytes(body, limit)).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error))
                if std::error::Error::source(&error).is_some_and(|cause| {
                    cause.downcast_ref::<http_body_util::LengthLimitError>().is_some()
                }) =>
            {
                Err(too_large())
            }
            Ok(Err(_)) => Err(Refusal::new(400, "InvalidRequestContent", "The body ended before its end.")),
            Err(_) => {
                let message =
                    format!("The body did not arrive within {} seconds. Send it again.", patience.as_secs());
                Err(Refusal::new(408, "RequestTimeout", message))
            }
        }
    }

    async fn dispatch(
        &self,
        asked: &Asked,
        endpoint: Endpoint,
        method: &Method,
        query: &Query,
        body: &[u8],
    ) -> Result<Response, Refusal> {
        let is = |wanted: &Method| method == wanted;
        match endpoint {
            Endpoint::Registry(id) => Ok(json(StatusCode::OK, &self.api.get_resource_json(&id).await?)),
            Endpoint::Collection(registry, kind) => self.list(asked, &registry, kind, query).await,
            Endpoint::Resource(id) if is(&Method::PUT) => {
                let put = self.put(&id, body_json(body)?, asked.by()).await?;
                Ok(put_answer(asked, &id, put))
            }
            Endpoint::Resource(id) if is(&Method::DELETE) => Ok(empty(match self.api.delete(&id).await? {
                true => StatusCode::OK,
                false => StatusCode::NO_CONTENT,
            })),
            Endpoint::Resource(id) => Ok(json(StatusCode::OK, &self.api.get_resource_json(&id).await?)),
            Endpoint::Operation(id, operation) => {
                let status = self.api.operation(&id, &operation).await?;
                let mut response = json(StatusCode::OK, &status);
                if status.status == "InProgress" {
                    set(&mut response, header::RETRY_AFTER, RETRY_AFTER);
                }
                Ok(response)
            }
            Endpoint::Deployment(id) if is(&Method::PUT) => {
                self.put_deployment(asked, &id, body_json(body)?).await
            }
            Endpoint::Deployment(id) => Ok(json(StatusCode::OK, &self.deployment(&id).await?)),
            Endpoint::DeploymentOperation(id, operation) => self.deployment_operation(&id, &operation).await,
            Endpoint::Hint(id) => self.hint(&id, body).await,
            Endpoint::SeenBlobs(id) => self.seen_blobs(asked, &id, query).await,
            Endpoint::Watch(id) => self.watch(&id).await,
            Endpoint::Health => Ok(self.health()),
            Endpoint::Artifacts => self.artifacts(query).await,
            Endpoint::DeadLetters => self.dead_letters(asked, query).await,
            Endpoint::Requeue(id) => self.requeue(id).await,
            Endpoint::EventGrid => self.event_grid(body),
            Endpoint::Pushes => self.pushed(query.get("registry"), body),
            Endpoint::OpenApi => Ok(json(StatusCode::OK, &openapi::document())),
        }
    }

    /// Puts a resource. What lies in the container of a new import pipeline is looked at at once.
    async fn put(&self, id: &ResourceId, body: Value, by: By<'_>) -> Result<Put, Refusal> {
        let put = self.api.put_resource_json(id, body, by).await?;
        if matches!(id.resource, Some((Kind::ImportPipeline, _))) {
            self.hints.look(id, None);
        }
        Ok(put)
    }

    async fn list(
        &self,
        asked: &Asked,
        registry: &ResourceId,
        kind: Kind,
        query: &Query,
    ) -> Result<Response, Refusal> {
        let paging = query.paging(self.api.limits.page_size, query.order()?)?;
        let listed = self.api.list(registry, kind, paging.order, paging.after, paging.top).await?;
        let version = asked.api_version.as_deref();
        let link = |last| paging.next_link(&asked.base, &asked.path, version, last);
        Ok(json(StatusCode::OK, &Page { value: listed.values, next_link: listed.more_after.map(link) }))
    }
}

/// 200, or 201 where work was started; with the address of the operation, which clients follow to the end.
fn put_answer(asked: &Asked, id: &ResourceId, put: Put) -> Response {
    let mut response = json(if put.started { StatusCode::CREATED } else { StatusCode::OK }, &put.body);
    if let Some(operation) = put.operation {
        follow(&mut response, asked, &format!("{id}/operationStatuses/{operation}"));
    }
    response
}

/// Names the operation that a client follows to the end. The address is absolute: older clients cannot follow others.
fn follow(response: &mut Response, asked: &Asked, path: &str) {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("api-version", asked.api_version.as_deref().unwrap_or_default());
    let address = format!("{}{path}?{}", asked.base, query.finish());
    set(response, HeaderName::from_static("azure-asyncoperation"), &address);
    set(response, header::RETRY_AFTER, RETRY_AFTER);
}

fn not_allowed(endpoint: &Endpoint, method: &Method) -> Response {
    let allowed = endpoint.methods().join(", ");
    let message = format!("{method} is not done here: use {allowed}.");
    let mut response = refused(Refusal::new(405, "MethodNotAllowed", message));
    set(&mut response, header::ALLOW, &allowed);
    response
}

/// Answers a sender of CloudEvents that asks whether it may send.
fn may_send(parts: &Parts) -> Result<Response, Refusal> {
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let headers =
        crate::notify::cloud_events_handshake(text("webhook-request-origin"), text("webhook-request-rate"));
    let headers = headers.ok_or_else(|| {
        let message = "The header WebHook-Request-Origin is missing: it says who wants to send events.";
        Refusal::new(400, "MissingOrigin", message)
    })?;
    let mut response = empty(StatusCode::OK);
    for (name, value) in headers {
        if let Ok(name) = name.parse::<HeaderName>() {
            set(&mut response, name, &value);
        }
    }
    Ok(response)
}

/// A body as JSON.
fn body_json(body: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        let message = match body.is_empty() {
            true => "The body is missing: send the resource as JSON.".to_owned(),
            false => format!("The body is not JSON: {error}."),
        };
        Refusal::new(400, "InvalidRequestContent", message)
    })
}
