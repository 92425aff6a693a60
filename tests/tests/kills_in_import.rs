//! An importer dies, like by `kill -9`, after effects that only some imports have: a mount, a piece of an upload,
//! the deletion of the bundle. It is started again, and the run ends the same.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use transship_tests::client::{Client, content};
use transship_tests::compare;
use transship_tests::stack::{Options, Stack};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image with a small layer and one of several pieces, whose bytes follow from `seed`.
async fn image(source: &Client, repository: &str, seed: &str) -> Result<String> {
    let config = source.blob(repository, content(seed, 90), "application/x.config").await?;
    let mut layers = Vec::new();
    for size in [5_000, 20_000_000] {
        let bytes = content(&format!("{seed} {size}"), size);
        layers.push(source.blob(repository, bytes, "application/x.layer").await?);
    }
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    source.manifest(repository, Some("1"), serde_json::to_vec(&manifest)?, MANIFEST).await?;
    Ok(format!("{repository}:1"))
}

/// Kills the importer at each of the failpoints in turn, while it imports one image into two repositories.
async fn dies_at(options: Options, failpoints: &[&str]) -> Result<()> {
    let mut stack = Stack::start(options).await?;
    let index = stack.services.iter().position(|service| service.kind == "importer").context("it runs")?;
    for failpoint in failpoints {
        let name = failpoint.replace(['.', ':', '_'], "-");
        let mut artifacts = Vec::new();
        for half in ["one", "two"] {
            artifacts.push(image(&stack.source(), &format!("kill/{name}/{half}"), &name).await?);
        }
        let fatal = vec![("FAILPOINTS_KILL_AT".to_owned(), (*failpoint).to_owned())];
        stack.kill_and_restart(index, fatal).await?;
        let [one, two] = &artifacts[..] else { unreachable!("two were made") };
        let run = ["run", "export", "--blob", &name, "--wait", "--artifact", one, "--artifact", two];
        let run = stack.start_run(&run)?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while stack.services[index].is_running() {
            ensure!(Instant::now() < deadline, "it never came to {failpoint}\n{}", stack.log_tails());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stack.restart(index, Vec::new()).await?;
        run.await?.with_context(|| format!("after dying at {failpoint}\n{}", stack.log_tails()))?;
        for artifact in &artifacts {
            let same = compare::artifact(&stack.source(), &stack.target(), artifact).await;
            same.with_context(|| format!("at {failpoint}"))?;
        }
    }
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_importer_that_dies_after_it_mounted_a_blob_ends_the_same() -> Result<()> {
    dies_at(Options::default(), &["importer.blob_mounted", "importer.blob_mounted:2"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_importer_that_dies_between_two_pieces_of_an_upload_ends_the_same() -> Result<()> {
    let options = Options { seal_uploads: true, ..Options::default() };
    dies_at(options, &["importer.piece_sent", "importer.piece_sent:2"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_importer_that_dies_after_it_deleted_the_bundle_ends_the_same() -> Result<()> {
    let options = Options { delete_bundles: true, ..Options::default() };
    dies_at(options, &["importer.bundle_deleted"]).await
}
