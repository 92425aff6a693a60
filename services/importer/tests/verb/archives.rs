use serde_json::{Value, json};
use transship_model::{Class, Code};

use crate::scene::archive;
use crate::scene::bundle::{BundleBuilder, Item};
use crate::scene::{Scene, done, execution, repo};

const NAME: &str = "org.opencontainers.image.ref.name";

fn entry(item: &Item, name: Option<&str>) -> Value {
    let mut entry = item.json();
    if let Some(name) = name {
        entry["annotations"] = json!({ NAME: name });
    }
    entry
}

/// A two-platform image.
fn image() -> (BundleBuilder, Item) {
    let mut bundle = BundleBuilder::default();
    let layer = bundle.layer(b"layer");
    let children = ["amd64", "arm64"].map(|name| bundle.image(name, std::slice::from_ref(&layer)));
    let index = bundle.index(&children);
    (bundle, index)
}

fn archived(bundle: &BundleBuilder, entries: &[Value]) -> Vec<u8> {
    archive::encode(bundle, &json!({ "schemaVersion": 2, "manifests": entries }))
}

#[tokio::test]
async fn an_archive_of_another_tool_is_imported_byte_for_byte() {
    let scene = Scene::new();
    let (bundle, index) = image();
    let bytes = archived(&bundle, &[entry(&index, Some("team/app:1"))]);
    let work = scene.put("foreign.tar", &bytes, &execution(1)).await;
    let done = done(scene.handle(&work).await.unwrap());
    assert_eq!(done.outcomes(), [("team/app:1".into(), "moved".into())]);
    assert_eq!(done.counters.bytes_moved, bundle.bytes());
    for (item, bytes) in &bundle.manifests {
        assert_eq!(scene.registry.manifest_bytes(&repo("team/app"), &item.digest).unwrap().1, bytes);
    }
    assert_eq!(scene.tagged("team/app", "1"), Some(index.digest));
}

#[tokio::test]
async fn an_archive_without_a_repository_name_says_how_to_name_it_and_takes_the_name() {
    for name in [None, Some("latest"), Some("LATEST"), Some("127.0.0.1:5000/app:1")] {
        let mut scene = Scene::new();
        let (bundle, index) = image();
        let bytes = archived(&bundle, &[entry(&index, name)]);
        let work = scene.put("foreign.tar", &bytes, &execution(1)).await;
        let failure = scene.handle(&work).await.unwrap_err();
        assert_eq!((failure.code, failure.class), (Code::BundleInvalid, Class::Permanent), "{name:?}");
        assert!(failure.hint.unwrap().contains("--as repository:tag"));
        assert_eq!(scene.target.take(), []);
        scene.pipeline.name_as = Some("given/name:2".parse().unwrap());
        assert_eq!(done(scene.handle(&work).await.unwrap()).counters.artifacts_moved, 1);
        assert_eq!(scene.tagged("given/name", "2"), Some(index.digest));
    }
}

#[tokio::test]
async fn a_host_in_the_name_stays_unless_a_rule_or_a_name_takes_it_away() {
    let mut scene = Scene::new();
    let (bundle, index) = image();
    let bytes = archived(&bundle, &[entry(&index, Some("docker.io/library/app:1"))]);
    let work = scene.put("foreign.tar", &bytes, &execution(1)).await;
    done(scene.handle(&work).await.unwrap());
    assert!(scene.tagged("docker.io/library/app", "1").is_some());
    scene.pipeline.rename.0.push(transship_model::RenameRule { from: "docker.io".into(), to: String::new() });
    done(scene.handle(&work).await.unwrap());
    assert!(scene.tagged("library/app", "1").is_some());
    scene.pipeline.name_as = Some("app:2".parse().unwrap());
    done(scene.handle(&work).await.unwrap());
    assert!(scene.tagged("app", "2").is_some());
}

#[tokio::test]
async fn several_artifacts_need_names_of_their_own() {
    let mut scene = Scene::new();
    let (mut bundle, index) = image();
    let other = bundle.image("other", &[]);
    let named = [entry(&index, Some("a:1")), entry(&other, Some("b:1"))];
    let work = scene.put("foreign.tar", &archived(&bundle, &named), &execution(1)).await;
    assert_eq!(done(scene.handle(&work).await.unwrap()).counters.artifacts_moved, 2);
    scene.pipeline.name_as = Some("c:1".parse().unwrap());
    assert_eq!(scene.handle(&work).await.unwrap_err().code, Code::ConfigurationInvalid);
    scene.pipeline.name_as = None;
    let half = [entry(&index, Some("a:1")), entry(&other, None)];
    let work = scene.put("half.tar", &archived(&bundle, &half), &execution(1)).await;
    assert_eq!(scene.handle(&work).await.unwrap_err().code, Code::BundleInvalid);
}

