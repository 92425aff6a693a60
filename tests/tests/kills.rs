//! Every service dies, like by `kill -9`, between any two effects, and is started again: the run ends the same.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use transship_tests::client::{Client, content};
use transship_tests::compare;
use transship_tests::stack::{Options, Stack};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image with a referrer, a signature by tag, small layers and one of several blocks.
async fn image(source: &Client, repository: &str) -> Result<String> {
    let config = source.blob(repository, content(repository, 90), "application/x.config").await?;
    let mut layers = Vec::new();
    for size in [10, 5_000, 3_000_000, 20_000_000] {
        layers.push(
            source
                .blob(repository, content(&format!("{repository} {size}"), size), "application/x.layer")
                .await?,
        );
    }
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    let image = source.manifest(repository, Some("1"), serde_json::to_vec(&manifest)?, MANIFEST).await?;
    let hex = image["digest"].as_str().context("a digest")?.replace(':', "-");
    let referrer = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "a/b", "config": config, "layers": [], "subject": image});
    let referrer = source.manifest(repository, None, serde_json::to_vec(&referrer)?, MANIFEST).await?;
    let index_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": index_type, "manifests": [referrer]});
    source.manifest(repository, Some(&hex), serde_json::to_vec(&index)?, index_type).await?;
    let signature = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []});
    source
        .manifest(repository, Some(&format!("{hex}.sig")), serde_json::to_vec(&signature)?, MANIFEST)
        .await?;
    Ok(format!("{repository}:1"))
}

/// Kills `kind` at each of the failpoints in turn, and shows that the run ends the same.
async fn dies_at(kind: &'static str, failpoints: &[&str]) -> Result<()> {
    let mut stack = Stack::start(Options { count_blocks: true, ..Options::default() }).await?;
    let index = stack.services.iter().position(|service| service.kind == kind).context("the service")?;
    for failpoint in failpoints {
        let repository = format!("kill/{kind}-{}", failpoint.replace(['.', ':'], "-").replace('_', "-"));
        let artifact = image(&stack.source(), &repository).await?;
        let fatal = vec![("FAILPOINTS_KILL_AT".to_owned(), (*failpoint).to_owned())];
        stack.kill_and_restart(index, fatal).await?;
        let blob = failpoint.replace([':', '.'], "-");
        let run = stack.start_run(&["run", "export", "--blob", &blob, "--wait", "--artifact", &artifact])?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while stack.services[index].is_running() {
            ensure!(Instant::now() < deadline, "{kind} never came to {failpoint}\n{}", stack.log_tails());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stack.restart(index, Vec::new()).await?;
        run.await?.with_context(|| format!("after dying at {failpoint}\n{}", stack.log_tails()))?;
        compare::artifact(&stack.source(), &stack.target(), &artifact)
            .await
            .with_context(|| format!("at {failpoint}"))?;
        // Each blob is a stream, and has content of its own for each failpoint. Work that an exporter published
        // before it died is there twice, and two copies may run side by side: so this counts what it wrote itself.
        let counter = &stack.counters[usize::from(kind != "exporter")];
        ensure!(counter.distinct() > 0, "the blocks go by way of the counter");
        let repeated = counter.repeated();
        ensure!(repeated.values().all(|blocks| *blocks <= 1), "{failpoint}: staged twice: {repeated:?}");
    }
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exporter_that_dies_between_any_two_effects_ends_the_same() -> Result<()> {
    let own =
        ["exporter.walked", "exporter.block_staged", "exporter.block_staged:3", "exporter.content_staged"];
    let last = [
        "exporter.head_staged",
        "exporter.committed",
        "stage.handled",
        "stage.work_published",
        "stage.published",
    ];
    dies_at("exporter", &[&own[..], &last[..]].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copier_that_dies_between_any_two_effects_ends_the_same() -> Result<()> {
    let own = ["copier.block_staged", "copier.block_staged:3", "copier.staged", "copier.committed"];
    dies_at(
        "blob-copier",
        &[&own[..], &["stage.handled", "stage.work_published", "stage.published"]].concat(),
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_importer_that_dies_between_any_two_effects_ends_the_same() -> Result<()> {
    let blobs = ["importer.planned", "importer.surveyed", "importer.blob_uploaded", "importer.blobs_moved"];
    let manifests = [
        "importer.manifest_put",
        "importer.manifests_put",
        "importer.referrers_put",
        "importer.fallback_put",
    ];
    let last = ["importer.tags_put", "stage.handled", "stage.work_published", "stage.published"];
    dies_at("importer", &[&blobs[..], &manifests[..], &last[..]].concat()).await
}

/// How often services are killed: more in a soak.
fn kills() -> usize {
    std::env::var("TRANSSHIP_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_services_that_are_killed_again_and_again_complete_every_run() -> Result<()> {
    let mut stack =
        Stack::start(Options { each: 2, environment: BTreeMap::new(), ..Options::default() }).await?;
    let mut artifacts = Vec::new();
    for number in 0..6 {
        artifacts.push(image(&stack.source(), &format!("storm/image-{number}")).await?);
    }
    for kill in 0..kills() {
        let artifact = &artifacts[kill % artifacts.len()];
        let blob = format!("storm-{kill}");
        let run = stack.start_run(&["run", "export", "--blob", &blob, "--wait", "--artifact", artifact])?;
        // Another moment of the run each time, and another service.
        tokio::time::sleep(Duration::from_millis(50 * (kill as u64 % 12))).await;
        let victim = kill % stack.services.len();
        stack.kill_and_restart(victim, Vec::new()).await?;
        run.await?.with_context(|| {
            format!("kill {kill} of {}\n{}", stack.services[victim].name, stack.log_tails())
        })?;
    }
    for artifact in &artifacts {
        compare::artifact(&stack.source(), &stack.target(), artifact).await?;
    }
    stack.stop().await
}
