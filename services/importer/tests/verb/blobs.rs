use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use transship_bundle::Absence;
use transship_model::{Class, Code, Digest};
use transship_registry::{MemoryRegistry, Operation};
use transship_stage::{ByteBudget, Verb};

use crate::scene::bundle::BundleBuilder;
use crate::scene::recorder::Write;
use crate::scene::{Scene, done, repo};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

/// Two images of two repositories that share a layer.
fn shared() -> (BundleBuilder, Digest) {
    let mut bundle = BundleBuilder::default();
    let layer = bundle.layer(&[7; 10_000]);
    for name in ["a", "b"] {
        let image = bundle.image(name, std::slice::from_ref(&layer));
        bundle.artifact(&format!("team/{name}:1"), &image);
    }
    (bundle, layer.digest)
}

fn uploads_of(scene: &Scene, digest: &Digest) -> usize {
    let is_upload = |write: &&Write| matches!(write, Write::Uploaded(_, uploaded) if uploaded == digest);
    scene.target.writes().iter().filter(is_upload).count()
}

fn mounts_of(scene: &Scene, digest: &Digest) -> Vec<String> {
    let from = |write: &Write| match write {
        Write::Mounted(_, mounted, from) if mounted == digest => Some(from.to_string()),
        _ => None,
    };
    scene.target.writes().iter().filter_map(from).collect()
}

#[tokio::test]
async fn a_blob_of_two_repositories_is_uploaded_once_and_mounted() {
    let scene = Scene::new();
    let (bundle, layer) = shared();
    let done = scene.import(&bundle).await.unwrap();
    assert_eq!((uploads_of(&scene, &layer), mounts_of(&scene, &layer)), (1, vec!["team/a".to_owned()]));
    assert_eq!(
        done.counters.bytes_moved,
        bundle.bytes(),
        "what was uploaded and mounted counts as moved once"
    );
    assert!(scene.registry.blob_bytes(&repo("team/b"), &layer).is_some());
}

#[tokio::test]
async fn a_registry_that_does_not_mount_gets_the_bytes_again() {
    let scene = Scene::with(MemoryRegistry::new("r").without_mounts());
    let (mut bundle, layer) = shared();
    for number in 0..20 {
        let layer = bundle.layer(format!("layer {number}").as_bytes());
        let (one, two) = (bundle.image("one", std::slice::from_ref(&layer)), bundle.image("two", &[layer]));
        bundle.artifact(&format!("x:{number}"), &one);
        bundle.artifact(&format!("y:{number}"), &two);
    }
    let done = scene.import(&bundle).await.unwrap();
    assert_eq!(uploads_of(&scene, &layer), 2);
    assert_eq!(done.counters.bytes_moved, bundle.bytes());
    assert!(scene.registry.count(Operation::Mount) <= 6, "it is not asked for ever");
}

#[tokio::test]
async fn a_blob_is_mounted_from_a_configured_repository() {
    let mut scene = Scene::new();
    let (bundle, layer) = shared();
    scene.registry.put_blob(&repo("base"), vec![7; 10_000]);
    scene.pipeline.mount_from = vec![repo("nothing/here"), repo("base")];
    let done = scene.import(&bundle).await.unwrap();
    assert_eq!((uploads_of(&scene, &layer), mounts_of(&scene, &layer).len()), (0, 2));
    assert_eq!(done.counters.blobs_mounted, 1, "it is one blob, wherever it was mounted");
    assert_eq!(done.counters.bytes_skipped, 10_000);
}

#[tokio::test]
async fn a_blob_is_mounted_from_where_this_process_put_it_before() {
    let scene = Scene::new();
    let importer = scene.importer();
    let (first, layer) = shared();
    let work = scene.put_bundle(&first).await;
    done(importer.handle(&work, &scene.context()).await.unwrap());
    scene.target.take();
    let mut second = BundleBuilder::default();
    let item = second.layer(&[7; 10_000]);
    let image = second.image("c", &[item]);
    second.artifact("elsewhere/c:1", &image);
    let work = scene.put_bundle(&second).await;
    done(importer.handle(&work, &scene.context()).await.unwrap());
    assert_eq!((uploads_of(&scene, &layer), mounts_of(&scene, &layer)), (0, vec!["team/b".to_owned()]));
}

