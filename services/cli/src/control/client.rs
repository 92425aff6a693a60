//! Requests to the control plane: bounded, sent again where that may help, and with its errors as problems.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, DATE, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, Method, Response};
use serde_json::Value;
use transship_api::{Kind, ResourceId};
use transship_model::Secret;
use url::Url;

use super::place::Place;
use super::retry::{self, Came};
use super::{address, choose, refusal};
use crate::args::ConnectionArgs;
use crate::exit::{Exit, Problem};

/// The version of ARM's interface that is spoken.
const API_VERSION: &str = "2025-06-01-preview";
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take, its body included.
const ANSWER: Duration = Duration::from_secs(60);
/// The largest answer, in bytes: a run of some ten thousand artifacts.
const MAX_ANSWER: usize = 64 << 20;
/// The most pages of one list.
const MAX_PAGES: usize = 10_000;

/// How many values a page is asked for: a run has its whole request.
const PAGE: usize = 100;

/// A control plane.
pub(crate) struct ControlPlane {
    http: Client,
    authorization: Option<HeaderValue>,
    /// Which one, and what belongs to it.
    pub(crate) place: Place,
}

/// An answer that is no error.
pub(crate) struct Asked {
    pub(crate) status: u16,
    /// The server's time, as it says it.
    pub(crate) date: Option<String>,
    /// `null` where there is no body.
    pub(crate) body: Value,
}

impl ControlPlane {
    /// The control plane that `args` mean. Nothing is sent yet.
    ///
    /// # Errors
    /// Where none is known, or its token or certificates cannot be read.
    pub(crate) fn connect(args: &ConnectionArgs) -> Result<Self, Problem> {
        Self::at(choose(args)?)
    }

    /// The control plane at `place`.
    ///
    /// # Errors
    /// Where its token or certificates cannot be read.
    pub(crate) fn at(place: Place) -> Result<Self, Problem> {
        let authorities = place.ca_file.as_deref().map(certificates).transpose()?.unwrap_or_default();
        let builder = |authorities: Vec<Certificate>| {
            let builder = Client::builder()
                .user_agent(concat!("transship/", env!("CARGO_PKG_VERSION")))
                // A redirect would take the token along.
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .connect_timeout(CONNECT)
                .timeout(ANSWER);
            // What is meant for this machine goes through no proxy.
            let builder = if address::is_local(&place.url) { builder.no_proxy() } else { builder };
            match place.url.scheme() {
                // A machine without any certificate authorities can still speak plain HTTP.
                "http" => builder.tls_certs_only(authorities),
                _ => builder.tls_certs_merge(authorities),
            }
        };
        let http = builder(authorities).build().map_err(|error| {
            Problem::usage("the control plane cannot be reached by TLS").caused_by(&error)
        })?;
        let authorization = place.token.read()?.map(|token| bearer(&token)).transpose()?;
        Ok(Self { http, authorization, place })
    }

    /// The identifier of the registry `name`.
    pub(crate) fn registry(&self, name: &str) -> ResourceId {
        ResourceId::registry(&self.place.subscription, &self.place.group, name)
    }

    /// The registries that the command is about, each once: that of exports, and that of imports.
    ///
    /// # Errors
    /// Where nothing names one.
    pub(crate) fn registries(&self) -> Result<Vec<ResourceId>, Problem> {
        let [export, import] = self.place.registries.as_ref().ok_or_else(|| self.no_registry())?;
        let mut found = vec![self.registry(export)];
        if !import.eq_ignore_ascii_case(export) {
            found.push(self.registry(import));
        }
        Ok(found)
    }

    /// The registry that resources of this kind belong to where nothing else is said.
    ///
    /// # Errors
    /// Where nothing names one.
    pub(crate) fn registry_of(&self, kind: Kind) -> Result<ResourceId, Problem> {
        let [export, import] = self.place.registries.as_ref().ok_or_else(|| self.no_registry())?;
        Ok(self.registry(if kind == Kind::ImportPipeline { import } else { export }))
    }

