//! Slices that end before the work does.

use std::sync::Arc;
use std::time::Duration;

use transship_registry::MemoryRegistry;
use transship_stage::{Outcome, Verb};

use crate::streamed::Streamed;
use crate::support::*;

/// Slices without any time, until the export is done. Returns its outcome, and how many there were before.
async fn sliced(world: &World, kind: &str) -> (Outcome<transship_messages::ExportPart>, u32) {
    let mut work = world.work(&["a:1"]);
    loop {
        match world.exporter.handle(&work, &context(Duration::ZERO)).await.unwrap() {
            Outcome::Continue { rest } => {
                assert_eq!(rest.slice, work.slice + 1);
                assert!(rest.slice < 40, "every slice makes progress: {kind}");
                work = rest;
            }
            done => return (done, work.slice),
        }
    }
}

#[tokio::test]
async fn slices_without_time_come_to_an_end_and_carry_the_counters() {
    for kind in ["ranges", "another digest", "one stream", "groups"] {
        let registry = MemoryRegistry::new("source.example");
        let world = match kind {
            "one stream" => World::reading(registry.clone(), Arc::new(Streamed::new(&registry))),
            _ => World::of(registry),
        };
        match kind {
            "another digest" => drop(world.image_of_sha512("a", "1", 50 * MIB)),
            "groups" => {
                let small: Vec<usize> = (0..20).map(|i| 2 * MIB - 1 - i).collect();
                world.image("a", Some("1"), &small);
            }
            _ => drop(world.image("a", Some("1"), &[60 * MIB])),
        }
        let (outcome, slices) = sliced(&world, kind).await;
        assert!(slices > 0, "{kind}");
        world.verified().await;
        let (counters, _) = exported(&outcome);
        assert_eq!(counters.bytes_discovered, counters.bytes_moved + counters.bytes_skipped, "{kind}");
        assert_eq!(counters.bytes_skipped, 0, "{kind}");
    }
}

#[tokio::test]
async fn a_slice_without_time_that_finds_everything_staged_commits() {
    let world = World::new();
    prepare(&world);
    world.container.fail_next(transship_storage::Operation::Commit, outage(&world));
    let work = world.work(&["a:1", "b:1"]);
    world.export(&work).await.unwrap_err();
    let outcome = world.exporter.handle(&work, &context(Duration::ZERO)).await.unwrap();
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    world.verified().await;
}
