//! Uploads to registries that refuse forms, lose connections, and lead astray.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use transship_registry::{RegistryClient, RegistryError, ResumableTarget as _, Target as _, UploadSession};

use crate::server::{Reply, Request, Server};
use crate::{Memory, client, digest, error, repository, settings, with_password};

/// A registry that takes uploads. What `before` answers goes before what it would answer itself.
pub(crate) fn uploads(
    before: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    let session = Mutex::new(Vec::<u8>::new());
    let stored = Mutex::new(BTreeMap::<String, Vec<u8>>::new());
    let step = AtomicUsize::new(0);
    move |request: &Request| {
        let location = || {
            format!("/v2/team/app/blobs/uploads/s?_state=CANARY-{}", step.fetch_add(1, Ordering::SeqCst) + 1)
        };
        let newest = format!("_state=CANARY-{}", step.load(Ordering::SeqCst));
        if let Some(reply) = before(request) {
            return reply;
        }
        let in_session = request.target.contains("/blobs/uploads/");
        match (request.method.as_str(), in_session) {
            ("HEAD", false)
                if stored.lock().unwrap().contains_key(request.target.rsplit('/').next().unwrap()) =>
            {
                Reply::new(200)
            }
            ("HEAD", false) => Reply::new(404),
            ("POST", true) => {
                session.lock().unwrap().clear();
                Reply::new(202).header("location", location())
            }
            // Only the newest location is good.
            ("PATCH" | "PUT" | "GET", true) if !request.target.contains(&newest) => {
                Reply::new(404).code("BLOB_UPLOAD_UNKNOWN")
            }
            ("PATCH", true) => {
                let mut session = session.lock().unwrap();
                let expected = format!("{}-{}", session.len(), session.len() + request.body.len() - 1);
                if request.header("content-range") != Some(&expected) {
                    return Reply::new(416).code("RANGE_INVALID");
                }
                session.extend_from_slice(&request.body);
                // As one registry does it: 201, and a Range that stays where it was.
                Reply::new(201).header("location", location()).header("range", "0-1")
            }
            ("PUT", true) => {
                let mut body = std::mem::take(&mut *session.lock().unwrap());
                body.extend_from_slice(&request.body);
                let name = digest(&body).to_string();
                if !request.target.ends_with(&format!("&digest={}", name.replace(':', "%3A"))) {
                    return Reply::new(400).code("DIGEST_INVALID");
                }
                stored.lock().unwrap().insert(name, body);
                Reply::new(201)
            }
            ("GET", true) => {
                Reply::new(204).header("range", format!("0-{}", session.lock().unwrap().len().max(1) - 1))
            }
            _ => Reply::new(204),
        }
    }
}

pub(crate) fn methods(server: &Server) -> String {
    server.log().iter().map(|request| request.method.as_str()).collect::<Vec<_>>().join(" ")
}

pub(crate) fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// A client whose chunks are 4,000 and 1,000 bytes.
pub(crate) fn small(url: &str) -> RegistryClient {
    let mut settings = settings(url);
    (settings.limits.chunk, settings.limits.small_chunk) = (4000, 1000);
    RegistryClient::new(settings).unwrap()
}

#[tokio::test]
async fn a_blob_is_uploaded_by_post_and_one_put() {
    let server = Server::start(|_| uploads(|_| None)).await;
    for length in [10_000, 1, 0] {
        let content = Memory::new(bytes(length));
        client(&server.url()).upload(&repository(), &content.digest(), &content).await.unwrap();
        assert_eq!(content.opened(), 1);
    }
    assert_eq!(
        methods(&server),
        "POST PUT HEAD POST PUT HEAD POST PUT HEAD",
        "the answers name no digest, so it is asked"
    );
    let log = server.log();
    let put = &log[1];
    assert_eq!(
        (put.header("content-length"), put.header("content-type")),
        (Some("10000"), Some("application/octet-stream"))
    );
    assert_eq!(log[7].header("content-length"), Some("0"), "a blob of no bytes says so");
    assert_eq!(log[0].header("content-length"), Some("0"));
}

#[tokio::test]
async fn a_digest_in_the_answer_saves_the_question() {
    let server = Server::start(|_| {
        let stored = digest(bytes(10)).to_string();
        uploads(move |request| {
            (request.method == "PUT").then(|| Reply::new(201).header("docker-content-digest", &stored))
        })
    })
    .await;
    let content = Memory::new(bytes(10));
    client(&server.url()).upload(&repository(), &content.digest(), &content).await.unwrap();
    assert_eq!(methods(&server), "POST PUT");
}

