//! An import whose bundle is not there yet, and what brings it.

use std::time::Duration;

use anyhow::{Context, Result};
use transship_bus::WorkQueue;
use transship_control_plane::dispatch::DispatchSettings;
use transship_control_plane::runtime::RuntimeSettings;
use transship_control_plane::state::{Action, RunRecord};
use transship_messages::{CopyMode, CopyRequested, ExportPart, FactBody, ImportRequested};
use transship_model::{Code, Counters, Digest, Part, Route, Stage};

use crate::scene::{Scene, Stub, exported, fact_of, put, quick};

#[tokio::test(flavor = "multi_thread")]
async fn an_import_waits_as_long_as_a_copy_to_it_is_on_its_way() -> Result<()> {
    let (source, scene) = (Scene::start().await?, Scene::start().await?);
    let dispatch = DispatchSettings { blob_wait: Duration::ZERO, ..quick().dispatch };
    let plane = scene.plane(RuntimeSettings { dispatch, ..quick() }).await?;
    let mut exporter = Stub::of(&scene, WorkQueue::ExporterParts).await?;
    // An export from another container, whose route leads to that of the import.
    let mut export = source.routed_export("outbound", &scene.url());
    export.pipeline.container = source.url();
    export.pipeline.credential = None;
    let export = plane.put(export).await?;
    let part: ExportPart = exporter.take().await?;
    plane.put(scene.import("inbound")).await?;
    plane.waits("inbound", "run outbound exports it, and then copies it there").await?;
    exporter.tell(&exported(&part), 0).await?;
    plane.succeeded("outbound").await?;
    plane.waits("inbound", "run outbound is copying it there").await?;

    scene.put_blob("bundle").await?;
    let mut importer = Stub::of(&scene, WorkQueue::ImporterImports).await?;
    let import: ImportRequested = importer.take().await?;
    assert_eq!(import.part, Part::ONLY);
    // What is copied is not on its way any more.
    let route = Route { source: source.url(), ..route_of(&export)? };
    let copy = CopyRequested {
        execution: export.execution.clone(),
        part: Part::ONLY,
        source_secret: None,
        blob: export.blob.clone(),
        etag: "0x1".to_owned(),
        length: 1,
        artifacts: 1,
        catalog_digest: Digest::sha256(b"index"),
        route,
        slice: 0,
        carried: Counters::default(),
    };
    let body = FactBody::BundleCopied {
        container: scene.url(),
        blob: export.blob.clone(),
        etag: "0x2".to_owned(),
        length: 1,
        mode: CopyMode::Streamed,
        counters: Counters::default(),
    };
    exporter.tell(&fact_of(&copy, Stage::BlobCopier, 1, body), 0).await?;
    let mut gone = scene.import("gone");
    gone.blob = "bundle-0001-of-0001".parse()?;
    plane.put(gone).await?;
    assert_eq!(plane.failed("gone").await?.0, Code::BlobNotFound);
    plane.stop().await
}

fn route_of(run: &RunRecord) -> Result<Route> {
    match &run.pipeline.action {
        Action::Export { routes: Some(routes), .. } => routes.first().cloned().context("a route"),
        other => anyhow::bail!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_are_found_by_their_blobs_whatever_characters_the_name_has() -> Result<()> {
    let scene = Scene::start().await?;
    let store = scene.store().await?;
    for (name, blob) in [("odd", r#"a_b%c"d"#), ("plain", "aXbYc\"d"), ("upper", "A_B%C\"D"), ("part", "n")] {
        let mut new = scene.export(name, 1);
        new.blob = blob.parse()?;
        put(&store, new).await?;
    }
    for (blob, expected) in
        [(r#"a_b%c"d"#, &["odd"][..]), ("n-0002-of-0003", &["part"]), ("n", &["part"]), ("nn", &[])]
    {
        let found = store.exports_of(&blob.parse()?, 10).await?;
        let names: Vec<&str> = found.iter().map(|run| run.id.name()).collect();
        assert_eq!(names, expected, "{blob}");
    }
    store.close().await;
    Ok(())
}
