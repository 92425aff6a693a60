//! From a run that was put to its work at the broker.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use async_trait::async_trait;
use transship_bus::WorkQueue;
use transship_control_plane::dispatch::{DispatchSettings, Preflight};
use transship_control_plane::runtime::RuntimeSettings;
use transship_messages::{ExportPart, ImportRequested, WorkItem};
use transship_model::{Code, ContainerUrl, Failure, Part, StorageCredential};
use transship_storage::{Access, ReadContainer};

use crate::scene::{Scene, Stub, TRACE, exported, put, quick, run_id, tell, within};

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_split_published_once_and_over_when_its_parts_are() -> Result<()> {
    let scene = Scene::start().await?;
    let plane = scene.plane(quick()).await?;
    let mut ended = plane.core.ended.listen();
    let mut exporter = Stub::of(&scene, WorkQueue::ExporterParts).await?;
    let run = plane.put(scene.export("nightly", 3)).await?;
    let mut parts = Vec::new();
    for _ in 0..2 {
        let delivery = exporter.next().await?;
        assert_eq!(delivery.message.headers["traceparent"], TRACE);
        assert_eq!(delivery.message.correlation_id, "run-nightly");
        let part = ExportPart::decode(&delivery.message.body)?;
        assert_eq!(
            (delivery.message.message_id.clone(), &part.execution),
            (part.message_id(), &run.execution)
        );
        delivery.settle.ack().await?;
        parts.push(part);
    }
    parts.sort_by_key(|part| part.part.number);
    assert_eq!(parts.iter().map(|part| part.artifacts.len()).collect::<Vec<_>>(), [2, 1]);
    assert!(exporter.is_idle().await, "each once");
    assert_eq!(plane.store().outbox_due(i64::MAX, 10).await?, []);

    for part in &parts {
        exporter.tell(&exported(part), 0).await?;
    }
    let run = plane.succeeded("nightly").await?;
    assert_eq!(run.parts, 2);
    assert_eq!(within(ended.recv()).await??, run.id);
    plane.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_put_while_the_broker_is_away_says_so_and_goes_on_when_it_is_back() -> Result<()> {
    let broker = transship_rig::RabbitMq::start().await?;
    let scene = Scene::at(broker.vhost().await?).await?;
    let plane = scene.plane(quick()).await?;
    plane.ready().await?;
    broker.stop().await?;
    plane.put(scene.export("nightly", 1)).await?;
    let on = plane.waits("nightly", "the broker: ").await?;
    assert!(on.contains("127.0.0.1"), "{on}");
    // A credential that is wrong need not wait for it.
    scene.token("r", SystemTime::now() + Duration::from_secs(3_600))?;
    plane.put(scene.export("hopeless", 1)).await?;
    assert_eq!(plane.failed("hopeless").await?.0, Code::SasPermission);
    scene.secret(&scene.container.full_sas())?;
    plane.kill().await;

    broker.start_again().await?;
    let plane = scene.plane(quick()).await?;
    let mut exporter = Stub::of(&scene, WorkQueue::ExporterParts).await?;
    let part: ExportPart = exporter.take().await?;
    assert!(exporter.is_idle().await, "once");
    exporter.tell(&exported(&part), 0).await?;
    plane.succeeded("nightly").await?;
    plane.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expired_or_lacks_a_letter_fails_the_run_at_once_and_says_what_to_do() -> Result<()> {
    let scene = Scene::start().await?;
    let plane = scene.plane(quick()).await?;
    let hour = Duration::from_secs(3_600);
    for (name, letters, expires, code) in [
        ("expired", "racwdl", SystemTime::now() - hour, Code::SasExpired),
        ("unfit", "rl", SystemTime::now() + hour, Code::SasPermission),
    ] {
        scene.token(letters, expires)?;
        plane.put(scene.export(name, 1)).await?;
        let (found, message) = plane.failed(name).await?;
        assert_eq!(found, code, "{message}");
        assert!(
            message.contains("SAS token") && message.contains("(") && !message.contains("sig="),
            "{message}"
        );
    }
    assert_eq!(plane.store().outbox_due(i64::MAX, 10).await?, []);
    // The next run reads the secret anew.
    scene.secret(&scene.container.full_sas())?;
    plane.put(scene.export("fine", 1)).await?;
    let mut exporter = Stub::of(&scene, WorkQueue::ExporterParts).await?;
    assert_eq!(exporter.take::<ExportPart>().await?.execution.id.as_str(), "run-fine");
    plane.stop().await
}

/// A vault that is away for so many questions.
struct Away {
    left: AtomicU32,
    inner: Arc<dyn Preflight>,
}

#[async_trait]
impl Preflight for Away {
    async fn open(
        &self,
        container: &ContainerUrl,
        credential: Option<&StorageCredential>,
        access: Access,
    ) -> Result<Arc<dyn ReadContainer>, Failure> {
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match left {
            Ok(_) => Err(Failure::transient(Code::StorageUnavailable, "the vault does not answer")),
            Err(_) => self.inner.open(container, credential, access).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_is_away_is_waited_for_but_not_for_ever() -> Result<()> {
    let scene = Scene::start().await?;
    let away = |left| Arc::new(Away { left: AtomicU32::new(left), inner: scene.containers() });
    let plane = scene.plane_with(quick(), away(2)).await?;
    plane.put(scene.export("patient", 1)).await?;
    let on = plane.waits("patient", "the vault does not answer").await?;
    assert!(on.contains("tried again"), "{on}");
    let mut exporter = Stub::of(&scene, WorkQueue::ExporterParts).await?;
    exporter.take::<ExportPart>().await?;
    plane.stop().await?;

    let patience = Duration::from_secs(1);
    let dispatch = DispatchSettings { patience, ..quick().dispatch };
    let plane = scene.plane_with(RuntimeSettings { dispatch, ..quick() }, away(u32::MAX)).await?;
    plane.put(scene.export("hopeless", 1)).await?;
    let (code, message) = plane.failed("hopeless").await?;
    assert_eq!((code, message.as_str()), (Code::StorageUnavailable, "the vault does not answer"));
    plane.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_waits_for_its_parts_and_takes_all_of_them() -> Result<()> {
    let scene = Scene::start().await?;
    let plane = scene.plane(quick()).await?;
    let mut importer = Stub::of(&scene, WorkQueue::ImporterImports).await?;
    plane.put(scene.import("inbound")).await?;
    plane.waits("inbound", "blob bundle").await?;
    scene.put_blob("bundle-0001-of-0002").await?;
    plane.waits("inbound", "1 of 2 parts: bundle-0002-of-0002").await?;
    scene.put_blob("bundle-0002-of-0002").await?;
    let mut imports: Vec<ImportRequested> = vec![importer.take().await?, importer.take().await?];
    imports.sort_by_key(|import| import.part.number);
    for (import, number) in imports.iter().zip(1..) {
        assert_eq!(import.part, Part { number, count: 2 });
        assert_eq!(import.blob.as_str(), format!("bundle-000{number}-of-0002"));
        assert!(import.etag.is_some() && import.destination.is_some());
    }
    plane.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_nothing_brings_fails_its_import_and_is_named() -> Result<()> {
    let scene = Scene::start().await?;
    let dispatch = DispatchSettings { blob_wait: Duration::from_secs(1), ..quick().dispatch };
    let plane = scene.plane(RuntimeSettings { dispatch, ..quick() }).await?;
    plane.put(scene.import("inbound")).await?;
    let (code, message) = plane.failed("inbound").await?;
    assert_eq!(code, Code::BlobNotFound);
    assert!(message.contains("blob bundle") && message.contains(&scene.container.url), "{message}");
    plane.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_is_killed_again_and_again_loses_no_run() -> Result<()> {
    const RUNS: usize = 20;
    let scene = Scene::start().await?;
    let mut exporter = Stub::of(&scene, WorkQueue::ExporterParts).await?;
    let bus = exporter.bus.clone();
    let answering = tokio::spawn(async move {
        loop {
            let part: ExportPart = exporter.take().await?;
            tell(&*bus, &exported(&part), 0).await;
        }
        #[allow(unreachable_code, reason = "it gives the loop its type")]
        Ok::<(), anyhow::Error>(())
    });
    for round in 0..5 {
        let plane = scene.plane(quick()).await?;
        for n in 0..RUNS / 5 {
            plane.put(scene.export(&format!("run{round}x{n}"), 3)).await?;
        }
        // It dies at another moment each time: with nothing done, with some, with almost all.
        tokio::time::sleep(Duration::from_millis(60 * round)).await;
        plane.kill().await;
    }
    // What was put without a control plane that runs is there as well.
    let store = scene.store().await?;
    put(&store, scene.export("late", 1)).await?;
    store.close().await;
    drop(store);

    let plane = scene.plane(quick()).await?;
    plane.succeeded("late").await?;
    let mut names = BTreeSet::new();
    for round in 0..5 {
        for n in 0..RUNS / 5 {
            let name = format!("run{round}x{n}");
            let run = plane.succeeded(&name).await?;
            assert_eq!((run.parts, run.id), (2, run_id(&name)));
            names.insert(name);
        }
    }
    assert_eq!(names.len(), RUNS);
    assert_eq!(plane.store().outbox_due(i64::MAX, 10).await?, []);
    answering.abort();
    plane.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_thousand_runs_are_started_and_ended_within_a_minute() -> Result<()> {
    const RUNS: usize = 1_000;
    let scene = Scene::start().await?;
    let plane = scene.plane(quick()).await?;
    let mut exporter = Stub::of(&scene, WorkQueue::ExporterParts).await?;
    let bus = exporter.bus.clone();
    let began = std::time::Instant::now();
    let putting = async {
        for n in 0..RUNS {
            plane.put(scene.export(&format!("run{n}"), 1)).await?;
        }
        anyhow::Ok(())
    };
    let answering = async {
        for _ in 0..RUNS {
            let part: ExportPart = exporter.take().await?;
            tell(&*bus, &exported(&part), 0).await;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(putting, answering)?;
    for n in 0..RUNS {
        plane.succeeded(&format!("run{n}")).await?;
    }
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    plane.stop().await
}
