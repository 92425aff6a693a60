//! A run never hangs.

use std::time::Duration;

use anyhow::Result;
use transship_bus::{Bus as _, Destination, Inbox, Outgoing, WorkQueue};
use transship_control_plane::runtime::RuntimeSettings;
use transship_control_plane::state::{NewRun, RunKind, RunState};
use transship_control_plane::watchdog::WatchSettings;
use transship_messages::{CopyMode, CopyRequested, ExportPart, FactBody, WorkItem};
use transship_model::{Code, ContainerUrl, Counters, Stage};

use crate::scene::{Plane, Scene, Stub, exported, exported_to, fact_of, now_ms, put, quick, run_id, within};

/// Work counts as lost after a second.
fn impatient(again: u32) -> RuntimeSettings {
    let (interval, lost_after) = (Duration::from_millis(100), Duration::from_secs(1));
    let watch = WatchSettings { interval, lost_after, again, ..WatchSettings::default() };
    RuntimeSettings { watch, ..quick() }
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_was_lost_is_dispatched_again_under_the_same_identity() -> Result<()> {
    let scene = Scene::start().await?;
    let plane = scene.plane(impatient(3)).await?;
    let mut exporter = Stub::of(&scene, WorkQueue::ExporterParts).await?;
    plane.put(scene.export("nightly", 3)).await?;
    let (first, second): (ExportPart, ExportPart) = (exporter.take().await?, exporter.take().await?);
    exporter.tell(&exported(&first), 0).await?;
    // The other one is never heard of.
    let delivery = exporter.next().await?;
    assert!(delivery.message.redelivered, "it may have been done already");
    let again = ExportPart::decode(&delivery.message.body)?;
    delivery.settle.ack().await?;
    assert_eq!(again, second);
    assert_eq!(again.message_id(), second.message_id());
    exporter.tell(&exported(&again), 0).await?;
    plane.succeeded("nightly").await?;
    plane.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_was_lost_is_dispatched_again_though_other_work_always_waits_in_its_queue() -> Result<()> {
    let scene = Scene::start().await?;
    let plane = scene.plane(impatient(1)).await?;
    let mut exporter = Stub::of(&scene, WorkQueue::ExporterParts).await?;
    // Ten parts: one that is lost, eight that the exporter holds, and one that waits.
    plane.put(scene.export("nightly", 20)).await?;
    let lost: ExportPart = exporter.take().await?;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(exporter.next().await?);
    }
    let waiting = || async {
        Ok::<_, anyhow::Error>(exporter.bus.look(Inbox::Work(WorkQueue::ExporterParts)).await?.ready)
    };
    within(async {
        while waiting().await? < 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    })
    .await??;
    // The queue is never empty, and still each part comes once more.
    within(async {
        while waiting().await? < 11 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    })
    .await??;
    let mut numbers = vec![lost.part.number];
    for delivery in held {
        numbers.push(ExportPart::decode(&delivery.message.body)?.part.number);
        delivery.settle.ack().await?;
    }
    for _ in 0..11 {
        numbers.push(exporter.take::<ExportPart>().await?.part.number);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=10).flat_map(|number| [number, number]).collect::<Vec<_>>());
    plane.stop().await
}

/// Where bundles are copied to. Nobody asks it for anything.
fn elsewhere() -> ContainerUrl {
    "https://elsewhere.blob.core.windows.net/target".parse().expect("a container")
}