#[tokio::test]
async fn forms_that_are_refused_are_left_for_the_next_and_remembered() {
    // No body in a PUT; at most 4,000 bytes in a PATCH.
    let server = Server::start(|_| {
        uploads(|request| match request.method.as_str() {
            "PUT" if !request.body.is_empty() => Some(Reply::new(413)),
            "PATCH" if request.body.len() > 4000 => Some(Reply::new(413)),
            _ => None,
        })
    })
    .await;
    let client = small(&server.url());
    let first = Memory::new(bytes(10_000));
    client.upload(&repository(), &first.digest(), &first).await.unwrap();
    assert_eq!(methods(&server), "POST PUT DELETE POST PATCH DELETE POST PATCH PATCH PATCH PUT HEAD");
    let second = Memory::new(bytes(12_000));
    client.upload(&repository(), &second.digest(), &second).await.unwrap();
    assert!(methods(&server).ends_with("HEAD POST PATCH PATCH PATCH PUT HEAD"), "{}", methods(&server));
    assert_eq!(
        second.opened(),
        3,
        "each chunk is read by itself: nothing is held while the next waits for its turn"
    );
}

#[tokio::test]
async fn the_smallest_chunks_are_the_last_resort_and_a_minimum_is_honoured() {
    let server = Server::start(|_| {
        uploads(|request| match request.method.as_str() {
            "PUT" if !request.body.is_empty() => Some(Reply::new(405)),
            "PATCH" if request.body.len() > 1000 => Some(Reply::new(416)),
            _ => None,
        })
    })
    .await;
    let content = Memory::new(bytes(2_500));
    small(&server.url()).upload(&repository(), &content.digest(), &content).await.unwrap();
    assert!(methods(&server).ends_with("POST PATCH PATCH PATCH PUT HEAD"), "{}", methods(&server));

    let minimum = Server::start(|_| {
        uploads(|request| match request.method.as_str() {
            "POST" => Some(
                Reply::new(202)
                    .header("location", "/v2/team/app/blobs/uploads/s?_state=CANARY-0")
                    .header("oci-chunk-min-length", "7000"),
            ),
            "PUT" if !request.body.is_empty() => Some(Reply::new(400).code("UNSUPPORTED")),
            "PATCH" if request.body.len() == 10_000 => Some(Reply::new(413)),
            _ => None,
        })
    })
    .await;
    let content = Memory::new(bytes(10_000));
    small(&minimum.url()).upload(&repository(), &content.digest(), &content).await.unwrap();
    let sizes: Vec<usize> =
        minimum.log().iter().filter(|r| r.method == "PATCH").map(|r| r.body.len()).collect();
    assert_eq!(sizes, [10_000, 7000, 3000]);
}

#[tokio::test]
async fn a_registry_that_takes_no_form_at_all_is_an_error() {
    let server = Server::start(|_| {
        uploads(|request| matches!(request.method.as_str(), "PUT" | "PATCH").then(|| Reply::new(405)))
    })
    .await;
    let content = Memory::new(bytes(100));
    let failed = error(client(&server.url()).upload(&repository(), &content.digest(), &content).await);
    assert!(matches!(&failed, RegistryError::Refused { code, .. } if code == "405"), "{failed}");
    assert_eq!(server.count("POST", "uploads"), 4);
}

#[tokio::test]
async fn bytes_that_arrived_wrong_are_sent_again() {
    let puts = AtomicUsize::new(0);
    let server = Server::start(|_| {
        uploads(move |request| {
            let first = request.method == "PUT" && puts.fetch_add(1, Ordering::SeqCst) == 0;
            first.then(|| Reply::new(400).code("DIGEST_INVALID"))
        })
    })
    .await;
    let content = Memory::new(bytes(10_000));
    client(&server.url()).upload(&repository(), &content.digest(), &content).await.unwrap();
    assert_eq!(methods(&server), "POST PUT DELETE HEAD POST PUT HEAD");
}

#[tokio::test]
async fn a_pause_that_is_asked_for_in_the_middle_of_an_upload_is_kept_or_handed_on_where_it_is_too_long() {
    for (asked, kept) in [(1, true), (3600, false)] {
        let puts = AtomicUsize::new(0);
        let server = Server::start(|_| {
            uploads(move |request| {
                let first = request.method == "PUT" && puts.fetch_add(1, Ordering::SeqCst) == 0;
                first.then(|| Reply::new(503).header("retry-after", asked.to_string()))
            })
        })
        .await;
        let content = Memory::new(bytes(100));
        let began = Instant::now();
        let sent = client(&server.url()).upload(&repository(), &content.digest(), &content).await;
        if kept {
            sent.unwrap();
            assert!(began.elapsed() >= Duration::from_secs(1));
        } else {
            let failed = error(sent);
            assert!(
                matches!(&failed, RegistryError::Unavailable { retry_after: Some(wait), .. } if wait.as_secs() == asked),
                "{failed}"
            );
            assert_eq!(server.count("PUT", ""), 1);
        }
    }
}

#[tokio::test]
async fn what_every_form_meets_says_nothing_of_forms() {
    let bodies = AtomicUsize::new(0);
    let server = Server::start(|_| {
        uploads(move |request| {
            let is_body = matches!(request.method.as_str(), "PUT" | "PATCH") && !request.body.is_empty();
            (is_body && bodies.fetch_add(1, Ordering::SeqCst) < 4).then(|| Reply::new(400))
        })
    })
    .await;
    let (client, content) = (client(&server.url()), Memory::new(bytes(100)));
    error(client.upload(&repository(), &content.digest(), &content).await);
    assert_eq!(server.count("POST", "uploads"), 4);
    client.upload(&repository(), &content.digest(), &content).await.unwrap();
    assert!(methods(&server).ends_with("DELETE POST PUT HEAD"), "{}", methods(&server));
}

