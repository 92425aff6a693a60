//! The control plane in front of all services: what a client asks for arrives, and nothing that was accepted is lost.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use transship_tests::client::{Client, content};
use transship_tests::compare;
use transship_tests::control::{Control, secret_uri};
use transship_tests::stack::{Options, Stack};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const MINUTE: Duration = Duration::from_secs(60);

/// A small artifact of one layer.
async fn artifact(source: &Client, repository: &str, tag: &str, text: &str) -> Result<String> {
    let config = source.blob(repository, b"{}".to_vec(), "application/vnd.oci.empty.v1+json").await?;
    let layer = source.blob(repository, content(text, 2_000), "application/x.layer").await?;
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "a/b", "config": config, "layers": [layer]});
    source.manifest(repository, Some(tag), serde_json::to_vec(&manifest)?, MANIFEST).await?;
    Ok(format!("{repository}:{tag}"))
}

/// Both pipelines, and a route between their containers that starts the import.
struct Lane {
    stack: Stack,
    control: Control,
    export: String,
}

impl Lane {
    async fn open(options: Options, schedule: Value) -> Result<Self> {
        let stack = Stack::start(Options { control_plane: true, ..options }).await?;
        let control = stack.control()?;
        let (source, target) = (&stack.source_container.url, &stack.target_container.url);
        let import = control
            .import_pipeline(
                "target",
                "inbound",
                target,
                &secret_uri("target-sas"),
                json!({"options": ["OverwriteTags"]}),
            )
            .await?;
        let route = json!({"properties": {
            "sourceUri": source, "targetUri": target, "targetKeyVaultUri": secret_uri("target-sas"),
            "importPipeline": import, "overwrite": true,
        }});
        control.put(&control.id("source", "routes", "outward"), &route).await?;
        let export = control
            .export_pipeline("source", "outbound", source, &secret_uri("source-sas"), schedule)
            .await?;
        Ok(Self { stack, control, export })
    }

