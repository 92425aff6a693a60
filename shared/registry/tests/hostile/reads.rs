//! Manifests and blobs that are not what they should be, and redirects that lead astray.

use transship_model::Selector;
use transship_registry::{RegistryClient, RegistryError, Source as _, Target as _};

use crate::server::{Reply, Request, Server};
use crate::{INDEX, MANIFEST, client, digest, error, read, repository, settings, tag, with_password};

async fn answering(make: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(|_| make).await
}

#[tokio::test]
async fn a_manifest_comes_as_it_is_and_a_header_that_lies_about_it_is_ignored() {
    let server = answering(|_| {
        let lie = digest("something else").to_string();
        Reply::new(200)
            .header("content-type", format!("{INDEX}; charset=utf-8"))
            .header("docker-content-digest", lie)
            .body(MANIFEST)
    })
    .await;
    let manifest = client(&server.url()).manifest(&repository(), &tag()).await.unwrap();
    assert_eq!((&manifest.bytes[..], &manifest.digest), (MANIFEST.as_bytes(), &digest(MANIFEST)));
    assert_eq!(manifest.content_type.unwrap().as_str(), INDEX);
    let request = &server.log()[0];
    assert!(
        request.header("accept").unwrap().contains(INDEX)
            && request.header("accept").unwrap().contains("*/*")
    );
    assert_eq!(request.header("accept-encoding"), Some("identity"));
    assert!(request.header("user-agent").unwrap().starts_with("transship/"));
}

#[tokio::test]
async fn a_manifest_with_other_bytes_than_its_digest_is_refused_with_both_digests() {
    let server = answering(|_| Reply::new(200).header("content-type", INDEX).body(MANIFEST)).await;
    let asked = digest("what was asked for");
    let error = error(client(&server.url()).manifest(&repository(), &Selector::Digest(asked.clone())).await);
    let RegistryError::DigestMismatch { expected, actual, .. } = error else { panic!("{error}") };
    assert_eq!((expected, actual), (asked, digest(MANIFEST)));
}

#[tokio::test]
async fn a_manifest_without_end_is_not_read_beyond_four_mebibytes() {
    let server = answering(|_| Reply::new(200).endless()).await;
    let failed = error(client(&server.url()).manifest(&repository(), &tag()).await);
    assert!(matches!(failed, RegistryError::Protocol { .. }), "{failed}");
    // What lies in the buffers of the sockets was sent as well.
    assert!(server.sent() < 32 * 1024 * 1024, "{} bytes were taken", server.sent());

    let server = answering(|_| Reply::new(200).header("content-length", "629145600").body("{}")).await;
    let failed = error(client(&server.url()).manifest(&repository(), &tag()).await);
    assert!(matches!(failed, RegistryError::Protocol { .. }), "{failed}");
}

#[tokio::test]
async fn a_web_page_is_not_a_manifest() {
    let server = answering(|_| {
        Reply::new(200).header("content-type", "text/html; charset=utf-8").body("<html>CANARY")
    })
    .await;
    let failed = error(client(&server.url()).manifest(&repository(), &tag()).await);
    assert!(failed.to_string().contains("web page"), "{failed}");
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let server = answering(|_| Reply::new(404).code("MANIFEST_UNKNOWN")).await;
    let client = client(&server.url());
    let failed = error(client.manifest(&repository(), &tag()).await);
    assert!(failed.to_string().contains("team/app:v1"), "{failed}");
    assert!(matches!(
        error(client.blob(&repository(), &digest("x"), None).await),
        RegistryError::BlobNotFound { .. }
    ));
    assert_eq!(client.blob_length(&repository(), &digest("x")).await.unwrap(), None);
    assert_eq!(client.resolve(&repository(), &tag()).await.unwrap(), None);
}

