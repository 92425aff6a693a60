//! How much a kill costs: the blocks that are staged twice, counted in front of the storage account.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use transship_tests::client::{Client, content};
use transship_tests::compare;
use transship_tests::stack::{Options, Stack};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image of two blobs of eight blocks each, so that several blocks of each are in flight at a time.
async fn image(source: &Client, name: &str) -> Result<String> {
    let repository = format!("repeats/{name}");
    let config = source.blob(&repository, content(name, 90), "application/x.config").await?;
    let mut layers = Vec::new();
    for number in 0..2 {
        let bytes = content(&format!("{name} {number}"), 60_000_000);
        layers.push(source.blob(&repository, bytes, "application/x.layer").await?);
    }
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    source.manifest(&repository, Some("1"), serde_json::to_vec(&manifest)?, MANIFEST).await?;
    Ok(format!("{repository}:1"))
}

/// Kills `kind` at each of the failpoints, and returns how many blocks were staged again in the storage account that
/// it writes to, the most of any one blob.
async fn repeats(kind: &str, account: usize, failpoints: &[&str]) -> Result<u32> {
    let mut stack = Stack::start(Options { count_blocks: true, ..Options::default() }).await?;
    let index = stack.services.iter().position(|service| service.kind == kind).context("the service")?;
    for (number, failpoint) in failpoints.iter().enumerate() {
        let artifact = image(&stack.source(), &format!("{kind}-{number}")).await?;
        stack
            .kill_and_restart(index, vec![("FAILPOINTS_KILL_AT".to_owned(), (*failpoint).to_owned())])
            .await?;
        let blob = format!("repeats-{number}");
        let run = stack.start_run(&["run", "export", "--blob", &blob, "--wait", "--artifact", &artifact])?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while stack.services[index].is_running() {
            ensure!(Instant::now() < deadline, "{kind} never came to {failpoint}\n{}", stack.log_tails());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stack.restart(index, Vec::new()).await?;
        run.await?.with_context(|| format!("after dying at {failpoint}\n{}", stack.log_tails()))?;
        compare::artifact(&stack.source(), &stack.target(), &artifact).await?;
    }
    let counter = &stack.counters[account];
    ensure!(counter.distinct() > 16 * failpoints.len(), "the blocks go by way of the counter");
    let repeated = counter.repeated();
    eprintln!("{kind}: blocks that were staged again, by blob: {:?}", repeated.values().collect::<Vec<_>>());
    stack.stop().await?;
    Ok(repeated.into_values().max().unwrap_or(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exporter_that_dies_with_many_blocks_in_flight_stages_one_of_a_blob_again_at_most() -> Result<()> {
    let failpoints = [
        "exporter.block_staged:3",
        "exporter.block_staged:7",
        "exporter.block_staged:10",
        "exporter.block_staged:14",
    ];
    ensure!(repeats("exporter", 0, &failpoints).await? <= 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copier_that_dies_with_many_blocks_in_flight_stages_none_again_that_had_been_staged() -> Result<()>
{
    let failpoints = ["copier.block_staged:2", "copier.block_staged:6", "copier.block_staged:11"];
    // A block whose answer found a dead copier is staged, and listed.
    ensure!(repeats("blob-copier", 1, &failpoints).await? == 0);
    Ok(())
}
