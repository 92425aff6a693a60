//! What an answer of the service means ("Blob service error codes"; "SAS error codes"). The decision is a pure
//! function; nothing that the service or the SDK wrote is shown, apart from codes made of letters and digits.

use std::error::Error as StdError;
use std::time::Duration;

use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::{HeaderName, Headers};
use jiff::Timestamp;
use transship_model::{BlobName, ContainerUrl, Identity};
use transship_secrets::IdentityError;

use super::bearer::TokenFault;
use super::transport::{ERROR_CODE, TransportFault};
use crate::{Operation, SasToken, StorageError};

const COPY_SOURCE_STATUS: HeaderName = HeaderName::from_static("x-ms-copy-source-status-code");
const COPY_SOURCE_CODE: HeaderName = HeaderName::from_static("x-ms-copy-source-error-code");
const DATE: HeaderName = HeaderName::from_static("date");

/// An answer that is not a success, as far as it decides anything.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: u16,
    /// The service's error code.
    pub(super) code: Option<String>,
    /// How long the service wants to be left alone.
    pub(super) retry_after: Option<Duration>,
    /// What the source of a server-side copy answered.
    pub(super) source_status: Option<u16>,
    /// The source's error code.
    pub(super) source_code: Option<String>,
    /// The service's clock.
    pub(super) date: Option<Timestamp>,
}

/// What was asked, of whom, with what.
pub(super) struct Question<'a> {
    pub(super) operation: Operation,
    pub(super) container: &'a ContainerUrl,
    /// `None` for a listing.
    pub(super) blob: Option<&'a BlobName>,
    pub(super) sas: Option<&'a SasToken>,
    /// Whose token was shown, where there is no SAS token.
    pub(super) identity: Option<&'a Identity>,
}

/// The answer in an error of the SDK, or the reason why there is none.
pub(super) fn answer_of(error: &Error) -> Result<Answer, Silence> {
    let ErrorKind::HttpResponse { status, raw_response, .. } = error.kind() else {
        return Err(Silence::of(error));
    };
    let mut answer = Answer { status: u16::from(*status), ..Answer::default() };
    let Some(raw) = raw_response else { return Ok(answer) };
    let header = |name: &HeaderName| raw.headers().get_optional_str(name);
    answer.code = header(&ERROR_CODE).and_then(clean_code).or_else(|| code_in_body(raw.body()));
    answer.retry_after = retry_after(raw.headers());
    answer.source_status = header(&COPY_SOURCE_STATUS).and_then(|status| status.parse().ok());
    answer.source_code = header(&COPY_SOURCE_CODE).and_then(clean_code);
    answer.date = header(&DATE).and_then(|date| Some(jiff::fmt::rfc2822::parse(date).ok()?.timestamp()));
    Ok(answer)
}

/// Why there was no answer to judge.
pub(super) enum Silence {
    /// Nothing came, or it broke off.
    Lost(String),
    /// It came and made no sense, or the request could not be made.
    Senseless(String),
    /// Nothing was sent, since there is no token.
    NoToken(IdentityError),
}

impl Silence {
    fn of(error: &Error) -> Self {
        let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(inner) = cause {
            if let Some(fault) = inner.downcast_ref::<TransportFault>() {
                return match error.kind() {
                    ErrorKind::Io | ErrorKind::Connection => Self::Lost(fault.0.clone()),
                    _ => Self::Senseless(fault.0.clone()),
                };
            }
            if let Some(TokenFault(source)) = inner.downcast_ref() {
                return Self::NoToken(source.clone());
            }
            cause = inner.source();
        }
        Self::Senseless("the answer of the service was not understood".to_owned())
    }

    fn into_error(self, container: &ContainerUrl) -> StorageError {
        let container = container.clone();
        match self {
            Self::Lost(reason) => StorageError::Unavailable { container, reason, retry_after: None },
            Self::Senseless(code) => StorageError::Refused { container, code },
            Self::NoToken(source) => StorageError::NoToken { container, source },
        }
    }
}

