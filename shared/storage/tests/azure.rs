//! The Azure adapter against a real Azurite: tokens, outages, speed, and that no token is ever shown.

#[path = "azure/canary.rs"]
mod canary;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use transship_model::{BlobName, Secret};
use transship_rig::{Azurite, Side};
use transship_storage::{
    AzureContainer, AzureSettings, BlockId, Condition, CopySource, DeleteBlob as _, ETag, Metadata,
    ReadContainer as _, SasToken, StorageError, WriteContainer as _,
};

use crate::canary::Canary;

fn in_an_hour() -> SystemTime {
    SystemTime::now() + Duration::from_secs(3600)
}

fn name(text: &str) -> BlobName {
    text.parse().expect("a name in a test")
}

fn id(number: u32) -> BlockId {
    BlockId::new(number.to_be_bytes())
}

/// A few quick tries, so that a test of an outage is short.
fn impatient() -> AzureSettings {
    AzureSettings { tries: 2, retry_budget: Duration::from_secs(2), patience: Duration::from_secs(5) }
}

fn open(container: &transship_rig::Container, sas: &str, settings: AzureSettings) -> Result<AzureContainer> {
    let sas = SasToken::parse(&Secret::new(sas))?;
    Ok(AzureContainer::new(container.url.parse()?, Some(sas), settings)?)
}

async fn write(container: &AzureContainer, blob: &BlobName, bytes: &'static str) -> Result<ETag> {
    container.stage(blob, &id(1), Bytes::from_static(bytes.as_bytes())).await?;
    Ok(container.commit(blob, &[id(1)], &Metadata::new(), &Condition::Absent).await?)
}

