//! Schedules against the CNCF distribution registry.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use transship_control_plane::notify::registry_push;
use transship_control_plane::schedule::{Catalogs, RegistryCatalogs, ScheduleSettings, Schedules};
use transship_control_plane::state::{Origin, RunKind, RunState};
use transship_model::{Code, Digest, MediaType, Repository, Selector};
use transship_registry::{Content, Manifest, RegistryClient, RegistrySettings, Target as _};
use transship_rig::{Registry, Side};
use transship_secrets::{FixedSecrets, Keyring};

use crate::scene::{Running, Scene, fresh, until};

struct Memory(bytes::Bytes);

impl Content for Memory {
    fn length(&self) -> u64 {
        self.0.len() as u64
    }

    fn open(
        &self,
        offset: u64,
    ) -> std::pin::Pin<Box<dyn futures::Stream<Item = std::io::Result<bytes::Bytes>> + Send>> {
        let rest = self.0.slice(offset as usize..);
        Box::pin(futures::stream::once(async move { Ok(rest) }))
    }
}

/// A registry with a repository of this test's own.
pub(crate) struct Source {
    pub(crate) registry: Registry,
    client: RegistryClient,
    pub(crate) repository: Repository,
}

impl Source {
    pub(crate) async fn new() -> Result<Self> {
        let registry = Registry::shared(Side::Source).await?;
        let client = RegistryClient::new(RegistrySettings::new(registry.url()))?;
        let repository = format!("scheduled/{}", fresh("app")).parse()?;
        Ok(Self { registry, client, repository })
    }

    /// Pushes an image that is made of `content`; its digest.
    pub(crate) async fn push(&self, tag: &str, content: &str) -> Result<Digest> {
        let config = bytes::Bytes::copy_from_slice(content.as_bytes());
        let digest = Digest::sha256(&config);
        self.client.upload(&self.repository, &digest, &Memory(config.clone())).await?;
        let json = json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "layers": [],
            "config": { "mediaType": "application/vnd.acme.config", "digest": digest, "size": config.len() },
        });
        let bytes = bytes::Bytes::from(json.to_string());
        let manifest = Manifest { digest: Digest::sha256(&bytes), content_type: None, bytes };
        let media_type: MediaType = MediaType::OCI_MANIFEST.parse()?;
        self.client
            .put_manifest(&self.repository, &Selector::Tag(tag.parse()?), &media_type, &manifest)
            .await?;
        Ok(manifest.digest)
    }

    /// The notification that the registry would send for a push.
    pub(crate) fn notification(&self, tag: &str) -> String {
        json!({ "events": [{
            "action": "push", "request": { "host": self.registry.host() },
            "target": { "repository": self.repository, "tag": tag, "mediaType": MediaType::OCI_MANIFEST },
        }] })
        .to_string()
    }
}

pub(crate) fn schedules(scene: &Scene) -> (Arc<Schedules>, Running) {
    let keyring = Keyring::of_secrets(Arc::new(FixedSecrets::default()));
    run_schedules(scene, Arc::new(RegistryCatalogs::new(Arc::clone(&scene.registries), keyring)))
}

/// The schedules of `scene` over these registries, under way.
pub(crate) fn run_schedules(scene: &Scene, catalogs: Arc<dyn Catalogs>) -> (Arc<Schedules>, Running) {
    let (store, registries) = (scene.store.clone(), Arc::clone(&scene.registries));
    let schedules = Arc::new(Schedules::new(store, registries, catalogs, ScheduleSettings::default()));
    let running = Arc::clone(&schedules);
    (schedules, Running::start(|stop| async move { running.run(stop).await }))
}

/// What the runs carry, each as its sorted artifacts without the repository, oldest first.
pub(crate) async fn carried(scene: &Scene) -> Result<Vec<Vec<String>>> {
    let tags = |artifacts: Vec<String>| {
        let mut tags: Vec<String> =
            artifacts.iter().filter_map(|a| a.rsplit_once(':')).map(|(_, tag)| tag.to_owned()).collect();
        tags.sort();
        tags
    };
    Ok(scene.runs().await?.into_iter().map(|run| tags(run.request.artifacts)).collect())
}

async fn end_last(scene: &Scene, state: RunState, ended_ms: i64) -> Result<()> {
    let run = scene.runs().await?.pop().context("a run")?;
    ensure!(scene.store.end_run(&run.execution, RunKind::Export, state, ended_ms).await?);
    Ok(())
}

