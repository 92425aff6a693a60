//! The verb with containers in memory: what arrives, and what does not.
#![allow(clippy::result_large_err, reason = "what an observer returns is the error of the port")]

mod fixture;

use std::time::Duration;

use fixture::*;
use transship_blob_copier::CopySettings;
use transship_bundle::{announce, announced_to};
use transship_messages::CopyMode;
use transship_model::{Class, Code};
use transship_stage::{ByteBudget, FollowUp, Outcome};
use transship_storage::{Condition, Operation, ReadContainer as _, WriteContainer as _};

const BLOCKS: [(u8, usize); 4] = [(1, MIB), (2, 5000), (3, 1), (4, 1024)];
const LENGTH: u64 = MIB as u64 + 5000 + 1 + 1024;

#[tokio::test]
async fn the_copy_has_the_bytes_the_blocks_and_the_metadata_of_the_source() {
    let fixture = Fixture::new(CopySettings::default());
    let work = fixture.bundle(&BLOCKS).await;
    let copied = fixture.copied(&work).await;
    fixture.assert_same().await;
    assert_eq!((copied.mode, bytes(&copied)), (CopyMode::Streamed, (LENGTH, 0)));
    assert_eq!((copied.counters.artifacts_discovered, copied.counters.artifacts_moved), (3, 3));
    assert_eq!(copied.etag, fixture.target.properties(&name()).await.unwrap().unwrap().etag.0);
    let text = fixture.metrics.render();
    assert!(text.contains("transship_copy_mode_total{mode=\"streamed\"} 1"), "{text}");
    assert!(text.contains(&format!("direction=\"written\",stage=\"blob-copier\"}} {LENGTH}")), "{text}");
    assert_eq!(fixture.budget.used(), 0);
}

#[tokio::test]
async fn the_import_pipeline_of_the_route_is_started_with_the_new_entity_tag() {
    let fixture = Fixture::new(CopySettings::default());
    let mut work = fixture.bundle(&BLOCKS).await;
    let copied = fixture.copied(&work).await;
    let [FollowUp::Import(import)] = copied.next.as_slice() else { panic!("{:?}", copied.next) };
    assert_eq!((&import.execution, import.part, &import.blob), (&work.execution, work.part, &name()));
    assert_eq!((&import.container, import.etag.as_ref()), (&work.route.target, Some(&copied.etag)));
    assert_ne!(import.etag.as_ref(), Some(&work.etag));
    assert_eq!(import.catalog_digest.as_ref(), Some(&work.catalog_digest), "another bundle is refused");
    assert_eq!(import.pipeline.as_str(), "import-b");

    work.route.import_pipeline = None;
    assert!(fixture.copied(&work).await.next.is_empty());
}

#[tokio::test]
async fn the_copy_names_the_pipeline_that_it_is_announced_to_and_no_other_one() {
    for pipeline in [Some("import-b".parse().unwrap()), None] {
        let fixture = Fixture::new(CopySettings::default());
        // The source may itself be a copy that was announced to somebody over there.
        let mut metadata = metadata_of(&execution("run", 5));
        announce(&mut metadata, Some(&"over-there".parse().unwrap()));
        fixture.source.stage(&name(), &id(1), content(1, MIB)).await.unwrap();
        let committed = fixture.source.commit(&name(), &[id(1)], &metadata, &Condition::Absent).await;
        let mut work = work(fixture.source.url(), fixture.target.url(), &committed.unwrap(), MIB as u64);
        work.route.import_pipeline = pipeline.clone();
        fixture.copied(&work).await;
        let metadata = fixture.target.properties(&name()).await.unwrap().unwrap().metadata;
        assert_eq!(announced_to(&metadata), pipeline);
    }
}

#[tokio::test]
async fn a_bundle_that_is_there_is_reported_again_and_not_read() {
    let fixture = Fixture::new(CopySettings::default());
    let work = fixture.bundle(&BLOCKS).await;
    let first = fixture.copied(&work).await;
    let reads = fixture.source.calls(Operation::Read);
    // The source may be gone by then: who cleans up does not wait for a repetition.
    fixture.source.remove();
    let again = fixture.copied(&work).await;
    assert_eq!((again.mode, bytes(&again)), (CopyMode::Present, (0, LENGTH)));
    assert_eq!((&again.etag, &again.next), (&first.etag, &first.next));
    assert_eq!((again.counters.artifacts_skipped, again.counters.artifacts_moved), (3, 0));
    assert_eq!(fixture.source.calls(Operation::Read), reads);
}

