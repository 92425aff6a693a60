//! What every registry does. Each test is given names of repositories that nobody else uses.

use serde_json::json;
use transship_model::{Digest, MediaType, Repository, Selector, Tag};
use transship_registry::{Manifest, Mount, RegistryError, ResumableTarget};

use crate::{Memory, read};

/// The whole contract, under repositories below `prefix`.
pub(crate) async fn holds(registry: &dyn ResumableTarget, prefix: &str) {
    let name = |suffix: &str| -> Repository { format!("{prefix}/{suffix}").parse().unwrap() };
    what_is_not_there_is_not_there(registry, &name("nothing")).await;
    blobs_come_back_whole_and_in_ranges(registry, &name("blobs")).await;
    wrong_bytes_are_refused(registry, &name("wrong")).await;
    manifests_come_back_as_they_were(registry, &name("manifests")).await;
    manifests_need_their_blobs(registry, &name("orphans")).await;
    blobs_are_mounted(registry, &name("here"), &name("there/deep/er")).await;
    uploads_go_on_in_another_session(registry, &name("sessions")).await;
    referrers_are_found(registry, &name("referrers")).await;
}

pub(crate) fn manifest(json: &serde_json::Value) -> Manifest {
    // Printed with white space, so that whoever prints it again changes it.
    let bytes = serde_json::to_vec_pretty(json).unwrap();
    Manifest { digest: Digest::sha256(&bytes), content_type: None, bytes: bytes.into() }
}

pub(crate) fn media_type(text: &str) -> MediaType {
    text.parse().unwrap()
}

pub(crate) fn tagged(text: &str) -> Selector {
    Selector::Tag(text.parse().unwrap())
}

/// An image without layers over a config, which is put first.
pub(crate) async fn image(
    registry: &dyn ResumableTarget,
    repository: &Repository,
    config: &[u8],
    subject: Option<&Manifest>,
) -> Manifest {
    let digest = Digest::sha256(config);
    registry.upload(repository, &digest, &Memory(config.to_vec().into())).await.unwrap();
    let mut json = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_MANIFEST,
        "config": { "mediaType": "application/vnd.acme.rocket.config+json", "digest": digest, "size": config.len() },
        "layers": [],
    });
    if let Some(subject) = subject {
        json["subject"] = json!({ "mediaType": MediaType::OCI_MANIFEST, "digest": subject.digest, "size": subject.bytes.len() });
    }
    manifest(&json)
}

async fn what_is_not_there_is_not_there(registry: &dyn ResumableTarget, repository: &Repository) {
    let digest = Digest::sha256(b"nobody has this");
    let by_digest = Selector::Digest(digest.clone());
    assert_eq!(registry.blob_length(repository, &digest).await.unwrap(), None);
    assert!(!registry.has_blob(repository, &digest).await.unwrap());
    assert!(matches!(
        registry.blob(repository, &digest, None).await,
        Err(RegistryError::BlobNotFound { .. })
    ));
    for selector in [by_digest, tagged("v1")] {
        assert_eq!(registry.resolve(repository, &selector).await.unwrap(), None);
        assert!(matches!(
            registry.manifest(repository, &selector).await,
            Err(RegistryError::ManifestNotFound { .. })
        ));
    }
    assert!(registry.tags(repository).await.unwrap().is_empty());
    let referrers = registry.referrers(repository, &digest).await.unwrap();
    assert!(referrers.descriptors.is_empty() && referrers.fallback.is_none());
}

