//! The keys of an issuer: a JSON Web Key Set from a file or a URL, fetched within bounds and kept for a while.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::JwkSet;
use tokio::sync::Mutex;
use transship_model::SafeUrl;
use url::Url;

/// How long keys are kept. Microsoft Entra announces new ones days before it signs with them.
const KEEP: Duration = Duration::from_secs(3600);
/// How soon keys are fetched again for a token that names one that is not known, or after a failure.
const AGAIN: Duration = Duration::from_secs(30);
/// How long a fetch may take.
const FETCH: Duration = Duration::from_secs(5);
/// The largest set of keys, in bytes.
const MAX_BYTES: usize = 256 << 10;

enum Source {
    Url(Url, reqwest::Client),
    File(PathBuf),
}

/// The keys of one issuer.
pub(super) struct Keys {
    source: Source,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    set: Option<Arc<JwkSet>>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
    problem: String,
}

impl Keys {
    pub(super) fn new(url: Option<&str>, file: Option<PathBuf>) -> Result<Self, String> {
        let source = match (url, file) {
            (None, Some(path)) => Source::File(path),
            (Some(text), None) => {
                let url: Url = text.parse().map_err(|_| "jwks_url is not a URL".to_owned())?;
                let is_local = transship_secrets::is_loopback(&url);
                if url.scheme() != "https" && !(url.scheme() == "http" && is_local) {
                    return Err("jwks_url must be https".to_owned());
                }
                let client = reqwest::Client::builder()
                    .timeout(FETCH)
                    .redirect(reqwest::redirect::Policy::none())
                    .build()
                    .map_err(|error| format!("no client can be made: {error}"))?;
                Source::Url(url, client)
            }
            _ => return Err("set one of jwks_url and jwks_file".to_owned()),
        };
        Ok(Self { source, cache: Mutex::default() })
    }

    /// The key `id`; `None` where the issuer has none of this name.
    pub(super) async fn find(&self, id: &str) -> Result<Option<DecodingKey>, String> {
        // One fetch at a time; whoever else asks waits for it.
        let mut cache = self.cache.lock().await;
        let known = cache.set.as_ref().is_some_and(|set| set.find(id).is_some());
        let fresh = cache.fetched.is_some_and(|at| at.elapsed() < KEEP);
        let may_try = cache.tried.is_none_or(|at| at.elapsed() >= AGAIN);
        if !(known && fresh) && may_try {
            cache.tried = Some(Instant::now());
            match self.fetch().await {
                Ok(set) => {
                    cache.set = Some(Arc::new(set));
                    cache.fetched = cache.tried;
                }
                Err(problem) => cache.problem = problem,
            }
        }
        // Keys that are older than they should be are better than none: tokens still expire.
        let Some(set) = &cache.set else { return Err(cache.problem.clone()) };
        let Some(key) = set.find(id) else { return Ok(None) };
        DecodingKey::from_jwk(key)
            .map(Some)
            .map_err(|error| format!("the key {id:?} cannot be used: {error}"))
    }

    async fn fetch(&self) -> Result<JwkSet, String> {
        let bytes = match &self.source {
            Source::File(path) => {
                let read = tokio::fs::read(path).await;
                read.map_err(|error| format!("{} cannot be read: {error}", path.display()))?
            }
            Source::Url(url, client) => self::download(client, url).await?,
        };
        if bytes.len() > MAX_BYTES {
            return Err(format!("the set of keys has more than {MAX_BYTES} bytes"));
        }
        serde_json::from_slice(&bytes).map_err(|error| format!("not a JSON Web Key Set: {error}"))
    }
}

async fn download(client: &reqwest::Client, url: &Url) -> Result<Vec<u8>, String> {
    let failed = |error: reqwest::Error| format!("GET {}: {}", SafeUrl(url), error.without_url());
    let answer = client.get(url.clone()).send().await.map_err(failed)?.error_for_status().map_err(failed)?;
    let mut stream = answer.bytes_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.map_err(failed)?);
        if bytes.len() > MAX_BYTES {
            break;
        }
    }
    Ok(bytes)
}
