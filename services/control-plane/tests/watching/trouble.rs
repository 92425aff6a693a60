//! Schedules of a registry that does not always answer, and of artifacts that cannot be carried.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use transship_control_plane::fold::PartState;
use transship_control_plane::notify::PushHint;
use transship_control_plane::schedule::{Catalogs, Schedules};
use transship_control_plane::state::{Action, RunKind, RunRecord, RunState};
use transship_messages::{Fact, FactBody};
use transship_model::{Code, Counters, Digest, Failure, Part, RegistryName, Repository, Stage};
use transship_registry::{Catalog, MemoryRegistry, Operation, RegistryError};

use crate::scene::{Running, Scene, until};
use crate::schedules::{carried, run_schedules};

/// The registry of every name.
struct Only(MemoryRegistry);

impl Catalogs for Only {
    fn catalog(&self, _: &RegistryName) -> Result<Arc<dyn Catalog>, Failure> {
        Ok(Arc::new(self.0.clone()))
    }
}

fn unavailable() -> RegistryError {
    let (host, operation, reason) = ("twin".to_owned(), "HEAD".to_owned(), "busy".to_owned());
    RegistryError::Unavailable { host, operation, reason, retry_after: None }
}

/// A registry with these tags in `team/app`.
fn registry(tags: &[&str]) -> Result<MemoryRegistry> {
    let registry = MemoryRegistry::new("twin");
    tags.iter().try_for_each(|tag| push(&registry, tag))?;
    Ok(registry)
}

fn push(registry: &MemoryRegistry, tag: &str) -> Result<()> {
    registry.tag(&repository(), &tag.parse()?, &Digest::sha256(tag.as_bytes()));
    Ok(())
}

fn repository() -> Repository {
    "team/app".parse().expect("a name")
}

fn schedules(scene: &Scene, registry: &MemoryRegistry) -> (Arc<Schedules>, Running) {
    run_schedules(scene, Arc::new(Only(registry.clone())))
}

#[tokio::test]
async fn a_look_that_a_registry_did_not_answer_is_made_again_without_an_interval_too() -> Result<()> {
    for failing in [Operation::Tags, Operation::Current] {
        let (scene, registry) = (Scene::new("http://127.0.0.1:9").await?, registry(&["v1"])?);
        registry.inject(move |operation, count| (operation == failing && count == 1).then(unavailable));
        scene.schedule("pushed", json!({ "repositories": ["team/app"], "batchSeconds": 0 })).await?;
        let (_schedules, _running) = schedules(&scene, &registry);
        until("a run", async || Ok(!scene.runs().await?.is_empty())).await?;
        assert_eq!(carried(&scene).await?, [["v1"]], "{failing:?}");
        assert_eq!(registry.count(failing), 2);
    }
    Ok(())
}

#[tokio::test]
async fn a_pushed_tag_that_a_registry_did_not_resolve_is_looked_at_again() -> Result<()> {
    let (scene, registry) = (Scene::new("http://127.0.0.1:9").await?, registry(&[])?);
    let id = scene.schedule("pushed", json!({ "repositories": ["team/app"], "batchSeconds": 0 })).await?;
    let (schedules, _running) = schedules(&scene, &registry);
    until("the first look", async || Ok(schedules.status(&id).is_some())).await?;
    registry.inject(|operation, count| (operation == Operation::Current && count <= 2).then(unavailable));
    push(&registry, "v1")?;
    schedules.pushed(vec![PushHint {
        repository: repository(),
        tag: "v1".parse()?,
        digest: None,
        host: None,
    }]);
    until("a run", async || Ok(!scene.runs().await?.is_empty())).await?;
    assert_eq!(carried(&scene).await?, [["v1"]]);
    assert_eq!(registry.count(Operation::Current), 3);
    Ok(())
}

fn continues(run: &RunRecord) -> Result<bool> {
    let Action::Export { options, .. } = &run.pipeline.action else { bail!("not an export") };
    Ok(options.continue_on_errors)
}

