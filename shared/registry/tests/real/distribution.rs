//! Against the CNCF distribution registry, 2.8.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use serde_json::json;
use transship_model::{Digest, MediaType, Repository, Secret, Tag};
use transship_registry::{
    Content, Credentials, DockerConfig, RegistryClient, RegistryError, RegistrySettings,
    ResumableTarget as _, Source as _, StaticCredentials, Target as _,
};
use transship_rig::{Registry, RegistryOptions, Side};

use crate::contract::{image, manifest, media_type, tagged};
use crate::{Memory, Pattern, contract, hash};

const MIB: u64 = 1024 * 1024;

fn client(registry: &Registry) -> RegistryClient {
    RegistryClient::new(RegistrySettings::new(registry.url())).unwrap()
}

/// A prefix that no other run on the same registry uses.
fn fresh(name: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("{name}-{}-{}", std::process::id(), now.as_nanos())
}

fn repository(name: &str) -> Repository {
    fresh(name).parse().unwrap()
}

#[tokio::test]
async fn the_distribution_registry_holds_the_contract() {
    let registry = Registry::shared(Side::Target).await.unwrap();
    contract::holds(&client(&registry), &fresh("contract")).await;
}

#[tokio::test]
async fn one_connection_is_enough_for_everything() {
    let registry = Registry::shared(Side::Target).await.unwrap();
    let mut settings = RegistrySettings::new(registry.url());
    settings.limits.connections = 1;
    let client = RegistryClient::new(settings).unwrap();
    // A request that needs a second one while it holds the only place would wait for ever.
    let deadline = std::time::Duration::from_secs(60);
    tokio::time::timeout(deadline, contract::holds(&client, &fresh("narrow"))).await.unwrap();
}

#[tokio::test]
async fn relative_upload_locations_are_followed() {
    let options = RegistryOptions { relative_urls: true, ..RegistryOptions::default() };
    let registry = Registry::start_with(options).await.unwrap();
    contract::holds(&client(&registry), "contract").await;
}

#[tokio::test]
async fn every_form_of_upload_arrives() {
    let registry = Registry::shared(Side::Target).await.unwrap();
    let content = Pattern(10 * MIB + 77);
    let digest = content.digest();
    for chunk in [u64::MAX, 3 * MIB] {
        let repository = repository("forms");
        let client = client(&registry);
        let mut session = client.begin_upload(&repository, &digest).await.unwrap();
        while session.offset() < content.length() {
            let length = chunk.min(content.length() - session.offset());
            session = client.continue_upload(&session, &digest, &content, length).await.unwrap();
        }
        client.finish_upload(&session, &digest).await.unwrap();
        assert_eq!(
            hash(client.blob(&repository, &digest, None).await.unwrap()).await,
            (digest.clone(), content.length())
        );
    }
}

#[tokio::test]
async fn a_large_layer_takes_little_memory_in_both_directions() {
    let registry = Registry::shared(Side::Target).await.unwrap();
    let (client, repository) = (client(&registry), repository("large"));
    let content = Pattern(384 * MIB);
    let digest = content.digest();
    let before = peak_memory();
    client.upload(&repository, &digest, &content).await.unwrap();
    let blob = client.blob(&repository, &digest, None).await.unwrap();
    assert_eq!(hash(blob).await, (digest, content.length()));
    let grown = peak_memory() - before;
    assert!(grown < 32 * MIB, "the peak grew by {} MiB", grown / MIB);
}