#[tokio::test]
async fn an_upload_location_elsewhere_is_refused_and_nothing_is_sent_there() {
    let evil = Server::start(|_| |_: &_| Reply::new(201)).await;
    for location in [
        format!("{}/upload?CANARY", evil.url()),
        "https://evil.example/?CANARY".into(),
        "http://169.254.169.254/".into(),
        "file:///x".into(),
    ] {
        let server = Server::start(|_| {
            uploads(move |request| {
                (request.method == "POST").then(|| Reply::new(202).header("location", &location))
            })
        })
        .await;
        let content = Memory::new(bytes(100));
        let client = RegistryClient::new(with_password(settings(&server.url()))).unwrap();
        let failed = error(client.upload(&repository(), &content.digest(), &content).await);
        assert!(matches!(failed, RegistryError::EgressDenied { .. }), "{failed}");
        // Also where the location comes back from another process.
        let session = UploadSession::restore(
            repository(),
            transship_model::Secret::new(&format!("{}/x", evil.url())),
            0,
            0,
        );
        assert!(matches!(
            error(client.finish_upload(&session, &digest("x")).await),
            RegistryError::EgressDenied { .. }
        ));
    }
    assert!(evil.log().is_empty());
    let server =
        Server::start(|_| uploads(|request| (request.method == "POST").then(|| Reply::new(202)))).await;
    let failed = error(client(&server.url()).upload(&repository(), &digest("x"), &Memory::new("x")).await);
    assert!(matches!(failed, RegistryError::Protocol { .. }), "{failed}");
}

#[tokio::test]
async fn a_registry_that_takes_the_bytes_and_has_no_blob_is_not_believed() {
    let server =
        Server::start(|_| uploads(|request| (request.method == "PUT").then(|| Reply::new(201)))).await;
    let failed = error(client(&server.url()).upload(&repository(), &digest("x"), &Memory::new("x")).await);
    assert!(failed.to_string().contains("does not have it"), "{failed}");
    assert_eq!(server.count("POST", ""), 3);
}

#[tokio::test]
async fn a_registry_that_does_not_answer_after_the_last_byte_is_given_up() {
    let server = Server::start(|_| uploads(|request| (request.method == "PUT").then(Reply::silence))).await;
    let mut settings = settings(&server.url());
    settings.limits.commit = Duration::from_millis(200);
    let client = RegistryClient::new(settings).unwrap();
    let content = Memory::new(bytes(10));
    let failed = error(client.upload(&repository(), &content.digest(), &content).await);
    assert!(failed.to_string().contains("after the last byte"), "{failed}");
    assert_eq!(server.count("PUT", ""), 5, "two with everything, and three that close a session");
}

#[tokio::test]
async fn a_session_that_cannot_be_closed_at_once_is_closed_later() {
    let puts = AtomicUsize::new(0);
    let server = Server::start(|_| {
        uploads(move |request| {
            let early = request.method == "PUT" && puts.fetch_add(1, Ordering::SeqCst) < 2;
            early.then(|| Reply::new(503))
        })
    })
    .await;
    let (client, name) = (client(&server.url()), digest(bytes(10)));
    let session = client.begin_upload(&repository(), &name).await.unwrap();
    let session = client.continue_upload(&session, &name, &Memory::new(bytes(10)), 10).await.unwrap();
    client.finish_upload(&session, &name).await.unwrap();
    assert_eq!((server.count("PATCH", ""), server.count("PUT", "")), (1, 3));
}

#[tokio::test]
async fn a_session_goes_on_after_each_piece_and_is_lost_with_one() {
    let server = Server::start(|_| uploads(|_| None)).await;
    let whole = bytes(3000);
    let name = digest(&whole);
    let (first, second) = (client(&server.url()), client(&server.url()));
    let session = first.begin_upload(&repository(), &name).await.unwrap();
    let content = Memory::new(whole.clone());
    let session = first.continue_upload(&session, &name, &content, 1000).await.unwrap();
    assert!(!format!("{session:?}").contains("CANARY"));
    // Another process has what the first one wrote down.
    let restored = UploadSession::restore(repository(), session.location().clone(), session.offset(), 0);
    let session = second.continue_upload(&restored, &name, &content, 2000).await.unwrap();
    let replayed = error(second.continue_upload(&restored, &name, &content, 2000).await);
    assert!(replayed.is_upload_lost(), "{replayed}");
    assert_eq!(session.offset(), 3000);
    second.finish_upload(&session, &name).await.unwrap();
    let again = second.finish_upload(&session, &name).await;
    assert!(again.is_ok(), "the blob is there, whoever closed the session");
}
