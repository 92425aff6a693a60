//! `transship run export` against real servers: RabbitMQ, two storage accounts, two registries. The stages run in
//! the test, as the services run them.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use rustix::process::Signal;
use support::*;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio_util::sync::{CancellationToken, DropGuard};
use transship_blob_copier::{Copier, CopySettings};
use transship_bus::{Bus, BusSettings, RabbitMq as Broker};
use transship_exporter::{ExportSettings, Exporter};
use transship_importer::{ImportPipeline, ImportSettings, Importer};
use transship_model::{ImportOptions, NamePattern, RenameRules, Route, Secret};
use transship_registry::{RegistryClient, RegistrySettings, Source, Target};
use transship_rig::{Azurite, Container, RabbitMq, Registry, Side};
use transship_secrets::FixedSecrets;
use transship_stage::{ByteBudget, RetryPolicy, Verb, Worker, WorkerSettings};
use transship_storage::Containers;
use transship_telemetry::Metrics;

struct Stack {
    home: Home,
    rabbitmq: RabbitMq,
    url: String,
    source: Registry,
    target: Registry,
    // Private ones end with their values.
    _accounts: (Azurite, Azurite),
    containers: (Container, Container),
}

impl Stack {
    async fn new(rabbitmq: RabbitMq) -> Result<Self> {
        let url = rabbitmq.vhost().await?;
        let accounts = (Azurite::shared(Side::Source).await?, Azurite::shared(Side::Target).await?);
        let containers = (accounts.0.container("run").await?, accounts.1.container("run").await?);
        let (source, target) = (Registry::start().await?, Registry::start().await?);
        push_zoo(&Pusher::new(&source.url())).await?;
        let home = Home::new();
        home.directory(".local");
        let endpoint =
            |container: &Container| serde_json::json!({"url": container.url, "sas": container.full_sas()});
        let endpoints = serde_json::json!({
            "source_registry": {"url": source.url()},
            "target_registry": {"url": target.url()},
            "source_container": endpoint(&containers.0),
            "target_container": endpoint(&containers.1),
            "rabbitmq": {"url": url, "management_url": rabbitmq.management_url()},
            "services": [],
        });
        home.write(".local/endpoints.json", &endpoints.to_string());
        Ok(Self { home, rabbitmq, url, source, target, _accounts: accounts, containers })
    }

    /// Starts one worker of each stage; they stop when the guard is dropped.
    fn work(&self) -> Result<DropGuard> {
        let stop = CancellationToken::new();
        let secrets = [("source-sas", &self.containers.0), ("target-sas", &self.containers.1)]
            .map(|(name, container)| (name.parse().unwrap(), Secret::new(&container.full_sas())));
        let containers = Arc::new(Containers::new(Arc::new(FixedSecrets::new(secrets))));
        let (from, to) = (self.containers.0.url.parse()?, self.containers.1.url.parse()?);
        let route = Route {
            source: from,
            pattern: NamePattern::default(),
            target: to,
            target_secret: Some("target-sas".parse()?),
            overwrite: false,
            import_pipeline: Some("default".parse()?),
            import_destination: None,
        };
        let pipeline = ImportPipeline {
            registry: "target".parse()?,
            container: route.target.clone(),
            secret: route.target_secret.clone(),
            options: ImportOptions::default(),
            rename: RenameRules::default(),
            mount_from: Vec::new(),
            name_as: None,
        };
        let client = |registry: &Registry| RegistryClient::new(RegistrySettings::new(registry.url()));
        let source: Arc<dyn Source> = Arc::new(client(&self.source)?);
        let target: Arc<dyn Target> = Arc::new(client(&self.target)?);
        let (sources, targets) =
            (BTreeMap::from([("source".parse()?, source)]), BTreeMap::from([("target".parse()?, target)]));
        let pipelines = BTreeMap::from([("default".parse()?, pipeline)]);
        self.start(
            Exporter::new(sources, Arc::clone(&containers), vec![route], ExportSettings::default()),
            &stop,
        );
        self.start(Copier::new(Arc::clone(&containers), CopySettings::default()), &stop);
        self.start(Importer::new(targets, containers, pipelines, ImportSettings::default()), &stop);
        Ok(stop.drop_guard())
    }

