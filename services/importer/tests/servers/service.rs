use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::{Child, Command};
use transship_bus::{Bus, BusSettings, RabbitMq, WorkQueue};
use transship_messages::{ArtifactOutcome, ArtifactResult, FactBody, ImportRequested, decode_fact};
use transship_model::{Counters, Secret};
use transship_rig::{Registry, RegistryOptions, Side};
use transship_stage::work_message;

use crate::scene::Scene;
use crate::scene::bundle::BundleBuilder;
use crate::{image, points_to};

/// More than the memory that the process may take.
const LARGE: usize = 200 << 20;

/// The key of the secret `seal`: 32 bytes in base64.
pub(crate) const KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

pub(crate) const LONGEST: Duration = Duration::from_secs(60);

/// What the registry of some tests asks for; the others do not look at it.
const PASSWORD: &str = "CANARY-of-the-registry";

/// The service as a process of its own, with its settings in a file.
fn start(folder: &std::path::Path, broker: &str, registry: &str, scene: &Scene) -> Result<Child> {
    start_with(folder, broker, registry, scene, "")
}

/// The same with more sections of settings. The secret `seal` holds [`KEY`].
pub(crate) fn start_with(
    folder: &std::path::Path,
    broker: &str,
    registry: &str,
    scene: &Scene,
    more: &str,
) -> Result<Child> {
    let secret = folder.join("broker");
    std::fs::write(&secret, format!("{broker}\n"))?;
    std::fs::write(folder.join("password"), PASSWORD)?;
    std::fs::write(folder.join("seal"), KEY)?;
    let settings = format!(
        r#"
        [host]
        listen = "127.0.0.1:0"
        address_file = "{folder}/address"
        [broker]
        url_file = "{secret}"
        [secrets]
        directory = "{folder}"
        local_containers = true
        {more}
        [registries.target]
        url = "{registry}"
        username = "importer"
        password_secret = "password"
        [pipelines.default]
        registry = "target"
        container = "{container}"
        options = {{ overwrite_tags = true }}
        rename = [{{ from = "team", to = "mirror" }}]
        "#,
        folder = folder.display(),
        secret = secret.display(),
        container = scene.pipeline.container,
    );
    let config = folder.join("importer.toml");
    std::fs::write(&config, settings)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_transship-importer"));
    let command = command.arg("--config").arg(&config).stdin(Stdio::null()).kill_on_drop(true);
    command.spawn().context("start the importer")
}

