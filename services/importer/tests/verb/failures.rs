use std::time::Duration;

use transship_model::{Class, Code, Digest};
use transship_registry::{Operation, RegistryError};
use transship_stage::Verb;

use crate::scene::bundle::{BundleBuilder, Item};
use crate::scene::{Scene, execution};

/// `a:1` and `b:1`, each with a layer of its own, and the layer of `b`.
fn two() -> (BundleBuilder, Item) {
    let mut bundle = BundleBuilder::default();
    let one = bundle.layer(b"layer of a");
    let image = bundle.image("a", &[one]);
    bundle.artifact("a:1", &image);
    let two = bundle.layer(b"layer of b");
    let image = bundle.image("b", std::slice::from_ref(&two));
    bundle.artifact("b:1", &image);
    (bundle, two)
}

/// The bundle's bytes with one byte of `needle` flipped.
fn damaged(bundle: &BundleBuilder, needle: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut bytes = bundle.encode();
    let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    bytes[at] ^= 1;
    let wrong = bytes[at..at + needle.len()].to_vec();
    (bytes, wrong)
}

fn unavailable() -> RegistryError {
    let (host, operation, reason) = ("r".to_owned(), "x".to_owned(), "503".to_owned());
    RegistryError::Unavailable { host, operation, reason, retry_after: Some(Duration::from_secs(7)) }
}

#[tokio::test]
async fn a_damaged_layer_makes_nothing_visible_and_both_digests_are_named() {
    let scene = Scene::new();
    let (bundle, layer) = two();
    let (bytes, wrong) = damaged(&bundle, b"layer of b");
    let work = scene.put("damaged.tar", &bytes, &execution(1)).await;
    let failure = scene.handle(&work).await.unwrap_err();
    assert_eq!((failure.code, failure.class), (Code::DigestMismatch, Class::Permanent));
    for part in ["damaged.tar", &layer.digest.to_string(), &Digest::sha256(&wrong).to_string()] {
        assert!(failure.message.contains(part), "{part} in {}", failure.message);
    }
    assert!(!scene.shows_a_tag());
    assert!(scene.registry.blob_bytes(&"b".parse().unwrap(), &layer.digest).is_none());
}

#[tokio::test]
async fn a_damaged_manifest_makes_nothing_visible() {
    let scene = Scene::new();
    let (bundle, _) = two();
    let (item, bytes) = &bundle.manifests[1];
    let (bytes, _) = damaged(&bundle, bytes);
    let work = scene.put("damaged.tar", &bytes, &execution(1)).await;
    let failure = scene.handle(&work).await.unwrap_err();
    assert_eq!(failure.code, Code::DigestMismatch);
    assert!(failure.message.contains(&item.digest.to_string()));
    assert_eq!(scene.target.take(), []);
}

#[tokio::test]
async fn with_continue_on_errors_only_the_damaged_artifact_is_left_out() {
    let mut scene = Scene::new();
    scene.pipeline.options.continue_on_errors = true;
    let (bundle, _) = two();
    for needle in [b"layer of b".to_vec(), bundle.manifests[1].1.clone()] {
        let (bytes, _) = damaged(&bundle, &needle);
        let work = scene.put("damaged.tar", &bytes, &execution(1)).await;
        let done = crate::scene::done(scene.handle(&work).await.unwrap());
        assert_eq!(done.outcomes()[1], ("b:1".into(), "DigestMismatch".into()));
        assert!(done.message.unwrap().contains("b:1"));
        assert_eq!(scene.tagged("b", "1"), None);
        assert!(scene.tagged("a", "1").is_some());
    }
}

#[tokio::test]
async fn a_damaged_referrer_fails_its_artifact() {
    let mut scene = Scene::new();
    scene.pipeline.options.continue_on_errors = true;
    let (mut bundle, _) = two();
    let subject = bundle.manifests[1].0.clone();
    let referrer = bundle.referrer("b", "sbom", &subject);
    let (bytes, _) = damaged(&bundle, b"layer of sbom");
    let work = scene.put("damaged.tar", &bytes, &execution(1)).await;
    let done = crate::scene::done(scene.handle(&work).await.unwrap());
    assert_eq!(done.outcomes(), [("a:1".into(), "moved".into()), ("b:1".into(), "DigestMismatch".into())]);
    assert!(done.message.unwrap().contains(&referrer.digest.to_string()));
    assert_eq!(scene.tagged("b", "1"), None);
}

#[tokio::test]
async fn without_continue_on_errors_no_tag_appears_before_everything_is_in() {
    // Whatever call fails, and whichever of its kind: either everything is visible in the end, or nothing is.
    for operation in [Operation::Resolve, Operation::HasBlob, Operation::Upload, Operation::PutManifest] {
        for nth in 1..=8 {
            let scene = Scene::new();
            let (bundle, _) = two();
            scene
                .registry
                .inject(move |called, count| (called == operation && count == nth).then(unavailable));
            match scene.import(&bundle).await {
                Ok(done) => assert_eq!(done.counters.artifacts_moved, 2),
                Err(failure) => {
                    assert_eq!(failure.code, Code::RegistryUnavailable);
                    assert_eq!(failure.class, Class::Transient { retry_after: Some(Duration::from_secs(7)) });
                    // Two puts come before the tags'; and four questions before each tag is looked at once more.
                    let putting_tags = match operation {
                        Operation::PutManifest => nth > 2,
                        Operation::Resolve => nth > 4,
                        _ => false,
                    };
                    assert!(!scene.shows_a_tag() || putting_tags, "{operation:?} {nth}");
                }
            }
            scene.registry.heal();
            scene.import(&bundle).await.unwrap();
            assert!(scene.tagged("a", "1").is_some() && scene.tagged("b", "1").is_some());
        }
    }
}

#[tokio::test]
async fn a_registry_that_is_away_fails_nothing_for_good_even_with_continue_on_errors() {
    let mut scene = Scene::new();
    scene.pipeline.options.continue_on_errors = true;
    let (bundle, _) = two();
    scene.registry.inject(|operation, _| (operation == Operation::Upload).then(unavailable));
    let failure = scene.import(&bundle).await.unwrap_err();
    assert!(matches!(failure.class, Class::Transient { .. }));
}

#[tokio::test]
async fn a_repository_that_the_credential_may_not_write_fails_its_artifact_only() {
    let mut scene = Scene::new();
    scene.pipeline.options.continue_on_errors = true;
    let (bundle, _) = two();
    // The uploads of one artifact: its config and its layer.
    scene.settings.parallel_blobs = 1;
    let forbidden =
        RegistryError::Forbidden { host: "r".into(), repository: "b".into(), reason: "403".into() };
    scene.registry.inject(move |operation, count| {
        (operation == Operation::Upload && count == 1).then(|| forbidden.clone())
    });
    let done = scene.import(&bundle).await.unwrap();
    assert_eq!(done.counters.artifacts_failed, 1);
    assert!(done.outcomes().iter().any(|(_, outcome)| outcome == "RegistryForbidden"));
}

#[tokio::test]
async fn a_shutdown_is_nobodys_fault_and_leaves_no_tag() {
    let scene = Scene::new();
    let (bundle, _) = two();
    let work = scene.put_bundle(&bundle).await;
    let context = scene.context();
    let cancel = context.cancel.clone();
    scene.registry.inject(move |operation, _| {
        if operation == Operation::Upload {
            cancel.cancel();
        }
        None
    });
    let failure = scene.importer().handle(&work, &context).await.unwrap_err();
    assert_eq!(failure.class, Class::Interrupted);
    assert!(!scene.shows_a_tag());
}
