//! The verb with containers in memory, where every call may fail and everything may change underneath.
#![allow(clippy::result_large_err, reason = "what an observer returns is the error of the port")]

mod fixture;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fixture::*;
use transship_blob_copier::CopySettings;
use transship_messages::CopyMode;
use transship_model::{Class, Code};
use transship_stage::Outcome;
use transship_storage::{Condition, MemoryContainer, Operation, ReadContainer as _, StorageError};

const BLOCKS: [(u8, usize); 5] = [(1, 1000), (2, 2000), (3, 3000), (4, 4000), (5, 1024)];
const LENGTH: u64 = 11_024;

/// Lets `happen` run before the call number `nth` (from 1) of `operation`.
fn at(
    container: &MemoryContainer,
    operation: Operation,
    nth: u64,
    happen: impl Fn() + Send + Sync + 'static,
) {
    let calls = AtomicU64::new(0);
    container.observe(move |called, _| {
        if called == operation && calls.fetch_add(1, Ordering::SeqCst) + 1 == nth {
            happen();
        }
        Ok(())
    });
}

/// Puts another bundle in the place of the one that is there.
fn overwrite(container: &MemoryContainer, generation: u64) -> impl Fn() + Send + Sync + 'static {
    let container = container.clone();
    move || {
        let other = container.clone();
        let write = async move {
            let old = other.properties(&name()).await.unwrap();
            let condition = old.map_or(Condition::Absent, |old| Condition::Matches(old.etag));
            let owner = execution(if generation == 0 { "other" } else { "run" }, generation);
            write_bundle(&other, &owner, &[(9, LENGTH as usize)], condition).await;
        };
        // Nothing of a container in memory waits.
        futures::FutureExt::now_or_never(write).expect("a container in memory answers at once");
    }
}

#[tokio::test]
async fn a_repetition_stages_only_what_is_missing() {
    for fails_at in 1..=BLOCKS.len() {
        let fixture = Fixture::new(ONE_BY_ONE);
        let work = fixture.bundle(&BLOCKS).await;
        let calls = AtomicU64::new(0);
        let target = fixture.target.clone();
        fixture.target.observe(move |operation, _| {
            let is_it =
                operation == Operation::Stage && calls.fetch_add(1, Ordering::SeqCst) + 1 == fails_at as u64;
            if is_it { Err(busy(&target)) } else { Ok(()) }
        });
        let failure = fixture.copy(&work).await.unwrap_err();
        let retry_after = Some(Duration::from_secs(7));
        assert_eq!(
            (failure.class, failure.code),
            (Class::Transient { retry_after }, Code::StorageUnavailable)
        );
        assert!(failure.message.contains("in the target container"), "{failure}");
        assert!(fixture.target.content(&name()).is_none());

        let copied = fixture.copied(&work).await;
        fixture.assert_same().await;
        let staged: usize = BLOCKS[..fails_at - 1].iter().map(|(_, length)| length).sum();
        assert_eq!(bytes(&copied), (LENGTH - staged as u64, staged as u64), "failed at {fails_at}");
        for (number, _) in BLOCKS {
            assert_eq!(fixture.target.staged_count_of(&name(), &id(number)), 1, "failed at {fails_at}");
        }
    }
}

#[tokio::test]
async fn whichever_call_fails_the_next_delivery_ends_in_the_same_state() {
    let of_source = [Operation::Properties, Operation::Read, Operation::CommittedBlocks];
    let of_target = [
        Operation::Properties,
        Operation::StagedBlocks,
        Operation::Stage,
        Operation::StageFrom,
        Operation::Commit,
    ];
    let calls = of_source.map(|operation| (true, operation)).into_iter();
    let calls = calls.chain(of_target.map(|operation| (false, operation)));
    let (mut failures, mut lost) = (0, 0);
    for (on_source, operation) in calls {
        for (loses_answer, server_side) in [(false, false), (false, true), (true, false), (true, true)] {
            let fixture = Fixture::new(CopySettings::default());
            let work = fixture.bundle(&BLOCKS).await;
            if server_side {
                fixture.target.can_copy_from(&fixture.source);
            }
            let container = if on_source { &fixture.source } else { &fixture.target };
            match loses_answer {
                false => container.fail_next(operation, busy(container)),
                true => container.lose_answer_of_next(operation, busy(container)),
            }
            let what = format!("{operation:?} source {on_source} lost {loses_answer} server {server_side}");
            if let Err(failure) = fixture.copy(&work).await {
                assert!(matches!(failure.class, Class::Transient { .. }), "{what}: {failure:?}");
                let side = if on_source { "in the source container" } else { "in the target container" };
                assert!(failure.message.contains(side), "{what}: {failure}");
                failures += 1;
                lost += u64::from(loses_answer);
            }
            let copied = fixture.copied(&work).await;
            fixture.assert_same().await;
            bytes(&copied);
            assert!(fixture.target.staged_count() <= BLOCKS.len() as u64 + 1, "{what}");
        }
    }
    assert!(failures >= 12 && lost >= 4, "the faults took place: {failures}, {lost}");
}

