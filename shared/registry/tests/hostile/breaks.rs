//! Uploads that break in the middle: they begin anew, go on, or are given up.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::{Stream, stream};
use transship_registry::{Content, RegistryClient, RegistryError, ResumableTarget as _, Target as _};

use crate::server::{Reply, Server};
use crate::uploads::{bytes, methods, uploads};
use crate::{Memory, client, digest, error, repository, settings, with_password};

#[tokio::test]
async fn an_upload_that_is_cut_off_begins_anew_and_then_in_another_form() {
    let puts = AtomicUsize::new(0);
    let server = Server::start_cutting(
        |_| uploads(|_| None),
        move |request| (request.method == "PUT" && puts.fetch_add(1, Ordering::SeqCst) == 0).then_some(2000),
    )
    .await;
    let content = Memory::new(bytes(10_000));
    client(&server.url()).upload(&repository(), &content.digest(), &content).await.unwrap();
    assert_eq!(methods(&server), "POST PUT DELETE HEAD POST PUT HEAD");
    assert_eq!(content.opened(), 2);

    // Cut off whenever it is large: the third try is one PATCH, which is cut off as well.
    let server = Server::start_cutting(|_| uploads(|_| None), |_| Some(2000)).await;
    let content = Memory::new(bytes(10_000));
    let failed = error(client(&server.url()).upload(&repository(), &content.digest(), &content).await);
    assert!(matches!(failed, RegistryError::Unavailable { .. }), "{failed}");
    assert_eq!((server.count("PUT", ""), server.count("PATCH", "")), (2, 1));
}

#[tokio::test]
async fn an_answer_that_is_lost_is_looked_up() {
    let answered = AtomicUsize::new(0);
    let server = Server::start(|_| {
        uploads(move |request| match request.method.as_str() {
            "PUT" => {
                answered.store(1, Ordering::SeqCst);
                Some(Reply::nothing())
            }
            "HEAD" if answered.load(Ordering::SeqCst) == 1 => Some(Reply::new(200)),
            _ => None,
        })
    })
    .await;
    let content = Memory::new(bytes(10_000));
    client(&server.url()).upload(&repository(), &content.digest(), &content).await.unwrap();
    assert_eq!(content.opened(), 1);
}

#[tokio::test]
async fn bursts_of_errors_in_the_middle_of_an_upload_are_survived() {
    for status in [500, 502, 503, 404] {
        let puts = AtomicUsize::new(0);
        let server = Server::start(|_| {
            uploads(move |request| {
                let first = request.method == "PUT" && puts.fetch_add(1, Ordering::SeqCst) == 0;
                first.then(|| Reply::new(status).code("BLOB_UPLOAD_UNKNOWN"))
            })
        })
        .await;
        let content = Memory::new(bytes(10_000));
        client(&server.url()).upload(&repository(), &content.digest(), &content).await.unwrap();
        assert_eq!(content.opened(), 2, "{status}");
    }
}