    fn start<V: Verb>(&self, verb: V, stop: &CancellationToken) {
        let bus: Arc<dyn Bus> = Arc::new(Broker::connect(BusSettings::new(Secret::new(&self.url), "test")));
        let settings = WorkerSettings {
            slots: 2,
            slice: WorkerSettings::SLICE,
            retry: RetryPolicy::BROKER,
            facts_mandatory: false,
        };
        let budget = ByteBudget::new(ByteBudget::DEFAULT_BYTES);
        tokio::spawn(Worker::new(bus, verb, settings, budget, Metrics::new(V::STAGE)).run(stop.clone()));
    }

    async fn run(&self, more: &[&str]) -> Ended {
        self.home.run(&[&["run", "export"], more].concat()).await
    }

    async fn has_arrived(&self, repository: &str, tag: &str) -> bool {
        let read = Pusher::new(&self.target.url()).read(repository, tag).await;
        read.is_ok_and(|found| found.is_some())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_when_everything_is_imported() -> Result<()> {
    let stack = Stack::new(RabbitMq::shared().await?).await?;
    let _workers = stack.work()?;
    let both = ["--artifact", "team/app:1", "--artifact", "team/chart:0.1.0"];
    let first = stack
        .run(&[&both[..], &["--blob", "one", "--wait", "-o", "json", "--part-size", "1"]].concat())
        .await;
    let first = first.ok().json();
    assert_eq!((&first["outcome"], &first["totals"]["artifacts"]["moved"]), (&"succeeded".into(), &2.into()));
    assert_eq!(first["totals"]["stages"].as_array().unwrap().len(), 3);
    assert!(stack.has_arrived("team/app", "1").await && stack.has_arrived("team/chart", "0.1.0").await);

    let second =
        stack.run(&[&both[..], &["--blob", "two", "--wait", "-o", "json"]].concat()).await.ok().json();
    assert_eq!(second["totals"]["artifacts"]["skipped"], 2, "the target has everything: {second}");

    let exists = stack.run(&[&both[..], &["--blob", "two", "--wait"]].concat()).await;
    assert_eq!((exists.code, exists.stdout.as_str()), (1, ""));
    assert!(
        exists.stderr.contains("already has a blob two") && exists.stderr.contains("--overwrite-blobs"),
        "{exists:#?}"
    );
    stack.run(&[&both[..], &["--blob", "two", "--wait", "--overwrite-blobs"]].concat()).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_fails_says_why_and_what_is_left_goes_on() -> Result<()> {
    let stack = Stack::new(RabbitMq::shared().await?).await?;
    let _workers = stack.work()?;
    let both = ["--artifact", "team/app:1", "--artifact", "team/missing:1", "--wait"];
    let failed = stack.run(&[&both[..], &["--blob", "one"]].concat()).await;
    assert_eq!(failed.code, 1);
    assert!(failed.errors().contains("team/missing:1") && failed.errors().contains("hint: "), "{failed:#?}");
    let partial =
        stack.run(&[&both[..], &["--blob", "two", "--continue-on-errors", "-o", "json"]].concat()).await;
    assert_eq!(partial.code, 3, "{partial:#?}");
    let report = partial.json();
    assert_eq!(
        (&report["outcome"], &report["artifacts"][1]["code"]),
        (&"partial".into(), &"ArtifactNotFound".into())
    );
    assert!(stack.has_arrived("team/app", "1").await);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_waiting_the_command_ends_once_the_broker_has_the_work() -> Result<()> {
    let stack = Stack::new(RabbitMq::shared().await?).await?;
    let sent =
        stack.run(&["--artifact", "team/chart:0.1.0", "--blob", "one", "-o", "json"]).await.ok().json();
    assert_eq!((&sent["outcome"], &sent["blobs"][0]), (&"sent".into(), &"one".into()));
    let mut waiting =
        stack.home.start(&["run", "export", "--artifact", "team/app:1", "--blob", "two", "--wait"]);
    let _workers = stack.work()?;
    until(&mut waiting, "the work that was sent is done", async || {
        stack.has_arrived("team/chart", "0.1.0").await
    })
    .await;
    end(waiting).await.ok();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_that_were_missed_are_asked_for_once_more() -> Result<()> {
    let stack = Stack::new(RabbitMq::start().await?).await?;
    let arguments = ["run", "export", "--artifact", "team/app:1", "--blob", "one", "--wait", "-o", "json"];
    let mut child = stack.home.start(&arguments);
    let queue = stack.url.rsplit('/').next().unwrap().to_owned();
    until(&mut child, "the work is in its queue", async || {
        let listed = stack.rabbitmq.ctl(&["list_queues", "-q", "-p", &queue, "name", "messages"]).await;
        listed.is_ok_and(|text| text.lines().any(|line| line.split_whitespace().eq(["exporter.parts", "1"])))
    })
    .await;
    // While the command sleeps, its queue goes with the broker, and everything is done.
    signal(&child, Signal::STOP);
    stack.rabbitmq.stop().await?;
    stack.rabbitmq.start_again().await?;
    let workers = stack.work()?;
    until(&mut child, "the artifact has arrived", async || stack.has_arrived("team/app", "1").await).await;
    signal(&child, Signal::CONT);
    let ended = end(child).await.ok();
    assert_eq!(ended.json()["artifacts"][0]["outcome"], "skipped", "the second look found it there");
    assert!(
        ended.stderr.contains("connected to the broker again; of 1 open parts 1 are in the source container"),
        "{ended:#?}"
    );
    drop(workers);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_leaves_the_run_to_the_services() -> Result<()> {
    let stack = Stack::new(RabbitMq::shared().await?).await?;
    let mut child =
        stack.home.start(&["run", "export", "--artifact", "team/app:1", "--blob", "one", "--wait"]);
    let broker = Broker::connect(BusSettings::new(Secret::new(&stack.url), "test"));
    let mut parts = broker.consume(transship_bus::WorkQueue::ExporterParts.into(), 1).await?;
    let delivery = tokio::select! {
        delivery = parts.next() => delivery.expect("the bus is open"),
        ended = child.wait() => panic!("{ended:?}"),
    };
    let mut lines = BufReader::new(child.stderr.take().expect("standard error is piped")).lines();
    let mut told = Vec::new();
    while let Some(line) = lines.next_line().await? {
        if line.ends_with("waiting for its end") {
            signal(&child, Signal::INT);
        }
        told.push(line);
    }
    assert_eq!(end(child).await.code, 130, "{told:#?}");
    let hint = format!(
        "hint: the services go on without this command: the run is execution {}",
        delivery.message.correlation_id
    );
    assert!(told.contains(&hint), "{told:#?}");
    delivery.settle.release().await?;
    Ok(())
}

#[tokio::test]
async fn a_broker_that_is_away_is_named_without_its_password() -> Result<()> {
    let home = Home::new();
    home.directory(".local");
    let port = transship_rig::free_port();
    let container = serde_json::json!({"url": "http://127.0.0.1:1/a/c", "sas": "sr=c&sp=racwdl&sig=CANARY"});
    let endpoints = serde_json::json!({
        "source_container": container,
        "target_container": container,
        "rabbitmq": {"url": format!("amqp://u:CANARY@127.0.0.1:{port}/v")},
    });
    home.write(".local/endpoints.json", &endpoints.to_string());
    let ended = home.run(&["run", "export", "--artifact", "a:1", "--blob", "b", "--wait"]).await;
    assert_eq!(ended.code, 1);
    assert!(
        ended
            .errors()
            .starts_with("error: the run cannot be sent\n  caused by: the broker is not available: "),
        "{ended:#?}"
    );
    assert!(ended.errors().contains("make up") && !ended.stderr.contains("CANARY"), "{ended:#?}");
    Ok(())
}