async fn blobs_come_back_whole_and_in_ranges(registry: &dyn ResumableTarget, repository: &Repository) {
    let bytes: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
    let digest = Digest::sha256(&bytes);
    for _ in 0..2 {
        // The second time, everything is there already.
        registry.upload(repository, &digest, &Memory(bytes.clone().into())).await.unwrap();
    }
    assert!(registry.has_blob(repository, &digest).await.unwrap());
    assert_eq!(registry.blob_length(repository, &digest).await.unwrap(), Some(Some(300_000)));
    let whole = registry.blob(repository, &digest, None).await.unwrap();
    assert_eq!((whole.start, whole.total), (0, Some(300_000)));
    assert!(read(whole).await == bytes);
    for range in [0..1, 100_000..200_000, 299_999..300_000, 250_000..400_000] {
        let expected = &bytes[range.start as usize..(range.end as usize).min(bytes.len())];
        let part = registry.blob(repository, &digest, Some(range.clone())).await.unwrap();
        assert_eq!((part.start, part.total), (range.start, Some(300_000)));
        assert!(read(part).await == expected, "{range:?}");
    }
    let at_the_end = registry.blob(repository, &digest, Some(300_000..300_001)).await.unwrap();
    assert_eq!(read(at_the_end).await.len(), 0);

    let empty = Digest::sha256(b"");
    registry.upload(repository, &empty, &Memory(Vec::new().into())).await.unwrap();
    assert_eq!(registry.blob_length(repository, &empty).await.unwrap(), Some(Some(0)));
    assert_eq!(read(registry.blob(repository, &empty, None).await.unwrap()).await.len(), 0);
}

async fn wrong_bytes_are_refused(registry: &dyn ResumableTarget, repository: &Repository) {
    let digest = Digest::sha256(b"right");
    let failed = registry.upload(repository, &digest, &Memory(b"wrong"[..].into())).await.unwrap_err();
    assert!(
        matches!(&failed, RegistryError::Refused { code, .. } if code.contains("DIGEST_INVALID")),
        "{failed}"
    );
    assert!(!registry.has_blob(repository, &digest).await.unwrap());
}

async fn manifests_come_back_as_they_were(registry: &dyn ResumableTarget, repository: &Repository) {
    let image = image(registry, repository, b"{}", None).await;
    let oci = media_type(MediaType::OCI_MANIFEST);
    let by_digest = Selector::Digest(image.digest.clone());
    let long = "t".repeat(128);
    for selector in [by_digest.clone(), tagged("v1"), tagged("a.b-c_D"), tagged(&long), tagged("v1")] {
        registry.put_manifest(repository, &selector, &oci, &image).await.unwrap();
        let back = registry.manifest(repository, &selector).await.unwrap();
        assert_eq!(
            (&back.bytes, &back.digest, back.content_type.as_ref()),
            (&image.bytes, &image.digest, Some(&oci))
        );
        assert_eq!(registry.resolve(repository, &selector).await.unwrap(), Some(image.digest.clone()));
    }
    let tags: Vec<String> = registry.tags(repository).await.unwrap().iter().map(Tag::to_string).collect();
    assert_eq!(tags, ["a.b-c_D", &long, "v1"]);

    let index = manifest(&json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_INDEX,
        "manifests": [{ "mediaType": oci, "digest": image.digest, "size": image.bytes.len() }],
    }));
    registry
        .put_manifest(repository, &tagged("v1"), &media_type(MediaType::OCI_INDEX), &index)
        .await
        .unwrap();
    assert_eq!(registry.resolve(repository, &tagged("v1")).await.unwrap(), Some(index.digest.clone()));
    assert_eq!(
        registry.manifest(repository, &by_digest).await.unwrap().bytes,
        image.bytes,
        "the tag moved, the manifest stays"
    );
    let wrong = Selector::Digest(Digest::sha256(b"another"));
    assert!(matches!(
        registry.put_manifest(repository, &wrong, &oci, &image).await,
        Err(RegistryError::Refused { .. })
    ));
}

async fn manifests_need_their_blobs(registry: &dyn ResumableTarget, repository: &Repository) {
    let absent = Digest::sha256(b"absent");
    let orphan = manifest(&json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_MANIFEST,
        "config": { "mediaType": "a/b", "digest": absent, "size": 6 },
        "layers": [],
    }));
    let put =
        registry.put_manifest(repository, &tagged("v1"), &media_type(MediaType::OCI_MANIFEST), &orphan).await;
    let failed = put.unwrap_err();
    assert!(failed.is_blob_unknown(), "{failed}");
    assert!(registry.tags(repository).await.unwrap().is_empty());
}

