//! The verb between two real Azurites, which cannot copy from each other: every byte goes through the copier.

mod fixture;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use bytes::Bytes;
use fixture::*;
use transship_blob_copier::{Copier, CopySettings};
use transship_messages::{CopyMode, CopyRequested};
use transship_model::{Class, Code, ContainerUrl, Failure, Secret, SecretName, Stage};
use transship_rig::{Azurite, Container as RigContainer, Side};
use transship_secrets::FixedSecrets;
use transship_stage::{ByteBudget, Context, Outcome, Verb};
use transship_storage::{Condition, Container, Containers, ETag, open};
use transship_telemetry::Metrics;

const BLOCKS: [(u8, usize); 4] = [(1, 8 * MIB), (2, 3 * MIB), (3, 1), (4, 1024)];
const LENGTH: u64 = 11 * MIB as u64 + 1025;

/// Two accounts, a fresh container in each, and what the copier is told about them.
struct Accounts {
    _servers: [Azurite; 2],
    source: RigContainer,
    target: RigContainer,
}

impl Accounts {
    async fn start() -> Result<Self> {
        let servers = [Azurite::shared(Side::Source).await?, Azurite::shared(Side::Target).await?];
        let (source, target) =
            (servers[0].container("bundles").await?, servers[1].container("arrivals").await?);
        Ok(Self { _servers: servers, source, target })
    }

    /// The container with every right, for the test itself.
    fn open(container: &RigContainer) -> Result<Arc<dyn Container>> {
        Ok(open(&container.url.parse()?, Some(Secret::new(&container.full_sas())))?)
    }

    fn work(&self, etag: &ETag) -> Result<CopyRequested> {
        let mut work = work(&self.source.url.parse()?, &self.target.url.parse()?, etag, LENGTH);
        work.source_secret = Some("source-sas".parse()?);
        work.route.target_secret = Some("target-sas".parse()?);
        Ok(work)
    }

    /// One delivery to a copier with these tokens.
    async fn copy(
        &self,
        work: &CopyRequested,
        source_sas: &str,
        target_sas: &str,
    ) -> Result<Outcome<CopyRequested>, Failure> {
        let secret = |name: &str, value: &str| (name.parse::<SecretName>().unwrap(), Secret::new(value));
        let secrets = FixedSecrets::new([secret("source-sas", source_sas), secret("target-sas", target_sas)]);
        let copier = Copier::new(Arc::new(Containers::new(Arc::new(secrets))), CopySettings::default());
        let budget = ByteBudget::new(ByteBudget::DEFAULT_BYTES);
        let context = Context::new(budget, Metrics::new(Stage::BlobCopier), Duration::from_secs(600));
        copier.handle(work, &context).await
    }

    fn in_an_hour() -> SystemTime {
        SystemTime::now() + Duration::from_secs(3600)
    }
}