impl Question<'_> {
    /// What the SDK's error means for this question.
    pub(super) fn error(&self, error: &Error) -> StorageError {
        match answer_of(error) {
            Ok(answer) => self.judge(&answer, Timestamp::now()),
            Err(silence) => silence.into_error(self.container),
        }
    }

    /// What `answer` means at the time `now`.
    pub(super) fn judge(&self, answer: &Answer, now: Timestamp) -> StorageError {
        if self.operation == Operation::StageFrom
            && let Some(error) = self.judge_copy(answer)
        {
            return error;
        }
        let code = answer.code.as_deref().unwrap_or_default();
        match (answer.status, code) {
            (_, "ContainerNotFound" | "ContainerDisabled") => self.no_container(),
            (_, "ContainerBeingDeleted" | "PendingCopyOperation" | "AccountBeingCreated") => {
                self.unavailable(answer)
            }
            (404, _) if self.blob.is_none() => self.no_container(),
            (404, _) => self.on_blob(|container, blob| StorageError::BlobNotFound { container, blob }),
            // Another program holds a lease, which ends by itself or by that program.
            (409 | 412, lease) if lease.starts_with("Lease") => self.unavailable(answer),
            (412 | 304, _) | (409, "BlobAlreadyExists") | (403, "UnauthorizedBlobOverwrite") => {
                self.on_blob(|container, blob| StorageError::ConditionFailed { container, blob })
            }
            (400, "InvalidBlockList" | "InvalidBlobOrBlock" | "InvalidBlockId") => {
                self.on_blob(|container, blob| StorageError::InvalidBlockList { container, blob })
            }
            (416, _) => self.on_blob(|container, blob| StorageError::RangeNotSatisfiable { container, blob }),
            (401 | 403, _) | (409, "PublicAccessNotPermitted") => self.judge_access(answer, now),
            (408 | 429 | 500 | 502..=599, _) => self.unavailable(answer),
            _ => StorageError::Refused { container: self.container.clone(), code: shown(answer) },
        }
    }

    /// Put Block From URL: what the pair of services cannot do, and what the source said.
    fn judge_copy(&self, answer: &Answer) -> Option<StorageError> {
        let code = answer.code.as_deref().unwrap_or_default();
        let source_says = code == "CannotVerifyCopySource" || answer.source_status.is_some();
        let condition = matches!(code, "SourceConditionNotMet" | "CopySourceConditionNotMet");
        if condition || answer.source_status == Some(412) || (source_says && answer.status == 412) {
            return Some(self.on_blob(|container, blob| StorageError::ConditionFailed { container, blob }));
        }
        if matches!(answer.source_status, Some(429 | 500 | 502..=504)) {
            return Some(self.unavailable(answer));
        }
        let unsupported = answer.status == 501
            || source_says
            || matches!(
                code,
                "APINotImplemented" | "CopyAcrossAccountsNotSupported" | "UnauthorizedCopySource"
            );
        unsupported.then(|| {
            let code = match (answer.source_status, &answer.source_code) {
                (None, None) => shown(answer),
                (status, source) => format!(
                    "{}: the source answers {} {}",
                    shown(answer),
                    status.map(|status| status.to_string()).unwrap_or_default(),
                    source.as_deref().unwrap_or_default()
                ),
            };
            StorageError::CopyUnsupported {
                container: self.container.clone(),
                code: code.trim_end().to_owned(),
            }
        })
    }

    /// 401 and 403. Azurite answers AuthorizationFailure where Azure answers AuthenticationFailed.
    fn judge_access(&self, answer: &Answer, now: Timestamp) -> StorageError {
        // The service's clock decides about its tokens.
        let now = answer.date.map_or(now, |date| date.max(now));
        let letters = self.operation.letters();
        if let Some(identity) = self.identity {
            return StorageError::IdentityForbidden {
                container: self.container.clone(),
                identity: identity.clone(),
                needed_for: self.operation.purpose(),
                code: shown(answer),
            };
        }
        let code = answer.code.as_deref().unwrap_or_default();
        let mut shown = shown(answer);
        if let Some(sas) = self.sas {
            let of_the_token = matches!(code, "" | "AuthenticationFailed" | "AuthorizationFailure");
            if of_the_token && let Some(expired_at) = sas.expired_at(now) {
                return sas.expired(expired_at, self.container);
            }
            if code == "AuthorizationPermissionMismatch"
                && let Some(error) = sas.lacking(letters, self.operation.purpose(), self.container)
            {
                return error;
            }
            if let Some(fault) = sas.mismatch(now, letters, self.container) {
                shown = format!("{shown}: {fault}");
            }
        } else {
            shown = format!("{shown}: no SAS token is configured");
        }
        StorageError::Forbidden { container: self.container.clone(), code: shown }
    }

    fn no_container(&self) -> StorageError {
        StorageError::ContainerNotFound { container: self.container.clone() }
    }

    fn unavailable(&self, answer: &Answer) -> StorageError {
        StorageError::Unavailable {
            container: self.container.clone(),
            reason: shown(answer),
            retry_after: answer.retry_after,
        }
    }

    fn on_blob(&self, error: impl FnOnce(ContainerUrl, BlobName) -> StorageError) -> StorageError {
        match self.blob {
            Some(blob) => error(self.container.clone(), blob.clone()),
            None => StorageError::Refused {
                container: self.container.clone(),
                code: "a condition on a blob, though none was named".to_owned(),
            },
        }
    }
}

/// The code, or the status where there is none.
fn shown(answer: &Answer) -> String {
    answer.code.clone().unwrap_or_else(|| format!("HTTP {}", answer.status))
}

/// An error code: letters and digits. Anything else is not shown, so that no text of a peer gets into a message.
fn clean_code(text: &str) -> Option<String> {
    (1..=64).contains(&text.len()).then_some(())?;
    text.chars().all(|c| c.is_ascii_alphanumeric()).then(|| text.to_owned())
}

/// The code of an answer whose header was lost on the way.
fn code_in_body(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(&body[..body.len().min(4096)]).ok()?;
    clean_code(text.split_once("<Code>")?.1.split_once("</Code>")?.0)
}

/// How long the service wants to be left alone: milliseconds, seconds, or a date.
pub(super) fn retry_after(headers: &Headers) -> Option<Duration> {
    for name in ["x-ms-retry-after-ms", "retry-after-ms"] {
        if let Some(text) = headers.get_optional_str(&HeaderName::from_static(name)) {
            return text.parse().ok().map(Duration::from_millis);
        }
    }
    let text = headers.get_optional_str(&HeaderName::from_static("retry-after"))?;
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(Timestamp::now())).unwrap_or_default())
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
