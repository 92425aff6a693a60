//! The HTTP below identities and vaults: small exchanges, a bound on every wait and every answer, no redirect,
//! and errors that hold no URL.

use std::error::Error as StdError;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use secrecy::zeroize::Zeroizing;
use transship_model::Secret;
use url::Url;

/// How long a connection may take to be made. Where there is no metadata service, nothing answers at its address.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a whole exchange may take.
const EXCHANGE: Duration = Duration::from_secs(20);

/// The most bytes of an answer: a secret has at most 25 KiB, a token a few.
const ANSWER_BYTES: usize = 128 * 1024;

/// How often a request is sent at most.
const TRIES: u32 = 3;

/// The pause before the second try; the third waits twice as long.
const PAUSE: Duration = Duration::from_millis(500);

/// The longest `Retry-After` that is waited for here; a longer one is passed on.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Statuses after which the same request may succeed. The metadata service says 410 while it is updated.
const PASSING: [u16; 7] = [408, 410, 429, 500, 502, 503, 504];

/// A request. All of them may be repeated.
pub(crate) struct Call {
    pub(crate) url: Url,
    pub(crate) header: Option<(&'static str, Secret)>,
    /// The body of a POST (`application/x-www-form-urlencoded`); without it, a GET.
    pub(crate) form: Option<Secret>,
    /// Whether the peer stands beside the process, where no proxy leads.
    pub(crate) nearby: bool,
}

/// An answer, whatever its status.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) challenge: Option<String>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// Whether the same request may succeed later.
    pub(crate) fn passes(&self) -> bool {
        PASSING.contains(&self.status)
    }
}

/// Why there is no answer: a text of ours or of the operating system, never one with a URL.
pub(crate) struct Lost {
    /// Whether nobody was reached at all.
    pub(crate) unreached: bool,
    pub(crate) reason: String,
}

impl Lost {
    fn of(error: &reqwest::Error) -> Self {
        let mut cause: Option<&(dyn StdError + 'static)> = error.source();
        while let Some(inner) = cause.and_then(StdError::source) {
            cause = Some(inner);
        }
        let reason = match cause {
            _ if error.is_timeout() => "no answer in time".to_owned(),
            // The outer errors show the URL; the last cause is the operating system's or of TLS.
            Some(cause) if !cause.to_string().contains(['?', '=']) => {
                cause.to_string().chars().filter(|c| !c.is_control()).take(200).collect()
            }
            _ => "the exchange failed".to_owned(),
        };
        Self { unreached: error.is_connect(), reason }
    }
}

/// The connections of the process to identity endpoints and vaults.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    nearby: reqwest::Client,
    remote: reqwest::Client,
}

impl Http {
    /// # Errors
    /// Where TLS cannot be set up: what it said.
    pub(crate) fn new() -> Result<Self, String> {
        let build =
            |builder: reqwest::ClientBuilder| builder.build().map_err(|error| Lost::of(&error).reason);
        Ok(Self { nearby: build(builder().no_proxy())?, remote: build(builder())? })
    }

    /// Sends `call`, a few times where that may help.
    pub(crate) async fn send(&self, call: &Call) -> Result<Answer, Lost> {
        let mut tries = 0;
        loop {
            let result = self.send_once(call).await;
            tries += 1;
            let pause = match &result {
                Ok(answer) if !answer.passes() => None,
                Ok(answer) => Some(answer.retry_after.unwrap_or(PAUSE * tries)),
                // What stands beside the process and refuses a connection is not there.
                Err(lost) if call.nearby && lost.unreached => None,
                Err(_) => Some(PAUSE * tries),
            };
            match pause.filter(|pause| tries < TRIES && *pause <= LONGEST_PAUSE) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return result,
            }
        }
    }

    async fn send_once(&self, call: &Call) -> Result<Answer, Lost> {
        let client = if call.nearby { &self.nearby } else { &self.remote };
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = &call.header {
            let mut value = HeaderValue::from_str(value.expose()).map_err(|_| Lost {
                unreached: false,
                reason: "a header that HTTP cannot carry".to_owned(),
            })?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(name), value);
        }
        let request = match &call.form {
            Some(form) => client
                .post(call.url.clone())
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form.expose().to_owned()),
            None => client.get(call.url.clone()),
        };
        let answer = request.headers(headers).send().await.map_err(|error| Lost::of(&error))?;
        read(answer).await
    }
}

async fn read(mut answer: reqwest::Response) -> Result<Answer, Lost> {
    let status = answer.status().as_u16();
    let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let retry_after = text(RETRY_AFTER).and_then(|value| value.parse().ok()).map(Duration::from_secs);
    let challenge = text(WWW_AUTHENTICATE);
    // The room is taken at once: a buffer that grew would leave copies behind that nobody wipes.
    let mut body = Zeroizing::new(Vec::with_capacity(ANSWER_BYTES));
    while let Some(piece) = answer.chunk().await.map_err(|error| Lost::of(&error))? {
        if body.len() + piece.len() > ANSWER_BYTES {
            let reason = "the answer is larger than any that was asked for".to_owned();
            return Err(Lost { unreached: false, reason });
        }
        body.extend_from_slice(&piece);
    }
    Ok(Answer { status, challenge, retry_after, body })
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .http1_only()
        .connect_timeout(CONNECT)
        .timeout(EXCHANGE)
        // A token must not follow a redirect to a host that is in no list.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_gzip()
        .no_brotli()
        .no_deflate()
        .no_zstd()
}
