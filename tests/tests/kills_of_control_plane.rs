//! The control plane dies, like by `kill -9`, between any two effects of a run, and is started again: the run ends the
//! same, and its bundle is committed once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use transship_tests::client::content;
use transship_tests::compare;
use transship_tests::control::{Control, secret_uri};
use transship_tests::stack::{CONTROL_PLANE, Options, Stack};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const MINUTE: Duration = Duration::from_secs(60);

const FAILPOINTS: [&str; 6] = [
    "control.put_stored",
    "control.planned",
    "control.started",
    "control.published",
    "control.outbox_done",
    "control.folded",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_dies_between_any_two_effects_ends_the_run_right() -> Result<()> {
    let options = Options { control_plane: true, count_blocks: true, ..Options::default() };
    let mut stack = Stack::start(options).await?;
    let index = stack.services.iter().position(|service| service.kind == CONTROL_PLANE).context("it runs")?;
    let container = stack.source_container.url.clone();
    let secret = secret_uri("source-sas");
    let pipeline =
        stack.control()?.export_pipeline("source", "outbound", &container, &secret, json!({})).await?;
    for (number, failpoint) in FAILPOINTS.into_iter().enumerate() {
        let repository = format!("kill/control-{number}");
        let source = stack.source();
        let config = source.blob(&repository, b"{}".to_vec(), "application/vnd.oci.empty.v1+json").await?;
        let layer = source.blob(&repository, content(&repository, 3_000), "application/x.layer").await?;
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        source.manifest(&repository, Some("1"), serde_json::to_vec(&manifest)?, MANIFEST).await?;
        let reference = format!("{repository}:1");
        let fatal = ("FAILPOINTS_KILL_AT".to_owned(), failpoint.to_owned());
        stack.kill_and_restart(index, vec![fatal]).await?;
        let control = stack.control()?;
        let id = control.id("source", "pipelineRuns", &format!("dies{number}"));
        let run = Control::export_run(&pipeline, &format!("dies-{number}"), &[&reference]);
        // The answer may die with the process; what was asked for must not.
        let answered = control.put(&id, &run).await;
        let deadline = Instant::now() + MINUTE;
        while stack.services[index].is_running() {
            ensure!(Instant::now() < deadline, "it never came to {failpoint}\n{}", stack.log_tails());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stack.restart(index, Vec::new()).await?;
        let control = stack.control()?;
        if answered.is_err() {
            // A client that got no answer asks again.
            control.put(&id, &run).await?;
        }
        control.succeeded(&id, MINUTE).await.with_context(|| format!("after dying at {failpoint}"))?;
        let arrived = async {
            while stack.target().fetch(&repository, "1").await?.is_none() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(MINUTE, arrived).await.with_context(|| stack.log_tails())??;
        compare::artifact(&stack.source(), &stack.target(), &reference).await?;
    }
    let commits = stack.counters[0].commits();
    ensure!(commits.len() == FAILPOINTS.len() && commits.values().all(|count| *count == 1), "{commits:?}");
    stack.stop().await
}
