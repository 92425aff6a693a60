//! Who imports a bundle, where several could.

use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use transship_bus::WorkQueue;
use transship_control_plane::facts::Adopt;
use transship_control_plane::runtime::{Core, Runtime};
use transship_control_plane::state::{NewExecution, NewRun, RunState, Store};
use transship_messages::{ArtifactOutcome, ArtifactResult, Fact, FactBody, ImportRequested};
use transship_model::{Digest, Execution, Failure, Part, Stage};
use transship_telemetry::Metrics;

use crate::scene::{Scene, Stub, counters, fact_of, put, quick, run_id, tell, within};

/// What an importer says when it is done: what became of the one artifact, then of the bundle.
fn imported(scene: &Scene) -> [FactBody; 2] {
    let results = vec![ArtifactResult {
        reference: "team/app:1".parse().expect("a reference"),
        imported_as: None,
        digest: Some(Digest::sha256(b"app")),
        outcome: ArtifactOutcome::Moved,
    }];
    let bundle = FactBody::BundleImported {
        pipeline: "target.inbox".parse().expect("a name"),
        container: scene.url(),
        blob: "bundle".parse().expect("a name"),
        catalog_digest: Some(Digest::sha256(b"index")),
        counters: counters(1),
        message: None,
    };
    [FactBody::ArtifactImported { container: scene.url(), results }, bundle]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_waits_for_another_run_that_imports_the_same_bundle() -> Result<()> {
    let scene = Scene::start().await?;
    let plane = scene.plane(quick()).await?;
    let mut importer = Stub::of(&scene, WorkQueue::ImporterImports).await?;
    scene.put_blob("bundle").await?;
    plane.put(scene.import("first")).await?;
    let work: ImportRequested = importer.take().await?;
    plane.put(scene.import("second")).await?;
    let on = plane.waits("second", "the run ").await?;
    assert!(on.contains("pipelineRuns/first") && on.contains("the same bundle"), "{on}");
    assert!(importer.is_idle().await, "the bundle is imported once at a time");
    for (body, number) in imported(&scene).into_iter().zip(0..) {
        let fact = Fact { target: Some(scene.url()), ..fact_of(&work, Stage::Importer, 1, body) };
        importer.tell(&fact, number).await?;
    }
    plane.succeeded("first").await?;
    // It was asked for, so it is done, and finds everything there.
    let again: ImportRequested = importer.take().await?;
    assert_eq!(again.execution.id.as_str(), "run-second");
    plane.stop().await
}

/// Makes a run of whatever it hears of.
struct Adopter {
    store: Store,
    new: NewRun,
}

#[async_trait]
impl Adopt for Adopter {
    async fn adopt(&self, fact: &Fact) -> Result<bool, Failure> {
        let execution = NewExecution::Adopted { execution: fact.execution.clone(), parts: 1, only: None };
        let new = NewRun { execution, ..self.new.clone() };
        put(&self.store, new).await.map(|_| true).map_err(|_| Failure::interrupted())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fact_of_an_import_that_is_adopted_is_folded_into_its_run() -> Result<()> {
    let scene = Scene::start().await?;
    let (bus, store) = (scene.bus(), scene.store().await?);
    let adopter = Adopter { store: store.clone(), new: scene.import("adopted") };
    let core = Core::new(store.clone(), bus.clone(), Metrics::new(Stage::ControlPlane));
    let core = core.with_adopter(Arc::new(adopter));
    let mut ended = core.ended.listen();
    let cancel = CancellationToken::new();
    let runtime = Runtime { core, preflight: scene.containers(), settings: quick() };
    let task = tokio::spawn(runtime.run(cancel.clone()));
    let execution = Execution { id: "run-elsewhere".parse()?, generation: 3 };
    for (body, number) in imported(&scene).into_iter().zip(0..) {
        let (execution, part, target) = (execution.clone(), Part::ONLY, Some(scene.url()));
        let fact = Fact { execution, part, stage: Stage::Importer, attempt: 1, target, at_ms: 1, body };
        tell(&*bus, &fact, number).await;
    }
    assert_eq!(within(ended.recv()).await??, run_id("adopted"));
    let run = store.run(&run_id("adopted")).await?.expect("the run");
    assert_eq!(run.execution, execution);
    assert!(matches!(run.state, RunState::Succeeded { .. }), "{:?}", run.state);
    cancel.cancel();
    Ok(task.await?)
}