#[tokio::test]
async fn a_password_that_is_refused_in_the_middle_of_an_upload_is_renewed_once() {
    let (given, puts) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let server =
        Server::start(|base| {
            let challenge = format!(r#"Bearer realm="{base}/token""#);
            uploads(move |request| {
                if request.target.starts_with("/token") {
                    return Some(Reply::new(200).body(format!(
                        r#"{{"token":"CANARY-{}"}}"#,
                        given.fetch_add(1, Ordering::SeqCst) + 1
                    )));
                }
                let good = request.header("authorization")
                    == Some(&format!("Bearer CANARY-{}", given.load(Ordering::SeqCst)));
                let refused = request.method == "PUT" && puts.fetch_add(1, Ordering::SeqCst) == 0;
                (!good || refused).then(|| Reply::new(401).header("www-authenticate", &challenge))
            })
        })
        .await;
    let client = RegistryClient::new(with_password(settings(&server.url()))).unwrap();
    let content = Memory::new(bytes(10_000));
    client.upload(&repository(), &content.digest(), &content).await.unwrap();
    assert_eq!((server.count("GET", "/token"), content.opened()), (2, 2));
}

#[tokio::test]
async fn a_piece_whose_token_ended_is_sent_again() {
    let patches = AtomicUsize::new(0);
    let server = Server::start(|base| {
        let challenge = format!(r#"Bearer realm="{base}/token""#);
        uploads(move |request| {
            if request.target.starts_with("/token") {
                return Some(Reply::new(200).body(r#"{"token":"CANARY"}"#));
            }
            let ended = request.method == "PATCH" && patches.fetch_add(1, Ordering::SeqCst) == 0;
            let refused = ended || request.header("authorization").is_none();
            refused.then(|| Reply::new(401).header("www-authenticate", &challenge))
        })
    })
    .await;
    let (client, name) = (client(&server.url()), digest(bytes(10)));
    let session = client.begin_upload(&repository(), &name).await.unwrap();
    let content = Memory::new(bytes(10));
    let session = client.continue_upload(&session, &name, &content, 10).await.unwrap();
    client.finish_upload(&session, &name).await.unwrap();
    assert_eq!((server.count("GET", "/token"), content.opened()), (2, 2));
}

#[tokio::test]
async fn a_piece_that_broke_is_sent_again_only_where_the_registry_stands_before_it() {
    for (standing, opened) in [(Some("0-3"), 2), (Some("0-6"), 1), (None, 1)] {
        let patches = AtomicUsize::new(0);
        let server = Server::start(|_| {
            uploads(move |request| match request.method.as_str() {
                "PATCH" if patches.fetch_add(1, Ordering::SeqCst) == 1 => Some(Reply::new(503)),
                "GET" => Some(match standing {
                    Some(range) => Reply::new(204).header("range", range),
                    None => Reply::new(404).code("BLOB_UPLOAD_UNKNOWN"),
                }),
                _ => None,
            })
        })
        .await;
        let (client, content) = (client(&server.url()), Memory::new(bytes(10)));
        let session = client.begin_upload(&repository(), &content.digest()).await.unwrap();
        let session = client.continue_upload(&session, &content.digest(), &content, 4).await.unwrap();
        let before = content.opened();
        let sent = client.continue_upload(&session, &content.digest(), &content, 6).await;
        assert_eq!(content.opened() - before, opened, "{standing:?}");
        match sent {
            Ok(session) => client.finish_upload(&session, &content.digest()).await.unwrap(),
            Err(failed) => assert!(matches!(failed, RegistryError::Unavailable { .. }), "{failed}"),
        }
        assert_eq!(server.count("PUT", ""), usize::from(opened == 2), "{standing:?}");
    }
}

/// Content that fails, or says another length than it has.
struct Broken(u64, &'static str);

impl Content for Broken {
    fn length(&self) -> u64 {
        self.0
    }

    fn open(&self, _: u64) -> Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>> {
        let end = match self.1 {
            "" => Ok(Bytes::from_static(b"the last piece")),
            reason => Err(std::io::Error::other(reason)),
        };
        Box::pin(stream::iter([Ok(Bytes::from_static(&[0; 1000])), end]))
    }
}

#[tokio::test]
async fn content_that_fails_is_not_the_registrys_fault_and_the_session_is_given_up() {
    for (content, expected) in [
        (Broken(5000, "the bundle has other bytes"), "the bundle has other bytes"),
        (Broken(5000, ""), "ended 3986 bytes early"),
        (Broken(1001, ""), "longer than it said"),
    ] {
        let server = Server::start(|_| uploads(|_| None)).await;
        let failed = error(client(&server.url()).upload(&repository(), &digest("x"), &content).await);
        assert!(
            matches!(&failed, RegistryError::Content { reason, .. } if reason.contains(expected)),
            "{failed}"
        );
        assert_eq!((server.count("POST", ""), server.count("DELETE", "uploads")), (1, 1));
    }
}
