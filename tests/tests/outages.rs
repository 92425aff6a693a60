//! A server that everything depends on is away for a while, in the middle of a run: the services wait for it, and
//! the run ends the same.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use transship_tests::client::{Client, content};
use transship_tests::compare;
use transship_tests::stack::{Options, Stack};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// How long a server is away: minutes in a soak.
fn outage() -> Duration {
    let seconds = std::env::var("TRANSSHIP_OUTAGE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(15))
}

/// An image that takes every stage a moment.
async fn image(source: &Client, name: &str) -> Result<String> {
    let repository = format!("outage/{name}");
    let config = source.blob(&repository, content(name, 90), "application/x.config").await?;
    let mut layers = Vec::new();
    for number in 0..4 {
        let bytes = content(&format!("{name} {number}"), 40_000_000);
        layers.push(source.blob(&repository, bytes, "application/x.layer").await?);
    }
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    source.manifest(&repository, Some("1"), serde_json::to_vec(&manifest)?, MANIFEST).await?;
    Ok(format!("{repository}:1"))
}

/// Waits until the service `kind` has work in its hands.
async fn is_at_work(stack: &Stack, kind: &str) -> Result<()> {
    let service = stack.services.iter().find(|service| service.kind == kind).context("the service")?;
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let metrics = reqwest::get(&service.metrics_url).await?.text().await?;
        let in_flight = metrics.lines().find(|line| line.starts_with("transship_parts_in_flight"));
        if in_flight.and_then(|line| line.rsplit(' ').next()).is_some_and(|count| count != "0") {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{kind} never began\n{}", stack.log_tails());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The server that is away.
#[derive(Debug, Clone, Copy)]
enum Server {
    Broker,
    SourceStorage,
    TargetStorage,
    SourceRegistry,
    TargetRegistry,
}

impl Server {
    async fn stop(self, stack: &Stack) -> Result<()> {
        match self {
            Self::Broker => stack.rabbitmq.stop().await,
            Self::SourceStorage => stack.source_storage.stop().await,
            Self::TargetStorage => stack.target_storage.stop().await,
            Self::SourceRegistry => stack.source_registry.stop().await,
            Self::TargetRegistry => stack.target_registry.stop().await,
        }
    }

    async fn start_again(self, stack: &Stack) -> Result<()> {
        match self {
            Self::Broker => stack.rabbitmq.start_again().await,
            Self::SourceStorage => stack.source_storage.start_again().await,
            Self::TargetStorage => stack.target_storage.start_again().await,
            Self::SourceRegistry => stack.source_registry.start_again().await,
            Self::TargetRegistry => stack.target_registry.start_again().await,
        }
    }
}

/// `server` is away while the service `kind` works.
async fn survives(server: Server, kind: &str) -> Result<()> {
    let stack = Stack::start(Options { private: true, ..Options::default() }).await?;
    let artifact = image(&stack.source(), kind).await?;
    let run = stack.start_run(&["run", "export", "--blob", "outage", "--wait", "--artifact", &artifact])?;
    is_at_work(&stack, kind).await?;
    server.stop(&stack).await?;
    tokio::time::sleep(outage()).await;
    ensure!(!run.is_finished(), "{server:?}: the run ended without it: {:?}", run.await?);
    stay_up(&stack)?;
    server.start_again(&stack).await?;
    run.await?.with_context(|| format!("{server:?} was away\n{}", stack.log_tails()))?;
    compare::artifact(&stack.source(), &stack.target(), &artifact).await?;
    stay_up(&stack)?;
    stack.stop().await
}

fn stay_up(stack: &Stack) -> Result<()> {
    for service in &stack.services {
        ensure!(service.is_running(), "{} ended\n{}", service.name, stack.log_tails());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_run_survives_an_outage_of_the_broker_while_it_exports() -> Result<()> {
    survives(Server::Broker, "exporter").await
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_run_survives_an_outage_of_the_broker_while_it_imports() -> Result<()> {
    survives(Server::Broker, "importer").await
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_run_survives_an_outage_of_the_source_storage_while_it_exports() -> Result<()> {
    survives(Server::SourceStorage, "exporter").await
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_run_survives_an_outage_of_the_target_storage_while_it_is_copied() -> Result<()> {
    survives(Server::TargetStorage, "blob-copier").await
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_run_survives_an_outage_of_the_source_registry_while_it_exports() -> Result<()> {
    survives(Server::SourceRegistry, "exporter").await
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_run_survives_an_outage_of_the_target_registry_while_it_imports() -> Result<()> {
    survives(Server::TargetRegistry, "importer").await
}
