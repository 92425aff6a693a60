//! Runs.

use anyhow::Result;
use transship_control_plane::fold::PartState;
use transship_control_plane::state::{Folded, RunState};
use transship_messages::{Fact, FactBody};
use transship_model::{Counters, Digest, Part, Stage};

use crate::scene::{Scene, registry};

#[tokio::test]
async fn a_run_goes_from_accepted_to_succeeded() -> Result<()> {
    let scene = Scene::sqlite().await?;
    let store = &scene.store;
    let run = scene.export("nightly", 5_000).await?;
    assert_eq!((run.execution.generation, run.created_ms, run.parts), (5_000, 5_000, 0));
    let due = store.outbox_due(5_000, 10).await?;
    assert_eq!(due.len(), 1);
    let part = PartState::new(["a:1".parse()?]);
    assert!(store.begin_run(&run.execution, vec![(1, part)], vec![], 6_000).await?);
    assert_eq!(store.outbox_due(9_000, 10).await?, vec![]);
    let body = FactBody::BundleExported {
        container: "https://a.example/outbox".parse()?,
        blob: "bundle".parse()?,
        etag: "e".into(),
        length: 10,
        catalog_digest: Digest::sha256(b""),
        counters: Counters { bytes_discovered: 10, bytes_moved: 10, ..Counters::default() },
        failed: vec![],
        routes: vec![],
    };
    let fact = Fact {
        execution: run.execution.clone(),
        part: Part::ONLY,
        stage: Stage::Exporter,
        attempt: 1,
        target: None,
        at_ms: 0,
        body,
    };
    assert_eq!(store.fold(fact, 7_000).await?, Folded::Applied { ended: vec![run.id.clone()] });
    let runs = store.runs(&registry(), 0, 10).await?;
    assert_eq!(runs[0].state, RunState::Succeeded { message: None });
    println!("{}", runs[0].summary);
    assert!(store.delete_run(&run.id).await?);
    store.close().await;
    println!("{}", scene.url);
    Ok(())
}