async fn blobs_are_mounted(registry: &dyn ResumableTarget, here: &Repository, there: &Repository) {
    let digest = Digest::sha256(b"shared");
    registry.upload(here, &digest, &Memory(b"shared"[..].into())).await.unwrap();
    assert_eq!(registry.mount(there, &Digest::sha256(b"not shared"), here).await.unwrap(), Mount::NotMounted);
    assert!(!registry.has_blob(there, &digest).await.unwrap());
    assert_eq!(registry.mount(there, &digest, here).await.unwrap(), Mount::Mounted);
    assert_eq!(read(registry.blob(there, &digest, None).await.unwrap()).await, b"shared");
}

async fn uploads_go_on_in_another_session(registry: &dyn ResumableTarget, repository: &Repository) {
    let bytes: Vec<u8> = (0..100_000_u32).map(|at| (at % 253) as u8).collect();
    let digest = Digest::sha256(&bytes);
    let mut session = registry.begin_upload(repository, &digest).await.unwrap();
    let content = Memory(bytes.clone().into());
    for chunk in bytes.chunks(40_000) {
        // Only what a message can carry comes along.
        let (location, offset) = (session.location().clone(), session.offset());
        let minimum = session.minimum_chunk();
        session = transship_registry::UploadSession::restore(repository.clone(), location, offset, minimum);
        let length = chunk.len() as u64;
        session = registry.continue_upload(&session, &digest, &content, length).await.unwrap();
    }
    assert_eq!(session.offset(), 100_000);
    registry.finish_upload(&session, &digest).await.unwrap();
    registry.finish_upload(&session, &digest).await.unwrap();
    assert!(read(registry.blob(repository, &digest, None).await.unwrap()).await == bytes);

    let other = Digest::sha256(b"other");
    let begun = registry.begin_upload(repository, &other).await.unwrap();
    let content = Memory(b"other"[..].into());
    let first = registry.continue_upload(&begun, &other, &content, 1).await.unwrap();
    let twice = registry.continue_upload(&begun, &other, &content, 1).await.unwrap_err();
    assert!(twice.is_upload_lost(), "{twice}");
    registry.cancel_upload(&first).await;
    let cancelled = registry.continue_upload(&first, &other, &content, 4).await.unwrap_err();
    assert!(cancelled.is_upload_lost(), "{cancelled}");
}

async fn referrers_are_found(registry: &dyn ResumableTarget, repository: &Repository) {
    let oci = media_type(MediaType::OCI_MANIFEST);
    let subject = image(registry, repository, b"{}", None).await;
    registry.put_manifest(repository, &tagged("v1"), &oci, &subject).await.unwrap();
    let signature = image(registry, repository, b"signature", Some(&subject)).await;
    let by_digest = Selector::Digest(signature.digest.clone());
    let kept = registry.put_manifest(repository, &by_digest, &oci, &signature).await.unwrap();
    if !kept {
        let fallback = manifest(&json!({
            "schemaVersion": 2,
            "mediaType": MediaType::OCI_INDEX,
            "manifests": [{ "mediaType": oci, "digest": signature.digest, "size": signature.bytes.len() }],
        }));
        let tag = Selector::Tag(Tag::referrers_fallback(&subject.digest));
        registry.put_manifest(repository, &tag, &media_type(MediaType::OCI_INDEX), &fallback).await.unwrap();
    }
    let referrers = registry.referrers(repository, &subject.digest).await.unwrap();
    assert_eq!(referrers.descriptors.len(), 1);
    assert_eq!(referrers.descriptors[0].digest, signature.digest);
    assert_eq!(referrers.fallback.is_some(), !kept);
}
