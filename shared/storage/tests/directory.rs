//! What a directory is beyond the contract: files that other tools bring, links, crashes, sweeping.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use tempfile::TempDir;
use transship_model::{BlobName, ContainerUrl};
use transship_storage::{
    BlobPage, BlockId, Condition, DeleteBlob as _, DirectoryContainer, ETag, Metadata, ReadContainer as _,
    StorageError, WriteContainer as _,
};

fn at(path: &Path) -> Result<DirectoryContainer> {
    Ok(DirectoryContainer::new(ContainerUrl::of_directory(path)?)?)
}

fn fresh() -> Result<(TempDir, DirectoryContainer)> {
    let folder = tempfile::tempdir()?;
    let container = at(folder.path())?;
    Ok((folder, container))
}

fn name(text: &str) -> BlobName {
    text.parse().expect("a name in a test")
}

/// The names of a page, with their lengths.
fn lengths(page: BlobPage) -> Vec<(BlobName, u64)> {
    page.blobs.into_iter().map(|blob| (blob.name, blob.length)).collect()
}

fn id(number: u8) -> BlockId {
    BlockId::new([number])
}

fn metadata(value: &str) -> Metadata {
    Metadata::from([("version".to_owned(), value.to_owned())])
}

async fn write(container: &DirectoryContainer, blob: &str, bytes: &'static str) -> Result<ETag> {
    container.stage(&name(blob), &id(1), Bytes::from_static(bytes.as_bytes())).await?;
    Ok(container.commit(&name(blob), &[id(1)], &metadata("1"), &Condition::Absent).await?)
}

#[tokio::test]
async fn a_committed_blob_is_a_plain_file_under_its_name() -> Result<()> {
    let (folder, container) = fresh()?;
    write(&container, "runs/2026/b.tar", "content").await?;
    assert_eq!(fs::read_to_string(folder.path().join("runs/2026/b.tar"))?, "content");
    // Another process opens the same directory and finds what was written.
    let again = at(folder.path())?;
    assert_eq!(again.properties(&name("runs/2026/b.tar")).await?.context("a blob")?.metadata, metadata("1"));
    Ok(())
}

#[tokio::test]
async fn a_file_that_somebody_put_there_is_a_blob_without_metadata() -> Result<()> {
    let (folder, container) = fresh()?;
    fs::create_dir(folder.path().join("in"))?;
    fs::write(folder.path().join("in/b.tar"), "by hand")?;
    let blob = name("in/b.tar");
    let properties = container.properties(&blob).await?.context("a blob")?;
    assert_eq!((properties.length, properties.metadata), (7, Metadata::new()));
    assert_eq!(container.committed_blocks(&blob).await?, []);
    assert_eq!(container.read(&blob, 0..7, Some(&properties.etag)).await?, "by hand");
    assert_eq!(lengths(container.list("in/", None).await?), [(blob.clone(), 7)]);
    // It can be replaced under its entity tag, and deleted.
    container.stage(&blob, &id(1), Bytes::from_static(b"new")).await?;
    let at_that = Condition::Matches(properties.etag.clone());
    let etag = container.commit(&blob, &[id(1)], &metadata("2"), &at_that).await?;
    ensure!(matches!(
        container.read(&blob, 0..3, Some(&properties.etag)).await,
        Err(StorageError::ConditionFailed { .. })
    ));
    container.delete(&blob, &etag).await?;
    ensure!(!folder.path().join("in").exists(), "the folder that became empty is still there");
    Ok(())
}

