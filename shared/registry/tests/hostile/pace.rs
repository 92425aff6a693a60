//! Registries that are busy or gone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use transship_registry::{RegistryClient, RegistryError, Source as _, Target as _};

use crate::server::{Reply, Server};
use crate::{MANIFEST, client, error, read, repository, settings, tag};

fn manifest() -> Reply {
    Reply::new(200).body(MANIFEST)
}

/// Answers `before` for the first `times` requests, then a manifest.
async fn failing(times: usize, before: fn() -> Reply) -> Server {
    let served = AtomicUsize::new(0);
    Server::start(|_| {
        move |_: &_| if served.fetch_add(1, Ordering::SeqCst) < times { before() } else { manifest() }
    })
    .await
}

#[tokio::test]
async fn a_429_holds_every_request_of_the_client_back_for_as_long_as_it_says() {
    let server = failing(1, || Reply::new(429).header("retry-after", "1").code("TOOMANYREQUESTS")).await;
    let mut settings = settings(&server.url());
    settings.limits.tries = 1;
    let client = RegistryClient::new(settings).unwrap();
    let failed = error(client.manifest(&repository(), &tag()).await);
    let RegistryError::Unavailable { retry_after, .. } = failed else { panic!("{failed}") };
    assert_eq!(retry_after, Some(Duration::from_secs(1)));
    // Another request, and by a clone.
    client.clone().resolve(&repository(), &tag()).await.unwrap();
    let log = server.log();
    let waited = log[1].at - log[0].at;
    assert!(waited >= Duration::from_millis(990), "a request came after {waited:?}");
}

#[tokio::test]
async fn a_pause_that_is_too_long_is_handed_on_and_nothing_is_sent_meanwhile() {
    let server = Server::start(|_| |_: &_| Reply::new(429).header("retry-after", "3600")).await;
    let client = client(&server.url());
    for _ in 0..3 {
        let RegistryError::Unavailable { retry_after, .. } =
            error(client.manifest(&repository(), &tag()).await)
        else {
            panic!("a busy registry is not available");
        };
        let asked = retry_after.unwrap();
        assert!((3590..=3600).contains(&asked.as_secs()), "{asked:?}");
    }
    assert_eq!(server.log().len(), 1);
}

#[tokio::test]
async fn bursts_of_errors_and_broken_connections_are_tried_again() {
    for before in [
        || Reply::new(500),
        || Reply::new(502),
        || Reply::new(503),
        || Reply::new(504),
        || Reply::new(408),
        Reply::nothing,
    ] {
        let server = failing(3, before).await;
        client(&server.url()).manifest(&repository(), &tag()).await.unwrap();
        assert_eq!(server.log().len(), 4);
    }
    // The head is there, and the body breaks.
    let server = failing(3, || Reply::new(200).short(1000, &b"{"[..])).await;
    client(&server.url()).manifest(&repository(), &tag()).await.unwrap();
}

#[tokio::test]
async fn after_five_tries_the_registry_is_not_available() {
    let server = failing(usize::MAX, || Reply::new(503).code("CANARY")).await;
    let error = error(client(&server.url()).manifest(&repository(), &tag()).await);
    assert!(matches!(&error, RegistryError::Unavailable { reason, .. } if reason.contains("503")), "{error}");
    assert_eq!(server.log().len(), 5);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let server = Server::start(|_| |_: &_| Reply::silence()).await;
    let mut settings = settings(&server.url());
    settings.limits.idle = Duration::from_millis(100);
    settings.limits.connect = Duration::from_millis(100);
    settings.limits.tries = 2;
    let began = Instant::now();
    let error = error(RegistryClient::new(settings).unwrap().manifest(&repository(), &tag()).await);
    assert!(matches!(error, RegistryError::Unavailable { .. }), "{error}");
    assert_eq!(server.log().len(), 2);
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn nobody_at_the_address_is_not_available() {
    let server = Server::start(|_| |_: &_| Reply::new(200)).await;
    let url = server.url();
    drop(server);
    // The port is free again once the task is gone.
    let client = client(&url);
    let error = error(client.manifest(&repository(), &tag()).await);
    assert!(matches!(error, RegistryError::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn no_more_requests_are_in_flight_than_allowed() {
    let server = Server::start(|_| |_: &_| Reply::new(200).body("bytes")).await;
    let mut settings = settings(&server.url());
    settings.limits.connections = 4;
    let client = RegistryClient::new(settings).unwrap();
    let repository = repository();
    let digest = crate::digest("bytes");
    let reads = (0..40).map(|_| async {
        let blob = client.blob(&repository, &digest, None).await.unwrap();
        assert_eq!(read(blob).await.0, b"bytes");
    });
    futures::future::join_all(reads).await;
    assert!((1..=3).contains(&server.most_busy()), "{} at once", server.most_busy());
}