async fn whole(container: &Arc<dyn Container>) -> Result<(Bytes, transship_storage::BlobProperties)> {
    let properties = container.properties(&name()).await?.expect("the blob is there");
    let bytes = container.read(&name(), 0..properties.length, Some(&properties.etag)).await?;
    Ok((bytes, properties))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_arrives_in_the_other_account_with_its_blocks_and_metadata() -> Result<()> {
    let accounts = Accounts::start().await?;
    let (source, target) = (Accounts::open(&accounts.source)?, Accounts::open(&accounts.target)?);
    let (etag, _) = write_bundle(&*source, &execution("run", 5), &BLOCKS, Condition::Absent).await;
    // An earlier attempt staged one block, and something that is not of this bundle.
    target.stage(&name(), &id(2), content(2, 3 * MIB)).await?;
    target.stage(&name(), &id(9), content(9, 10)).await?;

    let work = accounts.work(&etag)?;
    // No more rights than the reference says that they need.
    let (read, write) =
        (accounts.source.sas("r", Accounts::in_an_hour()), accounts.target.sas("rw", Accounts::in_an_hour()));
    let copied = copied(accounts.copy(&work, &read, &write).await);
    assert_eq!(
        (copied.mode, bytes(&copied)),
        (CopyMode::Streamed, (LENGTH - 3 * MIB as u64, 3 * MIB as u64))
    );
    let ((expected, there), (found, here)) = (whole(&source).await?, whole(&target).await?);
    assert!(expected == found, "the same bytes");
    assert_eq!((here.metadata, &here.etag.0), (announced(there.metadata), &copied.etag));
    assert_eq!(target.committed_blocks(&name()).await?, source.committed_blocks(&name()).await?);

    let again = fixture::copied(accounts.copy(&work, &read, &write).await);
    assert_eq!((again.mode, &again.etag), (CopyMode::Present, &copied.etag));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_generation_moves_only_the_blocks_that_differ() -> Result<()> {
    let accounts = Accounts::start().await?;
    let (source, target) = (Accounts::open(&accounts.source)?, Accounts::open(&accounts.target)?);
    let (etag, _) = write_bundle(&*source, &execution("run", 5), &BLOCKS, Condition::Absent).await;
    let old = [(7, 100), (1, 8 * MIB), (2, 3 * MIB)];
    write_bundle(&*target, &execution("run", 4), &old, Condition::Absent).await;
    let sas = (accounts.source.full_sas(), accounts.target.full_sas());
    let copied = copied(accounts.copy(&accounts.work(&etag)?, &sas.0, &sas.1).await);
    assert_eq!(bytes(&copied), (1025, 11 * MIB as u64));
    assert!(whole(&source).await?.0 == whole(&target).await?.0, "the same bytes");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expired_or_lacks_a_letter_is_named_with_its_side() -> Result<()> {
    let accounts = Accounts::start().await?;
    let source = Accounts::open(&accounts.source)?;
    let (etag, _) = write_bundle(&*source, &execution("run", 5), &BLOCKS, Condition::Absent).await;
    let work = accounts.work(&etag)?;
    let (later, before) = (Accounts::in_an_hour(), SystemTime::now() - Duration::from_secs(60));
    let (read, write) = (accounts.source.sas("r", later), accounts.target.sas("rw", later));
    for (source_sas, target_sas, code, words) in [
        (
            &accounts.source.sas("r", before),
            &write,
            Code::SasExpired,
            vec!["source", &accounts.source.url, "expired at"],
        ),
        (
            &read,
            &accounts.target.sas("rw", before),
            Code::SasExpired,
            vec!["target", &accounts.target.url, "expired at"],
        ),
        (
            &accounts.source.sas("l", later),
            &write,
            Code::SasPermission,
            vec!["source", "\"r\"", "reading blobs"],
        ),
        (
            &read,
            &accounts.target.sas("r", later),
            Code::SasPermission,
            vec!["target", "\"w\"", "grants \"r\""],
        ),
        // A token of another account: only the service can tell.
        (
            &accounts.target.sas("r", later),
            &write,
            Code::StorageForbidden,
            vec!["source", &accounts.source.url],
        ),
        (
            &read,
            &accounts.source.sas("rw", later),
            Code::StorageForbidden,
            vec!["target", &accounts.target.url],
        ),
    ] {
        let failure = accounts.copy(&work, source_sas, target_sas).await.unwrap_err();
        assert_eq!((failure.class, failure.code), (Class::Parked, code), "{failure:?}");
        assert!(words.iter().all(|word| failure.message.contains(*word)), "{failure:?}");
        assert!(failure.hint.is_some(), "{failure:?}");
        let shown = format!("{failure:?}");
        assert!(!shown.contains("sig=") && !shown.contains("se="), "no token is shown: {shown}");
    }
    let target = Accounts::open(&accounts.target)?;
    assert!(target.properties(&name()).await?.is_none() && target.staged_blocks(&name()).await?.is_empty());
    fixture::copied(accounts.copy(&work, &read, &write).await);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_does_not_exist_is_named_with_its_side() -> Result<()> {
    let accounts = Accounts::start().await?;
    let source = Accounts::open(&accounts.source)?;
    let (etag, _) = write_bundle(&*source, &execution("run", 5), &BLOCKS, Condition::Absent).await;
    let mut work = accounts.work(&etag)?;
    let nowhere: ContainerUrl = format!("{}-nowhere", accounts.target.url).parse()?;
    work.route.target = nowhere.clone();
    let nowhere_sas =
        RigContainer { name: format!("{}-nowhere", accounts.target.name), ..accounts.target.clone() };
    let failure =
        accounts.copy(&work, &accounts.source.full_sas(), &nowhere_sas.full_sas()).await.unwrap_err();
    assert_eq!((failure.class, failure.code), (Class::Permanent, Code::ContainerNotFound), "{failure:?}");
    assert!(failure.message.contains("target") && failure.message.contains(nowhere.as_url().as_str()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_copiers_of_one_bundle_end_in_one_commit() -> Result<()> {
    let accounts = Accounts::start().await?;
    let (source, target) = (Accounts::open(&accounts.source)?, Accounts::open(&accounts.target)?);
    let (etag, _) = write_bundle(&*source, &execution("run", 5), &BLOCKS, Condition::Absent).await;
    let (work, sas) = (accounts.work(&etag)?, (accounts.source.full_sas(), accounts.target.full_sas()));
    let (first, second) =
        tokio::join!(accounts.copy(&work, &sas.0, &sas.1), accounts.copy(&work, &sas.0, &sas.1));
    let (first, second) = (copied(first), copied(second));
    let (bytes, properties) = whole(&target).await?;
    assert_eq!(
        (&first.etag, &second.etag),
        (&properties.etag.0, &properties.etag.0),
        "nobody committed over it"
    );
    assert!(bytes == whole(&source).await?.0, "the same bytes");
    Ok(())
}
