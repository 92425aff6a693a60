use std::time::Duration;

use serde_bytes::ByteBuf;
use transship_messages::{ImportRequested, WorkItem};
use transship_model::{Class, Code, Execution, Secret};
use transship_registry::{Operation, RegistryError, ResumableTarget as _, UploadSession};
use transship_stage::{Outcome, Verb as _};

use crate::scene::bundle::{BundleBuilder, Item};
use crate::scene::{Done, Scene, done, repo};

const MIB: usize = 1 << 20;

/// The bytes 1, 2, … 32 in base64.
const KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
/// 32 zeros.
const OTHER_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// A scene whose slices are over at once, with pieces of 1 MiB.
fn scene() -> Scene {
    let mut scene = Scene::new().with_seal_key(KEY);
    scene.slice = Duration::ZERO;
    scene.settings.range_bytes = MIB as u64;
    scene
}

/// An image in two repositories with one layer that is no multiple of anything.
fn bundle() -> (BundleBuilder, Item) {
    let mut bundle = BundleBuilder::default();
    let bytes: Vec<u8> = (0..5 * MIB + 7).map(|i| (i.wrapping_mul(31) >> 3) as u8).collect();
    let layer = bundle.layer(&bytes);
    let image = bundle.image("image", std::slice::from_ref(&layer));
    bundle.artifact("a:1", &image);
    bundle.artifact("b:1", &image);
    (bundle, layer)
}

/// Hands slice after slice on, through the bytes of a message, until the import is done. `between` changes what
/// the next slice gets.
async fn to_the_end(
    scene: &Scene,
    mut work: ImportRequested,
    mut between: impl AsyncFnMut(&mut ImportRequested),
) -> (Done, u32) {
    loop {
        match scene.handle(&work).await.unwrap() {
            Outcome::Continue { rest } => {
                assert!(!scene.shows_a_tag(), "nothing is visible before the end");
                assert!(rest.slice < 30, "it never ends");
                work = ImportRequested::decode(&rest.encode()).unwrap();
                between(&mut work).await;
            }
            outcome => return (done(outcome), work.slice),
        }
    }
}

#[tokio::test]
async fn a_slice_ends_inside_an_upload_and_the_next_one_goes_on_where_it_stands() {
    let scene = scene();
    let (bundle, layer) = bundle();
    let mut sealed = 0;
    let work = scene.put_bundle(&bundle).await;
    let (done, slices) = to_the_end(&scene, work, async |work| {
        sealed += u32::from(work.sealed_upload.is_some());
    })
    .await;
    assert!(sealed >= 5 && slices >= sealed, "{sealed} of {slices} slices ended inside the upload");
    let small: u64 = bundle.blobs.values().map(|blob| blob.len() as u64).filter(|size| *size < 1000).sum();
    assert_eq!(scene.registry.bytes_uploaded(), layer.size + small, "no byte was sent twice");
    assert_eq!(scene.registry.count(Operation::BeginUpload), 1);
    assert_eq!(scene.registry.open_sessions(), 0);
    assert_eq!(done.counters.bytes_moved, bundle.bytes(), "and each is counted once");
    for repository in ["a", "b"] {
        let there = scene.registry.blob_bytes(&repo(repository), &layer.digest);
        assert!(there.is_some_and(|bytes| layer.digest.matches(&bytes)), "{repository}");
        assert!(scene.tagged(repository, "1").is_some());
    }
}

#[tokio::test]
async fn without_a_key_no_slice_ends_inside_an_upload() {
    let mut scene = scene();
    scene.settings.seal_key_secret = None;
    let work = scene.put_bundle(&bundle().0).await;
    let (done, _) = to_the_end(&scene, work, async |work| assert!(work.sealed_upload.is_none())).await;
    assert_eq!(done.counters.artifacts_moved, 2);
    assert_eq!(scene.registry.count(Operation::BeginUpload), 0);
}

