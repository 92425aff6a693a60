//! Descriptors with wrong sizes: the digest is what counts.

use serde_json::json;
use transship_bundle::Location;
use transship_model::*;
use transship_storage::{Operation, ReadContainer};

use crate::support::*;

/// An image whose layers are declared with other sizes than they have.
fn image(world: &World, layers: &[(u64, usize)]) {
    let config = world.blob("a", content("config", 200), "application/x");
    let layer = |(declared, actual): &(u64, usize)| {
        let mut layer = world.blob("a", content(&format!("layer {actual}"), *actual), "application/x");
        layer["size"] = (*declared).into();
        layer
    };
    let layers: Vec<_> = layers.iter().map(layer).collect();
    world.put("a", Some("1"), &json!({"schemaVersion": 2, "config": config, "layers": layers}));
}

#[tokio::test]
async fn an_export_that_is_taken_up_again_carries_the_sizes_that_blobs_have() {
    // All of them take one record of a tar.
    for (declared, actual) in [(100, 120), (120, 100), (0, 1), (300, 300)] {
        let world = World::new();
        image(&world, &[(declared, actual)]);
        world.container.fail_next(Operation::Commit, outage(&world));
        world.export(&world.work(&["a:1"])).await.unwrap_err();
        world.export(&world.work(&["a:1"])).await.unwrap();
        let catalog = world.verified().await;
        let digest = Digest::sha256(&content(&format!("layer {actual}"), actual));
        let Location::Stored { size, .. } = catalog.locations[&digest] else { panic!("it is there") };
        assert_eq!(size, actual as u64, "{declared}");
    }
}

#[tokio::test]
async fn a_group_never_takes_more_memory_than_its_members_declare() {
    let world = World::new();
    let actual: Vec<usize> = (0..10).map(|i| MIB + i).collect();
    image(&world, &actual.iter().map(|actual| (10, *actual)).collect::<Vec<_>>());
    world.export(&world.work(&["a:1"])).await.unwrap();
    world.verified().await;
    let blocks = world.container.committed_blocks(&blob_name()).await.unwrap();
    let large: Vec<u64> =
        blocks.iter().map(|block| block.length).filter(|length| *length > 500_000).collect();
    assert_eq!(large.len(), actual.len(), "each has a block of its own: {large:?}");
}

#[tokio::test]
async fn a_bundle_of_more_blocks_than_a_blob_has_is_refused_before_anything_moves() {
    let world = World::new();
    image(&world, &[(300 << 30, 11), (300 << 30, 12)]);
    let failure = world.export(&world.work(&["a:1"])).await.unwrap_err();
    assert_eq!((failure.class, failure.code), (Class::Permanent, Code::LimitExceeded));
    assert!(failure.message.contains("50000") && failure.hint.unwrap().contains("split"));
    assert_eq!(world.registry.bytes_read(), 0);
}
