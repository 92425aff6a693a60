//! What the services say while they work, as somebody hears it who speaks to the broker directly.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use transship_bus::{Bus, BusSettings, Destination, Incoming, Outgoing, RabbitMq, WorkQueue};
use transship_messages::{ExportPart, FactBody, WorkItem, decode_fact};
use transship_model::{Counters, Execution, ExportOptions, Part, Secret, Stage};
use transship_tests::client::content;
use transship_tests::stack::{Options, Stack};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn part(stack: &Stack, artifact: &str) -> Result<ExportPart> {
    Ok(ExportPart {
        execution: Execution { id: "facts-1".parse()?, generation: 1 },
        part: Part::ONLY,
        registry: "source".parse()?,
        container: stack.source_container.url.parse()?,
        container_secret: Some("source-sas".parse()?),
        blob: "facts".parse()?,
        artifacts: vec![artifact.parse()?],
        options: ExportOptions::default(),
        routes: None,
        slice: 0,
        carried: Counters::default(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_follows_a_part_through_all_three_services_and_every_stage_says_what_it_did() -> Result<()>
{
    let stack = Stack::start(Options::default()).await?;
    let layer = stack.source().blob("facts/image", content("facts", 20_000_000), "application/x").await?;
    let manifest = serde_json::json!({"schemaVersion": 2, "config": layer, "layers": [layer]});
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    stack.source().manifest("facts/image", Some("1"), serde_json::to_vec(&manifest)?, media_type).await?;

    let bus = RabbitMq::connect(BusSettings::new(Secret::new(stack.amqp_url()), "test"));
    let mut facts = bus.subscribe("facts-1.#").await?.facts;
    let work = part(&stack, "facts/image:1")?;
    let headers = BTreeMap::from([("traceparent".to_owned(), format!("00-{TRACE}-00f067aa0ba902b7-01"))]);
    let message = Outgoing {
        destination: Destination::Work(WorkQueue::ExporterParts),
        message_id: work.message_id(),
        kind: ExportPart::KIND.to_owned(),
        correlation_id: "facts-1".to_owned(),
        headers,
        body: Bytes::from(work.encode()),
    };
    bus.publish(vec![message]).await?;

    let (mut kinds, mut stages) = (BTreeSet::new(), BTreeSet::new());
    while !kinds.contains("bundle.imported") {
        let fact: Incoming = tokio::time::timeout(Duration::from_secs(60), facts.recv())
            .await
            .with_context(|| format!("heard {kinds:?} only{}", stack.log_tails()))?
            .context("the subscription ended")?;
        let traceparent = fact.headers.get("traceparent").context("a trace context")?;
        ensure!(traceparent.contains(TRACE), "{} has {traceparent}", fact.kind);
        let decoded = decode_fact(&fact.body)?;
        ensure!(!matches!(decoded.body, FactBody::Failed { .. }), "{decoded:?}");
        ensure!(fact.routing_key == format!("facts-1.{}", decoded.body.kind()), "{}", fact.routing_key);
        kinds.insert(decoded.body.kind());
        stages.insert(decoded.stage);
    }
    assert_eq!(stages, BTreeSet::from([Stage::Exporter, Stage::BlobCopier, Stage::Importer]));
    for kind in ["bundle.exported", "bundle.copied", "artifact.imported"] {
        assert!(kinds.contains(kind), "{kinds:?}");
    }
    bus.close().await;
    stack.stop().await
}
