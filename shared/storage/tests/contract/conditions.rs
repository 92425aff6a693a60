//! Conditions on commits, reads and deletions.

use anyhow::{Result, ensure};
use bytes::Bytes;
use transship_storage::{Condition, ETag, Metadata, StorageError};

use crate::adapters::Fixture;
use crate::cases::{content, id, lengths, name, stage, write};

fn failed<T: std::fmt::Debug>(result: Result<T, StorageError>) -> Result<()> {
    ensure!(matches!(result, Err(StorageError::ConditionFailed { .. })), "{result:?}");
    Ok(())
}

pub(crate) async fn a_commit_may_demand_that_there_is_no_blob(fixture: &Fixture) -> Result<()> {
    let (container, blob) = (&*fixture.container, name("b"));
    write(container, &blob, "first").await?;
    stage(container, &blob, 2, "second").await?;
    failed(container.commit(&blob, &[id(2)], &Metadata::new(), &Condition::Absent).await)?;
    assert_eq!(content(container, &blob).await?, "first");
    Ok(())
}

pub(crate) async fn a_commit_may_demand_a_version(fixture: &Fixture) -> Result<()> {
    let (container, blob) = (&*fixture.container, name("b"));
    let never = Condition::Matches(ETag("\"0x1\"".into()));
    stage(container, &blob, 1, "first").await?;
    failed(container.commit(&blob, &[id(1)], &Metadata::new(), &never).await)?;
    let first = container.commit(&blob, &[id(1)], &Metadata::new(), &Condition::Absent).await?;
    stage(container, &blob, 2, "second").await?;
    failed(container.commit(&blob, &[id(2)], &Metadata::new(), &never).await)?;
    let at_first = Condition::Matches(first.clone());
    let second = container.commit(&blob, &[id(2)], &Metadata::new(), &at_first).await?;
    ensure!(first != second, "the entity tag stayed the same");
    stage(container, &blob, 3, "third").await?;
    failed(container.commit(&blob, &[id(3)], &Metadata::new(), &at_first).await)?;
    assert_eq!(content(container, &blob).await?, "second");
    Ok(())
}

pub(crate) async fn a_failed_condition_leaves_the_staged_blocks(fixture: &Fixture) -> Result<()> {
    let (container, blob) = (&*fixture.container, name("b"));
    let etag = write(container, &blob, "first").await?;
    stage(container, &blob, 2, "second").await?;
    failed(container.commit(&blob, &[id(2)], &Metadata::new(), &Condition::Absent).await)?;
    assert_eq!(container.staged_blocks(&blob).await?.len(), 1);
    container.commit(&blob, &[id(2)], &Metadata::new(), &Condition::Matches(etag)).await?;
    assert_eq!(content(container, &blob).await?, "second");
    Ok(())
}

pub(crate) async fn of_two_commits_that_demand_absence_one_succeeds(fixture: &Fixture) -> Result<()> {
    let (container, blob) = (&*fixture.container, name("b"));
    stage(container, &blob, 1, "one").await?;
    stage(container, &blob, 2, "two").await?;
    let (one, two, metadata) = ([id(1)], [id(2)], Metadata::new());
    let (first, second) = futures::join!(
        container.commit(&blob, &one, &metadata, &Condition::Absent),
        container.commit(&blob, &two, &metadata, &Condition::Absent),
    );
    let (winner, loser, expected) = match (first, second) {
        (Ok(winner), loser) => (winner, loser, "one"),
        (loser, Ok(winner)) => (winner, loser, "two"),
        (first, second) => anyhow::bail!("none succeeded: {first:?} {second:?}"),
    };
    // The winner may have dropped the loser's block before the loser's condition was looked at.
    ensure!(
        matches!(loser, Err(StorageError::ConditionFailed { .. } | StorageError::InvalidBlockList { .. })),
        "{loser:?}"
    );
    assert_eq!(content(container, &blob).await?, expected);
    assert_eq!(container.properties(&blob).await?.expect("the blob is there").etag, winner);
    Ok(())
}

pub(crate) async fn every_commit_gives_a_new_entity_tag(fixture: &Fixture) -> Result<()> {
    let (container, blob) = (&*fixture.container, name("b"));
    let mut etag = write(container, &blob, "same").await?;
    let mut seen = vec![etag.clone()];
    for _ in 0..5 {
        etag = container.commit(&blob, &[id(1)], &Metadata::new(), &Condition::Matches(etag)).await?;
        ensure!(!seen.contains(&etag), "{etag:?} was there before");
        assert_eq!(container.properties(&blob).await?.expect("the blob is there").etag, etag);
        seen.push(etag.clone());
    }
    Ok(())
}

pub(crate) async fn a_read_of_another_version_fails(fixture: &Fixture) -> Result<()> {
    let (container, blob) = (&*fixture.container, name("b"));
    let first = write(container, &blob, "first").await?;
    assert_eq!(container.read(&blob, 0..5, Some(&first)).await?, "first");
    stage(container, &blob, 2, "other").await?;
    let at_first = Condition::Matches(first.clone());
    let second = container.commit(&blob, &[id(2)], &Metadata::new(), &at_first).await?;
    failed(container.read(&blob, 0..5, Some(&first)).await)?;
    assert_eq!(container.read(&blob, 0..5, Some(&second)).await?, Bytes::from_static(b"other"));
    assert_eq!(container.read(&blob, 0..5, None).await?, Bytes::from_static(b"other"));
    Ok(())
}

pub(crate) async fn a_deletion_demands_a_version(fixture: &Fixture) -> Result<()> {
    let (container, blob, sibling) = (&*fixture.container, name("dir/b"), name("dir/c"));
    let etag = write(container, &blob, "first").await?;
    write(container, &sibling, "sibling").await?;
    failed(container.delete(&blob, &ETag("\"0x1\"".into())).await)?;
    container.delete(&blob, &etag).await?;
    assert_eq!(container.properties(&blob).await?, None);
    container.delete(&blob, &etag).await?;
    assert_eq!(lengths(container.list("", None).await?), [(sibling, 7)]);
    write(container, &blob, "again").await?;
    assert_eq!(content(container, &blob).await?, "again");
    Ok(())
}
