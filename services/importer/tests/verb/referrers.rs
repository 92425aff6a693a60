use std::collections::BTreeSet;

use transship_model::{Class, Code, Digest, ManifestView, MediaType, Selector, Tag};
use transship_registry::{MemoryRegistry, Operation};

use crate::scene::bundle::{BundleBuilder, Item};
use crate::scene::recorder::Write;
use crate::scene::{Scene, repo};

fn without_api() -> Scene {
    Scene::with(MemoryRegistry::new("r").without_referrers_api())
}

/// `a:1` with two referrers, and the source's fallback index where `listed`.
fn referred(listed: bool) -> (BundleBuilder, Item, Vec<Item>, Option<Item>) {
    let mut bundle = BundleBuilder::default();
    let image = bundle.image("image", &[]);
    bundle.artifact("a:1", &image);
    let referrers: Vec<Item> = ["sbom", "signature"].map(|name| bundle.referrer("a", name, &image)).into();
    let index = listed.then(|| bundle.fallback("a", &image, &referrers));
    (bundle, image, referrers, index)
}

fn fallback_tag(image: &Item) -> Tag {
    Tag::referrers_fallback(&image.digest)
}

/// What the target's fallback index lists.
fn listed(scene: &Scene, image: &Item) -> BTreeSet<Digest> {
    let digest = scene.registry.tagged(&repo("a"), &fallback_tag(image)).expect("a fallback index");
    let (media_type, bytes) = scene.registry.manifest_bytes(&repo("a"), &digest).unwrap();
    let view = ManifestView::parse(&bytes, Some(media_type.as_str())).unwrap();
    view.manifests.into_iter().map(|one| one.digest).collect()
}

fn digests(items: &[Item]) -> BTreeSet<Digest> {
    items.iter().map(|item| item.digest.clone()).collect()
}

#[tokio::test]
async fn a_registry_that_keeps_the_list_itself_gets_no_index() {
    let scene = Scene::new();
    let (bundle, image, referrers, _) = referred(true);
    scene.import(&bundle).await.unwrap();
    assert_eq!(scene.registry.tagged(&repo("a"), &fallback_tag(&image)), None);
    for referrer in referrers {
        assert!(scene.registry.manifest_bytes(&repo("a"), &referrer.digest).is_some());
    }
    // A second import puts no referrer, so it cannot know from that whether the registry keeps the list.
    scene.target.take();
    scene.import(&bundle).await.unwrap();
    assert_eq!(scene.target.take(), []);
}

#[tokio::test]
async fn the_sources_index_goes_unchanged_where_there_is_none() {
    let scene = without_api();
    let (bundle, image, _, index) = referred(true);
    scene.import(&bundle).await.unwrap();
    assert_eq!(scene.registry.tagged(&repo("a"), &fallback_tag(&image)), Some(index.unwrap().digest));
    let writes = scene.target.take();
    let place = |tag: &str| {
        let is = |write: &Write| matches!(write, Write::Put(_, Selector::Tag(put), _) if put.as_str() == tag);
        writes.iter().position(is).unwrap()
    };
    assert!(place(fallback_tag(&image).as_str()) < place("1"), "the list is there before the tag is");
}

#[tokio::test]
async fn the_sources_index_takes_the_place_of_one_that_lists_less_whatever_overwrite_tags_says() {
    let scene = without_api();
    let (mut first, image, referrers, _) = referred(false);
    first.fallback("a", &image, &referrers[..1]);
    first.discovered.retain(|found| found.digest != referrers[1].digest);
    scene.import(&first).await.unwrap();
    assert_eq!(listed(&scene, &image), digests(&referrers[..1]));
    let (second, _, _, index) = referred(true);
    scene.import(&second).await.unwrap();
    assert_eq!(scene.registry.tagged(&repo("a"), &fallback_tag(&image)), Some(index.unwrap().digest));
}