#[tokio::test]
async fn a_source_that_is_overwritten_on_the_way_leaves_nothing_at_the_target() {
    for (operation, nth) in [
        (Operation::CommittedBlocks, 1),
        (Operation::Read, 1),
        (Operation::Read, 3),
        (Operation::Properties, 2),
        // The last look before the commit; the second one came when the copy turned to streaming.
        (Operation::Properties, 3),
    ] {
        let fixture = Fixture::new(ONE_BY_ONE);
        let work = fixture.bundle(&BLOCKS).await;
        at(&fixture.source, operation, nth, overwrite(&fixture.source, 0));
        let failure = fixture.copy(&work).await.unwrap_err();
        assert_eq!(
            (failure.class, failure.code),
            (Class::Permanent, Code::SourceChanged),
            "{operation:?} {nth}"
        );
        assert!(fixture.target.content(&name()).is_none(), "{operation:?} {nth}");
        assert_eq!(fixture.target.calls(Operation::Commit), 0);
        if operation == Operation::Read {
            assert_eq!(fixture.source.calls(operation), nth, "the first read of another version is the last");
        }

        let fixture = Fixture::new(ONE_BY_ONE);
        let work = fixture.bundle(&BLOCKS).await;
        at(&fixture.source, operation, nth, overwrite(&fixture.source, 6));
        assert_eq!(fixture.copy(&work).await, Ok(Outcome::Superseded), "{operation:?} {nth}");
        assert!(fixture.target.content(&name()).is_none(), "{operation:?} {nth}");
    }
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found_and_not_made_again() {
    let fixture = Fixture::new(CopySettings::default());
    let work = fixture.bundle(&BLOCKS).await;
    // The adapter sends the request again and meets its own first one.
    let met = StorageError::ConditionFailed { container: work.route.target.clone(), blob: name() };
    fixture.target.lose_answer_of_next(Operation::Commit, met);
    let copied = fixture.copied(&work).await;
    fixture.assert_same().await;
    assert_eq!((copied.mode, bytes(&copied)), (CopyMode::Streamed, (LENGTH, 0)));
    assert_eq!(fixture.target.calls(Operation::Commit), 1);
}

#[tokio::test]
async fn a_blob_that_appears_before_the_commit_is_looked_at() {
    for (generation, expected) in [(0, None), (4, Some(true)), (6, Some(false))] {
        let fixture = Fixture::new(CopySettings::default());
        let work = fixture.bundle(&BLOCKS).await;
        at(&fixture.target, Operation::Commit, 1, overwrite(&fixture.target, generation));
        let result = fixture.copy(&work).await;
        match expected {
            None => assert_eq!(result.unwrap_err().code, Code::BlobExists),
            Some(false) => assert_eq!(result, Ok(Outcome::Superseded)),
            Some(true) => {
                // The other commit dropped what was staged.
                assert_eq!(bytes(&copied(result)), (LENGTH, 0));
                fixture.assert_same().await;
            }
        }
    }
}

#[tokio::test]
async fn staged_blocks_that_vanish_are_staged_again_once() {
    let fixture = Fixture::new(CopySettings::default());
    let work = fixture.bundle(&BLOCKS).await;
    let target = fixture.target.clone();
    at(&fixture.target, Operation::Commit, 1, move || target.forget_staged());
    let copied = fixture.copied(&work).await;
    fixture.assert_same().await;
    assert_eq!(bytes(&copied), (LENGTH, 0));
    assert_eq!(fixture.target.staged_count(), 2 * BLOCKS.len() as u64);
}

#[tokio::test]
async fn a_name_that_others_fight_for_is_given_up_for_a_while() {
    let fixture = Fixture::new(CopySettings::default());
    let work = fixture.bundle(&BLOCKS).await;
    let target = fixture.target.clone();
    fixture.target.observe(move |operation, _| {
        if operation == Operation::Commit {
            target.forget_staged();
        }
        Ok(())
    });
    let failure = fixture.copy(&work).await.unwrap_err();
    assert!(matches!(failure.class, Class::Transient { .. }), "{failure:?}");
    assert!(failure.message.contains("commit team/nightly in the target container"), "{failure}");
    assert!(failure.hint.unwrap().contains("another blob name"));
    assert_eq!(fixture.target.calls(Operation::Commit), 3);
}

#[tokio::test]
async fn a_shutdown_interrupts_between_blocks_and_the_next_delivery_goes_on() {
    let fixture = Fixture::new(ONE_BY_ONE);
    let work = fixture.bundle(&BLOCKS).await;
    let context = fixture.context(Duration::from_secs(600));
    let cancel = context.cancel.clone();
    at(&fixture.target, Operation::Stage, 3, move || cancel.cancel());
    let failure = fixture.copy_in(&work, &context).await.unwrap_err();
    assert_eq!((failure.class, failure.code), (Class::Interrupted, Code::Interrupted));
    assert!(fixture.target.content(&name()).is_none());
    fixture.copied(&work).await;
    fixture.assert_same().await;
    assert!(fixture.target.staged_count() <= BLOCKS.len() as u64 + 1);
    assert_eq!(fixture.budget.used(), 0);
}
