use std::collections::BTreeSet;

use transship_model::{Digest, MediaType, Selector};
use transship_registry::MemoryRegistry;
use transship_stage::ByteBudget;

use crate::scene::bundle::BundleBuilder;
use crate::scene::recorder::Write;
use crate::scene::{Scene, repo};

/// An index of an index of two images, with a signature, a referrer and a referrer of that.
fn nested() -> BundleBuilder {
    let mut bundle = BundleBuilder::default();
    let layer = bundle.layer(b"shared layer");
    let (one, two) = (bundle.image("one", std::slice::from_ref(&layer)), bundle.image("two", &[layer]));
    let inner = bundle.index(&[one.clone(), two]);
    let outer = bundle.index(&[inner, one.clone()]);
    bundle.artifact("team/app:1", &outer);
    bundle.artifact("team/app:latest", &outer);
    let sbom = bundle.referrer("team/app", "sbom", &one);
    bundle.referrer("team/app", "signature of sbom", &sbom);
    bundle.cosign("team/app", "signature", &outer);
    bundle
}

#[tokio::test]
async fn blobs_come_before_children_before_indexes_before_referrers_before_tags() {
    let scene = Scene::new();
    let bundle = nested();
    let done = scene.import(&bundle).await.unwrap();
    let names = ["team/app:1", "team/app:latest"].map(|name| (name.to_owned(), "moved".to_owned()));
    assert_eq!(done.outcomes(), names);
    let writes = scene.target.take();
    let place = |wanted: &dyn Fn(&Write) -> bool| writes.iter().position(wanted).unwrap();
    let by_digest = |item: &str| {
        let json = bundle.manifests.iter().find(|(_, bytes)| String::from_utf8_lossy(bytes).contains(item));
        json.unwrap().0.digest.clone()
    };
    let put = |digest: &Digest| {
        place(&|write| matches!(write, Write::Put(_, Selector::Digest(put), _) if put == digest))
    };
    let last_upload = writes.iter().rposition(|write| matches!(write, Write::Uploaded(..))).unwrap();
    let first_tag = place(&|write| matches!(write, Write::Put(_, Selector::Tag(_), _)));
    let outer = &bundle.artifacts[0].digest;
    let order = [
        last_upload,
        put(&by_digest("\"name\": \"one\"")),
        put(outer),
        put(&by_digest("\"name\": \"sbom\"")),
        put(&by_digest("\"name\": \"signature of sbom\"")),
        first_tag,
    ];
    assert!(order.is_sorted(), "{order:?} in {writes:#?}");
    assert!(writes[first_tag..].iter().all(|write| matches!(write, Write::Put(_, Selector::Tag(_), _))));
    let tags: Vec<String> = writes[first_tag..]
        .iter()
        .map(|write| match write {
            Write::Put(_, Selector::Tag(tag), _) => tag.as_str().chars().take(7).collect(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(tags[0], "sha256-", "the signature is visible before what it signs is");
    assert_eq!(
        tags[1..].iter().map(String::as_str).collect::<BTreeSet<_>>(),
        BTreeSet::from(["1", "latest"])
    );
}

#[tokio::test]
async fn every_byte_arrives_with_its_media_type_and_the_counts_reconcile() {
    let scene = Scene::new();
    let bundle = nested();
    let done = scene.import(&bundle).await.unwrap();
    for (item, bytes) in &bundle.manifests {
        let (media_type, arrived) = scene.registry.manifest_bytes(&repo("team/app"), &item.digest).unwrap();
        assert_eq!((media_type.as_str(), &arrived[..]), (item.media_type.as_str(), &bytes[..]));
    }
    for (digest, bytes) in &bundle.blobs {
        assert_eq!(scene.registry.blob_bytes(&repo("team/app"), digest).unwrap(), bytes);
    }
    assert_eq!(done.counters.bytes_discovered, bundle.bytes());
    assert_eq!(done.counters.bytes_moved, bundle.bytes());
    assert_eq!(done.counters.blobs_moved, (bundle.manifests.len() + bundle.blobs.len()) as u64);
    assert_eq!((done.counters.artifacts_moved, done.message), (2, None));
}

#[tokio::test]
async fn a_second_import_writes_nothing_and_skips_every_artifact() {
    for registry in [MemoryRegistry::new("r"), MemoryRegistry::new("r").without_referrers_api()] {
        let scene = Scene::with(registry);
        let bundle = nested();
        scene.import(&bundle).await.unwrap();
        scene.target.take();
        let (work, before) = (scene.put_bundle(&bundle).await, scene.registry.bytes_uploaded());
        let done = crate::scene::done(scene.handle(&work).await.unwrap());
        assert_eq!(scene.target.take(), []);
        assert_eq!(scene.registry.bytes_uploaded(), before);
        assert!(done.outcomes().iter().all(|(_, outcome)| outcome == "skipped"), "{done:?}");
        assert_eq!((done.counters.artifacts_skipped, done.counters.bytes_skipped), (2, bundle.bytes()));
    }
}

#[tokio::test]
async fn what_is_there_is_skipped_and_a_new_signature_of_it_still_comes() {
    let scene = Scene::new();
    let mut bundle = nested();
    scene.import(&bundle).await.unwrap();
    scene.target.take();
    let outer = bundle
        .manifests
        .iter()
        .find(|(item, _)| item.digest == bundle.artifacts[0].digest)
        .unwrap()
        .0
        .clone();
    let new = bundle.referrer("team/app", "new signature", &outer);
    let done = scene.import(&bundle).await.unwrap();
    assert!(done.outcomes().iter().all(|(_, outcome)| outcome == "skipped"), "{done:?}");
    assert!(scene.registry.manifest_bytes(&repo("team/app"), &new.digest).is_some());
    let puts = scene.target.take().into_iter().filter(|write| matches!(write, Write::Put(..))).count();
    assert_eq!(puts, 1);
}

#[tokio::test]
async fn an_artifact_that_is_named_by_digest_gets_no_tag() {
    let scene = Scene::new();
    let mut bundle = BundleBuilder::default();
    let image = bundle.image("untagged", &[]);
    bundle.artifact(&format!("team/app@{}", image.digest), &image);
    let done = scene.import(&bundle).await.unwrap();
    assert_eq!(done.counters.artifacts_moved, 1);
    assert!(!scene.shows_a_tag());
    assert!(scene.registry.manifest_bytes(&repo("team/app"), &image.digest).is_some());
    assert_eq!(scene.import(&bundle).await.unwrap().counters.artifacts_skipped, 1);
}

#[tokio::test]
async fn what_an_index_lists_and_is_no_manifest_goes_as_content() {
    let scene = Scene::new();
    let mut bundle = BundleBuilder::default();
    let thing = bundle.blob("application/vnd.acme.thing", b"not a manifest");
    let image = bundle.image("image", &[]);
    let index = bundle.index(&[thing.clone(), image]);
    bundle.artifact("a:1", &index);
    scene.import(&bundle).await.unwrap();
    assert_eq!(scene.registry.blob_bytes(&repo("a"), &thing.digest).unwrap(), &b"not a manifest"[..]);
    assert_eq!(scene.tagged("a", "1"), Some(index.digest));
}

#[tokio::test]
async fn media_types_nobody_has_heard_of_are_carried() {
    let scene = Scene::new();
    let mut bundle = BundleBuilder::default();
    let empty = bundle.blob("application/vnd.oci.empty.v1+json", b"{}");
    let zero = bundle.blob("application/vnd.acme.zero", b"");
    let json = serde_json::json!({
        "schemaVersion": 2, "artifactType": "application/vnd.acme.rocket",
        "config": empty.json(), "layers": [zero.json(), zero.json()],
    });
    let docker = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::DOCKER_MANIFEST, "config": empty.json(), "layers": [],
    });
    let rocket = bundle.manifest(MediaType::OCI_MANIFEST, &json);
    let docker = bundle.manifest(MediaType::DOCKER_MANIFEST, &docker);
    bundle.artifact("rocket:1", &rocket);
    bundle.artifact("docker:1", &docker);
    scene.import(&bundle).await.unwrap();
    let type_of = |name: &str, digest| scene.registry.manifest_bytes(&repo(name), digest).unwrap().0;
    assert_eq!(type_of("rocket", &rocket.digest).as_str(), MediaType::OCI_MANIFEST);
    assert_eq!(type_of("docker", &docker.digest).as_str(), MediaType::DOCKER_MANIFEST);
}

#[tokio::test]
async fn manifests_of_several_stretches_are_put_within_a_budget_that_holds_one() {
    let mut scene = Scene::new();
    scene.budget = ByteBudget::new(4 << 20);
    let mut bundle = BundleBuilder::default();
    let padding = "x".repeat(3 << 20);
    let images: Vec<_> = (0..4).map(|n| bundle.image(&format!("{n} {padding}"), &[])).collect();
    for (number, image) in images.iter().enumerate() {
        bundle.artifact(&format!("a:{number}"), image);
    }
    let done = scene.import(&bundle).await.unwrap();
    assert_eq!((done.counters.artifacts_moved, scene.budget.used()), (4, 0));
    assert_eq!(scene.target.tags_put(), 4);
}