#[tokio::test]
async fn a_memory_that_is_out_of_date_costs_an_upload_and_nothing_else() {
    let scene = Scene::new();
    let importer = scene.importer();
    let (first, layer) = shared();
    let work = scene.put_bundle(&first).await;
    done(importer.handle(&work, &scene.context()).await.unwrap());
    for name in ["team/a", "team/b"] {
        scene.registry.remove(&repo(name), &layer);
    }
    scene.target.take();
    let mut second = BundleBuilder::default();
    let item = second.layer(&[7; 10_000]);
    let image = second.image("c", &[item]);
    second.artifact("elsewhere/c:1", &image);
    let work = scene.put_bundle(&second).await;
    done(importer.handle(&work, &scene.context()).await.unwrap());
    assert_eq!(uploads_of(&scene, &layer), 1);
}

#[tokio::test]
async fn blobs_that_are_there_are_not_sent_again() {
    let scene = Scene::new();
    let (bundle, layer) = shared();
    scene.registry.put_blob(&repo("team/a"), vec![7; 10_000]);
    let done = scene.import(&bundle).await.unwrap();
    assert_eq!((uploads_of(&scene, &layer), mounts_of(&scene, &layer)), (0, vec!["team/a".to_owned()]));
    assert_eq!(done.counters.bytes_skipped, 10_000);
}

#[tokio::test]
async fn many_ranges_of_many_blobs_stay_within_the_budget_and_all_arrive() {
    let mut scene = Scene::new();
    scene.settings.range_bytes = 1 << 20;
    scene.settings.ranges_ahead = 8;
    scene.settings.parallel_blobs = 8;
    scene.budget = ByteBudget::new(2 << 20);
    let mut bundle = BundleBuilder::default();
    let layers: Vec<_> = (0..10u32)
        .map(|n| {
            let length = (n as usize) << 19 | 17;
            let bytes: Vec<u8> =
                (0..length as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ n as u8).collect();
            bundle.layer(&bytes)
        })
        .collect();
    let image = bundle.image("large", &layers);
    bundle.artifact("a:1", &image);
    let import = scene.import(&bundle);
    let done =
        tokio::time::timeout(std::time::Duration::from_secs(60), import).await.expect("it hangs").unwrap();
    assert_eq!(done.counters.bytes_moved, bundle.bytes());
    assert_eq!(scene.budget.used(), 0, "everything was given back");
    for layer in &layers {
        assert!(scene.registry.blob_bytes(&repo("a"), &layer.digest).is_some());
    }
}

#[tokio::test]
async fn a_foreign_layer_that_is_nowhere_is_noted_and_the_artifact_arrives() {
    let scene = Scene::new();
    let mut bundle = BundleBuilder::default();
    let layer = bundle.absent(FOREIGN, b"windows", Absence::NotDistributable);
    let image = bundle.image("windows", std::slice::from_ref(&layer));
    bundle.artifact("win:1", &image);
    let done = scene.import(&bundle).await.unwrap();
    assert_eq!((done.counters.artifacts_moved, done.counters.bytes_failed), (1, layer.size));
    assert!(done.message.unwrap().contains(&layer.digest.to_string()));
}

#[tokio::test]
async fn a_registry_that_wants_the_foreign_layer_is_explained() {
    let scene = Scene::new();
    let mut bundle = BundleBuilder::default();
    // Not foreign by its type, so that the registry wants it.
    let layer = bundle.absent(LAYER, b"windows", Absence::NotDistributable);
    let image = bundle.image("windows", std::slice::from_ref(&layer));
    bundle.artifact("win:1", &image);
    let failure = scene.import(&bundle).await.unwrap_err();
    assert_eq!(failure.code, Code::RegistryRefused);
    assert!(failure.hint.unwrap().contains(&layer.digest.to_string()));
    assert!(!scene.shows_a_tag());
}

