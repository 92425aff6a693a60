//! Upload sessions (OCI distribution specification, "Pushing blobs").

use std::fmt;

use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};
use transship_model::{Digest, Repository, Secret};
use url::Url;

use crate::RegistryError;
use crate::answer::{Answer, error_code, refusal};
use crate::call::{Call, Scopes};
use crate::client::Inner;
use crate::content_range::session_length;
use crate::error::UPLOAD;
use crate::outgoing::{ContentStream, Outgoing};
use crate::pace::pauses;
use crate::target::digest_header;
use crate::transport::Fault;
use crate::wire::wait_of;

/// The smallest piece that a registry takes (distribution specification, "Pushing a blob in chunks").
const MINIMUM_HEADER: &str = "oci-chunk-min-length";
/// How often a session is closed. Each may take as long as the registry needs to put the blob together.
const CLOSING_TRIES: usize = 3;

/// An upload that is under way. Its location lets whoever has it write, so it is a secret: keep it sealed.
#[derive(Debug, Clone)]
pub struct UploadSession {
    repository: Repository,
    location: Secret,
    offset: u64,
    minimum: u64,
}

impl UploadSession {
    /// Takes up a session that another process began, by what that one knew of it. The location is checked again
    /// before it is used.
    pub fn restore(repository: Repository, location: Secret, offset: u64, minimum_chunk: u64) -> Self {
        Self { repository, location, offset, minimum: minimum_chunk }
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Where the registry takes the next piece.
    pub fn location(&self) -> &Secret {
        &self.location
    }

    /// The bytes that the registry has, in pieces that it acknowledged.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The smallest piece that the registry takes, the last one excepted, in bytes; 0 where it does not say.
    pub fn minimum_chunk(&self) -> u64 {
        self.minimum
    }

    pub(crate) fn advanced(&self, location: Option<Secret>, by: u64) -> Self {
        let location = location.unwrap_or_else(|| self.location.clone());
        Self { location, offset: self.offset + by, ..self.clone() }
    }
}

/// Why a step of an upload did not work, and what may.
#[derive(Debug)]
pub(crate) enum Setback {
    /// The registry does not take a body of this form.
    Form(RegistryError),
    /// Nobody knows what arrived: look, and begin anew.
    Lost(RegistryError),
    /// The credential was renewed: the same once more.
    Renewed(RegistryError),
    /// Nothing helps.
    Final(RegistryError),
}

impl Setback {
    pub(crate) fn into_error(self) -> RegistryError {
        match self {
            Self::Form(error) | Self::Lost(error) | Self::Renewed(error) | Self::Final(error) => error,
        }
    }
}

impl From<RegistryError> for Setback {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Unavailable { .. } => Self::Lost(error),
            error if error.is_upload_lost() => Self::Lost(error),
            error => Self::Final(error),
        }
    }
}

