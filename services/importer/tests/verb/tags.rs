use transship_model::{
    ArtifactReference, Class, Code, Digest, ImportOptions, MediaType, RenameRule, RenameRules, Tag,
};
use transship_registry::{MemoryRegistry, Operation};

use crate::scene::bundle::{BundleBuilder, Item};
use crate::scene::{Scene, repo};

fn image(bundle: &mut BundleBuilder, name: &str) -> Item {
    let layer = bundle.layer(format!("layer of {name}").as_bytes());
    bundle.image(name, &[layer])
}

/// A bundle of `a:1` and `b:1`, and a scene where `a:1` is something else.
async fn with_conflict() -> (Scene, BundleBuilder, Item, Item) {
    let scene = Scene::new();
    let mut other = BundleBuilder::default();
    let old = image(&mut other, "old");
    other.artifact("a:1", &old);
    scene.import(&other).await.unwrap();
    scene.target.take();
    let mut bundle = BundleBuilder::default();
    let new = image(&mut bundle, "new");
    let second = image(&mut bundle, "second");
    bundle.artifact("a:1", &new);
    bundle.artifact("b:1", &second);
    (scene, bundle, old, new)
}

#[tokio::test]
async fn a_tag_of_another_digest_is_refused_before_bytes_move_and_both_digests_are_named() {
    let (scene, bundle, old, new) = with_conflict().await;
    let failure = scene.import(&bundle).await.unwrap_err();
    assert_eq!((failure.code, failure.class), (Code::TagExists, Class::Permanent));
    for part in ["a:1", &old.digest.to_string(), &new.digest.to_string()] {
        assert!(failure.message.contains(part), "{part} in {}", failure.message);
    }
    assert!(failure.hint.unwrap().contains("OverwriteTags"));
    assert_eq!(scene.target.take(), [], "nothing was written");
    assert_eq!(scene.tagged("b", "1"), None);
}

