//! The leg where the target's service reads the source itself, and the way back to streaming.
#![allow(clippy::result_large_err, reason = "what an observer returns is the error of the port")]

mod fixture;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fixture::*;
use transship_blob_copier::CopySettings;
use transship_messages::{CopyMode, CopyRequested};
use transship_model::{Class, Code};
use transship_storage::{
    Condition, MemoryContainer, Operation, ReadContainer as _, StorageError, WriteContainer as _,
};

const BLOCKS: [(u8, usize); 6] = [(1, 1000), (2, 2000), (3, 3000), (4, 4000), (5, 5000), (6, 1024)];
const LENGTH: u64 = 16_024;

fn cannot(container: &MemoryContainer) -> StorageError {
    StorageError::CopyUnsupported {
        container: container.url().clone(),
        code: "CannotVerifyCopySource".into(),
    }
}

/// Lets the service copy `works` blocks, and no more.
fn copies(container: &MemoryContainer, works: u64) {
    let (calls, target) = (AtomicU64::new(0), container.clone());
    container.observe(move |operation, _| {
        let is_refused = operation == Operation::StageFrom && calls.fetch_add(1, Ordering::SeqCst) >= works;
        if is_refused { Err(cannot(&target)) } else { Ok(()) }
    });
}

#[tokio::test]
async fn a_service_that_no_credential_opens_is_given_no_address_of_the_source() {
    let fixture = Fixture::new(CopySettings::default());
    fixture.target.can_copy_from(&fixture.source);
    let mut work = fixture.bundle(&BLOCKS).await;
    work.route.target_secret = None;
    let copied = fixture.copied(&work).await;
    fixture.assert_same().await;
    assert_eq!(copied.mode, CopyMode::Streamed);
    assert_eq!(fixture.target.calls(Operation::StageFrom), 0, "the address holds the token of the source");
}

/// Another bundle in the source container.
async fn another(fixture: &Fixture, work: &CopyRequested, blob: &str) -> CopyRequested {
    let blob = blob.parse().unwrap();
    fixture.source.stage(&blob, &id(1), content(1, 1000)).await.unwrap();
    let metadata = metadata_of(&work.execution);
    let etag = fixture.source.commit(&blob, &[id(1)], &metadata, &Condition::Absent).await.unwrap();
    CopyRequested { blob, etag: etag.0, length: 1000, ..work.clone() }
}

#[tokio::test]
async fn where_the_service_can_copy_no_byte_comes_through_the_copier() {
    let mut fixture = Fixture::new(CopySettings::default());
    // Not even a block that would not fit into memory.
    fixture.budget = transship_stage::ByteBudget::new(1000);
    fixture.target.can_copy_from(&fixture.source);
    let work = fixture.bundle(&BLOCKS).await;
    let copied = fixture.copied(&work).await;
    fixture.assert_same().await;
    assert_eq!((copied.mode, bytes(&copied)), (CopyMode::ServerSide, (LENGTH, 0)));
    assert_eq!((fixture.source.calls(Operation::Read), fixture.target.calls(Operation::Stage)), (0, 0));
    assert_eq!(fixture.target.calls(Operation::StageFrom), BLOCKS.len() as u64);
    let text = fixture.metrics.render();
    assert!(text.contains("transship_copy_mode_total{mode=\"server_side\"} 1"), "{text}");
    assert!(text.contains("direction=\"read\",stage=\"blob-copier\"} 0"), "{text}");
}

#[tokio::test]
async fn a_service_that_stops_copying_half_way_is_followed_by_streaming() {
    for works in 0..BLOCKS.len() as u64 {
        let fixture = Fixture::new(CopySettings::default());
        fixture.target.can_copy_from(&fixture.source);
        copies(&fixture.target, works);
        let work = fixture.bundle(&BLOCKS).await;
        let copied = fixture.copied(&work).await;
        fixture.assert_same().await;
        assert_eq!((copied.mode, bytes(&copied)), (CopyMode::Streamed, (LENGTH, 0)), "{works}");
        assert_eq!(fixture.target.staged_count(), BLOCKS.len() as u64, "{works}: each block once");
        assert_eq!(fixture.target.calls(Operation::Stage), BLOCKS.len() as u64 - works, "{works}");
    }
}

