//! Attempts that die, and what the next one makes of what they left.

use transship_bundle::{BlockIdentity, ChainedHash, Segment};
use transship_model::*;
use transship_registry::{Operation as Call, RegistryError};
use transship_storage::{BlockId, Operation, ReadContainer, WriteContainer};

use crate::support::*;

#[tokio::test]
async fn after_a_failure_at_any_call_the_next_attempt_ends_the_same_and_repeats_a_block_a_stream_at_most() {
    let uninterrupted = World::new();
    prepare(&uninterrupted);
    uninterrupted.export(&uninterrupted.work(&["a:1", "b:1"])).await.unwrap();
    let (expected, staged) =
        (uninterrupted.container.content(&blob_name()), uninterrupted.container.staged_count());
    for operation in [Operation::Properties, Operation::StagedBlocks, Operation::Stage, Operation::Commit] {
        for nth in 1..=uninterrupted.container.calls(operation) {
            let world = World::new();
            prepare(&world);
            fail_nth(&world, operation, nth);
            let failure = world.export(&world.work(&["a:1", "b:1"])).await.unwrap_err();
            assert!(matches!(failure.class, Class::Transient { .. }), "{operation:?} {nth}: {failure}");
            world.export(&world.work(&["a:1", "b:1"])).await.unwrap();
            assert_eq!(world.container.content(&blob_name()), expected, "{operation:?} {nth}");
            // Two large blobs and one group were in flight.
            assert!(world.container.staged_count() <= staged + 2, "{operation:?} {nth}");
        }
    }
}

/// Stages what an attempt left behind that died: blocks of the large blob, by their index; `damaged` ones with other
/// bytes.
async fn leave_behind(world: &World, large: &[(BlockId, bytes::Bytes)], staged: &[usize], damaged: &[usize]) {
    for index in staged {
        let (id, mut bytes) = large[*index].clone();
        if damaged.contains(index) {
            bytes = vec![0; bytes.len()].into();
        }
        world.container.stage(&blob_name(), &id, bytes).await.unwrap();
    }
}

/// How many blocks the next attempt stages, whose bundle must be the expected one.
async fn staged_by_next(world: &World, expected: &bytes::Bytes) -> usize {
    let before = world.container.staged_count();
    world.export(&world.work(&["a:1"])).await.unwrap();
    assert!(world.container.content(&blob_name()).unwrap() == *expected, "{before} blocks were left behind");
    (world.container.staged_count() - before) as usize
}

/// The blocks of a large blob in a committed bundle, and how many others there are.
async fn blocks_of(world: &World, digest: &Digest) -> (Vec<(BlockId, bytes::Bytes)>, usize) {
    let content = world.container.content(&blob_name()).unwrap();
    let owner = BlockIdentity::of_blob(digest, 0, [0; 32]).owner;
    let (mut large, mut others, mut at) = (Vec::new(), 0, 0);
    for block in world.container.committed_blocks(&blob_name()).await.unwrap() {
        let bytes = content.slice(at..at + block.length as usize);
        at += bytes.len();
        match BlockIdentity::parse(block.id.as_bytes()) {
            Some(identity) if identity.owner == owner => large.push((block.id, bytes)),
            _ => others += 1,
        }
    }
    (large, others)
}

#[tokio::test]
async fn whatever_gaps_an_attempt_left_one_block_of_a_blob_at_most_is_staged_again() {
    let uninterrupted = World::new();
    let prepare = |world: &World| drop(world.image("a", Some("1"), &[60 * MIB]));
    prepare(&uninterrupted);
    uninterrupted.export(&uninterrupted.work(&["a:1"])).await.unwrap();
    let expected = uninterrupted.container.content(&blob_name()).unwrap();
    let digest = Digest::sha256(&content(&format!("layer {}", 60 * MIB), 60 * MIB));
    let (large, others) = blocks_of(&uninterrupted, &digest).await;
    assert_eq!(large.len(), 8);
    for (staged, damaged, repeated) in [
        (&[][..], &[][..], 0),
        (&[0, 1, 2], &[2], 1),
        (&[0, 1, 2, 4], &[4], 1),
        (&[0, 2, 4, 6], &[6], 1),
        (&[1, 3], &[3], 1),
        (&[5], &[5], 1),
        (&[0, 1, 2, 3, 4, 5, 6, 7], &[], 0),
    ] {
        let world = World::new();
        prepare(&world);
        leave_behind(&world, &large, staged, damaged).await;
        let now = staged_by_next(&world, &expected).await;
        assert_eq!(now, others + large.len() - staged.len() + repeated, "{staged:?}");
    }
}

