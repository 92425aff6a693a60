//! What opens a container: names of secrets, vaults and identities, and the hosts that get a token.

#[path = "azure/canary.rs"]
mod canary;
#[path = "fake/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use transship_model::{
    BlobName, Class, Code, ContainerUrl, Failure, Identity, Secret, SecretName, StorageCredential,
};
use transship_secrets::{
    AllowedHosts, FixedSecrets, IdentityError, Keyring, STORAGE_AUDIENCE, STORAGE_SUFFIXES, SecretError,
    Secrets, StorageReach, Tokens, VaultDirectories,
};
use transship_storage::{
    Access, BlockId, Condition, Container, Containers, CopySource, DeleteBlob as _, ETag, Metadata,
    ReadContainer as _, StorageError, WriteContainer as _,
};

use crate::canary::Canary;
use crate::server::{Fake, answer, refusal, with_body};

const AZURE: &str = "https://a.blob.core.windows.net/c";
const SAS: &str = "sv=2021-12-02&sr=c&sp=rwdl&spr=https&sig=CANARY%2B";

/// Tokens `CANARY-0`, `CANARY-1` and so on; a new one each time one is refused. Or none.
#[derive(Default)]
struct Given {
    none: bool,
    asked: Mutex<Vec<String>>,
    refused: AtomicUsize,
}

#[async_trait]
impl Tokens for Given {
    async fn token(&self, identity: &Identity, audience: &str) -> Result<Secret, IdentityError> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{identity} {audience}"));
        if self.none {
            return Err(IdentityError::NotAssigned { identity: identity.clone() });
        }
        Ok(Secret::new(&format!("CANARY-{}", self.refused.load(Ordering::SeqCst))))
    }

    async fn forget(&self, _identity: &Identity, _audience: &str, _token: &Secret) {
        self.refused.fetch_add(1, Ordering::SeqCst);
    }
}

/// Secrets that count how often they are read.
struct Counted(FixedSecrets, AtomicUsize);

#[async_trait]
impl Secrets for Counted {
    async fn secret(&self, name: &SecretName) -> Result<Secret, SecretError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.secret(name).await
    }
}

fn keyring(hosts: &[&str], tokens: Given) -> Result<(Keyring, Arc<Given>)> {
    let tokens = Arc::new(tokens);
    let keyring = Keyring {
        tokens: Arc::clone(&tokens) as Arc<dyn Tokens>,
        storage: StorageReach {
            hosts: Some(AllowedHosts::new(hosts)?),
            audience: STORAGE_AUDIENCE.to_owned(),
            plain_http_to_loopback: true,
            directories: false,
        },
        ..Keyring::of_secrets(Arc::new(FixedSecrets::default()))
    };
    Ok((keyring, tokens))
}

fn credential(text: &str) -> StorageCredential {
    text.parse().expect("a credential in a test")
}

fn name(text: &str) -> BlobName {
    text.parse().expect("a name in a test")
}

fn refused<T>(result: Result<T, Failure>) -> Failure {
    result.map(drop).expect_err("it is refused")
}

/// The container of `fake`, by the system's identity.
async fn by_identity(fake: &Fake, tokens: Given) -> Result<(Arc<dyn Container>, Arc<Given>)> {
    let url: ContainerUrl = fake.container.parse()?;
    let host = url.as_url().authority().to_owned();
    let (keyring, tokens) = keyring(&[&host], tokens)?;
    let system = credential("identity:system");
    let container = Containers::with_keyring(keyring).open(&url, Some(&system), Access::WRITE).await?;
    Ok((container, tokens))
}

