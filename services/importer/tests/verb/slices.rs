use std::time::Duration;

use transship_model::Counters;
use transship_stage::Outcome;

use crate::scene::bundle::BundleBuilder;
use crate::scene::{Scene, done};

fn layers(count: usize) -> BundleBuilder {
    let mut bundle = BundleBuilder::default();
    // Each larger than what is moved by stretches.
    let layers: Vec<_> = (0..count).map(|n| bundle.layer(&vec![n as u8; (1 << 20) + n + 1])).collect();
    let image = bundle.image("image", &layers);
    bundle.artifact("a:1", &image);
    bundle
}

#[tokio::test]
async fn a_slice_ends_at_a_blob_and_the_next_one_goes_on_with_its_counters() {
    let mut scene = Scene::new();
    scene.slice = Duration::ZERO;
    scene.settings.parallel_blobs = 1;
    let bundle = layers(5);
    let mut work = scene.put_bundle(&bundle).await;
    let mut carried = Counters::default();
    let done = loop {
        match scene.handle(&work).await.unwrap() {
            Outcome::Continue { rest } => {
                assert!(!scene.shows_a_tag(), "nothing is visible before the end");
                assert_eq!(rest.slice, work.slice + 1);
                assert!(rest.carried.bytes_moved > carried.bytes_moved, "every slice gets further");
                carried = rest.carried;
                work = rest;
            }
            outcome => break done(outcome),
        }
    };
    assert_eq!(work.slice, 5, "five layers and the small rest, one a slice, and the last slice ends it");
    assert_eq!(done.counters.bytes_moved, bundle.bytes(), "what the slices moved is counted once");
    assert_eq!(done.counters.bytes_skipped, 0);
    assert_eq!(done.counters.blobs_moved, 7);
    assert!(scene.tagged("a", "1").is_some());
}

#[tokio::test]
async fn a_slice_that_is_delivered_twice_ends_in_the_same_state() {
    let mut scene = Scene::new();
    scene.slice = Duration::ZERO;
    scene.settings.parallel_blobs = 2;
    let bundle = layers(4);
    let work = scene.put_bundle(&bundle).await;
    let first = scene.handle(&work).await.unwrap();
    let again = scene.handle(&work).await.unwrap();
    assert!(matches!((&first, &again), (Outcome::Continue { .. }, Outcome::Continue { .. })));
    scene.slice = Duration::from_secs(600);
    let Outcome::Continue { rest } = first else { panic!() };
    let done = done(scene.handle(&rest).await.unwrap());
    assert_eq!(done.counters.artifacts_moved, 1);
}
