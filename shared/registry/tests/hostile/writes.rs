//! Mounts and manifests.

use std::sync::atomic::{AtomicUsize, Ordering};

use transship_model::{MediaType, Selector};
use transship_registry::{Manifest, Mount, RegistryClient, RegistryError, Target as _};

use crate::server::{Reply, Request, Server};
use crate::{INDEX, MANIFEST, client, digest, error, repository, settings, tag};

fn manifest() -> Manifest {
    Manifest { digest: digest(MANIFEST), content_type: None, bytes: MANIFEST.into() }
}

async fn put(client: &RegistryClient, selector: &Selector) -> Result<bool, RegistryError> {
    let media_type: MediaType = INDEX.parse().unwrap();
    client.put_manifest(&repository(), selector, &media_type, &manifest()).await
}

async fn mount(
    reply: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> (Server, Result<Mount, RegistryError>) {
    let server = Server::start(|_| reply).await;
    let mounted =
        client(&server.url()).mount(&repository(), &digest("x"), &"base/image".parse().unwrap()).await;
    (server, mounted)
}

#[tokio::test]
async fn a_mount_that_opens_a_session_is_cancelled() {
    let (server, mounted) = mount(|request| match request.method.as_str() {
        "POST" => Reply::new(202).header("location", "/v2/team/app/blobs/uploads/s?_state=CANARY"),
        _ => Reply::new(204),
    })
    .await;
    assert_eq!(mounted.unwrap(), Mount::NotMounted);
    let log = server.log();
    let query = format!("?mount={}&from=base%2Fimage", digest("x").to_string().replace(':', "%3A"));
    assert_eq!(log[0].target, format!("/v2/team/app/blobs/uploads/{query}"));
    assert!(log[1].is("DELETE", "/uploads/s?_state=CANARY") && log.len() == 2, "{log:?}");
}

#[tokio::test]
async fn a_mount_is_done_or_not_and_only_trouble_is_an_error() {
    let (_, mounted) = mount(|_| Reply::new(201)).await;
    assert_eq!(mounted.unwrap(), Mount::Mounted);
    for status in [400, 403, 404, 405] {
        let (_, mounted) = mount(move |_| Reply::new(status)).await;
        assert_eq!(mounted.unwrap(), Mount::NotMounted, "{status}");
    }
    let (evil_location, mounted) =
        mount(|_| Reply::new(202).header("location", "http://169.254.169.254/")).await;
    assert_eq!((mounted.unwrap(), evil_location.log().len()), (Mount::NotMounted, 1), "nobody is sent there");
    let (_, mounted) = mount(|_| Reply::new(503)).await;
    assert!(matches!(error(mounted), RegistryError::Unavailable { .. }));
}

#[tokio::test]
async fn a_manifest_is_put_with_its_type_and_the_registry_may_keep_the_referrers() {
    for (subject, kept) in [(None, false), (Some("sha256:x"), true)] {
        let server = Server::start(|_| {
            move |_: &_| {
                let reply = Reply::new(201).header("docker-content-digest", digest(MANIFEST).to_string());
                subject.map_or_else(|| reply_of(201), |subject| reply.header("oci-subject", subject))
            }
        })
        .await;
        assert_eq!(put(&client(&server.url()), &tag()).await.unwrap(), kept);
        assert_eq!((server.log().len(), server.log()[0].header("content-type")), (1, Some(INDEX)));
        assert_eq!(server.log()[0].body, MANIFEST.as_bytes());
    }
}

fn reply_of(status: u16) -> Reply {
    Reply::new(status).header("docker-content-digest", digest(MANIFEST).to_string())
}

#[tokio::test]
async fn a_registry_that_keeps_another_manifest_is_not_believed() {
    let lie = || digest("another").to_string();
    // It answers with another digest, or with none; and what it has then is another manifest, or none.
    for (answer, has) in [(Some(lie()), Some(lie())), (None, Some(lie())), (None, None)] {
        let server = Server::start(|_| {
            move |request: &Request| match (request.method.as_str(), &answer, &has) {
                ("PUT", Some(digest), _) => Reply::new(201).header("docker-content-digest", digest),
                ("PUT", None, _) => Reply::new(201),
                (_, _, Some(digest)) => Reply::new(200).header("docker-content-digest", digest),
                _ => Reply::new(404),
            }
        })
        .await;
        let failed = error(put(&client(&server.url()), &tag()).await);
        assert!(failed.to_string().contains("does not have"), "{failed}");
    }
    // The header of the PUT is wrong, and the manifest is there.
    let server = Server::start(|_| {
        |request: &Request| match request.method.as_str() {
            "PUT" => Reply::new(201).header("docker-content-digest", digest("another").to_string()),
            _ => reply_of(200),
        }
    })
    .await;
    put(&client(&server.url()), &tag()).await.unwrap();
    // A digest by another algorithm is as good.
    let sha512 = transship_model::Digest::compute(transship_model::Algorithm::Sha512, MANIFEST.as_bytes());
    let server =
        Server::start(|_| move |_: &_| Reply::new(201).header("docker-content-digest", sha512.to_string()))
            .await;
    put(&client(&server.url()), &tag()).await.unwrap();
    assert_eq!(server.log().len(), 1);
}

#[tokio::test]
async fn an_answer_to_a_manifest_that_is_lost_is_looked_up() {
    let puts = AtomicUsize::new(0);
    let server = Server::start(|_| {
        move |request: &Request| match request.method.as_str() {
            "PUT" if puts.fetch_add(1, Ordering::SeqCst) == 0 => Reply::nothing(),
            // Tags do not move there, not even to where they are.
            "PUT" => Reply::new(400).code("TAG_INVALID"),
            _ => reply_of(200),
        }
    })
    .await;
    assert!(!put(&client(&server.url()), &tag()).await.unwrap());
    // And where something else is there, the refusal stays one.
    let server = Server::start(|_| {
        |request: &Request| match request.method.as_str() {
            "PUT" => Reply::new(409).code("TAG_INVALID"),
            _ => Reply::new(200).header("docker-content-digest", digest("another").to_string()),
        }
    })
    .await;
    let failed = error(put(&client(&server.url()), &tag()).await);
    assert!(matches!(&failed, RegistryError::Refused { code, .. } if code == "409 TAG_INVALID"), "{failed}");
}

#[tokio::test]
async fn a_manifest_whose_blob_was_collected_says_so() {
    for status in [400, 404] {
        let server = Server::start(|_| move |_: &_| Reply::new(status).code("MANIFEST_BLOB_UNKNOWN")).await;
        let failed = error(put(&client(&server.url()), &Selector::Digest(digest(MANIFEST))).await);
        assert!(failed.is_blob_unknown(), "{failed}");
        assert_eq!(server.log().len(), 1);
    }
}

#[tokio::test]
async fn a_manifest_is_pushed_again_after_a_429_and_refused_where_it_may_not_be() {
    let puts = AtomicUsize::new(0);
    let server = Server::start(|_| {
        move |_: &_| match puts.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::new(429).header("retry-after", "1"),
            _ => reply_of(201),
        }
    })
    .await;
    put(&client(&server.url()), &tag()).await.unwrap();
    let waited = server.log()[1].at - server.log()[0].at;
    assert!(waited.as_millis() >= 990, "{waited:?}");

    let server = Server::start(|_| |_: &_| Reply::new(403).code("DENIED")).await;
    let failed = error(put(&client(&server.url()), &tag()).await);
    assert!(matches!(&failed, RegistryError::Forbidden { reason, .. } if reason == "403 DENIED"), "{failed}");
    // Writes are not redirected.
    let server = Server::start(|_| |_: &_| Reply::new(307).header("location", "/elsewhere?CANARY")).await;
    let failed = error(put(&RegistryClient::new(settings(&server.url())).unwrap(), &tag()).await);
    assert!(matches!(failed, RegistryError::Protocol { .. }), "{failed}");
    assert_eq!(server.log().len(), 1);
}