#[tokio::test]
async fn one_tag_that_cannot_be_carried_holds_up_neither_new_ones_nor_those_beside_it() -> Result<()> {
    let scene = Scene::new("http://127.0.0.1:9").await?;
    let registry = registry(&["v1", "v2", "v3"])?;
    scene.schedule("often", json!({ "repositories": ["team/app"], "intervalSeconds": 1 })).await?;
    let (_schedules, _running) = schedules(&scene, &registry);
    until("a run", async || Ok(!scene.runs().await?.is_empty())).await?;
    let first = scene.runs().await?.pop().context("a run")?;
    ensure!(!continues(&first)?, "as the pipeline says");
    // It failed long ago, as far as the pause is concerned.
    push(&registry, "v4")?;
    let failed = RunState::Failed { code: Code::ArtifactNotFound, message: "v2 has no layer".to_owned() };
    scene.store.end_run(&first.execution, RunKind::Export, failed, 10).await?;
    until("a run for v4 and two more", async || Ok(scene.runs().await?.len() >= 4)).await?;
    let runs = carried(&scene).await?;
    let alone = runs.iter().position(|tags| tags == &["v4"]).context("the new one travels by itself")?;
    ensure!(!continues(&scene.runs().await?[alone])?);
    let runs = scene.runs().await?;
    let halves = runs.iter().filter(|run| continues(run).is_ok_and(|continues| continues));
    let mut sizes: Vec<usize> = halves.map(|run| run.request.artifacts.len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 2], "halves that leave out what they cannot carry");
    Ok(())
}

#[tokio::test]
async fn a_tag_whose_copy_was_given_up_is_carried_again_though_its_export_succeeded() -> Result<()> {
    let (scene, registry) = (Scene::new("http://127.0.0.1:9").await?, registry(&["v1"])?);
    let id = scene.schedule("often", json!({ "repositories": ["team/app"], "intervalSeconds": 1 })).await?;
    let (schedules, _running) = schedules(&scene, &registry);
    until("a run", async || Ok(!scene.runs().await?.is_empty())).await?;
    let run = scene.runs().await?.pop().context("a run")?;
    let part = PartState::new(["team/app:v1".parse()?]);
    ensure!(scene.store.begin_run(&run.execution, vec![(1, part)], vec![], 1).await?);
    let target = "https://a.example/inbox".parse()?;
    let told = |stage: Stage, body| Fact {
        execution: run.execution.clone(),
        part: Part::ONLY,
        stage,
        attempt: 1,
        target: (stage == Stage::BlobCopier).then(|| Clone::clone(&target)),
        at_ms: 1,
        body,
    };
    let exported = FactBody::BundleExported {
        container: run.pipeline.container.clone(),
        blob: run.blob.clone(),
        etag: "e".to_owned(),
        length: 1,
        catalog_digest: Digest::sha256(b"index"),
        counters: Counters::default(),
        failed: vec![],
        routes: vec![],
    };
    let copying = FactBody::Progress { counters: Counters::default(), in_flight: vec![] };
    // Long ago, as far as the pause is concerned.
    scene.store.fold(told(Stage::BlobCopier, copying), 5).await?;
    scene.store.fold(told(Stage::Exporter, exported), 10).await?;
    let checked = || schedules.status(&id).and_then(|status| status.checked_ms);
    for _ in 0..2 {
        let before = checked();
        until("another look", async || Ok(checked() > before)).await?;
    }
    assert_eq!(scene.runs().await?.len(), 1, "its copy is under way");
    let (code, message) = (Code::SasExpired, "the token expired".to_owned());
    let failed = FactBody::Failed { code, message, hint: None, terminal: true, container: None };
    scene.store.fold(told(Stage::BlobCopier, failed), 20).await?;
    until("another run", async || Ok(scene.runs().await?.len() == 2)).await?;
    assert_eq!(carried(&scene).await?, [["v1"], ["v1"]]);
    Ok(())
}
