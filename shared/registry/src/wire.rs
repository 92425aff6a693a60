//! Calls as they really go: with a credential, along redirects, within the pace of the registry, and again
//! where that may help.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Method, Request, Response, StatusCode};
use url::Url;

use crate::answer::{Answer, error_code, read_bounded, refusal};
use crate::auth::{Auth, Authorization};
use crate::call::Call;
use crate::guard::Guard;
use crate::outgoing::Outgoing;
use crate::pace::{Gate, Lane, Lanes, pauses, retry_after};
use crate::transport::{Fault, Transport};
use crate::{Limits, RegistryError};

/// The most redirects that one read follows.
const MAX_REDIRECTS: usize = 5;

/// The way to one registry.
pub(crate) struct Wire {
    pub(crate) host: String,
    pub(crate) guard: Arc<Guard>,
    pub(crate) limits: Limits,
    pub(crate) transport: Transport,
    pub(crate) auth: Auth,
    pub(crate) gate: Gate,
    pub(crate) lanes: Lanes,
}

/// An answer, and whether it came from elsewhere than the registry.
struct Reply {
    response: Response,
    elsewhere: bool,
}

/// An answer whose body is read, or one that is not a 200.
pub(crate) enum Fetched {
    Body(HeaderMap, Bytes),
    Other(Answer),
}

impl Wire {
    /// Sends a call until it is answered with anything but "not now", within the bounds of tries and time.
    /// The status of the answer is for the caller to judge.
    pub(crate) async fn send(&self, call: &Call) -> Result<Answer, RegistryError> {
        let permit = self.lanes.enter(call.lane).await;
        let mut pauses = pauses(&self.limits).take(call.tries.unwrap_or(usize::MAX).saturating_sub(1));
        loop {
            self.pass_gate(&call.operation).await?;
            let (reason, wait) = match Box::pin(self.attempt(call)).await {
                Ok(reply) if !not_now(call, &reply) => {
                    return Ok(Answer { response: reply.response, elsewhere: reply.elsewhere, permit });
                }
                Ok(reply) => self.not_now_reason(reply).await,
                Err(Fault::Lost(reason)) => (reason, None),
                Err(fault) => return Err(fault.into_error(&self.host, &call.operation)),
            };
            let too_long = wait.is_some_and(|wait| wait > self.limits.longest_pause);
            let Some(pause) = pauses.next().filter(|_| !too_long) else {
                return Err(self.unavailable(&call.operation, reason, wait));
            };
            tracing::debug!(host = %self.host, operation = %call.operation, %reason, "trying again");
            tokio::time::sleep(pause.max(wait.unwrap_or_default())).await;
        }
    }

