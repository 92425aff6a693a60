//! Dead letters become failed runs with a reason, and can be put back.

use anyhow::{Context, Result};
use transship_bus::{Bus, BusState, WorkQueue};
use transship_control_plane::dead_letters::{Requeued, requeue};
use transship_control_plane::state::{DeadLetter, DeadLetterLine, RunState};
use transship_messages::{ExportPart, WorkItem};
use transship_model::{Code, Stage};

use crate::scene::{Plane, Scene, Stub, broker, exported, fact_of, failed, quick, within};

/// The one letter that is stored.
async fn letter(plane: &Plane) -> Result<DeadLetter> {
    let letters = plane.store().dead_letter_lines(0, 10).await?;
    anyhow::ensure!(letters.len() == 1, "{letters:?}");
    plane.store().dead_letter(letters[0].id).await?.context("one")
}

async fn put_policy(scene: &Scene, policy: &str) -> Result<()> {
    let vhost = scene.broker.rsplit('/').next().context("a virtual host")?;
    let url = format!("{}/api/policies/{vhost}/limit", broker().await.management_url());
    let client = reqwest::Client::builder().no_proxy().build()?;
    let request = client.put(url).header("content-type", "application/json").body(policy.to_owned());
    request.send().await?.error_for_status()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_broker_gave_up_fails_its_run_and_requeueing_lets_it_succeed() -> Result<()> {
    let scene = Scene::start().await?;
    let plane = scene.plane(quick()).await?;
    plane.ready().await?;
    let limit = r#"{"pattern":"^exporter\\.parts$","apply-to":"queues","definition":{"delivery-limit":2,
        "dead-letter-exchange":"","dead-letter-routing-key":"exporter.parts.dead"}}"#;
    put_policy(&scene, limit).await?;
    let mut exporter = Stub::of(&scene, WorkQueue::ExporterParts).await?;
    plane.put(scene.export("nightly", 1)).await?;
    // An exporter that dies of it, as far as the broker sees.
    let dying = async {
        loop {
            exporter.next().await?.settle.release().await?;
        }
        #[allow(unreachable_code, reason = "it gives the loop its type")]
        anyhow::Ok(())
    };
    let (code, message) = tokio::select! {
        failed = plane.failed("nightly") => failed?,
        died = dying => anyhow::bail!("{died:?}"),
    };
    assert_eq!(code, Code::Internal);
    for part in ["part 1 of 1", "delivery_limit", "requeue the dead letter"] {
        assert!(message.contains(part), "{message}");
    }
    let letter = letter(&plane).await?;
    assert_eq!((letter.kind.as_str(), letter.execution.as_deref()), ("export.part", Some("run-nightly")));

    assert_eq!(requeue(plane.store(), &plane.core.wake, letter.id).await?, Requeued::Done);
    plane.until("nightly", |state| !state.is_terminal()).await?;
    assert_eq!(requeue(plane.store(), &plane.core.wake, letter.id).await?, Requeued::Already);
    assert_eq!(requeue(plane.store(), &plane.core.wake, 999).await?, Requeued::Unknown);
    let part: ExportPart = exporter.take().await?;
    assert_eq!(part.message_id(), letter.message_id);
    exporter.tell(&exported(&part), 0).await?;
    plane.succeeded("nightly").await?;
    plane.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_stage_said_of_its_dead_letter_stands_and_where_it_said_nothing_the_letter_does()
-> Result<()> {
    let scene = Scene::start().await?;
    let plane = scene.plane(quick()).await?;
    let mut exporter = Stub::of(&scene, WorkQueue::ExporterParts).await?;
    for (name, says) in [("told", true), ("silent", false)] {
        plane.put(scene.export(name, 1)).await?;
        let delivery = exporter.next().await?;
        let part = ExportPart::decode(&delivery.message.body)?;
        if says {
            exporter
                .tell(&fact_of(&part, Stage::Exporter, 1, failed("the registry is gone", true)), 0)
                .await?;
        }
        delivery.settle.dead_letter("tried 16 times").await?;
        let (code, message) = plane.failed(name).await?;
        match says {
            true => assert_eq!((code, message.as_str()), (Code::RegistryUnavailable, "the registry is gone")),
            false => {
                assert_eq!(code, Code::Internal);
                assert!(message.contains("tried 16 times"), "{message}");
            }
        }
    }
    let reasons =
        |letters: Vec<DeadLetterLine>| letters.into_iter().map(|letter| letter.reason).collect::<Vec<_>>();
    within(async {
        while plane.store().dead_letter_lines(0, 10).await?.len() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    })
    .await??;
    assert_eq!(reasons(plane.store().dead_letter_lines(0, 10).await?), ["tried 16 times", "tried 16 times"]);
    plane.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_nobody_understands_fails_the_run_that_it_names() -> Result<()> {
    let scene = Scene::start().await?;
    let plane = scene.plane(quick()).await?;
    let mut exporter = Stub::of(&scene, WorkQueue::ExporterParts).await?;
    plane.put(scene.export("nightly", 1)).await?;
    exporter.take::<ExportPart>().await?;
    let message = transship_bus::Outgoing {
        destination: transship_bus::Destination::Work(WorkQueue::ExporterParts),
        message_id: "broken".to_owned(),
        kind: "export.part".to_owned(),
        correlation_id: "run-nightly".to_owned(),
        headers: Default::default(),
        body: bytes::Bytes::from_static(b"not MessagePack"),
    };
    exporter.bus.publish(vec![message]).await?;
    exporter.next().await?.settle.dead_letter("not MessagePack").await?;
    let (code, message) = plane.failed("nightly").await?;
    assert_eq!(code, Code::MessageInvalid, "{message}");
    assert_eq!(letter(&plane).await?.body, b"not MessagePack");
    assert!(matches!(&*plane.core.bus.state().borrow(), BusState::Ready));
    let run = plane.until("nightly", RunState::is_terminal).await?;
    assert_eq!(run.kind, transship_control_plane::state::RunKind::Export);
    plane.stop().await
}
