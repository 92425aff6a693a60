use transship_messages::{FactBody, ImportRequested};
use transship_model::{Class, Code, Execution};
use transship_stage::{Context, Outcome, Verb};

use crate::scene::bundle::BundleBuilder;
use crate::scene::{Scene, done, execution};

fn bundle(name: &str) -> BundleBuilder {
    let mut bundle = BundleBuilder::default();
    let image = bundle.image(name, &[]);
    bundle.artifact("a:1", &image);
    bundle
}

#[tokio::test]
async fn an_unknown_pipeline_and_another_container_are_configuration_errors() {
    let scene = Scene::new();
    let work = scene.put_bundle(&bundle("x")).await;
    let unknown = ImportRequested { pipeline: "nope".parse().unwrap(), ..work.clone() };
    let failure = scene.handle(&unknown).await.unwrap_err();
    assert_eq!((failure.code, failure.class), (Code::ConfigurationInvalid, Class::Permanent));
    assert!(failure.message.contains("nope") && failure.hint.unwrap().contains("[pipelines.nope]"));
    let elsewhere = ImportRequested { container: "file:///elsewhere".parse().unwrap(), ..work };
    let failure = scene.handle(&elsewhere).await.unwrap_err();
    assert_eq!(failure.code, Code::ConfigurationInvalid);
    assert!(failure.message.contains("/elsewhere"));
    assert_eq!(scene.target.take(), []);
}

#[tokio::test]
async fn a_missing_blob_is_said_to_be_missing() {
    let scene = Scene::new();
    let mut work = scene.put_bundle(&bundle("x")).await;
    work.blob = "not-there".parse().unwrap();
    let failure = scene.handle(&work).await.unwrap_err();
    assert_eq!((failure.code, failure.class), (Code::BlobNotFound, Class::Permanent));
    assert!(failure.message.contains("not-there") && failure.hint.is_some());
}

#[tokio::test]
async fn a_blob_that_was_replaced_is_not_imported_by_the_old_work() {
    let scene = Scene::new();
    let work = scene.put("b", &bundle("old").encode(), &execution(1)).await;
    scene.put("b", &bundle("new").encode(), &execution(2)).await;
    assert_eq!(scene.handle(&work).await.unwrap(), Outcome::Superseded);
    scene.put("b", &bundle("again").encode(), &execution(1)).await;
    let failure = scene.handle(&work).await.unwrap_err();
    assert_eq!((failure.code, failure.class), (Code::SourceChanged, Class::Permanent));
    assert_eq!(scene.target.take(), []);
    let unknown = ImportRequested { etag: None, ..work };
    assert_eq!(done(scene.handle(&unknown).await.unwrap()).counters.artifacts_moved, 1);
}

#[tokio::test]
async fn garbage_is_not_a_bundle_and_neither_is_half_a_one() {
    let scene = Scene::new();
    let whole = bundle("x").encode();
    let mut odd = whole.clone();
    odd.truncate(whole.len() - 2000);
    for bytes in [&b"not a tar"[..], &[0; 4096], &whole[..700], &odd] {
        let work = scene.put("garbage", bytes, &execution(1)).await;
        let failure = scene.handle(&work).await.unwrap_err();
        assert_eq!((failure.code, failure.class), (Code::BundleInvalid, Class::Permanent));
        assert!(failure.message.contains("garbage"), "{}", failure.message);
    }
    assert_eq!(scene.target.take(), []);
}

#[tokio::test]
async fn a_bundle_without_artifacts_is_refused() {
    let scene = Scene::new();
    let failure = scene.import(&BundleBuilder::default()).await.unwrap_err();
    assert_eq!(failure.code, Code::BundleInvalid);
}

#[tokio::test]
async fn the_bundle_is_deleted_once_everything_is_in() {
    let mut scene = Scene::new();
    scene.pipeline.options.delete_source_blob_on_success = true;
    let work = scene.put_bundle(&bundle("x")).await;
    assert_eq!(done(scene.handle(&work).await.unwrap()).message, None);
    assert!(!scene.has_blob("bundle").await && scene.tagged("a", "1").is_some());

    // The process died before it could say so, and the work comes again.
    for etag in [work.etag.clone(), None] {
        let context = Context { redelivered: true, ..scene.context() };
        let again = ImportRequested { etag, ..work.clone() };
        let again = done(scene.importer().handle(&again, &context).await.unwrap());
        assert!(again.message.unwrap().contains("nothing was imported now"));
    }
}

#[tokio::test]
async fn a_bundle_that_another_pipeline_has_deleted_is_a_failure_and_no_import_of_nothing() {
    let mut scene = Scene::new();
    scene.pipeline.options.delete_source_blob_on_success = true;
    let work = scene.put_bundle(&bundle("x")).await;
    done(scene.handle(&work).await.unwrap());
    let other = Execution { id: "of-the-other-pipeline".parse().unwrap(), generation: 1 };
    let other = ImportRequested { execution: other, ..work };
    // An attempt that failed before has deleted nothing.
    for attempt in [1, 2] {
        let context = Context { attempt, ..scene.context() };
        let failure = scene.importer().handle(&other, &context).await.unwrap_err();
        assert_eq!((failure.code, failure.class), (Code::BlobNotFound, Class::Permanent));
        assert!(failure.hint.unwrap().contains("a container of its own"));
    }
}

#[tokio::test]
async fn the_bundle_stays_where_some_artifacts_failed_or_nobody_asked() {
    let mut scene = Scene::new();
    scene.import(&bundle("x")).await.unwrap();
    assert!(scene.has_blob("bundle").await);
    scene.pipeline.options.delete_source_blob_on_success = true;
    scene.pipeline.options.continue_on_errors = true;
    let mut conflict = bundle("another");
    let image = conflict.image("second", &[]);
    conflict.artifact("b:1", &image);
    let done = scene.import(&conflict).await.unwrap();
    assert_eq!((done.counters.artifacts_failed, done.counters.artifacts_moved), (1, 1));
    assert!(scene.has_blob("bundle").await);
}

#[tokio::test]
async fn the_facts_name_pipeline_container_and_blob() {
    let scene = Scene::new();
    let work = scene.put_bundle(&bundle("x")).await;
    let Outcome::Done { facts, .. } = scene.handle(&work).await.unwrap() else { panic!("not done") };
    assert!(
        matches!(&facts[0], FactBody::ArtifactImported { container, results } if *container == work.container && results.len() == 1)
    );
    assert!(matches!(&facts[1], FactBody::BundleImported { pipeline, container, blob, .. }
        if *pipeline == work.pipeline && *container == work.container && *blob == work.blob));
    assert_eq!(facts.len(), 2);
}