#[tokio::test]
async fn content_of_another_part_must_be_at_the_target_and_is_waited_for() {
    let scene = Scene::new();
    let mut bundle = BundleBuilder::default();
    let layer = bundle.absent(LAYER, b"in part 2", Absence::InPart(2));
    let image = bundle.image("image", std::slice::from_ref(&layer));
    bundle.artifact("a:1", &image);
    let failure = scene.import(&bundle).await.unwrap_err();
    assert_eq!((failure.code, failure.class), (Code::ContentNotFound, Class::TRANSIENT));
    assert!(failure.message.contains("part 2") && failure.message.contains(&layer.digest.to_string()));
    scene.registry.put_blob(&repo("a"), &b"in part 2"[..]);
    assert_eq!(scene.import(&bundle).await.unwrap().counters.artifacts_moved, 1);
}

#[tokio::test]
async fn content_that_the_target_has_lost_or_the_source_never_gave_fails_for_good() {
    for (why, word) in [(Absence::Acknowledged, "acknowledged"), (Absence::Failed, "source")] {
        let scene = Scene::new();
        let mut bundle = BundleBuilder::default();
        let layer = bundle.absent(LAYER, b"gone", why);
        let image = bundle.image("image", &[layer]);
        bundle.artifact("a:1", &image);
        let failure = scene.import(&bundle).await.unwrap_err();
        assert_eq!((failure.code, failure.class), (Code::ContentNotFound, Class::Permanent));
        assert!(failure.message.contains(word), "{}", failure.message);
    }
}

#[tokio::test]
async fn a_blob_that_the_registry_loses_before_its_manifest_comes_is_sent_again() {
    let scene = Scene::new();
    let (bundle, layer) = shared();
    let (registry, lost) = (scene.registry.clone(), layer.clone());
    scene.registry.inject(move |operation, count| {
        if operation == Operation::PutManifest && count == 1 {
            registry.remove(&repo("team/a"), &lost);
            registry.remove(&repo("team/b"), &lost);
        }
        None
    });
    let done = scene.import(&bundle).await.unwrap();
    assert_eq!(done.counters.artifacts_moved, 2);
    assert!(scene.registry.blob_bytes(&repo("team/a"), &layer).is_some());
}

#[tokio::test]
async fn a_registry_that_loses_a_blob_for_ever_is_given_up() {
    let scene = Scene::new();
    let (bundle, layer) = shared();
    let registry = scene.registry.clone();
    scene.registry.inject(move |operation, _| {
        if operation == Operation::PutManifest {
            registry.remove(&repo("team/a"), &layer);
        }
        None
    });
    let failure = scene.import(&bundle).await.unwrap_err();
    assert_eq!(failure.code, Code::RegistryRefused);
    assert!(scene.registry.count(Operation::Upload) <= 8);
    assert!(!scene.shows_a_tag());
}

#[tokio::test]
async fn small_blobs_hold_nothing_of_the_budget_while_they_wait_for_the_registry() {
    let scene = Scene::new();
    let mut bundle = BundleBuilder::default();
    let layers: Vec<_> = (0..20).map(|n| bundle.layer(&vec![n; 10_000])).collect();
    let image = bundle.image("image", &layers);
    bundle.artifact("a:1", &image);
    let (budget, held) = (scene.budget.clone(), Arc::new(AtomicU64::new(0)));
    let most = Arc::clone(&held);
    scene.registry.inject(move |operation, _| {
        if operation == Operation::Upload {
            most.fetch_max(budget.used(), Ordering::Relaxed);
        }
        None
    });
    scene.import(&bundle).await.unwrap();
    assert_eq!(held.load(Ordering::Relaxed), 0);
}
