//! What answers say: bounded bodies, error codes, and the errors that they become.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use oci_client::errors::{OciEnvelope, OciErrorCode};
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Response, StatusCode};
use tokio::time::Instant;

use crate::RegistryError;
use crate::pace::Permit;
use crate::transport::{Fault, reason};

/// The largest error body that is read, in bytes.
const MAX_ERROR_BODY: u64 = 64 * 1024;

/// An answer whose body is still to be read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response,
    /// Whether a redirect led away from the registry.
    pub(crate) elsewhere: bool,
    pub(crate) permit: Permit,
}

impl Answer {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The text of a header, where it is there and is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }
}

/// The media type that headers name, without its parameters.
pub(crate) fn content_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    value.split(';').next().map(str::trim)
}

/// How many times the idle time a bounded body may take as a whole, so that it cannot trickle for ever.
const MAX_IDLE_TIMES: u32 = 5;

/// Reads a body of at most `limit` bytes. `Ok(None)` where it is longer: no more than one piece of the
/// transport is read beyond the limit.
pub(crate) async fn read_bounded(
    mut response: Response,
    limit: u64,
    idle: Duration,
) -> Result<Option<Bytes>, Fault> {
    if response.content_length().is_some_and(|length| length > limit) {
        return Ok(None);
    }
    let mut body = BytesMut::with_capacity(response.content_length().unwrap_or_default() as usize);
    let end = Instant::now() + idle * MAX_IDLE_TIMES;
    loop {
        let until = end.min(Instant::now() + idle);
        match tokio::time::timeout_at(until, response.chunk()).await {
            Ok(Ok(Some(piece))) if (body.len() + piece.len()) as u64 > limit => return Ok(None),
            Ok(Ok(Some(piece))) => body.extend_from_slice(&piece),
            Ok(Ok(None)) => return Ok(Some(body.freeze())),
            Ok(Err(error)) => return Err(Fault::Lost(reason(&error))),
            Err(_) => return Err(Fault::Lost("the answer stopped in the middle".to_owned())),
        }
    }
}

/// The first error code of an error body (distribution specification, "Error Codes"), where it has one. The
/// messages beside it are the registry's prose and may repeat what was sent, so they are never taken.
pub(crate) async fn error_code(response: Response, idle: Duration) -> Option<String> {
    let body = read_bounded(response, MAX_ERROR_BODY, idle).await.ok()??;
    let envelope: OciEnvelope = serde_json::from_slice(&body).ok()?;
    code_text(&envelope.errors.first()?.code)
}

fn code_text(code: &OciErrorCode) -> Option<String> {
    let value = serde_json::to_value(code).ok()?;
    let text = value.as_str()?;
    let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    (!text.is_empty() && text.len() <= 64 && text.bytes().all(plain)).then(|| text.to_owned())
}

/// The error that an answer with an unexpected status is. `code` is the registry's own.
pub(crate) fn refusal(
    host: &str,
    repository: String,
    operation: &str,
    status: StatusCode,
    code: Option<&str>,
) -> RegistryError {
    let (host, operation) = (host.to_owned(), operation.to_owned());
    let said = match code {
        Some(code) => format!("{} {code}", status.as_u16()),
        None => status.as_u16().to_string(),
    };
    match status.as_u16() {
        401 | 403 => RegistryError::Forbidden { host, repository, reason: said },
        408 | 429 | 500..=599 => RegistryError::Unavailable {
            host,
            operation,
            reason: format!("it answered {said}"),
            retry_after: None,
        },
        400..=499 => RegistryError::Refused { host, operation, code: said },
        300..=399 => RegistryError::Protocol {
            host,
            reason: format!("{operation}: a redirect that cannot be followed ({said})"),
        },
        _ => RegistryError::Protocol { host, reason: format!("{operation}: an unexpected answer ({said})") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_taken_and_prose_is_not() {
        let code = |json: &str| {
            let envelope: OciEnvelope = serde_json::from_str(json).unwrap();
            code_text(&envelope.errors[0].code)
        };
        assert_eq!(
            code(r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}"#).as_deref(),
            Some("MANIFEST_BLOB_UNKNOWN")
        );
        assert_eq!(code(r#"{"errors":[{"code":"ARTIFACT_LOCKED"}]}"#).as_deref(), Some("ARTIFACT_LOCKED"));
        assert_eq!(code(r#"{"errors":[{"code":"your password is hunter2"}]}"#), None);
    }

    #[test]
    fn each_status_becomes_the_error_that_says_what_to_do() {
        let error =
            |status: u16, code| refusal("h", "r".into(), "op", StatusCode::from_u16(status).unwrap(), code);
        assert!(matches!(error(401, None), RegistryError::Forbidden { .. }));
        assert!(
            matches!(error(403, Some("DENIED")), RegistryError::Forbidden { reason, .. } if reason == "403 DENIED")
        );
        assert!(matches!(error(429, None), RegistryError::Unavailable { .. }));
        assert!(matches!(error(503, None), RegistryError::Unavailable { .. }));
        assert!(matches!(error(307, None), RegistryError::Protocol { .. }));
        assert!(error(404, Some("MANIFEST_BLOB_UNKNOWN")).is_blob_unknown());
        assert!(error(400, Some("MANIFEST_BLOB_UNKNOWN")).is_blob_unknown());
        assert!(
            !error(400, Some("MANIFEST_INVALID")).is_blob_unknown() && !error(404, None).is_blob_unknown()
        );
    }
}
