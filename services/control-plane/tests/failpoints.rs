//! A control plane that dies between any two effects: what was asked for is done all the same, and once.

#[path = "runtime/scene.rs"]
#[allow(dead_code, reason = "the scene is shared with other tests")]
mod scene;

use std::time::{Duration, SystemTime};

use anyhow::Result;
use fail::FailScenario;
use transship_bus::WorkQueue;
use transship_control_plane::dead_letters::{Requeued, requeue};
use transship_control_plane::runtime::RuntimeSettings;
use transship_control_plane::state::RunState;
use transship_control_plane::watchdog::WatchSettings;
use transship_messages::{ExportPart, WorkItem};
use transship_model::Code;

use self::scene::{Scene, Stub, exported, quick, within};

/// The name of a run that dies at this failpoint.
fn name_of(failpoint: &str) -> String {
    failpoint.replace(['.', '_'], "-")
}

/// Whether a failpoint was reached: one that dies once does nothing after that.
fn die_once(failpoint: &str) {
    fail::cfg(failpoint, "1*panic->off").expect("a failpoint can be configured");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_between_two_effects_loses_nothing() -> Result<()> {
    let scenario = FailScenario::setup();
    let scene = Scene::start().await?;
    let plane = scene.plane(quick()).await?;
    let mut exporter = Stub::of(&scene, WorkQueue::ExporterParts).await?;
    for failpoint in
        ["control.planned", "control.started", "control.published", "control.outbox_done", "control.folded"]
    {
        die_once(failpoint);
        let name = name_of(failpoint);
        plane.put(scene.export(&name, 1)).await?;
        let part: ExportPart = exporter.take().await?;
        assert_eq!(part.execution.id.as_str(), format!("run-{name}"));
        exporter.tell(&exported(&part), 0).await?;
        plane.succeeded(&name).await?;
        within(async {
            // What was published before a death is published again under the same identity.
            while !plane.store().outbox_due(i64::MAX, 10).await?.is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        })
        .await??;
        if failpoint == "control.published" {
            assert_eq!(exporter.take::<ExportPart>().await?.message_id(), part.message_id());
        }
        assert!(exporter.is_idle().await, "{failpoint}");
    }
    plane.stop().await?;
    scenario.teardown();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_while_a_dead_letter_is_stored_stores_it_once() -> Result<()> {
    let scenario = FailScenario::setup();
    let scene = Scene::start().await?;
    let plane = scene.plane(quick()).await?;
    let mut exporter = Stub::of(&scene, WorkQueue::ExporterParts).await?;
    for (failpoint, letters) in [("control.letter_stored", 1), ("control.letter_folded", 2)] {
        die_once(failpoint);
        let name = name_of(failpoint);
        plane.put(scene.export(&name, 1)).await?;
        exporter.next().await?.settle.dead_letter("poison").await?;
        assert_eq!(plane.failed(&name).await?.0, Code::Internal);
        assert_eq!(plane.store().dead_letter_lines(0, 10).await?.len(), letters);
    }
    die_once("control.requeued");
    let (core, id) = (plane.core.clone(), plane.store().dead_letter_lines(0, 1).await?[0].id);
    let died = tokio::spawn(async move { requeue(&core.store, &core.wake, id).await }).await;
    assert!(died.is_err_and(|error| error.is_panic()), "the failpoint was not reached");
    let part: ExportPart = exporter.take().await?;
    exporter.tell(&exported(&part), 0).await?;
    plane.succeeded(&name_of("control.letter_stored")).await?;
    assert_eq!(requeue(plane.store(), &plane.core.wake, id).await?, Requeued::Already);
    plane.stop().await?;
    scenario.teardown();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_after_a_run_was_ended_or_dispatched_again_leaves_it_so() -> Result<()> {
    let scenario = FailScenario::setup();
    let scene = Scene::start().await?;
    let plane = scene.plane(quick()).await?;
    die_once("control.ended");
    scene.token("r", SystemTime::now() + Duration::from_secs(3_600))?;
    plane.put(scene.export("unfit", 1)).await?;
    assert_eq!(plane.failed("unfit").await?.0, Code::SasPermission);
    scene.secret(&scene.container.full_sas())?;
    plane.stop().await?;

    let watch = WatchSettings { lost_after: Duration::from_secs(1), ..quick().watch };
    let settings = RuntimeSettings { watch, ..quick() };
    die_once("control.dispatched_again");
    let plane = scene.plane(settings).await?;
    let mut exporter = Stub::of(&scene, WorkQueue::ExporterParts).await?;
    plane.put(scene.export("lost", 1)).await?;
    let lost: ExportPart = exporter.take().await?;
    let died = within(plane.ended()).await?;
    assert!(died, "the failpoint was not reached");

    // The next process goes on with what stands in the outbox.
    let plane = scene.plane(settings).await?;
    let again: ExportPart = exporter.take().await?;
    assert_eq!(again, lost);
    exporter.tell(&exported(&again), 0).await?;
    plane.until("lost", |state| matches!(state, RunState::Succeeded { .. })).await?;
    plane.stop().await?;
    scenario.teardown();
    Ok(())
}
