//! The command line against the real control plane, with the stages, a broker, two storage accounts and two
//! registries: the procedure of ACR's article from start to end, and the pages of a person's day.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use support::*;
use tokio_util::sync::{CancellationToken, DropGuard};
use transship_blob_copier::{Copier, CopySettings};
use transship_bus::{Bus, BusSettings, RabbitMq as Broker};
use transship_control_plane::Config;
use transship_exporter::{ExportSettings, Exporter};
use transship_host::{Host, HostSettings, Process};
use transship_importer::{ImportSettings, Importer};
use transship_model::{Secret, Stage};
use transship_registry::{RegistryClient, RegistrySettings, Source, Target};
use transship_rig::{Azurite, Container, RabbitMq, Registry, Side};
use transship_stage::{ByteBudget, RetryPolicy, SecretsConfig, Verb, Worker, WorkerSettings};
use transship_storage::Containers;
use transship_telemetry::Metrics;

const VAULT: &str = "local.vault.azure.net";
/// The SHA-256 of `CANARY-token`: the control plane knows its tokens by their hashes.
const TOKEN_HASH: &str = "53f919fc030dce7578aef388fa0b2c3a881bd386fbd09a408a17f117ee94b94e";

struct Stack {
    home: Home,
    source: Registry,
    target: Registry,
    _accounts: (Azurite, Azurite),
    containers: (Container, Container),
    _stop: DropGuard,
}

impl Stack {
    async fn new() -> Result<Self> {
        let amqp = RabbitMq::shared().await?.vhost().await?;
        let accounts = (Azurite::shared(Side::Source).await?, Azurite::shared(Side::Target).await?);
        let containers = (accounts.0.container("out").await?, accounts.1.container("in").await?);
        let (source, target) = (Registry::start().await?, Registry::start().await?);
        push_zoo(&Pusher::new(&source.url())).await?;
        let home = Home::new();
        let secrets = home.directory("secrets");
        home.write("secrets/source-sas", &containers.0.full_sas());
        home.write("secrets/target-sas", &containers.1.full_sas());
        home.write("tokens", &format!("contributor tester {TOKEN_HASH}\n"));
        home.write("token", TOKEN);
        let secrets = json!({ "directory": secrets, "vaults": { VAULT: secrets } });
        let stop = CancellationToken::new();
        let stack =
            Self { home, source, target, _accounts: accounts, containers, _stop: stop.clone().drop_guard() };
        stack.control_plane(&amqp, &secrets, &stop).await?;
        stack.work(&amqp, &secrets, &stop)?;
        Ok(stack)
    }