/// The most memory that this process ever had, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn a_password_opens_the_registry_and_nothing_else_does() {
    let (user, password) = ("robot".to_owned(), "CANARY-pass:word".to_owned());
    let options =
        RegistryOptions { htpasswd: Some((user.clone(), password.clone())), ..RegistryOptions::default() };
    let registry = Registry::start_with(options).await.unwrap();
    let with = |credentials: Credentials| {
        let source = Arc::new(StaticCredentials(credentials));
        RegistryClient::new(RegistrySettings::new(registry.url()).with_credentials(source)).unwrap()
    };
    contract::holds(&with(Credentials::basic(&user, &Secret::new(&password))), "contract").await;
    for wrong in [Credentials::anonymous(), Credentials::basic(&user, &Secret::new("CANARY-wrong"))] {
        let repository = "contract/manifests".parse().unwrap();
        let failed = with(wrong).manifest(&repository, &tagged("v1")).await.unwrap_err();
        assert!(matches!(failed, RegistryError::Forbidden { .. }), "{failed}");
        assert!(!format!("{failed} {failed:?}").contains("CANARY"));
    }
    // The same from a configuration file, as `docker login` writes it.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    let file = json!({ "auths": { registry.host(): { "username": user, "password": password } } });
    std::fs::write(&path, file.to_string()).unwrap();
    let settings = RegistrySettings::new(registry.url()).with_credentials(Arc::new(DockerConfig::at(path)));
    let client = RegistryClient::new(settings).unwrap();
    let repository: Repository = "other".parse().unwrap();
    let image = image(&client, &repository, b"{}", None).await;
    client
        .put_manifest(&repository, &tagged("v1"), &media_type(MediaType::OCI_MANIFEST), &image)
        .await
        .unwrap();
}

#[tokio::test]
async fn docker_formats_arrive_and_a_type_nobody_knows_is_refused_by_name() {
    let registry = Registry::shared(Side::Target).await.unwrap();
    let (client, repository) = (client(&registry), repository("types"));
    let oci = image(&client, &repository, b"{}", None).await;
    let config: serde_json::Value =
        serde_json::from_slice::<serde_json::Value>(&oci.bytes).unwrap()["config"].clone();
    let docker = manifest(
        &json!({ "schemaVersion": 2, "mediaType": MediaType::DOCKER_MANIFEST, "config": config, "layers": [] }),
    );
    let docker_type = media_type(MediaType::DOCKER_MANIFEST);
    client.put_manifest(&repository, &tagged("docker"), &docker_type, &docker).await.unwrap();
    let back = client.manifest(&repository, &tagged("docker")).await.unwrap();
    assert_eq!((back.bytes, back.content_type), (docker.bytes, Some(docker_type)));
    let unknown = manifest(
        &json!({ "schemaVersion": 2, "mediaType": "application/vnd.acme.rocket.v1+json", "config": config }),
    );
    let put = client
        .put_manifest(
            &repository,
            &tagged("rocket"),
            &media_type("application/vnd.acme.rocket.v1+json"),
            &unknown,
        )
        .await;
    // This registry takes only the types that it knows.
    let failed = put.unwrap_err();
    assert!(
        matches!(&failed, RegistryError::Refused { code, .. } if code == "400 MANIFEST_INVALID"),
        "{failed}"
    );
}

#[tokio::test]
async fn many_tags_are_listed() {
    let registry = Registry::shared(Side::Target).await.unwrap();
    let (client, repository) = (client(&registry), repository("tags"));
    let image = image(&client, &repository, b"{}", None).await;
    let oci = media_type(MediaType::OCI_MANIFEST);
    let names: Vec<String> = (0..120).map(|number| format!("t{number:04}")).collect();
    let selectors: Vec<_> = names.iter().map(|name| tagged(name)).collect();
    stream::iter(&selectors)
        .for_each_concurrent(8, |selector| async {
            client.put_manifest(&repository, selector, &oci, &image).await.unwrap();
        })
        .await;
    let listed: Vec<String> = client.tags(&repository).await.unwrap().iter().map(Tag::to_string).collect();
    assert_eq!(listed, names);
}

/// Content that ends the registry in the middle of the first upload, and starts it again.
struct Killing {
    registry: Arc<Registry>,
    opened: Arc<AtomicUsize>,
    length: u64,
}

impl Content for Killing {
    fn length(&self) -> u64 {
        self.length
    }