#[tokio::test]
async fn a_seal_that_does_not_open_is_ignored_and_the_layer_starts_anew() {
    let foreign = async |work: &ImportRequested| {
        // A seal of the same importers for another execution.
        let scene = scene();
        let newer = Execution { generation: 9, ..work.execution.clone() };
        let other = scene.put("bundle", &bundle().0.encode(), &newer).await;
        let Outcome::Continue { rest } = scene.handle(&other).await.unwrap() else { panic!() };
        rest.sealed_upload.unwrap()
    };
    for hostile in ["tampered", "garbage", "empty", "of another execution", "of another key"] {
        let (mut scene, (bundle, layer)) = (scene(), bundle());
        let work = scene.put_bundle(&bundle).await;
        let Outcome::Continue { mut rest } = scene.handle(&work).await.unwrap() else { panic!() };
        let before = scene.registry.bytes_uploaded();
        let sealed = rest.sealed_upload.as_mut().unwrap();
        match hostile {
            "tampered" => *sealed.last_mut().unwrap() ^= 1,
            "garbage" => *sealed = ByteBuf::from(vec![1; 500]),
            "empty" => *sealed = ByteBuf::new(),
            "of another execution" => *sealed = foreign(&work).await,
            _ => scene = scene.with_seal_key(OTHER_KEY),
        }
        let (done, _) = to_the_end(&scene, rest, async |_| {}).await;
        assert_eq!(done.counters.bytes_moved, bundle.bytes(), "{hostile}");
        assert!(scene.registry.bytes_uploaded() >= before + layer.size, "{hostile}: from the first byte");
        assert!(scene.registry.blob_bytes(&repo("a"), &layer.digest).is_some(), "{hostile}");
    }
}

/// Takes every session away that the registry may have.
async fn forget_sessions(scene: &Scene) {
    for number in 1..100 {
        let location = Secret::new(&format!("{number}"));
        scene.registry.cancel_upload(&UploadSession::restore(repo("a"), location, 0, 0)).await;
    }
}

#[tokio::test]
async fn a_session_that_is_gone_starts_anew() {
    let (scene, (bundle, layer)) = (scene(), bundle());
    let work = scene.put_bundle(&bundle).await;
    let (done, _) = to_the_end(&scene, work, async |work| {
        if work.slice == 2 {
            forget_sessions(&scene).await;
        }
    })
    .await;
    assert_eq!(scene.registry.count(Operation::BeginUpload), 2);
    assert_eq!(done.counters.bytes_moved, bundle.bytes());
    assert!(scene.registry.blob_bytes(&repo("a"), &layer.digest).is_some());
}

#[tokio::test]
async fn a_session_that_stands_elsewhere_starts_anew() {
    let (scene, (bundle, layer)) = (scene(), bundle());
    let work = scene.put_bundle(&bundle).await;
    let Outcome::Continue { rest } = scene.handle(&work).await.unwrap() else { panic!() };
    // The same slice runs twice: the second time the registry stands behind what the seal says.
    assert!(matches!(scene.handle(&rest).await.unwrap(), Outcome::Continue { .. }));
    let (done, _) = to_the_end(&scene, rest, async |_| {}).await;
    assert_eq!(scene.registry.count(Operation::BeginUpload), 2);
    assert_eq!(done.counters.bytes_moved, bundle.bytes());
    assert!(scene.registry.blob_bytes(&repo("a"), &layer.digest).is_some());
    assert_eq!(scene.registry.open_sessions(), 0);
}

#[tokio::test]
async fn an_import_into_a_registry_that_forgets_every_session_comes_to_its_end() {
    let (scene, (bundle, layer)) = (scene(), bundle());
    let work = scene.put_bundle(&bundle).await;
    let (done, _) = to_the_end(&scene, work, async |_| forget_sessions(&scene).await).await;
    assert_eq!(done.counters.artifacts_moved, 2);
    assert!(scene.registry.blob_bytes(&repo("a"), &layer.digest).is_some());
}