#[tokio::test]
async fn a_host_that_is_not_listed_and_a_directory_are_refused_without_a_credential_too() -> Result<()> {
    let (keyring, _) = keyring(&[".blob.core.windows.net"], Given::default())?;
    let containers = Containers::with_keyring(keyring);
    for (url, allowed) in [
        ("https://a.blob.core.windows.net/c", true),
        ("https://evil.example/c", false),
        ("https://a.blob.core.windows.net.evil.example/c", false),
        ("file:///etc", false),
    ] {
        let opened = containers.open(&url.parse()?, None, Access::WRITE).await;
        if allowed {
            opened.map_err(|failure| anyhow::anyhow!("{url}: {failure}"))?;
        } else {
            assert_eq!(refused(opened).code, Code::EgressDenied, "{url}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_token_in_a_vault_opens_a_container_and_a_rotated_one_works_at_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (mut keyring, _) = keyring(&STORAGE_SUFFIXES, Given::default())?;
    let directories = BTreeMap::from([("team.vault.azure.net".to_owned(), folder.path().to_owned())]);
    keyring.vaults = Arc::new(VaultDirectories::new(directories, Arc::clone(&keyring.vaults)));
    let containers = Containers::with_keyring(keyring);
    let (url, vault) = (AZURE.parse()?, credential("https://team.vault.azure.net/secrets/sas"));
    let open = || containers.open(&url, Some(&vault), Access::LIST);
    assert_eq!(refused(open().await).code, Code::ConfigurationInvalid, "the secret is not there yet");
    std::fs::write(folder.path().join("sas"), "?sv=1&sr=c&sp=r&sig=x\n")?;
    let lacking = refused(open().await);
    assert_eq!((lacking.code, lacking.class), (Code::SasPermission, Class::Parked));
    std::fs::write(folder.path().join("sas"), format!(" ?{SAS}\n"))?;
    let first = open().await?;
    ensure!(first.copy_source(&name("b")).is_some_and(|url| url.expose().ends_with("sig=CANARY%2B")));
    ensure!(Arc::ptr_eq(&first, &open().await?), "the same token keeps the same connections");
    std::fs::write(folder.path().join("sas"), SAS.replace("CANARY", "other"))?;
    ensure!(!Arc::ptr_eq(&first, &open().await?));
    let elsewhere = credential("https://other.vault.azure.net/secrets/sas");
    assert_eq!(refused(containers.open(&url, Some(&elsewhere), Access::READ).await).code, Code::EgressDenied);
    Ok(())
}

#[tokio::test]
async fn a_check_says_what_to_change_and_opens_nothing() -> Result<()> {
    type Case = (&'static str, &'static str, Access, Code, &'static str, &'static str);
    let cases: [Case; 11] = [
        (
            "sr=c&sp=rwl&se=2020-01-01&sig=x",
            AZURE,
            Access::READ,
            Code::SasExpired,
            "expired at 2020",
            "new SAS token",
        ),
        (
            "sr=c&sp=r&sig=x",
            AZURE,
            Access::LIST,
            Code::SasPermission,
            "lacks permission \"l\"",
            "grants \"l\"",
        ),
        (
            "sr=c&sp=rl&sig=x",
            AZURE,
            Access::WRITE,
            Code::SasPermission,
            "lacks permission \"w\"",
            "grants \"w\"",
        ),
        (
            "sr=c&sp=rl&sig=x",
            AZURE,
            Access::READ_DELETE,
            Code::SasPermission,
            "lacks permission \"d\"",
            "\"d\"",
        ),
        (
            "sr=c&sp=r&st=2999-01-01&sig=x",
            AZURE,
            Access::READ,
            Code::StorageForbidden,
            "valid from 2999",
            "`st`",
        ),
        ("ss=qt&srt=sco&sp=r&sig=x", AZURE, Access::READ, Code::SasPermission, "`ss` has no b", "ss=b"),
        ("ss=b&srt=c&sp=r&sig=x", AZURE, Access::READ, Code::SasPermission, "`srt` has no o", "srt=co"),
        ("ss=b&srt=o&sp=rl&sig=x", AZURE, Access::LIST, Code::SasPermission, "`srt` has no c", "srt=co"),
        ("sr=b&sp=r&sig=x", AZURE, Access::READ, Code::SasPermission, "one blob", "sr=c"),
        (
            "sr=c&sp=r&spr=https&sig=x",
            "http://127.0.0.1:1/a/c",
            Access::READ,
            Code::StorageForbidden,
            "https only",
            "https address",
        ),
        (
            "AccountKey=CANARY",
            AZURE,
            Access::READ,
            Code::ConfigurationInvalid,
            "no `sig`",
            "into the secret sas",
        ),
    ];
    for (token, url, access, code, message, hint) in cases {
        let secrets = FixedSecrets::new([("sas".parse()?, Secret::new(token))]);
        let containers = Containers::new(Arc::new(secrets));
        let failure = refused(containers.check(&url.parse()?, Some(&credential("sas")), access).await);
        let advice = failure.hint.clone().unwrap_or_default();
        ensure!(failure.message.contains(message) && advice.contains(hint), "{failure} / {advice}");
        assert_eq!((failure.code, failure.class), (code, Class::Parked), "{token}");
        ensure!(!format!("{failure:?}").contains("CANARY"), "{failure:?}");
    }
    for token in ["?sr=c&sp=rl&sig=x", "ss=b&srt=sco&sp=acdlrw&sig=x"] {
        let secrets = FixedSecrets::new([("sas".parse()?, Secret::new(token))]);
        let containers = Containers::new(Arc::new(secrets));
        containers.check(&AZURE.parse()?, Some(&credential("sas")), Access::LIST).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_host_that_is_not_listed_gets_no_token_and_no_secret_is_read_for_it() -> Result<()> {
    let (mut keyring, tokens) = keyring(&STORAGE_SUFFIXES, Given::default())?;
    let secrets = Counted(FixedSecrets::new([("sas".parse()?, Secret::new(SAS))]), AtomicUsize::default());
    let secrets = Arc::new(secrets);
    keyring.secrets = Arc::clone(&secrets) as Arc<dyn Secrets>;
    let containers = Containers::with_keyring(keyring);
    let evil = "https://a.blob.core.windows.net.evil.example/c".parse()?;
    for text in ["sas", "https://team.vault.azure.net/secrets/sas", "identity:system"] {
        let failure = refused(containers.open(&evil, Some(&credential(text)), Access::READ).await);
        assert_eq!((failure.code, failure.class), (Code::EgressDenied, Class::Parked), "{text}");
        ensure!(failure.hint.is_some_and(|hint| hint.contains("secrets.storage_suffixes")));
    }
    let fake = Fake::start(|_, _| answer(200, &[])).await?;
    let unlisted = fake.container.parse()?;
    let system = credential("identity:system");
    assert_eq!(
        refused(containers.open(&unlisted, Some(&system), Access::READ).await).code,
        Code::EgressDenied
    );
    ensure!(fake.seen().is_empty() && tokens.asked.lock().unwrap_or_else(PoisonError::into_inner).is_empty());
    assert_eq!(secrets.1.load(Ordering::SeqCst), 0);
    containers.open(&AZURE.parse()?, Some(&credential("sas")), Access::READ).await?;
    assert_eq!(secrets.1.load(Ordering::SeqCst), 1);
    Ok(())
}

#[tokio::test]
async fn a_directory_needs_no_token_and_yet_the_secret_that_is_named() -> Result<()> {
    let containers = Containers::new(Arc::new(FixedSecrets::new([("any".parse()?, Secret::new("text"))])));
    let url = "file:///nowhere".parse()?;
    for text in ["any", "identity:system"] {
        containers.open(&url, Some(&credential(text)), Access::WRITE).await?;
    }
    let failure = refused(containers.open(&url, Some(&credential("other")), Access::WRITE).await);
    assert_eq!((failure.code, failure.class), (Code::ConfigurationInvalid, Class::Parked));
    Ok(())
}

#[tokio::test]
async fn a_process_without_vaults_and_identities_says_so() -> Result<()> {
    let containers = Containers::new(Arc::new(FixedSecrets::default()));
    for text in ["https://team.vault.azure.net/secrets/sas", "identity:system"] {
        let failure = refused(containers.open(&AZURE.parse()?, Some(&credential(text)), Access::READ).await);
        assert_eq!((failure.code, failure.class), (Code::EgressDenied, Class::Parked), "{text}: {failure}");
    }
    Ok(())
}

#[tokio::test]
async fn an_identity_shows_its_token_on_each_request_and_never_in_a_url() -> Result<()> {
    let fake = Fake::start(|_, seen| match seen.method.as_str() {
        "GET" => with_body(206, &[("content-range", "bytes 0-2/3"), ("etag", "\"v\"")], "abc"),
        _ => answer(201, &[("etag", "\"v\"")]),
    })
    .await?;
    let (container, tokens) = by_identity(&fake, Given::default()).await?;
    assert_eq!(container.read(&name("b"), 0..3, None).await?, "abc");
    container.stage(&name("b"), &BlockId::new([1]), Bytes::from_static(b"abc")).await?;
    container.commit(&name("b"), &[BlockId::new([1])], &Metadata::new(), &Condition::Absent).await?;
    ensure!(container.copy_source(&name("b")).is_none(), "no URL alone opens its blobs: they are streamed");
    let seen = fake.seen();
    assert_eq!(seen.len(), 3);
    for request in &seen {
        assert_eq!(request.header("authorization"), "Bearer CANARY-0");
        assert_eq!(request.header("x-ms-version"), "2025-11-05");
        ensure!(!request.target.contains("CANARY"), "{}", request.target);
    }
    let asked = tokens.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ensure!(asked.iter().all(|asked| asked == "identity:system https://storage.azure.com"), "{asked:?}");
    Ok(())
}

#[tokio::test]
async fn a_target_that_an_identity_opens_copies_from_a_source_with_a_sas_token() -> Result<()> {
    let fake = Fake::start(|_, _| answer(201, &[])).await?;
    let (container, _) = by_identity(&fake, Given::default()).await?;
    let source = CopySource {
        url: Secret::new("https://source.example/c/b?sr=c&sig=S"),
        range: 0..4_096,
        etag: ETag("\"v\"".into()),
    };
    container.stage_from(&name("b"), &BlockId::new([1]), &source).await?;
    let seen = fake.seen();
    assert_eq!(seen[0].header("authorization"), "Bearer CANARY-0");
    assert_eq!(seen[0].header("x-ms-copy-source"), "https://source.example/c/b?sr=c&sig=S");
    Ok(())
}

#[tokio::test]
async fn a_token_that_the_service_refuses_is_replaced_once() -> Result<()> {
    let fake = Fake::start(|_, seen| match seen.header("authorization") {
        "Bearer CANARY-0" => refusal(401, "InvalidAuthenticationInfo"),
        _ => answer(201, &[]),
    })
    .await?;
    let (container, tokens) = by_identity(&fake, Given::default()).await?;
    container.stage(&name("b"), &BlockId::new([1]), Bytes::from_static(b"abc")).await?;
    assert_eq!((fake.seen().len(), tokens.refused.load(Ordering::SeqCst)), (2, 1));
    assert_eq!(fake.seen()[1].body_length, 3);
    let fake = Fake::start(|_, _| refusal(401, "InvalidAuthenticationInfo")).await?;
    let (container, _) = by_identity(&fake, Given::default()).await?;
    let failure = Failure::from(container.properties(&name("b")).await.map(drop).expect_err("it is refused"));
    assert_eq!((failure.code, failure.class), (Code::StorageForbidden, Class::Parked));
    assert_eq!(fake.seen().len(), 2);
    Ok(())
}

#[tokio::test]
async fn an_identity_without_a_role_is_told_which_one_it_lacks() -> Result<()> {
    let fake = Fake::start(|_, _| refusal(403, "AuthorizationPermissionMismatch")).await?;
    let (container, _) = by_identity(&fake, Given::default()).await?;
    let error = container.list("", None).await.map(drop).expect_err("it is refused");
    ensure!(matches!(error, StorageError::IdentityForbidden { .. }), "{error}");
    let failure = Failure::from(error);
    ensure!(failure.message.contains("refuses identity:system (listing blobs)"), "{failure}");
    ensure!(failure.hint.is_some_and(|hint| hint.contains("Storage Blob Data Contributor")));
    Ok(())
}

#[tokio::test]
async fn an_identity_that_gives_no_token_is_named_before_work_starts_and_in_its_middle() -> Result<()> {
    let fake = Fake::start(|_, _| answer(201, &[])).await?;
    let none = || Given { none: true, ..Given::default() };
    let early = by_identity(&fake, none()).await.map(drop).expect_err("there is no token");
    let failure: Failure = early.downcast()?;
    assert_eq!((failure.code, failure.class), (Code::IdentityUnavailable, Class::Parked));
    ensure!(failure.message.contains("identity:system is not assigned"), "{failure}");
    let access = transship_storage::IdentityAccess {
        identity: Identity::System,
        tokens: Arc::new(none()),
        audience: STORAGE_AUDIENCE.to_owned(),
    };
    let url = fake.container.parse()?;
    let container = transship_storage::AzureContainer::with_identity(url, access, Default::default())?;
    let late = container.delete(&name("b"), &ETag("\"v\"".into())).await.expect_err("there is no token");
    ensure!(matches!(late, StorageError::NoToken { .. }), "{late:?}");
    assert_eq!(Failure::from(late).code, Code::IdentityUnavailable);
    ensure!(fake.seen().is_empty());
    Ok(())
}

#[tokio::test]
async fn no_token_of_an_identity_is_in_a_log_an_error_or_debug_output() -> Result<()> {
    let mut canary = Canary::watch(["sig=CANARY-0", "sig=CANARY-1"]);
    for status in [201, 400, 401, 403, 418, 503] {
        // What was sent comes back, as a careless server would write it.
        let fake = Fake::start(move |_, seen| {
            with_body(status, &[("etag", "\"v\"")], seen.header("authorization").to_owned())
        })
        .await?;
        let url: ContainerUrl = fake.container.parse()?;
        let (keyring, _) = keyring(&[url.as_url().authority()], Given::default())?;
        let system = credential("identity:system");
        let access = transship_storage::IdentityAccess {
            identity: Identity::System,
            tokens: Arc::clone(&keyring.tokens),
            audience: STORAGE_AUDIENCE.to_owned(),
        };
        let settings = transship_storage::AzureSettings { tries: 1, ..Default::default() };
        let container = transship_storage::AzureContainer::with_identity(url.clone(), access, settings)?;
        canary.look_at(&container);
        canary.check(container.stage(&name("b"), &BlockId::new([1]), Bytes::from_static(b"abc")).await);
        canary.check(container.list("", None).await);
        canary.check(container.read(&name("b"), 0..3, None).await);
        canary.check(Containers::with_keyring(keyring).check(&url, Some(&system), Access::READ).await);
    }
    ensure!(canary.seen() > 12, "only {} errors were looked at", canary.seen());
    canary.end()
}
