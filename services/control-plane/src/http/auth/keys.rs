//! The keys of an issuer: a JSON Web Key Set from a file or a URL, fetched within bounds and kept for a while.

use std::path::PathBuf;
use std::sync::{Arc, Mutex as Lock, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::JwkSet;
use tokio::sync::Mutex;
use tokio::time::Instant;
use transship_model::SafeUrl;
use url::Url;

/// How long keys are kept. Microsoft Entra announces new ones days before it signs with them.
const KEEP: Duration = Duration::from_secs(3600);
/// How long keys are taken that cannot be fetched again. An issuer that revoked one must be heard some day.
const KEEP_AT_MOST: Duration = Duration::from_secs(24 * 3600);
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
    cache: Lock<Cache>,
    fetching: Mutex<()>,
}

#[derive(Default)]
struct Cache {
    set: Option<Arc<JwkSet>>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
    problem: String,
}

impl Cache {
    /// Whether the key `id` is known, and not older than it should be.
    fn is_good_for(&self, id: &str) -> bool {
        self.set.as_ref().is_some_and(|set| set.find(id).is_some())
            && self.fetched.is_some_and(|at| at.elapsed() < KEEP)
    }

    /// Whether keys are to be fetched for the sake of `id`; if so, the try counts.
    fn may_try(&mut self, id: &str) -> bool {
        let may = !self.is_good_for(id) && self.tried.is_none_or(|at| at.elapsed() >= AGAIN);
        if may {
            self.tried = Some(Instant::now());
        }
        may
    }

    fn take(&mut self, set: JwkSet) {
        (self.set, self.fetched) = (Some(Arc::new(set)), self.tried);
    }
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
        Ok(Self { source, cache: Lock::default(), fetching: Mutex::default() })
    }

    /// The key `id`; `None` where the issuer has none of this name.
    pub(super) async fn find(&self, id: &str) -> Result<Option<DecodingKey>, String> {
        // Whoever names a key that is known waits for nobody's fetch.
        if !self.cache().is_good_for(id) {
            let _fetching = self.fetching.lock().await;
            if self.cache().may_try(id) {
                match self.fetch().await {
                    Ok(set) => self.cache().take(set),
                    Err(problem) => self.cache().problem = problem,
                }
            }
        }
        let mut cache = self.cache();
        // Keys that are a little older than they should be are better than none: tokens still expire.
        if cache.fetched.is_some_and(|at| at.elapsed() >= KEEP_AT_MOST) {
            cache.set = None;
        }
        let Some(set) = &cache.set else { return Err(cache.problem.clone()) };
        let Some(key) = set.find(id) else { return Ok(None) };
        DecodingKey::from_jwk(key)
            .map(Some)
            .map_err(|error| format!("the key {id:?} cannot be used: {error}"))
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use jsonwebtoken::Algorithm;
    use jsonwebtoken::EncodingKey;
    use jsonwebtoken::jwk::Jwk;

    use super::*;

    fn keys(folder: &std::path::Path) -> (Keys, PathBuf) {
        let mut key = Jwk::from_encoding_key(&EncodingKey::from_secret(b"x"), Algorithm::HS256).unwrap();
        key.common.key_id = Some("k1".into());
        let path = folder.join("jwks.json");
        std::fs::write(&path, serde_json::to_vec(&JwkSet { keys: vec![key] }).unwrap()).unwrap();
        (Keys::new(None, Some(path.clone())).unwrap(), path)
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_cannot_be_fetched_again_are_taken_for_a_day_and_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let (keys, path) = keys(folder.path());
        assert!(keys.find("k1").await.unwrap().is_some());
        std::fs::remove_file(path).unwrap();
        for (hours, expected) in [(2, true), (21, true), (2, false)] {
            tokio::time::advance(Duration::from_secs(hours * 3600)).await;
            assert_eq!(keys.find("k1").await.is_ok(), expected, "{hours} hours later");
        }
    }

    #[tokio::test]
    async fn a_token_with_a_key_that_is_known_waits_for_nobodys_fetch() {
        let folder = tempfile::tempdir().unwrap();
        let (keys, _) = keys(folder.path());
        assert!(keys.find("k1").await.unwrap().is_some());
        let _fetching = keys.fetching.lock().await;
        let found = tokio::time::timeout(Duration::from_secs(5), keys.find("k1")).await;
        assert!(found.expect("at once").unwrap().is_some());
    }
}