/// Lets somebody else push `a:1` while layers move.
fn taken_while_blobs_move(scene: &Scene, tag: &Tag) -> Digest {
    let index: MediaType = MediaType::OCI_INDEX.parse().unwrap();
    let other = scene.registry.put_manifest_as(&repo("a"), None, &index, r#"{"manifests":[]}"#);
    let (registry, tag, digest) = (scene.registry.clone(), tag.clone(), other.clone());
    scene.registry.inject(move |operation, _| {
        if operation == Operation::Upload {
            registry.tag(&repo("a"), &tag, &digest);
        }
        None
    });
    other
}

#[tokio::test]
async fn a_tag_that_is_pushed_while_bytes_move_is_not_overwritten() {
    for continue_on_errors in [false, true] {
        let mut scene = Scene::new();
        scene.pipeline.options.continue_on_errors = continue_on_errors;
        let mut bundle = BundleBuilder::default();
        let (one, two) = (image(&mut bundle, "one"), image(&mut bundle, "two"));
        bundle.artifact("a:1", &one);
        bundle.artifact("b:1", &two);
        let other = taken_while_blobs_move(&scene, &"1".parse().unwrap());
        match scene.import(&bundle).await {
            Ok(done) => {
                assert!(continue_on_errors);
                let outcomes = [("a:1".into(), "TagExists".into()), ("b:1".into(), "moved".into())];
                assert_eq!(done.outcomes(), outcomes);
            }
            Err(failure) => {
                assert!(!continue_on_errors);
                assert_eq!((failure.code, failure.class), (Code::TagExists, Class::Permanent));
                assert!(failure.message.contains(&other.to_string()), "{}", failure.message);
            }
        }
        assert_eq!(scene.tagged("a", "1"), Some(other));
    }
}

#[tokio::test]
async fn a_tag_that_is_pushed_while_bytes_move_gives_way_where_tags_may_be_overwritten() {
    let mut scene = Scene::new();
    scene.pipeline.options.overwrite_tags = true;
    let mut bundle = BundleBuilder::default();
    let item = image(&mut bundle, "image");
    bundle.artifact("a:1", &item);
    taken_while_blobs_move(&scene, &"1".parse().unwrap());
    scene.import(&bundle).await.unwrap();
    assert_eq!(scene.tagged("a", "1"), Some(item.digest));
}

#[tokio::test]
async fn a_signature_whose_tag_is_pushed_while_bytes_move_is_left_out_and_keeps_the_bundle() {
    let mut scene = Scene::new();
    scene.pipeline.options.delete_source_blob_on_success = true;
    let mut bundle = BundleBuilder::default();
    let item = image(&mut bundle, "image");
    bundle.artifact("a:1", &item);
    let (_, tag) = bundle.cosign("a", "signature", &item);
    let other = taken_while_blobs_move(&scene, &tag);
    let done = scene.import(&bundle).await.unwrap();
    assert_eq!(scene.registry.tagged(&repo("a"), &tag), Some(other.clone()));
    assert_eq!(scene.tagged("a", "1"), Some(item.digest));
    assert!(done.message.unwrap().contains(&other.to_string()));
    assert!(scene.has_blob("bundle").await);
}

#[tokio::test]
async fn overwrite_tags_moves_the_tag() {
    let (mut scene, bundle, _, new) = with_conflict().await;
    scene.pipeline.options.overwrite_tags = true;
    let done = scene.import(&bundle).await.unwrap();
    assert_eq!(done.counters.artifacts_moved, 2);
    assert_eq!(scene.tagged("a", "1"), Some(new.digest));
}

#[tokio::test]
async fn with_continue_on_errors_only_the_tag_in_conflict_is_left_alone() {
    let (mut scene, bundle, old, new) = with_conflict().await;
    scene.pipeline.options.continue_on_errors = true;
    let done = scene.import(&bundle).await.unwrap();
    assert_eq!(done.outcomes(), [("a:1".into(), "TagExists".into()), ("b:1".into(), "moved".into())]);
    assert!(done.message.unwrap().contains(&new.digest.to_string()));
    assert_eq!(scene.tagged("a", "1"), Some(old.digest));
    assert!(scene.registry.manifest_bytes(&repo("a"), &new.digest).is_none(), "nothing of it moved");
    assert_eq!((done.counters.artifacts_failed, done.counters.artifacts_moved), (1, 1));
    assert!(done.counters.bytes_failed > 0 && done.counters.bytes_moved > 0);
}

#[tokio::test]
async fn where_all_fail_the_import_fails_in_either_case() {
    let (mut scene, mut bundle, ..) = with_conflict().await;
    bundle.artifacts.truncate(1);
    scene.pipeline.options.continue_on_errors = true;
    assert_eq!(scene.import(&bundle).await.unwrap_err().code, Code::TagExists);
}

#[tokio::test]
async fn every_conflict_is_named_at_once() {
    let scene = Scene::new();
    let mut old = BundleBuilder::default();
    let mut new = BundleBuilder::default();
    for number in 0..3 {
        let item = image(&mut old, &format!("old {number}"));
        old.artifact(&format!("a:{number}"), &item);
        let item = image(&mut new, &format!("new {number}"));
        new.artifact(&format!("a:{number}"), &item);
    }
    scene.import(&old).await.unwrap();
    let failure = scene.import(&new).await.unwrap_err();
    assert!(failure.message.contains("3 of 3 artifacts"), "{}", failure.message);
    assert!((0..3).all(|number| failure.message.contains(&format!("a:{number}: "))), "{}", failure.message);
}

#[tokio::test]
async fn a_repository_is_renamed_by_the_first_rule_that_matches() {
    let mut scene = Scene::new();
    scene.pipeline.rename = RenameRules(vec![RenameRule { from: "team".into(), to: "mirror/team".into() }]);
    let mut bundle = BundleBuilder::default();
    let item = image(&mut bundle, "image");
    bundle.artifact("team/app:1", &item);
    bundle.referrer("team/app", "sbom", &item);
    let done = scene.import(&bundle).await.unwrap();
    let renamed: ArtifactReference = "mirror/team/app:1".parse().unwrap();
    assert_eq!(done.results[0].reference.to_string(), "team/app:1");
    assert_eq!(done.results[0].imported_as.as_ref(), Some(&renamed));
    assert_eq!(scene.registry.repositories(), [repo("mirror/team/app")]);
    assert_eq!(scene.tagged("mirror/team/app", "1"), Some(item.digest));
}

#[tokio::test]
async fn two_artifacts_that_a_rule_gives_one_name_are_refused() {
    let mut scene = Scene::new();
    let rule = |from: &str| RenameRule { from: from.into(), to: "same".into() };
    scene.pipeline.rename = RenameRules(vec![rule("a"), rule("b")]);
    let mut bundle = BundleBuilder::default();
    for name in ["a", "b"] {
        let item = image(&mut bundle, name);
        bundle.artifact(&format!("{name}:1"), &item);
    }
    let failure = scene.import(&bundle).await.unwrap_err();
    assert_eq!(failure.code, Code::ConfigurationInvalid);
    assert_eq!(scene.registry.repositories(), []);
}

#[tokio::test]
async fn one_image_under_many_tags_is_put_once_by_digest() {
    let scene = Scene::new();
    let mut bundle = BundleBuilder::default();
    let item = image(&mut bundle, "image");
    for number in 0..20 {
        bundle.artifact(&format!("a:{number}"), &item);
    }
    let done = scene.import(&bundle).await.unwrap();
    assert_eq!(done.counters.artifacts_moved, 20);
    assert_eq!(scene.target.tags_put(), 20);
    assert_eq!(scene.registry.count(Operation::PutManifest), 21);
    assert_eq!(scene.registry.count(Operation::Upload), 2);
}

#[tokio::test]
async fn a_tag_that_the_registry_refuses_fails_its_own_artifact_only() {
    let mut scene = Scene::with(MemoryRegistry::new("r"));
    scene.pipeline.options = ImportOptions { continue_on_errors: true, ..ImportOptions::default() };
    let mut bundle = BundleBuilder::default();
    let item = image(&mut bundle, "image");
    bundle.artifact("a:1", &item);
    bundle.artifact("a:2", &item);
    let refused = transship_registry::RegistryError::Refused {
        host: "r".into(),
        operation: "push".into(),
        code: "400 TAG_INVALID".into(),
    };
    // The manifest by its digest, then one tag, then the other.
    scene.registry.inject(move |operation, count| {
        (operation == Operation::PutManifest && count == 2).then(|| refused.clone())
    });
    let done = scene.import(&bundle).await.unwrap();
    let mut outcomes: Vec<String> = done.outcomes().into_iter().map(|(_, outcome)| outcome).collect();
    outcomes.sort();
    assert_eq!(outcomes, ["RegistryRefused", "moved"]);
}