/// The counters and the results of the execution's import, once it has ended. Facts come in any order.
pub(crate) async fn imported(
    bus: &RabbitMq,
    work: &ImportRequested,
) -> Result<(Counters, Vec<ArtifactResult>)> {
    let mut facts = bus.subscribe(&format!("{}.#", work.execution.id)).await?;
    // A queue that was declared a moment ago may have no leader yet. Whoever calls this has a deadline.
    while let Err(error) =
        bus.publish(vec![work_message(work, WorkQueue::ImporterImports, Default::default())]).await
    {
        eprintln!("{error}; trying again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (mut ended, mut all) = (None, Vec::new());
    while let Some(message) = facts.facts.recv().await {
        match decode_fact(&message.body)?.body {
            FactBody::ArtifactImported { results, .. } => all.extend(results),
            FactBody::BundleImported { counters, message: None, .. } => ended = Some(counters),
            FactBody::Progress { .. } => {}
            other => bail!("not what was expected: {other:?}"),
        }
        match ended {
            Some(counters) if all.len() as u64 == counters.artifacts_discovered => {
                return Ok((counters, all));
            }
            _ => {}
        }
    }
    bail!("the subscription ended")
}

#[tokio::test]
async fn a_message_becomes_artifacts_and_facts_and_the_process_drains() -> Result<()> {
    let (broker, registry) =
        (transship_rig::RabbitMq::shared().await?, Registry::shared(Side::Target).await?);
    let url = broker.vhost().await?;
    let folder = tempfile::tempdir()?;
    let scene = Scene::new();
    let mut bundle = BundleBuilder::default();
    let layer = bundle.layer(&vec![5; 2 << 20]);
    let item = image(&mut bundle, "image", &[layer]);
    bundle.artifact(&format!("team/service-{}:1", std::process::id()), &item);
    let work = scene.put_bundle(&bundle).await;
    let mut child = start(folder.path(), &url, &registry.url(), &scene)?;

    let bus = RabbitMq::connect(BusSettings::new(Secret::new(&url), "test"));
    let (counters, results) = tokio::time::timeout(LONGEST, imported(&bus, &work)).await??;
    assert_eq!((counters.artifacts_moved, counters.bytes_moved), (1, bundle.bytes()));
    assert_eq!(results[0].outcome, ArtifactOutcome::Moved);
    let repository = format!("mirror/service-{}", std::process::id());
    points_to(&registry.url(), &repository, "1", &bundle, &item).await?;

    let address = std::fs::read_to_string(folder.path().join("address"))?;
    let page = |path: &'static str| reqwest::get(format!("http://{}/{path}", address.trim()));
    ensure!(page("readyz").await?.status().is_success(), "it is ready");
    let metrics = page("metrics").await?.text().await?;
    let moved = r#"transship_artifacts_total{outcome="moved",stage="importer"} 1"#;
    ensure!(metrics.contains(moved), "{metrics}");

    let pid = child.id().context("it runs")?.to_string();
    ensure!(Command::new("kill").args(["-TERM", &pid]).status().await?.success(), "it is asked to stop");
    let status = tokio::time::timeout(LONGEST, child.wait()).await??;
    ensure!(status.success(), "it drained: {status}");
    bus.close().await;
    Ok(())
}

#[tokio::test]
async fn a_large_layer_goes_to_a_registry_with_a_password_in_bounded_memory() -> Result<()> {
    let broker = transship_rig::RabbitMq::shared().await?;
    let htpasswd = Some(("importer".to_owned(), PASSWORD.to_owned()));
    let registry = Registry::start_with(RegistryOptions { htpasswd, ..RegistryOptions::default() }).await?;
    let url = broker.vhost().await?;
    let folder = tempfile::tempdir()?;
    let scene = Scene::new();
    let mut bundle = BundleBuilder::default();
    let layer = bundle.layer(&vec![6; LARGE]);
    let item = image(&mut bundle, "image", &[layer]);
    bundle.artifact("team/large:1", &item);
    let work = scene.put_bundle(&bundle).await;
    let _child = start(folder.path(), &url, &registry.url(), &scene)?;

    let bus = RabbitMq::connect(BusSettings::new(Secret::new(&url), "test"));
    let (counters, _) = tokio::time::timeout(LONGEST, imported(&bus, &work)).await??;
    assert_eq!(counters.bytes_moved, bundle.bytes());
    let address = std::fs::read_to_string(folder.path().join("address"))?;
    let metrics = reqwest::get(format!("http://{}/metrics", address.trim())).await?.text().await?;
    let peak = metrics.lines().find_map(|line| line.strip_prefix("transship_peak_resident_memory_bytes "));
    let peak: f64 = peak.context("the peak is in the metrics")?.parse()?;
    ensure!(peak > 0.0 && peak < 128.0 * 1024.0 * 1024.0, "{peak} bytes at the peak");
    bus.close().await;
    Ok(())
}

#[tokio::test]
async fn a_setting_that_cannot_be_is_refused_with_its_key() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let scene = Scene::new();
    let config = folder.path().join("importer.toml");
    let settings = format!(
        "[broker]\n[registries.target]\nurl = \"https://r\"\n[pipelines.p]\nregistry = \"nope\"\ncontainer = \"{}\"\n",
        scene.pipeline.container
    );
    std::fs::write(&config, settings)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_transship-importer"));
    let output = command.arg("--config").arg(&config).arg("check-config").kill_on_drop(true).output().await?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("broker") && said.contains("pipelines.p.registry"), "{said}");
    Ok(())
}
