use serde_json::json;
use transship_messages::{FactBody, ImportRequested};
use transship_model::{Class, Code, Digest, ImportDestination, ImportOptions};
use transship_stage::Outcome;

use crate::scene::bundle::BundleBuilder;
use crate::scene::{Scene, archive, done};

fn bundle(name: &str) -> BundleBuilder {
    let mut bundle = BundleBuilder::default();
    let image = bundle.image(name, &[]);
    bundle.artifact("team/a:1", &image);
    bundle
}

/// The work with a pipeline that only the message knows.
fn described(work: ImportRequested, registry: &str, overwrite_tags: bool) -> ImportRequested {
    let options = ImportOptions { overwrite_tags, ..ImportOptions::default() };
    let destination = ImportDestination { registry: registry.parse().unwrap(), credential: None, options };
    ImportRequested { pipeline: "new".parse().unwrap(), destination: Some(destination), ..work }
}

/// The catalog digest that the last fact of an import says.
fn said(outcome: Outcome<ImportRequested>) -> Option<Digest> {
    let Outcome::Done { mut facts, .. } = outcome else { panic!("not done: {outcome:?}") };
    match facts.pop() {
        Some(FactBody::BundleImported { catalog_digest, .. }) => catalog_digest,
        other => panic!("not the fact that ends an import: {other:?}"),
    }
}

#[tokio::test]
async fn a_pipeline_that_only_the_message_knows_imports_under_the_bundles_own_names() {
    let scene = Scene::new();
    let work = described(scene.put_bundle(&bundle("x")).await, "target", false);
    assert_eq!(done(scene.handle(&work).await.unwrap()).counters.artifacts_moved, 1);
    assert!(scene.tagged("team/a", "1").is_some());
    // Its options count: the tag may move only where they say so.
    let other = described(scene.put("other", &bundle("y").encode(), &work.execution).await, "target", false);
    assert_eq!(scene.handle(&other).await.unwrap_err().code, Code::TagExists);
    let other = described(other, "target", true);
    assert_eq!(done(scene.handle(&other).await.unwrap()).counters.artifacts_moved, 1);
}

#[tokio::test]
async fn a_configured_pipeline_wins_over_what_the_message_says() {
    let mut scene = Scene::new();
    scene.pipeline.rename = serde_json::from_value(json!([{ "from": "team", "to": "mirror" }])).unwrap();
    let work = described(scene.put_bundle(&bundle("x")).await, "nowhere", true);
    let work = ImportRequested { pipeline: "default".parse().unwrap(), ..work };
    scene.handle(&work).await.unwrap();
    assert!(scene.tagged("mirror/a", "1").is_some() && scene.tagged("team/a", "1").is_none());
}

#[tokio::test]
async fn a_registry_that_the_importer_does_not_have_is_a_configuration_error() {
    let scene = Scene::new();
    let work = described(scene.put_bundle(&bundle("x")).await, "nowhere", false);
    let failure = scene.handle(&work).await.unwrap_err();
    assert_eq!((failure.code, failure.class), (Code::ConfigurationInvalid, Class::Permanent));
    assert!(failure.message.contains("nowhere") && failure.hint.unwrap().contains("[registries.nowhere]"));
}

#[tokio::test]
async fn pipelines_of_messages_can_be_forbidden() {
    let mut scene = Scene::new();
    scene.settings.pipelines_from_messages = false;
    let work = described(scene.put_bundle(&bundle("x")).await, "target", false);
    let failure = scene.handle(&work).await.unwrap_err();
    assert_eq!((failure.code, failure.class), (Code::ConfigurationInvalid, Class::Permanent));
    let hint = failure.hint.unwrap();
    assert!(hint.contains("[pipelines.new]") && hint.contains("pipelines_from_messages"), "{hint}");
    assert_eq!(scene.target.take(), []);
}

#[tokio::test]
async fn a_bundle_that_is_not_the_one_the_run_names_is_refused_before_anything_is_written() {
    let scene = Scene::new();
    let work = scene.put_bundle(&bundle("x")).await;
    let named = Digest::sha256(b"another index.json");
    let wrong = ImportRequested { catalog_digest: Some(named.clone()), ..work.clone() };
    let failure = scene.handle(&wrong).await.unwrap_err();
    assert_eq!((failure.code, failure.class), (Code::DigestMismatch, Class::Permanent));
    let actual = said(scene.handle(&work).await.unwrap()).expect("the fact says which bundle it was");
    for digest in [&named, &actual] {
        assert!(failure.message.contains(&digest.to_string()), "{failure}");
    }
    assert!(failure.hint.is_some());
    scene.target.take();
    assert!(scene.handle(&wrong).await.is_err());
    assert_eq!(scene.target.take(), []);
    let right = ImportRequested { catalog_digest: Some(actual.clone()), ..work };
    assert_eq!(said(scene.handle(&right).await.unwrap()), Some(actual));
}

#[tokio::test]
async fn the_catalog_digest_of_a_foreign_archive_is_that_of_its_index() {
    let scene = Scene::new();
    let mut bundle = BundleBuilder::default();
    let image = bundle.image("image", &[]);
    let mut entry = image.json();
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "team/a:1" });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] });
    let work = scene.put("archive", &archive::encode(&bundle, &index), &crate::scene::execution(1)).await;
    let digest = Digest::sha256(&serde_json::to_vec(&index).unwrap());
    let wrong = ImportRequested { catalog_digest: Some(Digest::sha256(b"x")), ..work.clone() };
    assert_eq!(scene.handle(&wrong).await.unwrap_err().code, Code::DigestMismatch);
    assert_eq!(scene.target.take(), []);
    let right = ImportRequested { catalog_digest: Some(digest.clone()), ..work };
    assert_eq!(said(scene.handle(&right).await.unwrap()), Some(digest));
}
