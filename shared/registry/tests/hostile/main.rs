//! Registries that are busy, broken or hostile, played by a scripted server: what transship does then, and
//! what it never does. Every error is searched for the secrets that the script hands out.

mod auth;
mod breaks;
mod lists;
mod pace;
mod reads;
mod server;
mod tls;
mod uploads;
mod writes;

use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use transship_model::{Digest, Failure, Repository, Secret, Selector};
use transship_registry::{
    BlobRead, Content, Credentials, Limits, RegistryClient, RegistryError, RegistrySettings,
    StaticCredentials,
};

/// A manifest that is one.
const MANIFEST: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// What no error may hold.
const CANARY: &str = "CANARY";

/// Settings with short pauses, so that tests need not wait for what they do not measure.
fn settings(url: &str) -> RegistrySettings {
    let mut settings = RegistrySettings::new(url);
    settings.limits = Limits { first_pause: Duration::from_millis(1), ..Limits::default() };
    settings
}

fn client(url: &str) -> RegistryClient {
    RegistryClient::new(settings(url)).unwrap()
}

fn with_password(mut settings: RegistrySettings) -> RegistrySettings {
    let credentials = Credentials::basic("user", &Secret::new("CANARY-password"));
    settings.credentials = Arc::new(StaticCredentials(credentials));
    settings
}

fn repository() -> Repository {
    "team/app".parse().unwrap()
}

fn tag() -> Selector {
    Selector::Tag("v1".parse().unwrap())
}

fn digest(bytes: impl AsRef<[u8]>) -> Digest {
    Digest::sha256(bytes.as_ref())
}

/// The error of a result, searched for secrets in every form in which it could be shown.
fn error<T>(result: Result<T, RegistryError>) -> RegistryError {
    let Err(error) = result else { panic!("this must fail") };
    let mut shown = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(cause) = source {
        shown += &format!(" {cause} {cause:?}");
        source = cause.source();
    }
    let failure = Failure::from(error.clone());
    shown += &format!(" {failure} {failure:?}");
    assert!(!shown.contains(CANARY), "a secret is shown: {shown}");
    error
}

/// Reads a blob to its end, or to its error.
async fn read(mut blob: BlobRead) -> (Vec<u8>, Option<RegistryError>) {
    let mut bytes = Vec::new();
    while let Some(piece) = blob.bytes.next().await {
        match piece {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(error) => return (bytes, Some(error)),
        }
    }
    (bytes, None)
}

/// Content in memory that counts how often it is opened.
struct Memory {
    bytes: Bytes,
    opened: AtomicUsize,
}

impl Memory {
    fn new(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), opened: AtomicUsize::new(0) }
    }

    fn digest(&self) -> Digest {
        digest(&self.bytes)
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }
}

impl Content for Memory {
    fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn open(&self, offset: u64) -> Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        let rest = self.bytes.slice(offset as usize..);
        let pieces: Vec<_> = rest.chunks(700).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        Box::pin(stream::iter(pieces))
    }
}