#[tokio::test]
async fn a_blob_that_was_replaced_by_hand_has_neither_metadata_nor_blocks() -> Result<()> {
    let (folder, container) = fresh()?;
    let etag = write(&container, "b", "content").await?;
    fs::write(folder.path().join("b"), "CONTENT")?;
    let properties = container.properties(&name("b")).await?.context("a blob")?;
    ensure!(properties.metadata.is_empty() && properties.etag != etag, "{properties:?}");
    assert_eq!(container.committed_blocks(&name("b")).await?, []);
    let refused = container.delete(&name("b"), &etag).await;
    ensure!(matches!(refused, Err(StorageError::ConditionFailed { .. })), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_copy_of_the_directory_that_keeps_times_keeps_metadata() -> Result<()> {
    let (folder, container) = fresh()?;
    let etag = write(&container, "dir/b", "content").await?;
    let copy = tempfile::tempdir()?;
    let copied = Command::new("cp").arg("-a").arg(folder.path().join(".")).arg(copy.path()).status()?;
    ensure!(copied.success());
    let properties = at(copy.path())?.properties(&name("dir/b")).await?.context("a blob")?;
    assert_eq!((properties.metadata, properties.etag), (metadata("1"), etag));
    Ok(())
}

#[tokio::test]
async fn transships_own_folder_is_not_a_place_for_blobs() -> Result<()> {
    let (_folder, container) = fresh()?;
    write(&container, "b", "content").await?;
    container.stage(&name("other"), &id(1), Bytes::from_static(b"x")).await?;
    assert_eq!(lengths(container.list("", None).await?), [(name("b"), 7)]);
    assert_eq!(container.list(".transship", None).await?.blobs, []);
    for blob in [".transship/lock", ".transship", ".Transship/x"] {
        let refused = container.read(&name(blob), 0..1, None).await;
        ensure!(matches!(refused, Err(StorageError::Refused { .. })), "{blob}: {refused:?}");
        let refused = container.stage(&name(blob), &id(1), Bytes::from_static(b"x")).await;
        ensure!(matches!(refused, Err(StorageError::Refused { .. })), "{blob}: {refused:?}");
        let refused = container.commit(&name(blob), &[], &metadata("1"), &Condition::Absent).await;
        ensure!(matches!(refused, Err(StorageError::Refused { .. })), "{blob}: {refused:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_symbolic_link_leads_nowhere() -> Result<()> {
    let (folder, container) = fresh()?;
    let outside = tempfile::tempdir()?;
    fs::write(outside.path().join("secret"), "secret")?;
    symlink(outside.path(), folder.path().join("dir"))?;
    symlink(outside.path().join("secret"), folder.path().join("file"))?;
    symlink("nowhere", folder.path().join("dangling"))?;
    assert_eq!(container.list("", None).await?.blobs, []);
    for blob in ["dir/secret", "dir/new", "file", "dangling"] {
        let blob = name(blob);
        let etag = ETag("x".into());
        for result in [
            container.properties(&blob).await.map(drop),
            container.read(&blob, 0..6, None).await.map(drop),
            container.stage(&blob, &id(1), Bytes::from_static(b"x")).await,
            container.commit(&blob, &[], &metadata("1"), &Condition::Absent).await.map(drop),
            container.delete(&blob, &etag).await,
        ] {
            let Err(StorageError::Refused { code, .. }) = &result else {
                anyhow::bail!("{blob}: {result:?}")
            };
            ensure!(code.contains("symbolic link"), "{code}");
        }
    }
    let left: Vec<_> =
        fs::read_dir(outside.path())?.map(|entry| entry.map(|entry| entry.file_name())).collect();
    assert_eq!(left.len(), 1, "something was written outside: {left:?}");
    Ok(())
}

#[tokio::test]
async fn a_name_that_the_disk_cannot_hold_is_refused_in_its_words() -> Result<()> {
    let (folder, container) = fresh()?;
    write(&container, "taken", "content").await?;
    for (blob, words) in
        [(format!("dir/{}", "x".repeat(300)), "too long"), ("taken/below".to_owned(), "exists")]
    {
        let refused = container.commit(&name(&blob), &[], &metadata("1"), &Condition::Absent).await;
        let Err(StorageError::Refused { code, .. }) = &refused else { anyhow::bail!("{refused:?}") };
        ensure!(code.contains(words), "{code}");
    }
    assert_eq!(temporary_files(folder.path())?, 0, "a failed commit leaves nothing");
    Ok(())
}

fn temporary_files(root: &Path) -> Result<usize> {
    Ok(fs::read_dir(root.join(".transship/temp"))?.count())
}

fn staged_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in fs::read_dir(root.join(".transship/blobs"))? {
        for file in fs::read_dir(folder?.path().join("staged")).into_iter().flatten() {
            files.push(file?.path());
        }
    }
    Ok(files)
}

#[tokio::test]
async fn blocks_that_were_staged_a_week_ago_are_swept_by_a_commit() -> Result<()> {
    let (folder, container) = fresh()?;
    let days = |days: u64| SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60);
    for (blob, age) in [("old", 8), ("young", 6)] {
        let before = staged_files(folder.path()).unwrap_or_default();
        container.stage(&name(blob), &id(1), Bytes::from_static(b"x")).await?;
        let staged = staged_files(folder.path())?.into_iter().find(|path| !before.contains(path));
        File::options().append(true).open(staged.context("a staged file")?)?.set_modified(days(age))?;
    }
    let temporary = folder.path().join(".transship/temp/of-a-process-that-was-killed");
    File::create(&temporary)?.set_modified(days(2))?;
    write(&container, "b", "content").await?;
    assert_eq!(container.staged_blocks(&name("old")).await?, []);
    assert_eq!(container.staged_blocks(&name("young")).await?.len(), 1);
    ensure!(!temporary.exists());
    Ok(())
}

#[tokio::test]
async fn writers_of_one_blob_do_not_mix() -> Result<()> {
    let (folder, _) = fresh()?;
    let writers = (0..8_u8).map(|writer| {
        let root = folder.path().to_owned();
        async move {
            // An instance of its own, as another process has it.
            let container = at(&root)?;
            let bytes = Bytes::from(vec![writer; 100_000]);
            let mut committed = 0;
            for _ in 0..20 {
                container.stage(&name("b"), &id(writer), bytes.clone()).await?;
                let condition = match container.properties(&name("b")).await? {
                    Some(properties) => Condition::Matches(properties.etag),
                    None => Condition::Absent,
                };
                match container
                    .commit(&name("b"), &[id(writer)], &metadata(&writer.to_string()), &condition)
                    .await
                {
                    Ok(_) => committed += 1,
                    Err(StorageError::ConditionFailed { .. } | StorageError::InvalidBlockList { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
                check_whole(&container).await?;
            }
            anyhow::Ok(committed)
        }
    });
    let committed: Vec<i32> = futures::future::try_join_all(writers).await?;
    ensure!(committed.iter().sum::<i32>() > 0, "nobody got through");
    Ok(())
}

/// The blob holds the bytes of one version, and its metadata and block belong to that version.
async fn check_whole(container: &DirectoryContainer) -> Result<()> {
    let blob = name("b");
    let Some(properties) = container.properties(&blob).await? else { return Ok(()) };
    match container.read(&blob, 0..properties.length, Some(&properties.etag)).await {
        Ok(bytes) => {
            let version = properties.metadata.get("version").context("a blob without metadata")?;
            ensure!(bytes.iter().all(|byte| byte.to_string() == *version), "versions are mixed");
            Ok(())
        }
        Err(StorageError::ConditionFailed { .. } | StorageError::BlobNotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

const VICTIM: &str = "TRANSSHIP_TEST_VICTIM";

/// Not a test: the process that `a_killed_commit_leaves_the_old_blob_or_the_new_one` kills. It ends by itself.
#[tokio::test]
#[ignore = "a part of another test"]
async fn commits_until_it_is_killed() -> Result<()> {
    let Some(root) = std::env::var_os(VICTIM) else { return Ok(()) };
    let container = at(Path::new(&root))?;
    let deadline = Instant::now() + Duration::from_secs(20);
    for version in (0..=u8::MAX).cycle() {
        if Instant::now() > deadline {
            break;
        }
        // Versions differ in length, too.
        let bytes = Bytes::from(vec![version; 200_000 + usize::from(version)]);
        container.stage(&name("b"), &id(version), bytes).await?;
        let condition = match container.properties(&name("b")).await? {
            Some(properties) => Condition::Matches(properties.etag),
            None => Condition::Absent,
        };
        container.commit(&name("b"), &[id(version)], &metadata(&version.to_string()), &condition).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_killed_commit_leaves_the_old_blob_or_the_new_one() -> Result<()> {
    let (folder, container) = fresh()?;
    let mut versions = std::collections::BTreeSet::new();
    for round in 0..12_u64 {
        let before = container.properties(&name("b")).await?.map(|properties| properties.etag);
        let mut victim = Command::new(std::env::current_exe()?)
            .args(["--exact", "commits_until_it_is_killed", "--ignored"])
            .env(VICTIM, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // Once it has committed, it is killed after a time that falls anywhere in its next commits.
        let deadline = Instant::now() + Duration::from_secs(15);
        while container.properties(&name("b")).await?.map(|properties| properties.etag) == before {
            ensure!(Instant::now() < deadline, "the victim commits nothing");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_micros(1_700 * round)).await;
        victim.kill()?;
        victim.wait()?;
        check_whole(&container).await?;
        let properties = container.properties(&name("b")).await?.context("the blob is gone")?;
        let blocks = container.committed_blocks(&name("b")).await?;
        assert_eq!(blocks.iter().map(|block| block.length).sum::<u64>(), properties.length);
        versions.insert(properties.metadata.get("version").cloned());
    }
    ensure!(versions.len() > 1, "every round ended in the same commit");
    Ok(())
}