#[tokio::test]
async fn polling_carries_what_appears_and_moves_and_tries_again_what_failed() -> Result<()> {
    let source = Source::new().await?;
    let scene = Scene::new(&source.registry.url()).await?;
    source.push("v1", "one").await?;
    source.push("v2", "two").await?;
    source.push("other", "not selected").await?;
    let hex = source.push("v3-rc1", "not selected either").await?.hex().to_owned();
    source.push(&format!("sha256-{hex}.sig"), "a signature").await?;
    source.push(&format!("sha256-{hex}"), "referrers").await?;
    // Every repository that fits the pattern is found in the registry's list.
    let pattern = source.repository.as_str().replace("scheduled/", "**/");
    let schedule = json!({
        "repositories": [pattern],
        "tags": { "globs": ["v*", "sha256-*"], "exclude": ["*-rc*"] },
        "intervalSeconds": 1, "batchSeconds": 0, "blobName": "{pipeline}/{date}",
    });
    let id = scene.schedule("nightly", schedule).await?;
    let (schedules, _running) = schedules(&scene);
    until("a run", async || Ok(!scene.runs().await?.is_empty())).await?;
    assert_eq!(carried(&scene).await?, [["v1", "v2"]], "both in one run, and nothing else");
    let run = scene.runs().await?.pop().context("a run")?;
    ensure!(run.id.name().starts_with("nightly_") && run.origin == Origin::Schedule, "{:?}", run.id);
    ensure!(run.blob.as_str().starts_with("nightly/20"), "{}", run.blob);
    // What is on its way is not sent again, and a tag that moves meanwhile waits for the end of its run.
    source.push("v1", "one, moved").await?;
    source.push("v4", "four").await?;
    until("a run for v4", async || Ok(scene.runs().await?.len() == 2)).await?;
    assert_eq!(carried(&scene).await?[1], ["v4"]);
    let first = &scene.runs().await?[0];
    let succeeded = RunState::Succeeded { message: None };
    scene.store.end_run(&first.execution, RunKind::Export, succeeded.clone(), 10).await?;
    until("a run for v1", async || Ok(scene.runs().await?.len() == 3)).await?;
    assert_eq!(carried(&scene).await?[2], ["v1"]);
    // It failed long ago, as far as the pause is concerned.
    let failed = RunState::Failed { code: Code::RegistryUnavailable, message: "busy".to_owned() };
    end_last(&scene, failed, 10).await?;
    until("another run for v1", async || Ok(scene.runs().await?.len() == 4)).await?;
    assert_eq!(carried(&scene).await?[3], ["v1"]);
    end_last(&scene, succeeded, 10).await?;
    let checked = || schedules.status(&id).and_then(|status| status.checked_ms);
    let before = checked();
    until("another look", async || Ok(checked() > before)).await?;
    assert_eq!(scene.runs().await?.len(), 4, "everything is there");
    assert_eq!(schedules.status(&id).context("a status")?.seen, 3);
    let blobs: std::collections::BTreeSet<_> = scene.runs().await?.into_iter().map(|run| run.blob).collect();
    assert_eq!(blobs.len(), 4, "each bundle has its own name");
    Ok(())
}

#[tokio::test]
async fn notifications_carry_what_was_pushed_at_once_and_together() -> Result<()> {
    let source = Source::new().await?;
    let scene = Scene::new(&source.registry.url()).await?;
    let id =
        scene.schedule("pushed", json!({ "repositories": [source.repository], "batchSeconds": 2 })).await?;
    let (schedules, _running) = schedules(&scene);
    until("the first look", async || Ok(schedules.status(&id).is_some())).await?;
    let mut hex = String::new();
    for tag in ["v1", "v2", "v3"] {
        hex = source.push(tag, tag).await?.hex().to_owned();
        schedules.pushed(registry_push(source.notification(tag).as_bytes())?);
        // Delivered twice, as registries do.
        schedules.pushed(registry_push(source.notification(tag).as_bytes())?);
    }
    let took = until("a run", async || Ok(!scene.runs().await?.is_empty())).await?;
    ensure!(took < Duration::from_secs(4), "{took:?}");
    assert_eq!(carried(&scene).await?, [["v1", "v2", "v3"]]);
    // A signature starts nothing, and neither does a notification about what is not there or was carried.
    let signature = format!("sha256-{hex}.sig");
    source.push(&signature, "a signature").await?;
    for tag in [signature.as_str(), "nothing", "v1"] {
        schedules.pushed(registry_push(source.notification(tag).as_bytes())?);
    }
    source.push("v4", "four").await?;
    schedules.pushed(registry_push(source.notification("v4").as_bytes())?);
    until("a second run", async || Ok(scene.runs().await?.len() == 2)).await?;
    assert_eq!(carried(&scene).await?[1], ["v4"]);
    // A tag that moves makes another run once the one that carries it is over.
    source.push("v4", "four, moved").await?;
    schedules.pushed(registry_push(source.notification("v4").as_bytes())?);
    end_last(&scene, RunState::Succeeded { message: None }, 10).await?;
    until("a third run", async || Ok(scene.runs().await?.len() == 3)).await?;
    assert_eq!(carried(&scene).await?[2], ["v4"]);
    Ok(())
}

#[tokio::test]
async fn a_schedule_that_cannot_work_says_why() -> Result<()> {
    let source = Source::new().await?;
    let scene = Scene::new("http://127.0.0.1:9").await?;
    let away = scene.schedule("away", json!({ "repositories": ["**"], "intervalSeconds": 1 })).await?;
    let wrong = json!({ "repositories": ["Not A Pattern"], "intervalSeconds": 1 });
    let wrong = scene.schedule("wrong", wrong).await?;
    let (schedules, _running) = schedules(&scene);
    for (id, expected) in [(&wrong, "its patterns are not right (PUT"), (&away, "127.0.0.1:9")] {
        let problem = || schedules.status(id).and_then(|status| status.problem);
        until("a problem", async || Ok(problem().is_some())).await?;
        let problem = problem().context("a problem")?;
        ensure!(problem.contains(expected), "{problem}");
    }
    drop(source);
    Ok(())
}