    fn open(&self, offset: u64) -> Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>> {
        let (registry, opened) = (self.registry.clone(), self.opened.clone());
        let first = opened.fetch_add(1, Ordering::SeqCst) == 0;
        let mut sent = 0;
        Box::pin(Pattern(self.length).open(offset).then(move |piece| {
            sent += piece.as_ref().map_or(0, Bytes::len) as u64;
            let kill = first && (2 * MIB..2 * MIB + crate::BLOCK as u64).contains(&sent);
            let registry = registry.clone();
            if kill {
                // In a task of its own: this body ends with the connection that it is sent over.
                drop(tokio::spawn(async move {
                    registry.kill().await.unwrap();
                    registry.start_again().await.unwrap();
                }));
            }
            async move {
                if kill {
                    // Nothing more is sent before the connection breaks.
                    std::future::pending::<()>().await;
                }
                piece
            }
        }))
    }
}

#[tokio::test]
async fn a_registry_that_is_killed_in_the_middle_of_an_upload_gets_it_again() {
    let registry = Arc::new(Registry::start().await.unwrap());
    let opened = Arc::new(AtomicUsize::new(0));
    let content = Killing { registry: registry.clone(), opened: opened.clone(), length: 8 * MIB };
    let (client, repository, digest) = (client(&registry), repository("killed"), Pattern(8 * MIB).digest());
    client.upload(&repository, &digest, &content).await.unwrap();
    assert_eq!(opened.load(Ordering::SeqCst), 2);
    assert_eq!(hash(client.blob(&repository, &digest, None).await.unwrap()).await.0, digest);
}

#[tokio::test]
async fn a_session_outlives_a_restart_of_the_registry() {
    let registry = Registry::start().await.unwrap();
    let mut settings = RegistrySettings::new(registry.url());
    settings.limits.first_pause = std::time::Duration::from_millis(1);
    let (client, repository) = (RegistryClient::new(settings).unwrap(), repository("restarted"));
    let digest = Digest::sha256(b"one two");
    let session = client.begin_upload(&repository, &digest).await.unwrap();
    let content = Memory(b"one two"[..].into());
    let session = client.continue_upload(&session, &digest, &content, 4).await.unwrap();
    registry.stop().await.unwrap();
    let gone = client.has_blob(&repository, &digest).await.unwrap_err();
    assert!(matches!(gone, RegistryError::Unavailable { .. }), "{gone}");
    registry.start_again().await.unwrap();
    let session = client.continue_upload(&session, &digest, &content, 3).await.unwrap();
    client.finish_upload(&session, &digest).await.unwrap();
    assert!(client.has_blob(&repository, &digest).await.unwrap());
}

#[tokio::test]
async fn a_registry_that_takes_no_writes_says_so() {
    let options = RegistryOptions { read_only: true, ..RegistryOptions::default() };
    let registry = Registry::start_with(options).await.unwrap();
    let client = client(&registry);
    let content = Pattern(10);
    let failed = client.upload(&"x".parse().unwrap(), &content.digest(), &content).await.unwrap_err();
    assert!(matches!(&failed, RegistryError::Refused { code, .. } if code.starts_with("405")), "{failed}");
}

#[tokio::test]
async fn repositories_are_listed_and_tags_resolved() {
    let registry = Registry::shared(Side::Target).await.unwrap();
    let (client, twin) = (client(&registry), transship_registry::MemoryRegistry::new("twin.example"));
    let name = repository("catalog/b");
    let tag: Tag = "v1".parse().unwrap();
    let all: [&dyn transship_registry::ResumableTarget; 2] = [&client, &twin];
    for target in all {
        // This registry lists a repository only once it has a blob.
        let (content, digest) = (Memory(b"blob"[..].into()), Digest::sha256(b"blob"));
        target.upload(&name, &digest, &content).await.unwrap();
        let bytes =
            manifest(&json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [] }));
        target.put_manifest(&name, &tagged("v1"), &media_type(MediaType::OCI_INDEX), &bytes).await.unwrap();
    }
    let catalogs: [&dyn transship_registry::Catalog; 2] = [&client, &twin];
    for catalog in catalogs {
        let listed = catalog.list_repositories().await.unwrap().unwrap();
        assert!(listed.contains(&name) && listed.is_sorted(), "{listed:?}");
        let found = catalog.current(&name, &tag).await.unwrap();
        assert_eq!(found, client.manifest(&name, &tagged("v1")).await.ok().map(|manifest| manifest.digest));
        assert_eq!(catalog.current(&name, &"v2".parse().unwrap()).await.unwrap(), None);
    }
}
