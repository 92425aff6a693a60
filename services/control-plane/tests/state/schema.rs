//! Opening a database.

use std::os::unix::fs::PermissionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use sqlx::Connection;
use transship_control_plane::state::{Folded, PutOutcome, RunDecision, Store, StoreError};
use transship_model::{Code, Failure, Secret};

use crate::scene::{Scene, export, exported, exported_to, registry, run_id, start};

#[tokio::test]
async fn what_was_written_is_there_when_the_file_is_opened_again() -> Result<()> {
    let scene = Scene::sqlite().await?;
    let run = scene.start(export("nightly", 1_000)).await?;
    scene.store.close().await;
    let closed = scene.store.next_generation(1).await.expect_err("it is closed");
    assert!(matches!(closed, StoreError::Closed), "{closed}");
    scene.store.close().await;

    let again = Store::open(&Secret::new(&scene.url)).await?;
    assert_eq!(again.runs(&registry(), 0, 10).await?, vec![run]);
    assert!(again.lease("leader", "anybody", 1, 1).await?, "the only process leads");
    again.close().await;
    Ok(())
}

#[tokio::test]
async fn the_file_is_readable_by_its_owner_only_and_so_is_what_lies_beside_it() -> Result<()> {
    let scene = Scene::sqlite().await?;
    scene.start(export("nightly", 1_000)).await?;
    let path = std::path::Path::new(scene.url.trim_start_matches("sqlite://"));
    let folder = path.parent().context("a folder")?;
    let mut files = 0;
    for file in std::fs::read_dir(folder)? {
        let file = file?;
        assert_eq!(file.metadata()?.permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
        files += 1;
    }
    assert!(files >= 3, "the database, its log, and its lock");
    Ok(())
}

#[tokio::test]
async fn a_database_in_memory_works_and_is_its_own() -> Result<()> {
    let url = Secret::new("sqlite::memory:");
    let (one, other) = (Store::open(&url).await?, Store::open(&url).await?);
    start(&one, export("nightly", 1_000)).await?;
    assert_eq!(one.runs(&registry(), 0, 10).await?.len(), 1);
    assert_eq!(other.runs(&registry(), 0, 10).await?.len(), 0);
    Ok(())
}

#[tokio::test]
async fn exports_that_copied_before_the_schema_knew_of_it_are_watched_too() -> Result<()> {
    let scene = Scene::sqlite().await?;
    let copying = scene.running("copying", 1).await?;
    scene.store.fold(exported_to(&copying.execution, 1, "far"), 2_000).await?;
    let over = scene.running("over", 1).await?;
    scene.store.fold(exported(&over.execution, 1), 2_000).await?;
    scene.store.close().await;
    let mut connection = sqlx::SqliteConnection::connect(&scene.url).await?;
    for back in [
        "DELETE FROM schema_versions WHERE version = 4",
        "DROP INDEX runs_copying",
        "ALTER TABLE runs DROP COLUMN copying",
    ] {
        sqlx::query(back).execute(&mut connection).await?;
    }
    connection.close().await?;
    let again = Store::open(&Secret::new(&scene.url)).await?;
    let found = again.copying_runs(0, 10).await?;
    assert_eq!(found.into_iter().map(|run| run.id).collect::<Vec<_>>(), [copying.id]);
    again.close().await;
    Ok(())
}

#[tokio::test]
async fn a_schema_that_is_newer_is_refused_with_what_to_do() -> Result<()> {
    let scene = Scene::sqlite().await?;
    scene.store.close().await;
    let mut connection = sqlx::SqliteConnection::connect(&scene.url).await?;
    sqlx::query("INSERT INTO schema_versions (version) VALUES (99)").execute(&mut connection).await?;
    connection.close().await?;
    let error = Store::open(&Secret::new(&scene.url)).await.expect_err("it is newer");
    assert!(
        error.to_string().starts_with("the database has schema version 99, and this process knows"),
        "{error}"
    );
    let failure = Failure::from(error);
    assert_eq!(failure.code, Code::Internal);
    assert_eq!(
        failure.hint.as_deref(),
        Some("update this process, or restore the database from before the update")
    );
    Ok(())
}

#[tokio::test]
async fn a_file_is_used_by_one_process_until_it_is_closed() -> Result<()> {
    let scene = Scene::sqlite().await?;
    let error = Store::open(&Secret::new(&scene.url)).await.expect_err("it is open");
    assert!(matches!(error, StoreError::Taken { .. }), "{error}");
    assert!(error.hint().contains("PostgreSQL"));
    scene.store.close().await;
    Store::open(&Secret::new(&scene.url)).await?.close().await;
    Ok(())
}

#[tokio::test]
async fn executions_that_are_over_and_gone_are_forgotten_in_time() -> Result<()> {
    let scene = Scene::sqlite().await?;
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let old = scene.start(export("older", 1_000)).await?;
    let kept = scene.start(export("kept0", 2_000)).await?;
    let new = scene.start(export("newer", now)).await?;
    scene.store.delete_run(&old.id).await?;
    scene.store.delete_run(&new.id).await?;
    scene.store.close().await;
    let store = Store::open(&Secret::new(&scene.url)).await?;
    for (run, expected) in [(old, Folded::Unknown), (kept, Folded::Ignored), (new, Folded::Ignored)] {
        assert_eq!(store.fold(exported(&run.execution, 1), now).await?, expected, "{}", run.id.name());
    }
    Ok(())
}

#[tokio::test]
async fn a_decision_that_panics_fails_alone() -> Result<()> {
    let scene = Scene::sqlite().await?;
    let (one, other) = (run_id("one01"), run_id("two02"));
    let panics = scene.store.put_run(&one, |_| panic!("a fault"));
    let new = Box::new(export("two02", 1_000));
    let works = scene.store.put_run(&other, |_| RunDecision::Start(new));
    let (panicked, worked) = tokio::join!(panics, works);
    assert!(matches!(panicked, Err(StoreError::Panicked)), "{panicked:?}");
    assert!(matches!(worked?, PutOutcome::Started(_)));
    assert_eq!(scene.store.run(&one).await?, None);
    Ok(())
}

#[tokio::test]
async fn a_url_that_is_not_understood_is_refused_without_being_shown() -> Result<()> {
    for url in [
        "",
        "state.db",
        "mysql://u:CANARY@h/d",
        "postgres://u:CANARY@127.0.0.1:1/d",
        "sqlite:///no/such/CANARY-folder/x.db",
    ] {
        let error = Store::open(&Secret::new(url)).await.expect_err(url);
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("u:CANARY"), "{shown}");
    }
    Ok(())
}
