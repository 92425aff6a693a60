//! What stages tell, and what the control plane makes of it.

use std::time::Duration;

use anyhow::{Context, Result};
use transship_bus::{Bus, Destination, Outgoing, WorkQueue};
use transship_messages::{ExportPart, FactBody, encode_fact};
use transship_model::Stage;

use crate::scene::{Scene, Stub, counters, exported, fact_of, failed, quick, run_id, within};

#[tokio::test(flavor = "multi_thread")]
async fn facts_that_come_twice_and_in_any_order_change_nothing() -> Result<()> {
    let scene = Scene::start().await?;
    let plane = scene.plane(quick()).await?;
    let mut exporter = Stub::of(&scene, WorkQueue::ExporterParts).await?;
    plane.put(scene.export("nightly", 3)).await?;
    let (first, second): (ExportPart, ExportPart) = (exporter.take().await?, exporter.take().await?);
    let progress = FactBody::Progress { counters: counters(1), in_flight: Vec::new() };
    let retried = fact_of(&first, Stage::Exporter, 1, failed("busy", false));
    let told = [
        exported(&first),
        exported(&second),
        retried,
        fact_of(&first, Stage::Exporter, 1, progress),
        exported(&first),
    ];
    for (fact, number) in told.iter().zip(0..) {
        exporter.tell(fact, number).await?;
    }
    let run = plane.succeeded("nightly").await?;
    // The end is not the last fact: all of them are folded when the part that was taken first shows what each told.
    within(async {
        loop {
            let parts = plane.store().parts(&run.execution).await?;
            let part = parts.iter().find(|part| part.number == first.part.number).context("the part")?;
            let stage = &part.state.stages[0];
            if stage.trouble.is_some() && stage.counters.artifacts_discovered > 0 {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await??;
    let before = plane.store().parts(&run.execution).await?;
    for (fact, number) in told.iter().rev().zip(10..) {
        exporter.tell(fact, number).await?;
    }
    // A fact of another run comes behind them.
    let mut other = exported(&first);
    other.execution.id = "run-unknown".parse()?;
    exporter.tell(&other, 0).await?;
    within(async {
        while plane.core.unknown_facts.load(std::sync::atomic::Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await?;
    assert_eq!(plane.store().parts(&run.execution).await?, before);
    let again = plane.store().run(&run_id("nightly")).await?.expect("the run");
    assert_eq!((again.state, again.finished_ms, again.summary), (run.state, run.finished_ms, run.summary));
    plane.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_while_the_control_plane_is_away_is_heard_later() -> Result<()> {
    let scene = Scene::start().await?;
    let plane = scene.plane(quick()).await?;
    let mut exporter = Stub::of(&scene, WorkQueue::ExporterParts).await?;
    plane.put(scene.export("nightly", 1)).await?;
    let part: ExportPart = exporter.take().await?;
    plane.kill().await;
    exporter.tell(&exported(&part), 0).await?;

    let plane = scene.plane(quick()).await?;
    plane.succeeded("nightly").await?;
    plane.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fact_of_a_newer_version_is_held_and_one_that_is_none_is_a_dead_letter() -> Result<()> {
    let scene = Scene::start().await?;
    let plane = scene.plane(quick()).await?;
    plane.ready().await?;
    let mut exporter = Stub::of(&scene, WorkQueue::ExporterParts).await?;
    plane.put(scene.export("nightly", 1)).await?;
    let part: ExportPart = exporter.take().await?;
    let mut newer = encode_fact(&exported(&part));
    // `{"v": 2, …}` with another number: the envelope is a map that begins with it.
    assert_eq!(newer[1..4], [0xa1, b'v', 0x02]);
    newer[3] = 0x7f;
    for (id, body) in [("newer", newer), ("none", b"not MessagePack".to_vec())] {
        let destination = Destination::Facts { key: "run-nightly.failed".to_owned(), mandatory: true };
        let message = Outgoing {
            destination,
            message_id: id.to_owned(),
            kind: "failed".to_owned(),
            correlation_id: "run-nightly".to_owned(),
            headers: Default::default(),
            body: body.into(),
        };
        exporter.bus.publish(vec![message]).await?;
    }
    let metric = |outcome: &str| {
        format!("transship_messages_total{{outcome=\"{outcome}\",queue=\"control-plane.facts\"}} 1")
    };
    within(async {
        while ["retried", "dead_lettered"]
            .iter()
            .any(|outcome| !plane.core.metrics.render().contains(&metric(outcome)))
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await?;
    // Neither holds up the others.
    exporter.tell(&exported(&part), 0).await?;
    plane.succeeded("nightly").await?;
    plane.stop().await
}