#[tokio::test]
async fn a_part_of_the_bundle_that_somebody_brought_is_replaced() {
    let fixture = Fixture::new(CopySettings::default());
    let work = fixture.bundle(&BLOCKS).await;
    write_bundle(&fixture.target, &work.execution, &BLOCKS[..2], Condition::Absent).await;
    let copied = fixture.copied(&work).await;
    fixture.assert_same().await;
    assert_eq!(bytes(&copied), (1025, LENGTH - 1025), "its blocks are those of the bundle");
}

#[tokio::test]
async fn a_blob_of_another_execution_stays_unless_the_route_overwrites() {
    let fixture = Fixture::new(CopySettings::default());
    let mut work = fixture.bundle(&BLOCKS).await;
    write_bundle(&fixture.target, &execution("other", 1), &[(9, 10)], Condition::Absent).await;
    let failure = fixture.copy(&work).await.unwrap_err();
    assert_eq!((failure.class, failure.code), (Class::Permanent, Code::BlobExists));
    assert!(failure.message.contains("target container https://target.blob.example/bundles"), "{failure}");
    assert!(
        failure.message.contains("team/nightly") && failure.message.contains("execution other"),
        "{failure}"
    );
    assert!(failure.hint.unwrap().contains("OverwriteBlobs"));
    assert_eq!(fixture.source.calls(Operation::Properties), 0, "the target is asked first");
    assert_eq!(fixture.target.content(&name()).unwrap(), content(9, 10));

    work.route.overwrite = true;
    fixture.copied(&work).await;
    fixture.assert_same().await;
}

#[tokio::test]
async fn a_newer_execution_at_the_target_is_left_alone() {
    let fixture = Fixture::new(CopySettings::default());
    let work = fixture.bundle(&BLOCKS).await;
    write_bundle(&fixture.target, &execution("run", 6), &[(9, 10)], Condition::Absent).await;
    assert_eq!(fixture.copy(&work).await, Ok(Outcome::Superseded));
    assert_eq!(fixture.target.content(&name()).unwrap(), content(9, 10));
}

#[tokio::test]
async fn an_older_generation_is_replaced_and_its_equal_blocks_do_not_move_again() {
    let fixture = Fixture::new(CopySettings::default());
    let work = fixture.bundle(&BLOCKS).await;
    write_bundle(&fixture.target, &execution("run", 4), &[(1, MIB), (9, 10), (4, 1024)], Condition::Absent)
        .await;
    let staged = fixture.target.staged_count();
    let copied = fixture.copied(&work).await;
    fixture.assert_same().await;
    assert_eq!(fixture.target.staged_count() - staged, 2);
    assert_eq!(bytes(&copied), (5001, MIB as u64 + 1024));
}

#[tokio::test]
async fn a_source_that_is_missing_or_another_one_is_an_error_that_says_so() {
    let fixture = Fixture::new(CopySettings::default());
    let mut work = fixture.bundle(&BLOCKS).await;
    work.etag = "\"another\"".into();
    let failure = fixture.copy(&work).await.unwrap_err();
    assert_eq!((failure.class, failure.code), (Class::Permanent, Code::SourceChanged));
    assert!(failure.message.contains("source container https://source.blob.example/bundles"), "{failure}");
    assert!(failure.message.contains("\"another\""), "{failure}");

    work.blob = "gone".parse().unwrap();
    let failure = fixture.copy(&work).await.unwrap_err();
    assert_eq!((failure.class, failure.code), (Class::Permanent, Code::BlobNotFound));
    assert!(failure.message.contains("source container") && failure.message.contains("gone"), "{failure}");
    assert_eq!(fixture.target.staged_count(), 0);
}

#[tokio::test]
async fn a_newer_execution_at_the_source_takes_over() {
    let fixture = Fixture::new(CopySettings::default());
    let work = fixture.bundle(&BLOCKS).await;
    let old = fixture.source.properties(&name()).await.unwrap().unwrap().etag;
    write_bundle(&fixture.source, &execution("run", 6), &[(9, 10)], Condition::Matches(old)).await;
    assert_eq!(fixture.copy(&work).await, Ok(Outcome::Superseded));
    assert!(fixture.target.content(&name()).is_none());
}