    /// Starts the control plane, and makes a context for it.
    async fn control_plane(&self, amqp: &str, secrets: &Value, stop: &CancellationToken) -> Result<()> {
        let file = self.home.path("api");
        let config: Config = serde_json::from_value(json!({
            "broker": { "url": amqp },
            "secrets": secrets,
            "api": { "listen": "127.0.0.1:0", "address_file": file },
            "auth": { "tokens_file": self.home.path("tokens") },
            "state": { "url": format!("sqlite://{}", self.home.path("state.db").display()) },
            "registries": { "source": { "url": self.source.url() }, "target": { "url": self.target.url() } },
            "trigger": { "interval_seconds": 1 },
        }))?;
        let settings: HostSettings = serde_json::from_value(json!({ "listen": "127.0.0.1:0" }))?;
        let host = Host::bind("control-plane", settings, Metrics::new(Stage::ControlPlane)).await?;
        let stop = stop.clone();
        let running = tokio::spawn(host.run(move |process| {
            // The process ends with the stack, whatever the signals.
            let process = Process { shutdown: stop, ..process };
            transship_control_plane::run(config, process)
        }));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let address = loop {
            match std::fs::read_to_string(&file) {
                Ok(address) if address.ends_with('\n') => break address,
                _ if running.is_finished() => anyhow::bail!("the control plane ended: {:?}", running.await),
                _ => {
                    anyhow::ensure!(std::time::Instant::now() < deadline, "the control plane does not begin");
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        let (url, token) =
            (format!("http://{}", address.trim()), self.home.path("token").display().to_string());
        for (name, registry) in [("src", "source"), ("dst", "target")] {
            let set = ["context", "set", name, "--url", &url, "--token-file", &token, "--registry", registry];
            self.home.run(&[&set[..], &["--subscription", "sub", "--group", "grp"]].concat()).await.ok();
        }
        Ok(())
    }

    /// Starts one worker of each stage, as the services run them.
    fn work(&self, amqp: &str, secrets: &Value, stop: &CancellationToken) -> Result<()> {
        let secrets: SecretsConfig = serde_json::from_value(secrets.clone())?;
        let containers = Arc::new(Containers::with_keyring(secrets.keyring()?));
        let client = |registry: &Registry| RegistryClient::new(RegistrySettings::new(registry.url()));
        let source: Arc<dyn Source> = Arc::new(client(&self.source)?);
        let target: Arc<dyn Target> = Arc::new(client(&self.target)?);
        let (sources, targets) =
            (BTreeMap::from([("source".parse()?, source)]), BTreeMap::from([("target".parse()?, target)]));
        start(
            amqp,
            Exporter::new(sources, Arc::clone(&containers), Vec::new(), ExportSettings::default()),
            stop,
        );
        start(amqp, Copier::new(Arc::clone(&containers), CopySettings::default()), stop);
        start(amqp, Importer::new(targets, containers, BTreeMap::new(), ImportSettings::default()), stop);
        Ok(())
    }

    async fn run(&self, line: &str) -> Ended {
        let ended = self.home.run(&line.split_whitespace().collect::<Vec<_>>()).await;
        assert!(
            !format!("{ended:?}").contains("CANARY") && !format!("{ended:?}").contains("sig="),
            "{ended:?}"
        );
        ended
    }

    async fn json(&self, line: &str) -> Value {
        self.run(&format!("{line} -o json")).await.ok().json()
    }

    async fn has_arrived(&self, repository: &str, tag: &str) -> bool {
        let read = Pusher::new(&self.target.url()).read(repository, tag).await;
        read.is_ok_and(|found| found.is_some())
    }
}

fn start<V: Verb>(amqp: &str, verb: V, stop: &CancellationToken) {
    let bus: Arc<dyn Bus> = Arc::new(Broker::connect(BusSettings::new(Secret::new(amqp), "test")));
    let settings = WorkerSettings {
        slots: 2,
        slice: WorkerSettings::SLICE,
        retry: RetryPolicy::BROKER,
        facts_mandatory: true,
    };
    let budget = ByteBudget::new(ByteBudget::DEFAULT_BYTES);
    tokio::spawn(Worker::new(bus, verb, settings, budget, Metrics::new(V::STAGE)).run(stop.clone()));
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelines_runs_and_routes_work_from_the_first_command_to_the_last() -> Result<()> {
    let stack = Stack::new().await?;
    let (out, into) = (&stack.containers.0.url, &stack.containers.1.url);
    let secret = |name: &str| format!("--secret-uri https://{VAULT}/secrets/{name}");
    stack
        .run(&format!("pipeline export create nightly --container {out} {}", secret("source-sas")))
        .await
        .ok();
    let import = format!(
        "pipeline import create arrivals --container {into} {} --no-source-trigger",
        secret("target-sas")
    );
    let import = stack.json(&format!("{import} --context dst")).await;
    let pipeline = import["id"].as_str().context("an id")?;
    let route = format!(
        "route create onward --from {out} --to {into} {} --import-pipeline {pipeline}",
        secret("target-sas")
    );
    stack.run(&route).await.ok();
    assert_eq!(stack.json("route list").await.as_array().map(Vec::len), Some(1));

    let create = "run create nightly1 --export-pipeline nightly --blob nightly --artifact team/app:1";
    eprintln!("{}", stack.run(create).await.stdout);
    for _ in 0..6 {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        eprintln!("{}", stack.run("run show nightly1 -o json").await.stdout);
    }
    let run = stack.run(&format!("{create} --watch -o json")).await.ok();
    assert_eq!(run.json()["properties"]["provisioningState"], "Succeeded", "{run:?}");
    let again = stack.run(create).await.ok();
    assert!(again.stderr.contains("nothing was started"), "{again:?}");
    let mut watching = stack.home.start(&["run", "watch", "nightly1"]);
    assert_eq!(end_of(&mut watching).await, 0);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !stack.has_arrived("team/app", "1").await {
        anyhow::ensure!(std::time::Instant::now() < deadline, "it does not arrive on its route");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let found = stack.json("artifact show team/app:1").await;
    assert_eq!(found[0]["artifact"]["result"], "Succeeded", "{found}");

    let missing = stack
        .run("run create failing1 --export-pipeline nightly --blob other --artifact team/missing:1 --watch")
        .await;
    assert_eq!(missing.code, 1, "{missing:?}");
    assert!(
        missing.errors().contains("team/missing:1") && missing.errors().contains("hint: "),
        "{missing:?}"
    );
    let listed = stack.json("run list").await;
    let names: Vec<&str> =
        listed.as_array().context("a list")?.iter().filter_map(|run| run["name"].as_str()).collect();
    assert_eq!(names, ["nightly1", "failing1"]);
    let cleaned = stack.json("run clean").await;
    assert_eq!((cleaned.as_array().map(Vec::len), &cleaned[0]["name"]), (Some(1), &"failing1".into()));
    let doctor = stack.run("doctor").await.ok();
    assert!(doctor.stdout.contains("it has its broker"), "{doctor:?}");
    assert!(stack.run("repository list").await.ok().stdout.contains("team/app\n"));
    stack.run("pipeline export delete nightly").await.ok();
    assert_eq!(stack.run("pipeline export show nightly").await.code, 1);
    std::fs::write(stack.home.path("token"), "CANARY-other")?;
    assert_eq!(stack.run("run list").await.code, 4);
    Ok(())
}

/// The exit code of a command.
async fn end_of(child: &mut tokio::process::Child) -> i32 {
    let waited = tokio::time::timeout(std::time::Duration::from_secs(60), child.wait()).await;
    waited.expect("the command ends in time").expect("the command runs").code().unwrap_or(-1)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_articles_procedure_works_with_templates() -> Result<()> {
    let stack = Stack::new().await?;
    let (out, into) = (&stack.containers.0.url, &stack.containers.1.url);
    for (file, kind, end, trigger) in [
        ("export.json", "exportPipelines", "target", json!(null)),
        ("import.json", "importPipelines", "source", json!({"sourceTrigger": {"status": "Enabled"}})),
    ] {
        stack.home.write(file, &pipeline_template(kind, end, &trigger).to_string());
    }
    stack.home.write("run.json", &run_template().to_string());
    let deploy = |file: &str, registry: &str, name: &str, container: &str, secret: &str| {
        format!(
            "deployment create {name} --template-file {file} -p registry={registry} -p pipeline={name} \
             -p container={container} -p vault=local -p secretName={secret}"
        )
    };
    let exported = stack.json(&deploy("export.json", "source", "exporting", out, "source-sas")).await;
    let pipeline = exported["properties"]["outputResources"][1]["id"].as_str().context("the pipeline")?;
    let left = exported["properties"]["notApplied"].as_array().context("what was left")?;
    assert_eq!(left.len(), 2, "{exported}");
    stack
        .json(&format!("{} --context dst", deploy("import.json", "target", "importing", into, "target-sas")))
        .await;

    let run = format!(
        "deployment create run1 --template-file run.json -p registry=source -p run=firstrun -p pipelineId={pipeline} \
         -p artifacts=[\"team/app:1\"] -p target=bundle"
    );
    let ran = stack.json(&run).await;
    let id = ran["properties"]["outputResources"][0]["id"].as_str().context("the run")?;
    assert!(id.ends_with("/pipelineRuns/firstrun"), "{id}");
    stack.run("run watch firstrun").await.ok();
    let first = stack.json("run show firstrun").await;
    stack.json(&run).await;
    let same = stack.json("run show firstrun").await;
    assert_eq!(same["properties"]["response"]["startTime"], first["properties"]["response"]["startTime"]);
    // The blob is there already, and the pipeline may not overwrite it; the same execution's own would be found.
    stack.json(&format!("{run} -p tag=2")).await;
    stack.run("run watch firstrun").await;
    let forced = stack.json("run show firstrun").await;
    assert_ne!(forced["properties"]["response"]["startTime"], first["properties"]["response"]["startTime"]);
    stack.run("run delete firstrun").await.ok();
    assert_eq!(stack.json("run list").await, json!([]));
    let shown = stack.json("deployment show run1").await;
    assert_eq!(shown["properties"]["provisioningState"], "Succeeded");

    let wrong = stack.run(&run.replace("firstrun", "no")).await;
    assert_eq!(wrong.code, 2, "{wrong:?}");
    assert!(wrong.errors().contains("at least") || wrong.errors().contains("least"), "{wrong:?}");
    Ok(())
}

/// A template of the shape that pipelines are deployed with.
fn pipeline_template(kind: &str, end: &str, trigger: &Value) -> Value {
    let pipeline = format!(
        "resourceId('Microsoft.ContainerRegistry/registries/{kind}', parameters('registry'), parameters('pipeline'))"
    );
    let vault = "[concat(reference(resourceId('Microsoft.KeyVault/vaults', parameters('vault')), '2019-09-01').vaultUri, 'secrets/', parameters('secretName'))]";
    let mut properties = json!({ end: {"type": "AzureStorageBlobContainer", "uri": "[parameters('container')]", "keyVaultUri": vault} });
    if !trigger.is_null() {
        properties["trigger"] = trigger.clone();
    }
    json!({
        "parameters": {
            "registry": {"type": "string", "minLength": 5}, "pipeline": {"type": "string", "minLength": 5},
            "container": {"type": "string"}, "vault": {"type": "string"}, "secretName": {"type": "string"}
        },
        "resources": [
            {
                "type": "Microsoft.ContainerRegistry/registries", "apiVersion": "2019-12-01-preview",
                "name": "[parameters('registry')]", "location": "[resourceGroup().location]", "sku": {"name": "Premium"}
            },
            {
                "type": format!("Microsoft.ContainerRegistry/registries/{kind}/"), "apiVersion": "2019-12-01-preview",
                "name": "[concat(parameters('registry'), '/', parameters('pipeline'))]",
                "dependsOn": ["[resourceId('Microsoft.ContainerRegistry/registries', parameters('registry'))]"],
                "identity": {"type": "SystemAssigned"}, "properties": properties
            },
            {
                "type": "Microsoft.KeyVault/vaults/accessPolicies", "apiVersion": "2019-09-01",
                "name": "[concat(parameters('vault'), '/add')]", "dependsOn": [format!("[{pipeline}]")],
                "properties": {"accessPolicies": [{
                    "objectId": format!("[reference({pipeline}, '2019-12-01-preview', 'Full').identity.principalId]"),
                    "permissions": {"secrets": ["get"]}
                }]}
            }
        ]
    })
}

/// A template of the shape that runs are deployed with.
fn run_template() -> Value {
    json!({
        "parameters": {
            "registry": {"type": "string"}, "run": {"type": "string", "minLength": 5}, "pipelineId": {"type": "string"},
            "artifacts": {"type": "array", "defaultValue": []}, "source": {"type": "string", "defaultValue": ""},
            "target": {"type": "string", "defaultValue": ""}, "tag": {"type": "string", "defaultValue": ""}
        },
        "resources": [{
            "type": "Microsoft.ContainerRegistry/registries/pipelineRuns/", "apiVersion": "2019-12-01-preview",
            "name": "[concat(parameters('registry'), '/', parameters('run'))]", "location": "[resourceGroup().location]",
            "properties": {
                "request": {
                    "pipelineResourceId": "[parameters('pipelineId')]", "artifacts": "[parameters('artifacts')]",
                    "source": {"type": "[if(empty(parameters('source')), '', 'AzureStorageBlob')]", "name": "[parameters('source')]"},
                    "target": {"type": "[if(empty(parameters('target')), '', 'AzureStorageBlob')]", "name": "[parameters('target')]"},
                    "catalogDigest": ""
                },
                "forceUpdateTag": "[parameters('tag')]"
            }
        }]
    })
}