#[tokio::test]
async fn an_upload_that_somebody_else_ended_meanwhile_is_given_up() {
    let (scene, (bundle, layer)) = (scene(), bundle());
    let work = scene.put_bundle(&bundle).await;
    let Outcome::Continue { rest } = scene.handle(&work).await.unwrap() else { panic!() };
    assert_eq!(scene.registry.open_sessions(), 1);
    for repository in ["a", "b"] {
        scene.registry.put_blob(&repo(repository), bundle.blobs[&layer.digest].clone());
    }
    to_the_end(&scene, rest, async |_| {}).await;
    assert_eq!(scene.registry.open_sessions(), 0);
}

fn refused(operation: &str, code: &str) -> RegistryError {
    RegistryError::Refused {
        host: "registry.example".to_owned(),
        operation: format!("upload: {operation}"),
        code: code.to_owned(),
    }
}

#[tokio::test]
async fn a_registry_that_refuses_pieces_gets_whole_blobs_and_is_not_asked_again() {
    let mut scene = scene();
    scene.slice = Duration::from_secs(600);
    scene.settings.parallel_blobs = 1;
    scene.registry.inject(|operation, _| {
        (operation == Operation::ContinueUpload).then(|| refused("continue", "416 RANGE_INVALID"))
    });
    let mut bundle = BundleBuilder::default();
    let layers = [1, 2, 3].map(|n| bundle.layer(&vec![n; 2 * MIB]));
    let image = bundle.image("image", &layers);
    bundle.artifact("a:1", &image);
    assert_eq!(scene.import(&bundle).await.unwrap().counters.bytes_moved, bundle.bytes());
    assert_eq!(scene.registry.count(Operation::ContinueUpload), 1);
    assert_eq!(scene.registry.open_sessions(), 0);
}

#[tokio::test]
async fn a_registry_that_refuses_pieces_and_whole_blobs_alike_is_asked_for_pieces_again() {
    let mut scene = scene();
    scene.slice = Duration::from_secs(600);
    scene.registry.inject(|operation, _| match operation {
        Operation::ContinueUpload | Operation::Upload => Some(refused("continue", "400 UNKNOWN")),
        _ => None,
    });
    let work = scene.put_bundle(&bundle().0).await;
    let importer = scene.importer();
    assert_eq!(importer.handle(&work, &scene.context()).await.unwrap_err().code, Code::RegistryRefused);
    scene.registry.heal();
    let before = scene.registry.count(Operation::ContinueUpload);
    done(importer.handle(&work, &scene.context()).await.unwrap());
    assert!(scene.registry.count(Operation::ContinueUpload) > before);
}

#[tokio::test]
async fn a_layer_that_the_registry_has_lost_goes_whole_though_the_slice_is_over() {
    let (scene, (bundle, layer)) = (scene(), bundle());
    let work = scene.put_bundle(&bundle).await;
    let (registry, lost) = (scene.registry.clone(), layer.digest.clone());
    scene.registry.inject(move |operation, count| {
        if operation == Operation::PutManifest && count == 1 {
            for repository in ["a", "b"] {
                registry.remove(&repo(repository), &lost);
            }
        }
        None
    });
    let (done, _) = to_the_end(&scene, work, async |_| {}).await;
    assert_eq!(done.counters.artifacts_moved, 2);
    assert_eq!(scene.registry.open_sessions(), 0);
    for repository in ["a", "b"] {
        assert!(scene.registry.blob_bytes(&repo(repository), &layer.digest).is_some(), "{repository}");
    }
}