    fn no_registry(&self) -> Problem {
        Problem::usage(format!("{} names no registry", self.place.origin)).hint(
            "say --registry NAME, or have the context say it: `transship context set NAME --registry NAME`",
        )
    }

    /// Reads `path`, to do `what`.
    ///
    /// # Errors
    /// What the control plane says, or that it does not answer.
    pub(crate) async fn get(&self, path: &str, what: &str) -> Result<Asked, Problem> {
        self.ask(Method::GET, self.url(path, &[]), None, what).await
    }

    /// Reads `path` with query parameters.
    ///
    /// # Errors
    /// What the control plane says, or that it does not answer.
    pub(crate) async fn query(
        &self,
        path: &str,
        query: &[(&str, &str)],
        what: &str,
    ) -> Result<Asked, Problem> {
        self.ask(Method::GET, self.url(path, query), None, what).await
    }

    /// Reads `path`, where there is something.
    ///
    /// # Errors
    /// What the control plane says, or that it does not answer.
    pub(crate) async fn find(&self, path: &str, what: &str) -> Result<Option<Value>, Problem> {
        let (status, _, body) = self.send(Method::GET, self.url(path, &[]), None, what).await?;
        match status {
            404 => Ok(None),
            200..300 => parse(&body, what).map(Some),
            status => Err(refusal::problem(what, status, &body)),
        }
    }

    /// Puts `body` at `path`.
    ///
    /// # Errors
    /// What the control plane says, or that it does not answer.
    pub(crate) async fn put(&self, path: &str, body: &Value, what: &str) -> Result<Asked, Problem> {
        self.ask(Method::PUT, self.url(path, &[]), Some(body), what).await
    }

    /// Deletes what is at `path`. False where there was nothing.
    ///
    /// # Errors
    /// What the control plane says, or that it does not answer.
    pub(crate) async fn delete(&self, path: &str, what: &str) -> Result<bool, Problem> {
        let asked = self.ask(Method::DELETE, self.url(path, &[]), None, what).await?;
        Ok(asked.status != 204)
    }

    /// All values of the list at `path`, of all its pages.
    ///
    /// # Errors
    /// What the control plane says, or that it does not answer, or that a page leads elsewhere.
    pub(crate) async fn list(&self, path: &str, what: &str) -> Result<Vec<Value>, Problem> {
        self.pages(self.url(path, &[]), usize::MAX, what).await
    }

    /// The newest `most` values of the list at `path`, oldest first.
    ///
    /// # Errors
    /// As of [`Self::list`].
    pub(crate) async fn newest(&self, path: &str, most: usize, what: &str) -> Result<Vec<Value>, Problem> {
        let top = most.clamp(1, PAGE).to_string();
        let query = [("$orderby", "systemData/createdAt desc"), ("$top", &*top)];
        let mut values = self.pages(self.url(path, &query), most, what).await?;
        values.truncate(most);
        values.reverse();
        Ok(values)
    }

    /// The values of the pages from `first` on, until there are `most` or more.
    async fn pages(&self, first: Url, most: usize, what: &str) -> Result<Vec<Value>, Problem> {
        let strange =
            |why: &str| Problem::new(Exit::Failed, format!("{what}: the control plane's list {why}"));
        let (mut next, mut all) = (Some(first), Vec::new());
        for _ in 0..MAX_PAGES {
            let Some(url) = next.filter(|_| all.len() < most) else { return Ok(all) };
            let mut page = self.ask(Method::GET, url, None, what).await?.body;
            match page["value"].take() {
                Value::Array(values) => all.extend(values),
                _ => return Err(strange("has no values")),
            }
            next = match page["nextLink"].as_str().filter(|link| !link.is_empty()) {
                None => None,
                Some(link) => Some(self.page(link).ok_or_else(|| strange("goes on at another address"))?),
            };
        }
        Err(strange("does not end"))
    }

