//! Answers: JSON, errors in ARM's form, and the headers that every answer carries.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;
use transship_api::ErrorBody;

use crate::random;
use crate::refusal::Refusal;

/// An answer with a JSON body.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let text = serde_json::to_vec(body).expect("the wire types are all JSON");
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// An answer that is an error.
pub(super) fn refused(refusal: Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, &ErrorBody { error: refusal.error });
    let more = match status {
        StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Some((header::RETRY_AFTER, "1")),
        _ => None,
    };
    if let Some((name, value)) = more {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Sets a header whose value is made of checked text; one that cannot be a header's value is left out.
pub(super) fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Adds what every answer carries: a request id, the correlation id that the client sent (or the request id), and
/// the client's own id where it wants it back.
pub(super) fn identify(response: &mut Response, asked: &Identifiers) {
    let request = HeaderName::from_static("x-ms-request-id");
    let correlation = HeaderName::from_static("x-ms-correlation-request-id");
    set(response, request, &asked.request);
    set(response, correlation, asked.correlation.as_deref().unwrap_or(&asked.request));
    if let Some(client) = &asked.client {
        set(response, HeaderName::from_static("x-ms-client-request-id"), client);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// What names a request in logs, here and at the client.
#[derive(Clone)]
pub(super) struct Identifiers {
    /// Made here.
    pub(super) request: String,
    /// The client's `x-ms-correlation-request-id`.
    correlation: Option<String>,
    /// The client's `x-ms-client-request-id`.
    client: Option<String>,
}

impl Identifiers {
    /// The identifiers of a request with these headers. Those of the client are taken over where they are short
    /// and harmless.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let of = |name: &str| {
            let text = headers.get(name)?.to_str().ok()?;
            let fine = text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            fine.then(|| text.to_owned())
        };
        Self {
            request: random::guid(&random::hex::<16>()),
            correlation: of("x-ms-correlation-request-id"),
            client: of("x-ms-client-request-id"),
        }
    }
}