#[tokio::test]
async fn one_block_is_enough_to_learn_that_the_service_cannot() {
    let fixture = Fixture::new(CopySettings::default());
    let work = fixture.bundle(&BLOCKS).await;
    fixture.copied(&work).await;
    assert_eq!(fixture.target.calls(Operation::StageFrom), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_pair_of_services_cannot_do_is_remembered_for_an_hour() {
    let fixture = Fixture::new(CopySettings::default());
    let work = fixture.bundle(&BLOCKS).await;
    fixture.copied(&work).await;
    let (second, third) = (another(&fixture, &work, "second").await, another(&fixture, &work, "third").await);
    assert_eq!(fixture.copied(&second).await.mode, CopyMode::Streamed);
    assert_eq!(fixture.target.calls(Operation::StageFrom), 1, "not asked again");
    tokio::time::advance(Duration::from_secs(3600)).await;
    fixture.target.can_copy_from(&fixture.source);
    assert_eq!(fixture.copied(&third).await.mode, CopyMode::ServerSide);
    assert_eq!(fixture.target.calls(Operation::StageFrom), 2);
}

#[tokio::test]
async fn a_refusal_because_of_the_sources_token_is_not_held_against_the_services() {
    let fixture = Fixture::new(CopySettings::default());
    let work = fixture.bundle(&BLOCKS).await;
    // The target's service says that it cannot verify the source, as the token has expired meanwhile.
    let expired_at = "2026-11-22T10:00:00Z".to_owned();
    let expired = StorageError::SasExpired { container: work.route.source.clone(), expired_at };
    fixture.source.fail_next(Operation::Read, expired);
    let failure = fixture.copy(&work).await.unwrap_err();
    assert_eq!((failure.class, failure.code), (Class::Parked, Code::SasExpired));
    assert!(failure.message.starts_with("read team/nightly in the source container"), "{failure}");
    assert!(failure.message.contains("2026-11-22T10:00:00Z"), "{failure}");

    fixture.target.can_copy_from(&fixture.source);
    assert_eq!(fixture.copied(&work).await.mode, CopyMode::ServerSide);
}

#[tokio::test]
async fn a_source_that_is_overwritten_while_the_service_copies_leaves_nothing_at_the_target() {
    let fixture = Fixture::new(CopySettings::default());
    fixture.target.can_copy_from(&fixture.source);
    let work = fixture.bundle(&BLOCKS).await;
    let (calls, source) = (AtomicU64::new(0), fixture.source.clone());
    fixture.target.observe(move |operation, _| {
        if operation == Operation::StageFrom && calls.fetch_add(1, Ordering::SeqCst) == 2 {
            source.put(&name(), content(9, LENGTH as usize));
        }
        Ok(())
    });
    let failure = fixture.copy(&work).await.unwrap_err();
    assert_eq!((failure.class, failure.code), (Class::Permanent, Code::SourceChanged));
    assert!(fixture.target.content(&name()).is_none());
}

#[tokio::test]
async fn a_source_address_that_is_too_long_for_the_service_is_streamed() {
    let fixture = Fixture::new(CopySettings::default());
    fixture.target.can_copy_from(&fixture.source);
    let work = fixture.bundle(&BLOCKS).await;
    let long = another(&fixture, &work, &["x".repeat(1000), "y".repeat(23)].join("/")).await;
    assert_eq!(fixture.copied(&long).await.mode, CopyMode::ServerSide, "the twin does not escape");
    let long = another(&fixture, &work, &"ü".repeat(1024)).await;
    assert_eq!(fixture.copied(&long).await.mode, CopyMode::Streamed);
}