#[tokio::test]
async fn a_digest_is_resolved_by_the_manifest_where_the_header_is_missing_or_wrong() {
    for header in [None, Some("sha256:zz"), Some("md5:x")] {
        let server = answering(move |_| match header {
            Some(header) => Reply::new(200).header("docker-content-digest", header).body(MANIFEST),
            None => Reply::new(200).body(MANIFEST),
        })
        .await;
        // With one connection: the second question must not wait for the first.
        let mut settings = settings(&server.url());
        settings.limits.connections = 1;
        let client = RegistryClient::new(settings).unwrap();
        assert_eq!(client.resolve(&repository(), &tag()).await.unwrap(), Some(digest(MANIFEST)));
        assert_eq!((server.count("HEAD", "/v2/"), server.count("GET", "/v2/")), (1, 1));
    }
    let server =
        answering(|_| Reply::new(200).header("docker-content-digest", digest("d").to_string())).await;
    assert_eq!(client(&server.url()).resolve(&repository(), &tag()).await.unwrap(), Some(digest("d")));
    assert_eq!(server.log().len(), 1);
}

#[tokio::test]
async fn a_blob_that_ends_600_bytes_early_is_an_error_after_its_last_byte() {
    let server = answering(|_| Reply::new(200).short(1000, vec![7; 400])).await;
    let blob = client(&server.url()).blob(&repository(), &digest("x"), None).await.unwrap();
    assert_eq!(blob.total, Some(1000));
    let (bytes, failed) = read(blob).await;
    assert_eq!(bytes.len(), 400);
    assert!(matches!(error(Err::<(), _>(failed.unwrap())), RegistryError::Unavailable { .. }));
}

#[tokio::test]
async fn only_the_range_that_was_asked_for_is_taken() {
    let range = Some(10..20);
    for (content_range, length, fine) in [
        ("bytes 10-19/100", 10, true),
        ("bytes 10-19/*", 10, true),
        ("bytes 10-14/100", 5, true),
        ("bytes 9-18/100", 10, false),
        ("bytes 10-20/100", 11, false),
        ("bytes 10-19/100", 9, false),
        ("bytes 10-19/15", 10, false),
        ("bytes */100", 10, false),
        ("10-19/100", 10, false),
        ("", 10, false),
    ] {
        let server =
            answering(move |_| Reply::new(206).header("content-range", content_range).body(vec![1; length]))
                .await;
        let blob = client(&server.url()).blob(&repository(), &digest("x"), range.clone()).await;
        if !fine {
            assert!(matches!(error(blob), RegistryError::Protocol { .. }), "{content_range}");
            continue;
        }
        let blob = blob.unwrap();
        assert_eq!((blob.start, blob.total), (10, content_range.ends_with("/100").then_some(100)));
        assert_eq!(read(blob).await.0.len(), length);
        assert_eq!(server.log()[0].header("range"), Some("bytes=10-19"));
    }
}

#[tokio::test]
async fn a_registry_that_ignores_ranges_is_read_from_the_start() {
    let server = answering(|_| Reply::new(200).body(vec![1; 100])).await;
    let client = client(&server.url());
    let blob = client.blob(&repository(), &digest("x"), Some(10..20)).await.unwrap();
    assert_eq!((blob.start, blob.total), (0, Some(100)));
    assert_eq!(read(blob).await.0.len(), 100);
    let nothing = client.blob(&repository(), &digest("x"), Some(10..10)).await.unwrap();
    assert_eq!(read(nothing).await.0.len(), 0);
    assert_eq!(server.log().len(), 1, "there is no way to ask for nothing");

    let server =
        answering(|_| Reply::new(206).header("content-range", "bytes 0-9/100").body(vec![1; 10])).await;
    let unasked = crate::client(&server.url()).blob(&repository(), &digest("x"), None).await;
    assert!(matches!(error(unasked), RegistryError::Protocol { .. }));
}

#[tokio::test]
async fn a_range_behind_the_end_tells_where_the_end_is() {
    let server = answering(|_| Reply::new(416).header("content-range", "bytes */10")).await;
    let client = client(&server.url());
    let end = client.blob(&repository(), &digest("x"), Some(10..20)).await.unwrap();
    assert_eq!((end.total, end.start), (Some(10), 10));
    assert!(read(end).await.0.is_empty());
    let behind = error(client.blob(&repository(), &digest("x"), Some(11..20)).await);
    assert!(behind.to_string().contains("has 10 bytes"), "{behind}");
    assert!(matches!(
        error(client.blob(&repository(), &digest("x"), Some(5..20)).await),
        RegistryError::Refused { .. }
    ));
}