#[tokio::test]
async fn a_blob_of_zero_bytes_is_copied() {
    let fixture = Fixture::new(CopySettings::default());
    let work = fixture.bundle(&[]).await;
    let copied = fixture.copied(&work).await;
    fixture.assert_same().await;
    assert_eq!((bytes(&copied), copied.counters.artifacts_moved), ((0, 0), 3));
    assert!(fixture.target.content(&name()).unwrap().is_empty());
    assert_eq!(fixture.copied(&work).await.mode, CopyMode::Present);
}

#[tokio::test]
async fn a_blob_without_blocks_is_cut_and_its_copy_knows_whose_it_is() {
    let fixture = Fixture::new(CopySettings::default());
    let whole = content(1, 20 * MIB + 7);
    fixture.source.put(&name(), whole.clone());
    let etag = fixture.source.properties(&name()).await.unwrap().unwrap().etag;
    let work = work(fixture.source.url(), fixture.target.url(), &etag, whole.len() as u64);
    let copied = fixture.copied(&work).await;
    assert_eq!(bytes(&copied), (whole.len() as u64, 0));
    assert_eq!(fixture.target.content(&name()).unwrap(), whole);
    let blocks = fixture.target.committed_blocks(&name()).await.unwrap();
    assert_eq!(lengths(&blocks), [8 * MIB as u64, 8 * MIB as u64, 4 * MIB as u64 + 7]);
    // It carried no metadata, so a repetition could not tell the copy from a stranger's blob.
    assert_eq!(fixture.copied(&work).await.mode, CopyMode::Present);
}

#[tokio::test]
async fn a_block_that_stands_in_the_list_twice_moves_once() {
    let fixture = Fixture::new(CopySettings::default());
    let work = fixture.bundle(&[(1, 1000), (2, 10), (1, 1000)]).await;
    let copied = fixture.copied(&work).await;
    fixture.assert_same().await;
    assert_eq!(fixture.target.staged_count(), 2);
    assert_eq!(bytes(&copied), (1010, 1000));
}

#[tokio::test]
async fn a_block_larger_than_the_byte_budget_is_cut_anew_and_the_budget_holds() {
    let mut fixture = Fixture::new(CopySettings { parallel_streamed: 8, ..CopySettings::default() });
    fixture.budget = ByteBudget::new(MIB as u32);
    let work = fixture.bundle(&[(1, 3 * MIB), (2, 5)]).await;
    let (budget, limit) = (fixture.budget.clone(), MIB as u64);
    // A buffer is in the budget from before it is read until after it is staged.
    fixture.source.observe(move |_, _| {
        assert!(budget.used() <= limit);
        Ok(())
    });
    let budget = fixture.budget.clone();
    fixture.target.observe(move |operation, _| {
        assert!(operation != Operation::Stage || (1..=limit).contains(&budget.used()));
        Ok(())
    });
    let copied = fixture.copied(&work).await;
    assert_eq!(bytes(&copied), (3 * MIB as u64 + 5, 0));
    assert_eq!(fixture.target.content(&name()), fixture.source.content(&name()));
    let blocks = fixture.target.committed_blocks(&name()).await.unwrap();
    assert_eq!(lengths(&blocks), [MIB as u64, MIB as u64, MIB as u64, 5]);
    assert_eq!(fixture.budget.used(), 0);
}

#[tokio::test]
async fn slices_end_between_blocks_and_their_counters_add_up() {
    let fixture = Fixture::new(ONE_BY_ONE);
    let mut work = fixture.bundle(&BLOCKS).await;
    for slice in 0..3u32 {
        assert_eq!(work.slice, slice);
        let moved: usize = BLOCKS[..slice as usize].iter().map(|(_, length)| length).sum();
        assert_eq!(work.carried.bytes_moved, moved as u64);
        match fixture.copy_in(&work, &fixture.context(Duration::ZERO)).await {
            Ok(Outcome::Continue { rest }) => work = rest,
            other => panic!("slice {slice}: {other:?}"),
        }
        assert!(fixture.target.content(&name()).is_none());
    }
    let copied = copied(fixture.copy_in(&work, &fixture.context(Duration::ZERO)).await);
    fixture.assert_same().await;
    assert_eq!((bytes(&copied), copied.mode), ((LENGTH, 0), CopyMode::Streamed));
    assert_eq!(fixture.target.staged_count(), BLOCKS.len() as u64, "no block moved twice");
}