#[tokio::test]
async fn entries_without_a_name_that_belong_to_one_with_a_name_come_along() {
    let scene = Scene::new();
    let (mut bundle, index) = image();
    let child = bundle.manifests[0].0.clone();
    let layer = bundle.layer(b"sbom");
    let sbom = bundle.image_of("sbom", &[layer], Some(&child));
    let signature = bundle.image_of("signature", &[], Some(&sbom));
    let entries =
        [entry(&signature, None), entry(&sbom, None), entry(&child, None), entry(&index, Some("a:1"))];
    let work = scene.put("layout.tar", &archived(&bundle, &entries), &execution(1)).await;
    let done = done(scene.handle(&work).await.unwrap());
    assert_eq!(done.outcomes(), [("a:1".into(), "moved".into())]);
    for item in [&sbom, &signature] {
        assert!(scene.registry.manifest_bytes(&repo("a"), &item.digest).is_some());
    }
}

#[tokio::test]
async fn an_archive_that_lacks_content_fails_and_names_it() {
    for lost in ["manifest", "layer"] {
        let scene = Scene::new();
        let (mut bundle, index) = image();
        let digest = match lost {
            "manifest" => bundle.manifests.remove(0).0.digest,
            _ => bundle
                .blobs
                .remove(&transship_model::Digest::sha256(b"layer"))
                .map(|b| transship_model::Digest::sha256(&b))
                .unwrap(),
        };
        let bytes = archived(&bundle, &[entry(&index, Some("a:1"))]);
        let work = scene.put("foreign.tar", &bytes, &execution(1)).await;
        let failure = scene.handle(&work).await.unwrap_err();
        assert_eq!((failure.code, failure.class), (Code::ContentNotFound, Class::Permanent), "{lost}");
        assert!(failure.message.contains(&digest.to_string()), "{}", failure.message);
        assert!(!scene.shows_a_tag());
    }
}

#[tokio::test]
async fn a_manifest_that_is_not_one_is_refused() {
    let scene = Scene::new();
    let mut bundle = BundleBuilder::default();
    let both = bundle.manifest(
        transship_model::MediaType::OCI_INDEX,
        &json!({ "schemaVersion": 2, "manifests": [], "layers": [] }),
    );
    let bytes = archived(&bundle, &[entry(&both, Some("a:1"))]);
    let work = scene.put("foreign.tar", &bytes, &execution(1)).await;
    let failure = scene.handle(&work).await.unwrap_err();
    assert_eq!(failure.code, Code::ManifestInvalid);
    assert!(failure.message.contains(&both.digest.to_string()));
}

#[tokio::test]
async fn more_manifests_than_the_bound_are_refused() {
    let mut scene = Scene::new();
    scene.settings.most_manifests = 2;
    let (bundle, index) = image();
    let bytes = archived(&bundle, &[entry(&index, Some("a:1"))]);
    let work = scene.put("foreign.tar", &bytes, &execution(1)).await;
    assert_eq!(scene.handle(&work).await.unwrap_err().code, Code::LimitExceeded);
}

#[tokio::test]
async fn manifests_that_are_too_large_together_are_refused_before_they_are_read() {
    let mut scene = Scene::new();
    let (bundle, index) = image();
    let bytes: u64 = bundle.manifests.iter().map(|(item, _)| item.size).sum();
    let archive = archived(&bundle, &[entry(&index, Some("a:1"))]);
    let work = scene.put("foreign.tar", &archive, &execution(1)).await;
    scene.settings.most_manifest_bytes = bytes - 1;
    let failure = scene.handle(&work).await.unwrap_err();
    assert_eq!((failure.code, failure.class), (Code::LimitExceeded, Class::Permanent));
    scene.settings.most_manifest_bytes = bytes;
    assert_eq!(done(scene.handle(&work).await.unwrap()).counters.artifacts_moved, 1);
}

#[tokio::test]
async fn referrers_of_referrers_come_along_in_whatever_order_the_archive_lists_them() {
    let mut bundle = BundleBuilder::default();
    let image = bundle.image("image", &[]);
    let mut chain = vec![image.clone()];
    for number in 0..200 {
        let next = bundle.image_of(&format!("referrer {number}"), &[], chain.last());
        chain.push(next);
    }
    let mut entries: Vec<Value> = chain[1..].iter().map(|item| entry(item, None)).collect();
    entries.push(entry(&image, Some("a:1")));
    for entries in [entries.clone(), entries.into_iter().rev().collect()] {
        let scene = Scene::new();
        let work = scene.put("foreign.tar", &archived(&bundle, &entries), &execution(1)).await;
        let done = done(scene.handle(&work).await.unwrap());
        assert_eq!(done.outcomes(), [("a:1".into(), "moved".into())]);
        for item in &chain {
            assert!(scene.registry.manifest_bytes(&repo("a"), &item.digest).is_some());
        }
    }
}