#[tokio::test]
async fn an_expired_token_is_named_with_its_time() -> Result<()> {
    let azurite = Azurite::shared(Side::Source).await?;
    let made = azurite.container("expired").await?;
    let expired = open(&made, &made.sas("racwdl", SystemTime::now() - Duration::from_secs(60)), impatient())?;
    let (blob, etag) = (name("b"), ETag("\"0x1\"".into()));
    let results = [
        expired.properties(&blob).await.map(drop),
        expired.read(&blob, 0..1, None).await.map(drop),
        expired.list("", None).await.map(drop),
        expired.staged_blocks(&blob).await.map(drop),
        expired.stage(&blob, &id(1), Bytes::from_static(b"x")).await,
        expired.commit(&blob, &[], &Metadata::new(), &Condition::Absent).await.map(drop),
        expired.delete(&blob, &etag).await,
    ];
    for result in results {
        let Err(StorageError::SasExpired { expired_at, .. }) = &result else {
            anyhow::bail!("{result:?}");
        };
        let expired_at: SystemTime = expired_at.parse::<jiff::Timestamp>()?.into();
        ensure!(expired_at < SystemTime::now(), "{result:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_missing_permission_is_named_by_its_letter() -> Result<()> {
    let azurite = Azurite::shared(Side::Source).await?;
    let made = azurite.container("letters").await?;
    let full = open(&made, &made.full_sas(), impatient())?;
    let (blob, new) = (name("b"), name("new"));
    let etag = write(&full, &blob, "content").await?;
    let with = |letters: &str| open(&made, &made.sas(letters, in_an_hour()), impatient());
    let byte = || Bytes::from_static(b"x");
    for (granted, missing, result) in [
        ("wdl", "r", with("wdl")?.properties(&blob).await.map(drop)),
        ("wdl", "r", with("wdl")?.read(&blob, 0..1, None).await.map(drop)),
        ("wdl", "r", with("wdl")?.committed_blocks(&blob).await.map(drop)),
        ("rdl", "w", with("rdl")?.stage(&new, &id(1), byte()).await),
        ("rdl", "w", with("rdl")?.commit(&new, &[], &Metadata::new(), &Condition::Absent).await.map(drop)),
        ("rwd", "l", with("rwd")?.list("", None).await.map(drop)),
        ("rwl", "d", with("rwl")?.delete(&blob, &etag).await),
    ] {
        let Err(StorageError::SasPermission { missing: named, granted: shown, .. }) = &result else {
            anyhow::bail!("{granted}: {result:?}");
        };
        assert_eq!((named.as_str(), shown.as_str()), (missing, granted));
    }
    Ok(())
}

#[tokio::test]
async fn a_tampered_token_is_refused_and_is_not_called_expired() -> Result<()> {
    let azurite = Azurite::shared(Side::Source).await?;
    let made = azurite.container("tampered").await?;
    // More letters than were signed.
    let tampered = made.sas("r", in_an_hour()).replace("sp=r&", "sp=rwdl&");
    let refused = open(&made, &tampered, impatient())?.read(&name("b"), 0..1, None).await;
    ensure!(matches!(&refused, Err(StorageError::Forbidden { .. })), "{refused:?}");
    let anonymous = AzureContainer::new(made.url.parse()?, None, impatient())?;
    let refused = anonymous.properties(&name("b")).await;
    // A container that is not public is hidden from those who have no token.
    ensure!(
        matches!(
            &refused,
            Err(StorageError::Forbidden { .. } | StorageError::ContainerNotFound { .. }) | Ok(None)
        ),
        "{refused:?}"
    );
    Ok(())
}

#[tokio::test]
async fn azurite_is_known_not_to_copy_from_a_url_and_says_so_at_once() -> Result<()> {
    let azurite = Azurite::shared(Side::Source).await?;
    let made = azurite.container("copy").await?;
    let source = open(&made, &made.full_sas(), AzureSettings::default())?;
    let etag = write(&source, &name("b"), "content").await?;
    let source = CopySource { url: source.copy_source(&name("b")).context("a URL")?, range: 0..7, etag };
    // With an account SAS, Azurite answers a bare 500, with a container SAS a 501.
    for sas in [azurite.account_sas(), made.full_sas()] {
        let target = open(&made, &sas, AzureSettings::default())?;
        let began = Instant::now();
        let refused = target.stage_from(&name("copy"), &id(1), &source).await;
        ensure!(matches!(refused, Err(StorageError::CopyUnsupported { .. })), "{refused:?}");
        ensure!(began.elapsed() < Duration::from_secs(3), "it took {:?}", began.elapsed());
    }
    Ok(())
}

#[tokio::test]
async fn an_outage_ends_in_a_bounded_time_and_the_same_container_works_again() -> Result<()> {
    let azurite = Azurite::start().await?;
    let made = azurite.container("outage").await?;
    let container = Arc::new(open(&made, &made.full_sas(), impatient())?);
    let blob = name("b");
    container.stage(&blob, &id(1), Bytes::from_static(b"before ")).await?;
    azurite.stop().await?;
    let began = Instant::now();
    for result in [
        container.stage(&blob, &id(2), Bytes::from_static(b"lost")).await,
        container.read(&blob, 0..1, None).await.map(drop),
        container.list("", None).await.map(drop),
    ] {
        let Err(StorageError::Unavailable { reason, .. }) = &result else { anyhow::bail!("{result:?}") };
        ensure!(
            reason.contains("refused") || reason.contains("reset") || reason.contains("closed"),
            "{reason}"
        );
    }
    ensure!(began.elapsed() < Duration::from_secs(15), "it took {:?}", began.elapsed());
    azurite.start_again().await?;
    container.stage(&blob, &id(2), Bytes::from_static(b"after")).await?;
    container.commit(&blob, &[id(1), id(2)], &Metadata::new(), &Condition::Absent).await?;
    assert_eq!(container.read(&blob, 0..12, None).await?, "before after");
    Ok(())
}

#[tokio::test]
async fn a_short_outage_is_ridden_out_by_the_retries() -> Result<()> {
    let azurite = Azurite::start().await?;
    let made = azurite.container("blink").await?;
    let container = open(&made, &made.full_sas(), AzureSettings::default())?;
    write(&container, &name("b"), "content").await?;
    azurite.stop().await?;
    let blob = name("b");
    // The read begins while nothing listens; Azurite is back within the retries' time.
    let (read, started) = futures::join!(container.read(&blob, 0..7, None), azurite.start_again());
    started?;
    assert_eq!(read?, "content");
    Ok(())
}

#[tokio::test]
async fn no_token_is_shown_by_any_error_or_log() -> Result<()> {
    let azurite = Azurite::start().await?;
    let made = azurite.container("canary").await?;
    let mut missing = made.clone();
    missing.url = format!("{}-missing", made.url);
    let full = made.full_sas();
    let expired = made.sas("racwdl", SystemTime::now() - Duration::from_secs(60));
    let weak = made.sas("l", in_an_hour());
    let tampered = weak.replace("sp=l&", "sp=rwdl&");
    let mut canary = Canary::watch([&full, &expired, &weak, &tampered].map(String::as_str));
    for (place, sas) in
        [(&made, &full), (&missing, &full), (&made, &expired), (&made, &weak), (&made, &tampered)]
    {
        let container = open(place, sas, impatient())?;
        canary.look_at(&container);
        call_everything(&container, &mut canary).await;
    }
    let container = open(&made, &full, impatient())?;
    azurite.stop().await?;
    call_everything(&container, &mut canary).await;
    ensure!(canary.seen() > 40, "only {} errors were looked at", canary.seen());
    canary.end()
}

/// Every call in ways that mostly fail; all errors go to the canary.
async fn call_everything(container: &AzureContainer, canary: &mut Canary) {
    let (blob, gone, etag) = (name("b"), name("gone"), ETag("\"0x1\"".into()));
    let url = container.copy_source(&blob).expect("a URL");
    let source = CopySource { url, range: 0..1, etag: etag.clone() };
    canary.look_at(&source);
    canary.check(container.properties(&gone).await);
    canary.check(container.read(&gone, 0..1, None).await);
    canary.check(container.read(&gone, 3..9, Some(&etag)).await);
    canary.check(container.committed_blocks(&gone).await);
    canary.check(container.staged_blocks(&gone).await);
    canary.check(container.list("", Some("not a marker")).await);
    canary.check(container.stage(&blob, &id(1), Bytes::from_static(b"x")).await);
    canary.check(container.stage(&blob, &BlockId::new([1]), Bytes::from_static(b"x")).await);
    canary.check(container.stage_from(&blob, &id(1), &source).await);
    canary.check(container.commit(&blob, &[id(9)], &Metadata::new(), &Condition::Absent).await);
    canary.check(container.commit(&blob, &[], &Metadata::new(), &Condition::Matches(etag.clone())).await);
    canary.check(container.delete(&blob, &etag).await);
}

/// Prints what it measures; fails only far below what the service can do, since the machine may be busy.
#[tokio::test(flavor = "multi_thread")]
async fn heavy_blocks_are_staged_as_fast_as_the_service_takes_them() -> Result<()> {
    const BLOCK: usize = 8 << 20;
    const BLOCKS: u32 = 48;
    let azurite = Azurite::start().await?;
    let made = azurite.container("speed").await?;
    let container = open(&made, &made.full_sas(), AzureSettings::default())?;
    let (blob, bytes) = (name("b"), Bytes::from(vec![7; BLOCK]));
    let began = Instant::now();
    stream::iter(0..BLOCKS)
        .map(|number| {
            let (container, blob, bytes) = (&container, &blob, bytes.clone());
            async move { container.stage(blob, &id(number), bytes).await }
        })
        .buffer_unordered(4)
        .try_collect::<()>()
        .await?;
    let staged = began.elapsed();
    let ids: Vec<_> = (0..BLOCKS).map(id).collect();
    let etag = container.commit(&blob, &ids, &Metadata::new(), &Condition::Absent).await?;
    let began = Instant::now();
    stream::iter(0..u64::from(BLOCKS))
        .map(|number| {
            let (container, blob, etag, start) = (&container, &blob, &etag, number * BLOCK as u64);
            async move { container.read(blob, start..start + BLOCK as u64, Some(etag)).await.map(drop) }
        })
        .buffer_unordered(4)
        .try_collect::<()>()
        .await?;
    let read = began.elapsed();
    let speed = |elapsed: Duration| f64::from(BLOCKS) * 8.0 / elapsed.as_secs_f64();
    println!("staged at {:.0} MiB/s, read at {:.0} MiB/s", speed(staged), speed(read));
    ensure!(speed(staged) > 25.0 && speed(read) > 25.0, "{:.0} and {:.0} MiB/s", speed(staged), speed(read));
    Ok(())
}