    /// The address of a page: the token goes nowhere but to the control plane. A proxy in front of it may make it
    /// think that it has another host, so only path and query are taken.
    fn page(&self, link: &str) -> Option<Url> {
        let link = self.place.url.join(link).ok().filter(|link| matches!(link.scheme(), "http" | "https"))?;
        let mut url = self.place.url.clone();
        url.set_path(link.path());
        url.set_query(link.query());
        Some(url)
    }

    fn url(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.place.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.trim_matches('/').split('/'));
        }
        url.query_pairs_mut().append_pair("api-version", API_VERSION).extend_pairs(query);
        url
    }

    async fn ask(
        &self,
        method: Method,
        url: Url,
        body: Option<&Value>,
        what: &str,
    ) -> Result<Asked, Problem> {
        let (status, date, bytes) = self.send(method, url, body, what).await?;
        match status {
            200..300 => Ok(Asked { status, date, body: parse(&bytes, what)? }),
            status => Err(refusal::problem(what, status, &bytes)),
        }
    }

    /// Sends a request until it is answered, or trying again does not help.
    async fn send(
        &self,
        method: Method,
        url: Url,
        body: Option<&Value>,
        what: &str,
    ) -> Result<(u16, Option<String>, Vec<u8>), Problem> {
        let mut attempt = 1;
        loop {
            let mut request =
                self.http.request(method.clone(), url.clone()).header(ACCEPT, "application/json");
            if let Some(authorization) = &self.authorization {
                request = request.header(AUTHORIZATION, authorization.clone());
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            let (came, result) = match request.send().await {
                Ok(answer) => {
                    let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
                    let came = Came::Answer(answer.status().as_u16(), retry::seconds(text(RETRY_AFTER)));
                    let date = text(DATE).map(str::to_owned);
                    let status = answer.status().as_u16();
                    (came, read(answer).await.map(|body| (status, date, body)))
                }
                Err(error) => (Came::Nothing, Err(lost(&error))),
            };
            let Some(wait) = retry::decide(attempt, came) else {
                return result.map_err(|why| self.unanswered(what, &why));
            };
            tracing::debug!(attempt, ?came, ?wait, "asking the control plane again");
            attempt += 1;
            tokio::time::sleep(wait).await;
        }
    }

    fn unanswered(&self, what: &str, why: &str) -> Problem {
        let mut problem = Problem::new(
            Exit::Failed,
            format!(
                "{what}: the control plane at {} does not answer",
                self.place.url.origin().ascii_serialization()
            ),
        );
        problem.causes.push(why.to_owned());
        problem.hint(format!(
            "this is {}: check that the control plane runs there, or choose another with --context; `transship \
             doctor` looks further",
            self.place.origin
        ))
    }
}

fn bearer(token: &Secret) -> Result<HeaderValue, Problem> {
    let header = HeaderValue::from_str(&format!("Bearer {}", token.expose()));
    let mut header = header.map_err(|_| {
        Problem::new(Exit::Credentials, "the token holds what no token does")
            .hint("put the token alone into its file, in one line")
    })?;
    header.set_sensitive(true);
    Ok(header)
}

fn parse(body: &[u8], what: &str) -> Result<Value, Problem> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body).map_err(|error| {
        Problem::new(Exit::Failed, format!("{what}: the answer is not one of a control plane"))
            .caused_by(&error)
            .hint("check the address of the context: `transship context show`")
    })
}

/// The body of an answer, where it is not too large.
async fn read(mut answer: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| lost(&error))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(format!("the answer has more than {MAX_ANSWER} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Why there is no answer: the last cause says it best.
fn lost(error: &reqwest::Error) -> String {
    let mut last: &dyn Error = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, Problem> {
    let problem =
        || Problem::usage(format!("the certificate authorities in {} cannot be used", path.display()));
    let pem = std::fs::read(path).map_err(|error| problem().caused_by(&error))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| problem().caused_by(&error))?;
    match found.is_empty() {
        true => Err(problem().hint("the file must hold certificates in PEM: -----BEGIN CERTIFICATE-----")),
        false => Ok(found),
    }
}