#[tokio::test]
async fn where_both_sides_know_more_a_union_is_written_with_everything_that_entries_say() {
    let scene = without_api();
    let (bundle, image, referrers, _) = referred(true);
    // Somebody at the target has added a referrer of its own.
    let own = r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}"#;
    let oci: MediaType = MediaType::OCI_MANIFEST.parse().unwrap();
    let own_digest = scene.registry.put_manifest_as(&repo("a"), None, &oci, own);
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{0}","manifests":[{{"mediaType":"{oci}","digest":"{own_digest}","size":{1},"annotations":{{"who":"target"}}}}]}}"#,
        MediaType::OCI_INDEX,
        own.len()
    );
    let tag = fallback_tag(&image);
    scene.registry.put_manifest_as(&repo("a"), Some(&tag), &MediaType::OCI_INDEX.parse().unwrap(), index);
    scene.import(&bundle).await.unwrap();
    let mut expected = digests(&referrers);
    expected.insert(own_digest);
    assert_eq!(listed(&scene, &image), expected);
    let written = scene.registry.tagged(&repo("a"), &tag).unwrap();
    let (media_type, bytes) = scene.registry.manifest_bytes(&repo("a"), &written).unwrap();
    assert_eq!(media_type.as_str(), MediaType::OCI_INDEX);
    assert!(String::from_utf8_lossy(&bytes).contains(r#""who":"target""#));
    // And it stays as it is.
    scene.target.take();
    scene.import(&bundle).await.unwrap();
    assert_eq!(scene.target.take(), []);
}

#[tokio::test]
async fn a_source_that_kept_the_list_itself_gets_an_index_where_the_target_does_not() {
    let scene = without_api();
    let (bundle, image, referrers, _) = referred(false);
    scene.import(&bundle).await.unwrap();
    assert_eq!(listed(&scene, &image), digests(&referrers));
    let written = scene.registry.tagged(&repo("a"), &fallback_tag(&image)).unwrap();
    let (_, bytes) = scene.registry.manifest_bytes(&repo("a"), &written).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let entry = &json["manifests"][0];
    assert_eq!(entry["artifactType"], "application/vnd.oci.image.config.v1+json");
    assert!(entry["annotations"]["name"].is_string() && entry["size"].is_number());
}

#[tokio::test]
async fn an_index_that_lists_more_than_there_is_makes_way_for_one_of_what_there_is() {
    let scene = without_api();
    let (mut bundle, image, referrers, _) = referred(false);
    let mut gone = BundleBuilder::default();
    let gone = gone.referrer("a", "gone", &image);
    bundle.fallback("a", &image, &[referrers[0].clone(), referrers[1].clone(), gone]);
    scene.import(&bundle).await.unwrap();
    assert_eq!(listed(&scene, &image), digests(&referrers));
    scene.target.take();
    scene.import(&bundle).await.unwrap();
    assert_eq!(scene.target.take(), []);
}

#[tokio::test]
async fn a_signature_of_cosign_that_differs_is_left_alone_and_named_unless_tags_may_move() {
    let mut scene = Scene::new();
    let mut first = BundleBuilder::default();
    let image = first.image("image", &[]);
    first.artifact("a:1", &image);
    let (old, tag) = first.cosign("a", "old signature", &image);
    scene.import(&first).await.unwrap();
    assert_eq!(scene.registry.tagged(&repo("a"), &tag), Some(old.digest.clone()));

    let mut second = BundleBuilder::default();
    let image = second.image("image", &[]);
    second.artifact("a:1", &image);
    let (new, _) = second.cosign("a", "new signature", &image);
    scene.pipeline.options.delete_source_blob_on_success = true;
    let done = scene.import(&second).await.unwrap();
    assert_eq!(scene.registry.tagged(&repo("a"), &tag), Some(old.digest.clone()));
    assert!(scene.has_blob("bundle").await, "the bundle has a signature that the target has not");
    assert_eq!(done.counters.artifacts_skipped, 1);
    let message = done.message.unwrap();
    for part in [tag.as_str(), &old.digest.to_string(), &new.digest.to_string(), "is not deleted"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    scene.pipeline.options.overwrite_tags = true;
    scene.import(&second).await.unwrap();
    assert_eq!(scene.registry.tagged(&repo("a"), &tag), Some(new.digest));
    assert!(!scene.has_blob("bundle").await);
}

#[tokio::test]
async fn a_list_of_referrers_that_others_keep_changing_is_named_and_keeps_the_bundle() {
    let mut scene = without_api();
    scene.pipeline.options.delete_source_blob_on_success = true;
    let (bundle, image, ..) = referred(true);
    let oci_index: MediaType = MediaType::OCI_INDEX.parse().unwrap();
    let theirs = scene.registry.put_manifest_as(&repo("a"), None, &oci_index, r#"{"manifests":[]}"#);
    let (registry, tag) = (scene.registry.clone(), fallback_tag(&image));
    scene.registry.inject(move |operation, _| {
        if operation == Operation::Referrers {
            registry.tag(&repo("a"), &tag, &theirs);
        }
        None
    });
    let done = scene.import(&bundle).await.unwrap();
    assert_eq!(done.counters.artifacts_moved, 1);
    let message = done.message.unwrap();
    assert!(message.contains("other writers") && message.contains(&image.digest.to_string()), "{message}");
    assert!(scene.has_blob("bundle").await);
    scene.registry.heal();
    scene.import(&bundle).await.unwrap();
    assert!(!scene.has_blob("bundle").await);
}

#[tokio::test]
async fn only_what_belongs_to_an_artifact_in_its_own_repository_comes_along() {
    let scene = Scene::new();
    let mut bundle = BundleBuilder::default();
    let image = bundle.image("image", &[]);
    bundle.artifact("a:1", &image);
    bundle.artifact("b:1", &image);
    let of_a = bundle.referrer("a", "sbom", &image);
    scene.import(&bundle).await.unwrap();
    assert!(scene.registry.manifest_bytes(&repo("a"), &of_a.digest).is_some());
    assert!(scene.registry.manifest_bytes(&repo("b"), &of_a.digest).is_none());
}

#[tokio::test]
async fn a_signature_that_the_bundle_only_names_is_not_said_to_be_imported_though_the_target_has_it() {
    let scene = Scene::new();
    let mut bundle = BundleBuilder::default();
    let image = bundle.image("image", &[]);
    bundle.artifact("a:1", &image);
    let (signature, tag) = bundle.cosign("a", "signature", &image);
    let (item, bytes) = bundle.manifests.pop().unwrap();
    assert_eq!(item.digest, signature.digest);
    scene.registry.put_manifest_as(&repo("a"), None, &item.media_type.parse().unwrap(), bytes);
    let failure = scene.import(&bundle).await.unwrap_err();
    assert_eq!((failure.code, failure.class), (Code::ContentNotFound, Class::Permanent));
    for part in [tag.as_str(), &signature.digest.to_string()] {
        assert!(failure.message.contains(part), "{part} in {}", failure.message);
    }
    assert_eq!(scene.tagged("a", "1"), None);
}