/// A control plane that is [`impatient`], an exporter, and a copier that is connected.
async fn with_copier(scene: &Scene, again: u32) -> Result<(Plane, Stub, Stub)> {
    let plane = scene.plane(impatient(again)).await?;
    let exporter = Stub::of(scene, WorkQueue::ExporterParts).await?;
    Ok((plane, exporter, Stub::of(scene, WorkQueue::BlobCopierCopies).await?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_lost_is_sent_again_though_the_export_is_over() -> Result<()> {
    let scene = Scene::start().await?;
    let (plane, mut exporter, mut copier) = with_copier(&scene, 3).await?;
    plane.put(scene.routed_export("outbound", &elsewhere())).await?;
    let part: ExportPart = exporter.take().await?;
    // It says that it is done, and what it sent to the copier is lost.
    exporter.tell(&exported(&part), 0).await?;
    plane.succeeded("outbound").await?;
    let delivery = copier.next().await?;
    assert!(delivery.message.redelivered, "it may have been done already");
    let copy = CopyRequested::decode(&delivery.message.body)?;
    delivery.settle.ack().await?;
    assert_eq!((&copy.execution, copy.part, &*copy.etag), (&part.execution, part.part, "0x1"));
    assert_eq!(copy.route.target, elsewhere());
    let body = FactBody::BundleCopied {
        container: elsewhere(),
        blob: copy.blob.clone(),
        etag: "0x2".to_owned(),
        length: 1,
        mode: CopyMode::Streamed,
        counters: Counters::default(),
    };
    copier.tell(&fact_of(&copy, Stage::BlobCopier, 1, body), 0).await?;
    within(async {
        while !plane.store().copying_runs(0, 10).await?.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    })
    .await??;
    // Longer than a copy may be silent.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(copier.is_idle().await && exporter.is_idle().await, "a copy that is there is not sent again");
    assert_eq!(plane.succeeded("outbound").await?.state, RunState::Succeeded { message: None });
    plane.stop().await
}

/// What the export `outbound` says of its copy, which was given up.
async fn told_of_copy(plane: &Plane) -> Result<String> {
    within(async {
        loop {
            if let RunState::Succeeded { message: Some(told) } = plane.succeeded("outbound").await?.state {
                return anyhow::Ok(told);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await?
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_lost_each_time_is_told_by_the_export_which_stays_succeeded() -> Result<()> {
    let scene = Scene::start().await?;
    let (plane, mut exporter, mut copier) = with_copier(&scene, 2).await?;
    let run = plane.put(scene.routed_export("outbound", &elsewhere())).await?;
    let part: ExportPart = exporter.take().await?;
    exporter.tell(&exported(&part), 0).await?;
    let copies: [CopyRequested; 2] = [copier.take().await?, copier.take().await?];
    assert_eq!(copies[0], copies[1]);
    let told = told_of_copy(&plane).await?;
    let expected = format!("the copy to {} failed", elsewhere());
    assert!(told.contains(&expected) && told.contains("sent to the blob-copiers 3 times"), "{told}");
    assert!(plane.store().copying_runs(0, 10).await?.is_empty());
    // A schedule takes what it carried for undelivered.
    assert_eq!(plane.store().undelivered(&run.execution).await?.len(), 1);
    assert!(copier.is_idle().await);
    plane.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_by_a_route_that_only_the_exporter_has_is_told_when_it_is_lost() -> Result<()> {
    let scene = Scene::start().await?;
    let (plane, mut exporter, mut copier) = with_copier(&scene, 3).await?;
    plane.put(scene.export("outbound", 1)).await?;
    let part: ExportPart = exporter.take().await?;
    exporter.tell(&exported_to(&part, &elsewhere()), 0).await?;
    let told = told_of_copy(&plane).await?;
    assert!(told.contains("the exporter has that route") && told.contains("forceUpdateTag"), "{told}");
    assert!(copier.is_idle().await);
    plane.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_waits_behind_others_is_not_given_up_however_long_that_is() -> Result<()> {
    let scene = Scene::start().await?;
    let (plane, mut exporter, copier) = with_copier(&scene, 3).await?;
    // The copier holds eight, and the ninth waits.
    let other = |number: u32| Outgoing {
        destination: Destination::Work(WorkQueue::BlobCopierCopies),
        message_id: format!("other-{number}"),
        kind: "copy.requested".to_owned(),
        correlation_id: "other".to_owned(),
        headers: Default::default(),
        body: bytes::Bytes::from_static(b"another one"),
    };
    copier.bus.publish((0..9).map(other).collect()).await?;
    plane.put(scene.export("outbound", 1)).await?;
    let part: ExportPart = exporter.take().await?;
    // The exporter has the route, so the copy cannot be sent from here.
    exporter.tell(&exported_to(&part, &elsewhere()), 0).await?;
    plane.succeeded("outbound").await?;
    // Four times as long as it may be silent at an empty queue, and longer.
    tokio::time::sleep(Duration::from_millis(5_500)).await;
    assert_eq!(plane.succeeded("outbound").await?.state, RunState::Succeeded { message: None });
    assert_eq!(plane.store().copying_runs(0, 10).await?.len(), 1);
    plane.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_is_lost_each_time_fails_with_a_reason() -> Result<()> {
    let scene = Scene::start().await?;
    let plane = scene.plane(impatient(1)).await?;
    let mut exporter = Stub::of(&scene, WorkQueue::ExporterParts).await?;
    plane.put(scene.export("nightly", 1)).await?;
    let (first, second): (ExportPart, ExportPart) = (exporter.take().await?, exporter.take().await?);
    assert_eq!(first, second);
    let (code, message) = plane.failed("nightly").await?;
    assert_eq!(code, Code::Internal);
    assert!(message.contains("sent to the exporters 2 times") && message.contains("look at"), "{message}");
    assert!(exporter.is_idle().await);
    plane.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_an_exporter_says_so_and_waits_however_long_that_is() -> Result<()> {
    let scene = Scene::start().await?;
    let plane = scene.plane(impatient(0)).await?;
    plane.put(scene.export("nightly", 1)).await?;
    plane.waits("nightly", "no exporter is connected to the broker").await?;
    // Longer than work may be silent.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    plane.waits("nightly", "no exporter is connected to the broker").await?;
    let mut exporter = Stub::of(&scene, WorkQueue::ExporterParts).await?;
    let part: ExportPart = exporter.take().await?;
    exporter.tell(&exported(&part), 0).await?;
    plane.succeeded("nightly").await?;
    plane.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_are_over_for_long_are_deleted_where_that_is_asked_for() -> Result<()> {
    let scene = Scene::start().await?;
    let store = scene.store().await?;
    for (name, ended_ms) in [("old", Some(now_ms() - 2_000_000)), ("new", Some(now_ms())), ("open", None)] {
        let run = put(&store, NewRun { now_ms: now_ms() - 3_000_000, ..scene.export(name, 1) }).await?;
        if let Some(ended_ms) = ended_ms {
            let over = RunState::Succeeded { message: None };
            assert!(store.end_run(&run.execution, RunKind::Export, over, ended_ms).await?);
        }
    }
    store.close().await;
    let mut settings = quick();
    settings.watch.retention = Duration::from_secs(1_000);
    let plane = scene.plane(settings).await?;
    within(async {
        while plane.store().run(&run_id("old")).await?.is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    })
    .await??;
    for name in ["new", "open"] {
        assert!(plane.store().run(&run_id(name)).await?.is_some(), "{name}");
    }
    plane.stop().await
}
