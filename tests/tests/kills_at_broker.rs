//! A service dies between the two effects of a settlement: after a message is held back or dead, and before the
//! delivery that it stems from is acknowledged. Both exist then, and the run ends the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde_json::json;
use transship_bus::{Bus, BusSettings, Destination, Inbox, Outgoing, RabbitMq, WorkQueue};
use transship_model::Secret;
use transship_tests::client::{Client, content};
use transship_tests::compare;
use transship_tests::stack::{Options, Stack};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

async fn image(source: &Client, repository: &str) -> Result<String> {
    let layer = source.blob(repository, content(repository, 3_000_000), "application/x").await?;
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": layer, "layers": [layer]});
    source.manifest(repository, Some("1"), serde_json::to_vec(&manifest)?, MANIFEST).await?;
    Ok(format!("{repository}:1"))
}

/// Waits until the service has died, and starts it again.
async fn revive(stack: &mut Stack, index: usize) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(120);
    while stack.services[index].is_running() {
        ensure!(Instant::now() < deadline, "it never came to its failpoint\n{}", stack.log_tails());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stack.restart(index, Vec::new()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_dies_after_it_held_its_work_back_ends_the_run_the_same() -> Result<()> {
    let mut stack = Stack::start(Options { private: true, ..Options::default() }).await?;
    for (kind, is_source) in [("exporter", true), ("importer", false)] {
        let index = stack.services.iter().position(|service| service.kind == kind).context("the service")?;
        let artifact = image(&stack.source(), &format!("held/{kind}")).await?;
        let fatal = ("FAILPOINTS_KILL_AT".to_owned(), "bus.retry.published".to_owned());
        stack.kill_and_restart(index, vec![fatal]).await?;
        // Without its registry the service holds its work back.
        if is_source {
            stack.source_registry.stop().await?;
        } else {
            stack.target_registry.stop().await?;
        }
        let run = stack.start_run(&["run", "export", "--blob", kind, "--wait", "--artifact", &artifact])?;
        let revived = revive(&mut stack, index).await;
        if is_source {
            stack.source_registry.start_again().await?;
        } else {
            stack.target_registry.start_again().await?;
        }
        revived?;
        run.await?.with_context(|| stack.log_tails())?;
        compare::artifact(&stack.source(), &stack.target(), &artifact).await?;
    }
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_dies_after_it_gave_up_a_message_gives_it_up_again_and_goes_on() -> Result<()> {
    let mut stack = Stack::start(Options::default()).await?;
    let index =
        stack.services.iter().position(|service| service.kind == "exporter").context("the service")?;
    let fatal = ("FAILPOINTS_KILL_AT".to_owned(), "bus.dead_letter.published".to_owned());
    stack.kill_and_restart(index, vec![fatal]).await?;
    let bus = RabbitMq::connect(BusSettings::new(Secret::new(stack.amqp_url()), "test"));
    let poison = Outgoing {
        destination: Destination::Work(WorkQueue::ExporterParts),
        message_id: "poison".to_owned(),
        kind: "export.part".to_owned(),
        correlation_id: "poison-1".to_owned(),
        headers: BTreeMap::new(),
        body: Bytes::from_static(b"not MessagePack"),
    };
    bus.publish(vec![poison]).await?;
    revive(&mut stack, index).await?;
    let artifact = image(&stack.source(), "dead/letter").await?;
    stack.run(&["run", "export", "--blob", "dead", "--wait", "--artifact", &artifact]).await?;
    compare::artifact(&stack.source(), &stack.target(), &artifact).await?;
    let mut letters = bus.consume(Inbox::DeadLetters(WorkQueue::ExporterParts), 2).await?;
    let mut dead = BTreeSet::new();
    for _ in 0..2 {
        let letter =
            tokio::time::timeout(Duration::from_secs(30), letters.next()).await?.context("a letter")?;
        dead.insert((letter.message.message_id.clone(), letter.message.body.clone()));
        letter.settle.ack().await?;
    }
    assert_eq!(dead, [("poison".to_owned(), Bytes::from_static(b"not MessagePack"))].into());
    bus.close().await;
    stack.stop().await
}