    /// Sends a call and reads the body of a 200, at most `limit` bytes of it. A body that breaks in the middle
    /// is read again from the start.
    pub(crate) async fn fetch(&self, call: &Call, limit: u64) -> Result<Fetched, RegistryError> {
        let mut pauses = pauses(&self.limits);
        loop {
            let answer = self.send(call).await?;
            if answer.status() != StatusCode::OK {
                return Ok(Fetched::Other(answer));
            }
            let headers = answer.headers().clone();
            let fault = match read_bounded(answer.response, limit, self.limits.idle).await {
                Ok(Some(body)) => return Ok(Fetched::Body(headers, body)),
                Ok(None) => return Err(self.protocol(call, format!("an answer of more than {limit} bytes"))),
                Err(fault) => fault,
            };
            match pauses.next() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(fault.into_error(&self.host, &call.operation)),
            }
        }
    }

    /// Sends a call, and makes an error of every answer that is not a success.
    pub(crate) async fn expect(&self, call: &Call) -> Result<Answer, RegistryError> {
        let answer = self.send(call).await?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refused(call, answer).await) }
    }

    /// The error that an answer is.
    pub(crate) async fn refused(&self, call: &Call, answer: Answer) -> RegistryError {
        let status = answer.status();
        let code = error_code(answer.response, self.limits.idle).await;
        refusal(&self.host, call.scopes.to_string(), &call.operation, status, code.as_deref())
    }

    /// Sends a call with a body that streams, once. A 401 renews the credential, so another try may go through.
    pub(crate) async fn send_stream(&self, call: &Call, body: Outgoing) -> Result<Answer, Fault> {
        let permit = self.lanes.enter(Lane::Bulk).await;
        self.pass_gate(&call.operation).await?;
        let authorization = self.auth.authorization(&self.transport, &self.limits, &call.scopes).await?;
        let mut request = self.request(call, &call.url, Some(&authorization));
        let watch = body.watch();
        *request.body_mut() = Some(reqwest::Body::wrap_stream(body));
        let sent = tokio::select! {
            sent = self.transport.send_stream(request) => sent,
            stall = watch.stalled(&self.limits) => Err(Fault::Lost(stall.to_owned())),
        };
        // An answer that came before the body ended counts, unless the content itself is what failed.
        if let Some(reason) = watch.failure() {
            return Err(Fault::Content(reason));
        }
        let response = sent?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let met = self.auth.learn(&self.guard, response.headers())?;
            let again = match &authorization {
                Authorization::None => met,
                used => self.auth.renew(used, &call.scopes).await?,
            };
            if !again {
                let (scopes, status) = (call.scopes.to_string(), response.status());
                return Err(Fault::Final(refusal(&self.host, scopes, &call.operation, status, None)));
            }
        }
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            self.close_gate(&response);
        }
        Ok(Answer { response, elsewhere: false, permit })
    }

    /// One try: with the credential of the moment, which is renewed once where the registry refuses it.
    async fn attempt(&self, call: &Call) -> Result<Reply, Fault> {
        let (mut learned, mut renewed) = (false, false);
        loop {
            let authorization = self.auth.authorization(&self.transport, &self.limits, &call.scopes).await?;
            let reply = self.follow(call, &authorization).await?;
            if reply.response.status() != StatusCode::UNAUTHORIZED || reply.elsewhere {
                return Ok(reply);
            }
            let met = self.auth.learn(&self.guard, reply.response.headers())?;
            let again = match &authorization {
                Authorization::None => met && !std::mem::replace(&mut learned, true),
                used => !std::mem::replace(&mut renewed, true) && self.auth.renew(used, &call.scopes).await?,
            };
            if !again {
                return Ok(reply);
            }
        }
    }

    /// Follows the redirects of a read. Credentials stay with the registry: what left it comes back without.
    async fn follow(&self, call: &Call, authorization: &Authorization) -> Result<Reply, Fault> {
        let mut url = call.url.clone();
        let mut elsewhere = false;
        for _ in 0..=MAX_REDIRECTS {
            let request = self.request(call, &url, (!elsewhere).then_some(authorization));
            let response = self.transport.send(request).await?;
            let Some(next) = redirect(call, &url, &response) else {
                return Ok(Reply { response, elsewhere });
            };
            let next =
                next.ok_or_else(|| self.protocol(call, "a redirect to something that is no address"))?;
            self.guard.redirect(&next)?;
            elsewhere |= !self.guard.is_registry(&next);
            url = next;
        }
        Err(Fault::Final(self.protocol(call, "more than 5 redirects")))
    }

    fn request(&self, call: &Call, url: &Url, authorization: Option<&Authorization>) -> Request {
        let mut request = Request::new(call.method.clone(), url.clone());
        *request.headers_mut() = call.headers.clone();
        if let Some(value) = authorization.and_then(Authorization::header) {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        *request.body_mut() = call.body.clone().map(Into::into);
        request
    }

    async fn pass_gate(&self, operation: &str) -> Result<(), RegistryError> {
        let longest = self.limits.longest_pause;
        let passed = self.gate.pass(longest).await;
        passed.map_err(|left| self.unavailable(operation, "it asked for a pause".to_owned(), Some(left)))
    }

    async fn not_now_reason(&self, reply: Reply) -> (String, Option<Duration>) {
        let status = reply.response.status();
        let wait = match (status, reply.elsewhere) {
            (StatusCode::TOO_MANY_REQUESTS, false) => self.close_gate(&reply.response),
            _ => wait_of(&reply.response),
        };
        let place = if reply.elsewhere { "the host that it redirects to" } else { "it" };
        (format!("{place} answered {}", status.as_u16()), wait)
    }

    /// Holds every request back for as long as a 429 says.
    fn close_gate(&self, response: &Response) -> Option<Duration> {
        let wait = wait_of(response);
        if let Some(wait) = wait {
            self.gate.close(wait);
        }
        wait
    }

    pub(crate) fn unavailable(
        &self,
        operation: &str,
        reason: String,
        retry_after: Option<Duration>,
    ) -> RegistryError {
        let (host, operation) = (self.host.clone(), operation.to_owned());
        RegistryError::Unavailable { host, operation, reason, retry_after }
    }

    pub(crate) fn protocol(&self, call: &Call, reason: impl std::fmt::Display) -> RegistryError {
        RegistryError::Protocol { host: self.host.clone(), reason: format!("{}: {reason}", call.operation) }
    }
}

/// Where a read is redirected to, if it is. The inner `None`: to something that is not an address.
fn redirect(call: &Call, url: &Url, response: &Response) -> Option<Option<Url>> {
    let moved = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    if !moved || !matches!(call.method, Method::GET | Method::HEAD) {
        return None;
    }
    let location = response.headers().get(LOCATION)?;
    Some(location.to_str().ok().and_then(|location| url.join(location).ok()))
}

/// Whether an answer means: try again later. A refusal by a host that a read was redirected to is one too,
/// since its address may have expired on the way.
fn not_now(call: &Call, reply: &Reply) -> bool {
    match reply.response.status().as_u16() {
        408 | 429 | 500 | 502 | 503 | 504 => true,
        401 | 403 => reply.elsewhere && call.method == Method::GET,
        _ => false,
    }
}

pub(crate) fn wait_of(response: &Response) -> Option<Duration> {
    let header = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    retry_after(header, Timestamp::now())
}