impl Inner {
    /// Opens a session.
    pub(crate) async fn begin(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<UploadSession, RegistryError> {
        let url = self.address(repository, "blobs/uploads/");
        let call = Call::new(
            Method::POST,
            url,
            Scopes::push(repository),
            format!("begin upload of {digest} in {repository}"),
        );
        let answer = self.wire.expect(&call).await?;
        let location = self.location(&call.url, answer.headers())?;
        let location = location.ok_or_else(|| self.wire.protocol(&call, "no location to upload to"))?;
        let minimum = answer.header(MINIMUM_HEADER).and_then(|text| text.parse().ok()).unwrap_or_default();
        let location = Secret::new(location.as_str());
        Ok(UploadSession { repository: repository.clone(), location, offset: 0, minimum })
    }

    /// Closes a session with the last body: everything (one PUT for the whole blob), or nothing more.
    pub(crate) async fn finish(
        &self,
        session: &UploadSession,
        digest: &Digest,
        body: Option<(ContentStream, u64)>,
    ) -> Result<(), Setback> {
        let mut url = self.restored(session)?;
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let call = Call::new(
            Method::PUT,
            url,
            Scopes::push(&session.repository),
            operation("finish", &session.repository, digest),
        );
        let answer = match body {
            None => self.close(&call).await?,
            Some((stream, length)) => self.stream(call.clone(), stream, length).await?,
        };
        if !answer.status().is_success() {
            return Err(self.setback(&call, answer).await);
        }
        let said = digest_header(answer.headers());
        drop(answer);
        // A registry that names the digest has verified it. Another one is asked.
        if said.as_ref() != Some(digest) && self.length_of(&session.repository, digest).await?.is_none() {
            return Err(Setback::Lost(self.wire.protocol(&call, "it took the blob, and does not have it")));
        }
        Ok(())
    }

    /// Sends one piece and waits until the registry has it.
    pub(crate) async fn patch(
        &self,
        session: &UploadSession,
        digest: &Digest,
        stream: ContentStream,
        length: u64,
    ) -> Result<UploadSession, Setback> {
        let url = self.restored(session)?;
        // The specification's form, not HTTP's: registries refuse "bytes 0-9/*" here.
        let range = format!("{}-{}", session.offset, (session.offset + length).saturating_sub(1));
        let range = HeaderValue::from_str(&range).expect("a range is plain ASCII");
        let call = Call::new(
            Method::PATCH,
            url,
            Scopes::push(&session.repository),
            operation("continue", &session.repository, digest),
        );
        let call = call.header(CONTENT_RANGE, range);
        let answer = self.stream(call.clone(), stream, length).await?;
        if !answer.status().is_success() {
            return Err(self.setback(&call, answer).await);
        }
        // What the answer says of its Range is not read: some registries count wrong, and the digest decides.
        let location =
            self.location(&call.url, answer.headers())?.map(|location| Secret::new(location.as_str()));
        Ok(session.advanced(location, length))
    }

    /// Where a session stands after a piece that broke: its offset, where the registry knows.
    pub(crate) async fn standing(&self, session: &UploadSession, digest: &Digest) -> Option<UploadSession> {
        let url = self.restored(session).ok()?;
        let operation = operation("ask for", &session.repository, digest);
        let call = Call::new(Method::GET, url, Scopes::push(&session.repository), operation);
        let answer = self.wire.send(&call).await.ok()?;
        if answer.status() != StatusCode::NO_CONTENT {
            return None;
        }
        let offset = answer.header(RANGE.as_str()).and_then(session_length)?;
        let location =
            self.location(&call.url, answer.headers()).ok()?.map(|location| Secret::new(location.as_str()));
        Some(UploadSession { offset, ..session.advanced(location, 0) })
    }

    /// Gives a session up, so that the registry need not keep it. Best effort: registries clean up by themselves.
    pub(crate) async fn cancel(&self, repository: &Repository, location: Url) {
        let call = Call::new(
            Method::DELETE,
            location,
            Scopes::push(repository),
            format!("{UPLOAD}: cancel in {repository}"),
        );
        if let Err(error) = self.wire.send(&call.once()).await {
            tracing::debug!(host = %self.wire.host, %repository, %error, "an upload session was not cancelled");
        }
    }

    /// Gives a session up by its own location.
    pub(crate) async fn abandon(&self, session: &UploadSession) {
        if let Ok(location) = self.restored(session) {
            self.cancel(&session.repository, location).await;
        }
    }

    /// The closing PUT of a session whose bytes are all there. Tried again by itself: the bytes need not move again.
    async fn close(&self, call: &Call) -> Result<Answer, Setback> {
        let mut pauses = pauses(&self.wire.limits).take(CLOSING_TRIES - 1);
        loop {
            let nothing = Box::pin(futures::stream::empty());
            let setback = match self.stream(call.clone(), nothing, 0).await {
                Ok(answer) if !matches!(answer.status().as_u16(), 408 | 429 | 500..=504) => {
                    return Ok(answer);
                }
                Ok(answer) => self.setback(call, answer).await,
                Err(setback) => setback,
            };
            match pauses.next() {
                Some(pause) if matches!(setback, Setback::Lost(_)) => tokio::time::sleep(pause).await,
                _ => return Err(setback),
            }
        }
    }

    async fn stream(&self, call: Call, stream: ContentStream, length: u64) -> Result<Answer, Setback> {
        let call = call
            .header(CONTENT_LENGTH, HeaderValue::from(length))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        match Box::pin(self.wire.send_stream(&call, Outgoing::new(stream, length))).await {
            Ok(answer) => Ok(answer),
            Err(fault @ Fault::Lost(_)) => {
                Err(Setback::Lost(fault.into_error(&self.wire.host, &call.operation)))
            }
            Err(fault) => Err(fault.into_error(&self.wire.host, &call.operation).into()),
        }
    }

    /// What an answer that is no success means for an upload.
    async fn setback(&self, call: &Call, answer: Answer) -> Setback {
        let (status, wait) = (answer.status(), wait_of(&answer.response));
        let code = error_code(answer.response, self.wire.limits.idle).await;
        let code = code.as_deref();
        let mut error = refusal(&self.wire.host, call.scopes.to_string(), &call.operation, status, code);
        if let RegistryError::Unavailable { retry_after, .. } = &mut error {
            *retry_after = wait;
        }
        match (status.as_u16(), code) {
            (401, _) => Setback::Renewed(error),
            // The bytes are right, so a wrong digest means that they did not arrive.
            (400..=499, Some("DIGEST_INVALID")) => Setback::Lost(error),
            // The names are right as well, and have nothing to do with the form.
            (_, Some("NAME_INVALID" | "NAME_UNKNOWN")) => error.into(),
            (400 | 405 | 411 | 413 | 415 | 416 | 501, _) => Setback::Form(error),
            _ => error.into(),
        }
    }

    /// The location of a session, checked: it may have been in another process meanwhile.
    fn restored(&self, session: &UploadSession) -> Result<Url, RegistryError> {
        let url: Option<Url> = session.location.expose().parse().ok();
        let host = || self.wire.host.clone();
        let broken = || RegistryError::Protocol {
            host: host(),
            reason: "an upload location that is no address".to_owned(),
        };
        let url = url.ok_or_else(broken)?;
        let trusted = self.wire.guard.trusted(&url);
        trusted.map_err(|denied| RegistryError::EgressDenied {
            host: host(),
            to: denied.to,
            reason: denied.reason,
        })?;
        Ok(url)
    }
}

fn operation(step: &str, repository: &Repository, digest: impl fmt::Display) -> String {
    format!("{UPLOAD}: {step} {digest} in {repository}")
}
