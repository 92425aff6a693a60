//! The whole path with real servers and real processes: registry → storage → storage → registry, over RabbitMQ.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use transship_tests::client::{Client, content};
use transship_tests::stack::{Options, Stack};
use transship_tests::{compare, zoo};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The bytes of the largest layer in the zoo.
const LARGEST_OF_THE_ZOO: u64 = 12_000_000;

/// What the importer says in a run's report: of `artifacts`, `blobs` or `bytes`, how many were `moved` and so on.
fn imported(report: &Value, kind: &str, what: &str) -> Result<u64> {
    let stages = report["totals"]["stages"].as_array().context("totals.stages")?;
    let importer = stages.iter().find(|stage| stage["stage"] == "importer").context("the importer")?;
    importer[kind][what].as_u64().context("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_animal_of_the_zoo_arrives_byte_for_byte_and_a_second_run_sends_nothing() -> Result<()> {
    let stack = Stack::start(Options { count_uploads: true, ..Options::default() }).await?;
    let registry = stack.uploads.as_ref().context("the counter")?;
    let animals = zoo::fill(&stack.source()).await?;
    let names: Vec<&str> = animals.iter().flat_map(|animal| ["--artifact", &animal.reference]).collect();
    let report = stack.run(&[&["run", "export", "--blob", "zoo", "--wait"], &names[..]].concat()).await?;
    for stage in report["totals"]["stages"].as_array().context("stages")? {
        let bytes = |what: &str| stage["bytes"][what].as_u64().unwrap_or(u64::MAX);
        assert_eq!(bytes("discovered"), bytes("moved") + bytes("skipped") + bytes("failed"), "{stage}");
    }
    for animal in &animals {
        compare::artifact(&stack.source(), &stack.target(), &animal.reference).await?;
    }
    // What the registry is sent is counted in front of it, whatever the importer says.
    let sent = registry.uploaded();
    assert!(sent >= LARGEST_OF_THE_ZOO, "the counter sees uploads: {sent} bytes");
    let again =
        stack.run(&[&["run", "export", "--blob", "zoo-again", "--wait"], &names[..]].concat()).await?;
    assert_eq!(registry.uploaded(), sent, "no byte of a blob is sent again");
    assert_eq!(imported(&again, "bytes", "moved")?, 0);
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_reads_the_only_artifact_of_a_bundle_without_its_name() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let (source, container) = (stack.source(), &stack.target_container);
    let reference = small(&source, "lonely", 1).await?;
    stack.run(&["run", "export", "--blob", "lonely", "--wait", "--artifact", &reference]).await?;
    let blob = reqwest::get(format!("{}/lonely?{}", container.url, container.full_sas())).await?;
    let archive = stack.folder().join("lonely.tar");
    std::fs::write(&archive, blob.error_for_status()?.bytes().await?)?;
    let mut skopeo = tokio::process::Command::new("skopeo");
    skopeo.args(["inspect", "--raw"]).arg(format!("oci-archive:{}", archive.display())).kill_on_drop(true);
    let read = tokio::time::timeout(Duration::from_secs(60), skopeo.output()).await??;
    ensure!(read.status.success(), "skopeo: {}", String::from_utf8_lossy(&read.stderr));
    let (repository, tag) = reference.rsplit_once(':').context("a tag")?;
    let manifest = source.fetch(repository, tag).await?.context("the manifest")?;
    assert_eq!(read.stdout, manifest.bytes, "{}", String::from_utf8_lossy(&read.stdout));
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_fails_says_why_and_what_to_do() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let error = stack.run(&["run", "export", "--blob", "none", "--wait", "--artifact", "no/such:tag"]).await;
    let message = format!("{:?}", error.err().context("the run fails")?);
    assert!(message.contains("no/such:tag") && message.contains("hint:"), "{message}");
    stack.stop().await
}

/// An image of one small layer of its own, in one of a hundred repositories below `folder`.
async fn small(source: &Client, folder: &str, number: usize) -> Result<String> {
    let repository = format!("{folder}/r{:02}", number % 100);
    let config = source.blob(&repository, b"{}".to_vec(), "application/vnd.oci.empty.v1+json").await?;
    let layer = source.blob(&repository, content(&format!("{folder} {number}"), 300), LAYER).await?;
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    let tag = format!("t{number}");
    source.manifest(&repository, Some(&tag), serde_json::to_vec(&manifest)?, MANIFEST).await?;
    Ok(format!("{repository}:{tag}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_ten_thousand_small_artifacts_are_shared_by_two_of_each_service() -> Result<()> {
    let stack = Stack::start(Options { each: 2, ..Options::default() }).await?;
    let source = stack.source();
    let artifacts: Vec<String> = stream::iter(0..10_000)
        .map(|number| small(&source, "small", number))
        .buffered(16)
        .try_collect()
        .await?;
    let list = stack.folder().join("artifacts.txt");
    std::fs::write(&list, artifacts.join("\n"))?;
    let list = list.display().to_string();
    let report =
        stack.run(&["run", "export", "--blob", "small", "--wait", "--artifacts-file", &list]).await?;
    assert_eq!(report["totals"]["artifacts"]["discovered"], 10_000);
    for (what, expected) in [("discovered", 10_000), ("moved", 10_000), ("skipped", 0), ("failed", 0)] {
        assert_eq!(imported(&report, "artifacts", what)?, expected, "artifacts that the importers {what}");
    }
    for artifact in artifacts.iter().step_by(97) {
        compare::artifact(&source, &stack.target(), artifact).await?;
    }
    // Every process had its share of the forty parts.
    for service in &stack.services {
        let metrics = reqwest::get(&service.metrics_url).await?.text().await?;
        let done = metrics
            .lines()
            .find(|line| line.starts_with("transship_parts_total") && line.contains("succeeded"));
        let done: f64 = done.and_then(|line| line.rsplit(' ').next()).context("parts")?.parse()?;
        assert!(done >= 1.0, "{} did {done} parts", service.name);
    }
    stack.stop().await
}

/// The size of the large layer in GiB: 5 in a soak, 1 else.
fn large_layer_gib() -> u64 {
    std::env::var("TRANSSHIP_LAYER_GIB").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_large_layer_passes_through_little_memory() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let source = stack.source();
    let size = usize::try_from(large_layer_gib() << 30)?;
    let layer = source.blob("large/layer", content("large layer", size), LAYER).await?;
    let config = source.blob("large/layer", b"{}".to_vec(), "application/vnd.oci.empty.v1+json").await?;
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    source.manifest("large/layer", Some("1"), serde_json::to_vec(&manifest)?, MANIFEST).await?;
    stack.run(&["run", "export", "--blob", "large", "--wait", "--artifact", "large/layer:1"]).await?;
    let peaks: Vec<(String, u64)> = stack
        .services
        .iter()
        .map(|service| Ok((service.name.clone(), service.peak_memory()?)))
        .collect::<Result<_>>()?;
    eprintln!(
        "peak memory in MiB: {:?}",
        peaks.iter().map(|(name, peak)| (name, peak >> 20)).collect::<Vec<_>>()
    );
    for (name, peak) in &peaks {
        ensure!(*peak < 128 << 20, "{name} had {} MiB in memory", peak >> 20);
    }
    compare::artifact(&source, &stack.target(), "large/layer:1").await?;
    stack.stop().await
}