#[tokio::test]
async fn a_block_that_was_read_wrongly_is_replaced_whatever_was_staged_after_it() {
    let reference = World::new();
    reference.image("a", Some("1"), &[40 * MIB]);
    reference.export(&reference.work(&["a:1"])).await.unwrap();
    let expected = reference.container.content(&blob_name()).unwrap();
    let layer = content(&format!("layer {}", 40 * MIB), 40 * MIB);
    let digest = Digest::sha256(&layer);
    let segment = Segment::new(&digest, layer.len() as u64);
    for (wrong, gap) in [(0, None), (1, None), (1, Some(2)), (2, Some(3))] {
        let world = World::new();
        world.image("a", Some("1"), &[40 * MIB]);
        // What an attempt stages whose read of one block went wrong: the chain of all later ones is another.
        let mut hash = ChainedHash::new(Algorithm::Sha256);
        for index in 0..segment.block_count() - 1 {
            let block = segment.block(index);
            let id = BlockIdentity::of_blob(&digest, index, hash.value()).to_bytes();
            let mut bytes = layer[block.range.start as usize..block.range.end as usize].to_vec();
            if index == wrong {
                bytes[100] ^= 1;
            }
            hash.update(&bytes);
            if gap != Some(index) {
                let staged = [block.before.to_vec(), bytes, vec![0; block.after]].concat();
                world.container.stage(&blob_name(), &BlockId::new(id), staged.into()).await.unwrap();
            }
        }
        world.export(&world.work(&["a:1"])).await.unwrap();
        assert!(world.container.content(&blob_name()).unwrap() == expected, "{wrong} {gap:?}");
    }
}

#[tokio::test]
async fn after_a_failure_of_the_registry_at_any_call_the_next_attempt_ends_the_same() {
    let uninterrupted = World::new();
    prepare(&uninterrupted);
    uninterrupted.export(&uninterrupted.work(&["a:1", "b:1"])).await.unwrap();
    let expected = uninterrupted.container.content(&blob_name());
    for call in [Call::Manifest, Call::Tags, Call::Referrers, Call::Blob, Call::BlobLength] {
        for nth in 1..=uninterrupted.registry.count(call) {
            let world = World::new();
            prepare(&world);
            world.registry.inject(move |called, count| {
                (called == call && count == nth).then(|| RegistryError::Unavailable {
                    host: "source.example".into(),
                    operation: "GET".into(),
                    reason: "outage".into(),
                    retry_after: None,
                })
            });
            // What the verb can take up again by itself, it does.
            if let Err(failure) = world.export(&world.work(&["a:1", "b:1"])).await {
                assert!(matches!(failure.class, Class::Transient { .. }), "{call:?} {nth}: {failure}");
                world.export(&world.work(&["a:1", "b:1"])).await.unwrap();
            }
            assert_eq!(world.container.content(&blob_name()), expected, "{call:?} {nth}");
        }
    }
}

#[tokio::test]
async fn a_blob_with_another_digest_than_sha_256_is_read_once_and_its_last_block_staged_again() {
    let size = 30 * MIB;
    let uninterrupted = World::new();
    let digest = uninterrupted.image_of_sha512("a", "1", size);
    uninterrupted.export(&uninterrupted.work(&["a:1"])).await.unwrap();
    let expected = uninterrupted.container.content(&blob_name()).unwrap();
    let (large, others) = blocks_of(&uninterrupted, &digest).await;
    assert_eq!(large.len(), 4);
    for (staged, damaged, repeated) in [
        (&[][..], &[][..], 0),
        (&[0, 1, 2], &[2], 1),
        (&[0, 1], &[1], 1),
        (&[0, 2], &[0, 2], 2),
        (&[0, 1, 2, 3], &[], 0),
    ] {
        let world = World::new();
        world.image_of_sha512("a", "1", size);
        leave_behind(&world, &large, staged, damaged).await;
        let now = staged_by_next(&world, &expected).await;
        assert_eq!(now, others + large.len() - staged.len() + repeated, "{staged:?}");
        let read = if staged.len() == large.len() { 0 } else { size as u64 };
        assert_eq!(world.registry.bytes_read(), 200 + read, "{staged:?}");
    }
}

#[tokio::test]
async fn a_run_that_replaces_its_own_bundle_moves_nothing_that_is_in_it() {
    let world = World::new();
    prepare(&world);
    let mut work = world.work(&["a:1", "b:1"]);
    world.export(&work).await.unwrap();
    let (read, staged) = (world.registry.bytes_read(), world.container.staged_count());
    work.execution.generation += 1;
    let outcome = world.export(&work).await.unwrap();
    world.verified().await;
    assert_eq!(world.registry.bytes_read(), read);
    // The head, whose bill names the new generation.
    assert_eq!(world.container.staged_count(), staged + 1);
    assert_eq!(exported(&outcome).0.bytes_moved, 0);
}

#[tokio::test]
async fn a_registry_that_asks_for_a_pause_is_asked_no_more() {
    let world = World::new();
    world.image("a", Some("1"), &[30 * MIB]);
    let pause = Some(std::time::Duration::from_secs(60));
    world.registry.inject(move |called, _| {
        (called == Call::Blob).then(|| RegistryError::Unavailable {
            host: "source.example".into(),
            operation: "GET".into(),
            reason: "it answered 429".into(),
            retry_after: pause,
        })
    });
    let failure = world.export(&world.work(&["a:1"])).await.unwrap_err();
    assert_eq!(failure.class, Class::Transient { retry_after: pause });
    // Those that were under way: three ranges of the layer, and the config.
    assert!(world.registry.count(Call::Blob) <= 4);
}