    fn run_id(&self, name: &str) -> String {
        self.control.id("source", "pipelineRuns", name)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_exports_is_imported_at_the_end_of_its_route_and_both_runs_say_so() -> Result<()> {
    let lane = Lane::open(Options::default(), json!({})).await?;
    let reference = artifact(&lane.stack.source(), "control/app", "1", "one").await?;
    let id = lane.run_id("exportOne");
    let accepted =
        lane.control.put(&id, &Control::export_run(&lane.export, "control-one", &[&reference])).await?;
    ensure!(accepted["properties"]["response"]["status"] == "Running", "{accepted:#}");
    let run = lane.control.succeeded(&id, MINUTE).await?;
    let response = &run["properties"]["response"];
    ensure!(response["progress"]["percentage"] == "100", "{response:#}");
    ensure!(response["artifacts"][0]["result"] == "Succeeded", "{response:#}");
    // The copier announces the bundle to the pipeline, so its import is that pipeline's, and shows as a run of its own.
    let imports = imports(&lane, 1).await?;
    let import = lane.control.succeeded(imports[0]["id"].as_str().context("an id")?, MINUTE).await?;
    ensure!(import["properties"]["response"]["importedArtifacts"] == json!([reference]), "{import:#}");
    compare::artifact(&lane.stack.source(), &lane.stack.target(), &reference).await?;
    lane.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_the_broker_lost_arrives_all_the_same() -> Result<()> {
    let control_configuration = "[watchdog]\ninterval_seconds = 1\nlost_after_seconds = 3\n".to_owned();
    let mut lane = Lane::open(Options { control_configuration, ..Options::default() }, json!({})).await?;
    let place = |kind: &str| lane.stack.services.iter().position(|service| service.kind == kind);
    let (copier, watchdog) =
        (place("blob-copier").context("it runs")?, place("control-plane").context("it runs")?);
    lane.stack.kill(copier).await?;
    let reference = artifact(&lane.stack.source(), "lost/copy", "1", "lost").await?;
    let id = lane.run_id("exportLost");
    lane.control.put(&id, &Control::export_run(&lane.export, "lost", &[&reference])).await?;
    lane.control.succeeded(&id, MINUTE).await?;
    lane.stack.purge("blob-copier.copies").await?;
    lane.stack.restart(copier, Vec::new()).await?;
    arrives(&lane, &reference, MINUTE).await?;
    let log = std::fs::read_to_string(&lane.stack.services[watchdog].log)?;
    ensure!(log.contains("nothing is heard of a run: dispatched again"), "nothing was lost:\n{log}");
    lane.stack.stop().await
}

/// The runs of the import pipeline, once there are `count`.
async fn imports(lane: &Lane, count: usize) -> Result<Vec<Value>> {
    let deadline = Instant::now() + MINUTE;
    loop {
        let runs = lane.control.list("target", "pipelineRuns").await?;
        if runs.len() >= count {
            ensure!(runs.len() == count, "{} runs instead of {count}: {runs:#?}", runs.len());
            return Ok(runs);
        }
        ensure!(
            Instant::now() < deadline,
            "{} import runs instead of {count}\n{}",
            runs.len(),
            lane.stack.log_tails()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_is_pushed_appears_at_the_target_within_the_interval() -> Result<()> {
    let schedule = json!({"schedule": {"repositories": ["flow/*"], "tags": {"globs": ["v*"]}, "intervalSeconds": 10, "batchSeconds": 1}});
    let lane = Lane::open(Options::default(), schedule).await?;
    let polled = artifact(&lane.stack.source(), "flow/polled", "v1", "polled").await?;
    arrives(&lane, &polled, Duration::from_secs(40)).await?;
    lane.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_a_registry_tells_of_is_at_the_target_within_seconds() -> Result<()> {
    // Nobody asks the registry for its tags: it tells of them, or nothing is exported.
    let schedule = json!({"schedule": {"repositories": ["told/*"], "tags": {"globs": ["v*"]}, "intervalSeconds": null, "notifications": true, "batchSeconds": 1}});
    let lane = Lane::open(Options { notifications: true, ..Options::default() }, schedule).await?;
    for tag in ["v1", "v2"] {
        let told = artifact(&lane.stack.source(), "told/app", tag, tag).await?;
        let began = Instant::now();
        arrives(&lane, &told, Duration::from_secs(20)).await?;
        println!("a pushed tag was at the target after {:.1} s", began.elapsed().as_secs_f64());
    }
    lane.stack.stop().await
}

async fn arrives(lane: &Lane, reference: &str, within: Duration) -> Result<()> {
    let (repository, tag) = reference.split_once(':').context("a tag")?;
    let deadline = Instant::now() + within;
    while lane.stack.target().fetch(repository, tag).await?.is_none() {
        ensure!(
            Instant::now() < deadline,
            "{reference} is not at the target within {within:?}\n{}",
            lane.stack.log_tails()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    compare::artifact(&lane.stack.source(), &lane.stack.target(), reference).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_control_plane_that_is_killed_again_and_again_ends_every_run_right() -> Result<()> {
    let mut lane = Lane::open(Options { count_blocks: true, ..Options::default() }, json!({})).await?;
    let control_plane =
        lane.stack.services.iter().position(|service| service.kind == "control-plane").context("it runs")?;
    let mut ids = Vec::new();
    for number in 0..20_u64 {
        let reference = artifact(
            &lane.stack.source(),
            &format!("killed/app-{number:02}"),
            "1",
            &format!("killed {number}"),
        )
        .await?;
        let id = lane.run_id(&format!("killed{number:02}"));
        let body = Control::export_run(&lane.export, &format!("killed-{number:02}"), &[&reference]);
        lane.control.put(&id, &body).await?;
        ids.push((id, reference));
        // Another moment of the run each time.
        tokio::time::sleep(Duration::from_millis(number * 35)).await;
        lane.stack.kill_and_restart(control_plane, Vec::new()).await?;
        lane.control = lane.stack.control()?;
    }
    for (id, reference) in &ids {
        lane.control.succeeded(id, 2 * MINUTE).await.with_context(|| lane.stack.log_tails())?;
        arrives(&lane, reference, MINUTE).await?;
    }
    let commits = lane.stack.counters[0].commits();
    ensure!(
        commits.len() == 20 && commits.values().all(|count| *count == 1),
        "commits at the storage: {commits:?}"
    );
    lane.stack.stop().await
}

/// What `share` of the sorted values is at most.
fn at_most(values: &mut [Duration], share: f64) -> Duration {
    values.sort();
    values[((values.len() as f64 * share).ceil() as usize).clamp(1, values.len()) - 1]
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_thousand_runs_are_accepted_within_a_minute_and_over_within_three() -> Result<()> {
    const RUNS: usize = 1000;
    let options = Options { each: 1, ..Options::default() };
    let stack = Stack::start(Options { control_plane: true, ..options }).await?;
    let control = stack.control()?;
    let export = control
        .export_pipeline(
            "source",
            "outbound",
            &stack.source_container.url,
            &secret_uri("source-sas"),
            json!({}),
        )
        .await?;
    let mut references = Vec::new();
    for number in 0..20 {
        references.push(
            artifact(
                &stack.source(),
                &format!("thousand/app-{number:02}"),
                "1",
                &format!("thousand {number}"),
            )
            .await?,
        );
    }
    let began = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..8 {
        let (control, export, references) = (control.clone(), export.clone(), references.clone());
        clients.spawn(async move {
            let mut took = Vec::new();
            for number in (client..RUNS).step_by(8) {
                let id = control.id("source", "pipelineRuns", &format!("run{number:04}"));
                let reference = references[number % references.len()].as_str();
                let body = Control::export_run(&export, &format!("thousand-{number:04}"), &[reference]);
                let asked = Instant::now();
                control.put(&id, &body).await?;
                took.push(asked.elapsed());
            }
            anyhow::Ok(took)
        });
    }
    let mut took = Vec::new();
    // Meanwhile the list is paged: no run is missing that was there before, and none comes twice.
    let mut seen = 0;
    while let Some(ended) = clients.join_next().await {
        took.extend(ended??);
        let listed = names(&control).await?;
        ensure!(
            listed.len() >= seen && listed.len() >= took.len(),
            "a run is missing: {} of {}",
            listed.len(),
            took.len()
        );
        seen = listed.len();
    }
    let accepted = began.elapsed();
    let p99 = at_most(&mut took, 0.99);
    while unfinished(&control).await? > 0 {
        ensure!(began.elapsed() < Duration::from_secs(180), "runs are not over\n{}", stack.log_tails());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let over = began.elapsed();
    println!(
        "{RUNS} runs: accepted in {accepted:.1?}, p50 {:?}, p99 {p99:?}, over after {over:.1?}",
        at_most(&mut took, 0.5)
    );
    ensure!(names(&control).await?.len() == RUNS, "a run is missing");
    ensure!(accepted < MINUTE && p99 <= Duration::from_millis(250), "accepted in {accepted:?}, p99 {p99:?}");
    stack.stop().await
}

/// The names on all pages, each once.
async fn names(control: &Control) -> Result<std::collections::BTreeSet<String>> {
    let runs = control.list("source", "pipelineRuns").await?;
    let names: std::collections::BTreeSet<String> =
        runs.iter().filter_map(|run| run["name"].as_str().map(str::to_owned)).collect();
    ensure!(names.len() == runs.len(), "a run is listed twice");
    Ok(names)
}

async fn unfinished(control: &Control) -> Result<usize> {
    let runs = control.list("source", "pipelineRuns").await?;
    for run in &runs {
        ensure!(run["properties"]["provisioningState"] != "Failed", "{run:#}");
    }
    Ok(runs.iter().filter(|run| run["properties"]["provisioningState"] != "Succeeded").count())
}