#[tokio::test]
async fn uploads_that_no_message_holds_are_given_up() {
    let mut scene = scene();
    scene.settings.parallel_blobs = 40;
    let mut bundle = BundleBuilder::default();
    let layers: Vec<Item> = (0..40).map(|n| bundle.layer(&vec![n; MIB + 1])).collect();
    let image = bundle.image("image", &layers);
    bundle.artifact("a:1", &image);
    let work = scene.put_bundle(&bundle).await;
    let Outcome::Continue { rest } = scene.handle(&work).await.unwrap() else { panic!("not over") };
    let begun = scene.registry.count(Operation::BeginUpload);
    assert_eq!(begun, 40);
    let given_up = scene.registry.count(Operation::CancelUpload);
    assert!(given_up > 0 && scene.registry.open_sessions() as u64 == begun - given_up, "{given_up}");
    let (done, _) = to_the_end(&scene, rest, async |_| {}).await;
    assert_eq!(done.counters.artifacts_moved, 1);
    assert_eq!(scene.registry.open_sessions(), 0);
}

#[tokio::test]
async fn an_upload_that_broke_between_pieces_begins_anew_and_is_counted_once() {
    let mut scene = scene();
    scene.slice = Duration::from_secs(600);
    scene.registry.inject(|operation, count| {
        let broken = operation == Operation::ContinueUpload && count == 2;
        broken.then(|| RegistryError::Unavailable {
            host: "registry.example".to_owned(),
            operation: "upload: continue".to_owned(),
            reason: "it went away".to_owned(),
            retry_after: None,
        })
    });
    let (bundle, _) = bundle();
    assert_eq!(scene.import(&bundle).await.unwrap().counters.bytes_moved, bundle.bytes());
    assert_eq!(scene.registry.count(Operation::BeginUpload), 2);
    assert_eq!(scene.registry.open_sessions(), 0);
}

#[tokio::test]
async fn an_upload_that_outlasts_its_slice_and_fails_names_the_brokers_consumer_timeout() {
    for (with_key, expected) in [(true, "takes no uploads in pieces"), (false, "seal_key_secret")] {
        let mut scene = scene();
        if !with_key {
            scene.settings.seal_key_secret = None;
        }
        scene.registry.inject(|operation, _| match operation {
            Operation::ContinueUpload => Some(refused("continue", "416 RANGE_INVALID")),
            Operation::Upload => Some(refused("finish", "500 UNKNOWN")),
            _ => None,
        });
        let work = scene.put_bundle(&bundle().0).await;
        let hint = scene.handle(&work).await.unwrap_err().hint.unwrap();
        assert!(hint.contains("consumer_timeout") && hint.contains(expected), "{hint}");
    }
}

#[tokio::test]
async fn bytes_that_are_wrong_are_found_though_every_slice_saw_only_some_of_them() {
    let (scene, (mut bundle, layer)) = (scene(), bundle());
    let bytes = bundle.blobs.get_mut(&layer.digest).unwrap();
    bytes[100] ^= 1;
    let mut work = scene.put_bundle(&bundle).await;
    let failure = loop {
        match scene.handle(&work).await {
            Ok(Outcome::Continue { rest }) => work = rest,
            Ok(outcome) => panic!("it was imported: {outcome:?}"),
            Err(failure) => break failure,
        }
    };
    assert!(work.slice >= 5, "{}", work.slice);
    assert_eq!((failure.code, failure.class), (Code::DigestMismatch, Class::Permanent));
    assert!(failure.message.contains(&layer.digest.to_string()), "{failure}");
    assert_eq!(scene.registry.blob_bytes(&repo("a"), &layer.digest), None);
    assert_eq!(scene.registry.open_sessions(), 0);
}

#[tokio::test]
async fn a_key_that_is_none_waits_for_a_person() {
    let scene = scene().with_seal_key("CANARY-not-a-key");
    let work = scene.put_bundle(&bundle().0).await;
    let failure = scene.handle(&work).await.unwrap_err();
    assert_eq!((failure.code, failure.class), (Code::ConfigurationInvalid, Class::Parked));
    assert!(failure.message.contains("seal") && !format!("{failure:?}").contains("CANARY"));
    assert!(failure.hint.unwrap().contains("openssl rand"));
    assert_eq!(scene.registry.count(Operation::BeginUpload), 0);
    let mut scene = scene;
    scene.secrets = Default::default();
    assert_eq!(scene.handle(&work).await.unwrap_err().class, Class::Parked);
}