#[tokio::test]
async fn redirects_into_special_networks_are_not_followed() {
    for location in [
        "http://169.254.169.254/latest/meta-data?sig=CANARY",
        "https://169.254.169.254/latest?sig=CANARY",
        "https://[::ffff:a9fe:a9fe]/?sig=CANARY",
        "https://10.0.0.1/?sig=CANARY",
        "http://elsewhere.example/?sig=CANARY",
        "https://user:CANARY@elsewhere.example/",
        "file:///etc/passwd?CANARY",
        "gopher://127.0.0.1/?CANARY",
    ] {
        let server = answering(move |_| Reply::new(307).header("location", location)).await;
        let client = client(&server.url());
        let failed = error(client.blob(&repository(), &digest("x"), None).await);
        assert!(matches!(failed, RegistryError::EgressDenied { .. }), "{location}: {failed}");
        assert!(matches!(
            error(client.manifest(&repository(), &tag()).await),
            RegistryError::EgressDenied { .. }
        ));
        assert_eq!(server.log().len(), 2);
    }
}

#[tokio::test]
async fn redirects_end_after_five() {
    let server = answering(|request| {
        let hop = request.target.rsplit("?hop=").next().and_then(|hop| hop.parse().ok()).unwrap_or(0);
        match hop {
            5 if request.target.contains("manifests") => Reply::new(200).body(MANIFEST),
            hop => Reply::new(302).header("location", format!("?hop={}", hop + 1)),
        }
    })
    .await;
    let client = client(&server.url());
    client.manifest(&repository(), &tag()).await.unwrap();
    assert_eq!(server.log().len(), 6);
    let failed = error(client.blob(&repository(), &digest("x"), None).await);
    assert!(failed.to_string().contains("more than 5 redirects"), "{failed}");
    assert_eq!(server.log().len(), 12);
}

#[tokio::test]
async fn credentials_stay_behind_when_a_read_is_sent_elsewhere() {
    let storage = answering(|request| match request.header("range") {
        Some(_) => Reply::new(206).header("content-range", "bytes 1-3/4").body("lob"),
        None => Reply::new(200).body("blob"),
    })
    .await;
    let location = format!("{}/c/blob?sig=CANARY", storage.url());
    let server = answering(move |request| match request.header("authorization") {
        Some(_) => Reply::new(307).header("location", &location),
        None => Reply::new(401).header("www-authenticate", "Basic realm=\"r\""),
    })
    .await;
    let client = RegistryClient::new(with_password(settings(&server.url()))).unwrap();
    let blob = client.blob(&repository(), &digest("blob"), None).await.unwrap();
    assert_eq!(read(blob).await.0, b"blob");
    let part = client.blob(&repository(), &digest("blob"), Some(1..4)).await.unwrap();
    assert_eq!(read(part).await.0, b"lob");
    assert_eq!(client.blob_length(&repository(), &digest("blob")).await.unwrap(), Some(Some(4)));
    let log = storage.log();
    assert_eq!(log.len(), 3);
    assert!(
        log.iter()
            .all(|request| request.header("authorization").is_none() && request.target.contains("sig="))
    );
}

#[tokio::test]
async fn a_storage_host_that_asks_for_credentials_gets_none_and_its_address_is_not_told() {
    let storage = answering(|_| Reply::new(401).header("www-authenticate", "Basic realm=\"r\"")).await;
    let location = format!("{}/c/blob?sig=CANARY", storage.url());
    let server = answering(move |_| Reply::new(307).header("location", &location)).await;
    let client = RegistryClient::new(with_password(settings(&server.url()))).unwrap();
    let failed = error(client.blob(&repository(), &digest("x"), None).await);
    assert!(matches!(failed, RegistryError::Unavailable { .. }), "{failed}");
    assert_eq!(storage.log().len(), 5, "an address may have expired, so a new one is asked for");
    assert!(storage.log().iter().all(|request| request.header("authorization").is_none()));
    // An address for reading refuses a HEAD: the blob is there all the same.
    assert_eq!(client.blob_length(&repository(), &digest("x")).await.unwrap(), Some(None));
    // Its connection breaks: the address is still not told.
    drop(storage);
    error(client.blob(&repository(), &digest("x"), None).await);
}
