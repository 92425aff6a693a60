//! The process itself, between a real RabbitMQ and two real Azurites.

mod fixture;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use fixture::*;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use transship_bus::{Bus, BusSettings, Subscription, WorkQueue};
use transship_messages::{CopyMode, CopyRequested, FactBody, ImportRequested, WorkItem as _, decode_fact};
use transship_model::Secret;
use transship_rig::{Azurite, Container as RigContainer, RabbitMq, Side};
use transship_stage::work_message;
use transship_storage::{Condition, Container, open};

const PROGRAM: &str = env!("CARGO_BIN_EXE_transship-blob-copier");
const BLOCKS: [(u8, usize); 3] = [(1, 8 * MIB), (2, MIB), (3, 1024)];
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Anything that a test waits for comes within this time, or never.
const PATIENCE: Duration = Duration::from_secs(90);

/// Two accounts with a bundle in the first, and a folder for the process.
struct Place {
    _accounts: [Azurite; 2],
    source: RigContainer,
    target: RigContainer,
    folder: TempDir,
}

impl Place {
    async fn prepare() -> Result<(Self, CopyRequested)> {
        let accounts = [Azurite::shared(Side::Source).await?, Azurite::shared(Side::Target).await?];
        let (source, target) =
            (accounts[0].container("bundles").await?, accounts[1].container("arrivals").await?);
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("secrets"))?;
        for (name, container) in [("source-sas", &source), ("target-sas", &target)] {
            std::fs::write(folder.path().join("secrets").join(name), container.full_sas())?;
        }
        let (etag, length) =
            write_bundle(&*connect(&source)?, &execution("run", 5), &BLOCKS, Condition::Absent).await;
        let mut work = work(&source.url.parse()?, &target.url.parse()?, &etag, length);
        work.source_secret = Some("source-sas".parse()?);
        work.route.target_secret = Some("target-sas".parse()?);
        Ok((Self { _accounts: accounts, source, target, folder }, work))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the process with one broker or two.
    fn start(&self, broker: &str, target_broker: Option<&str>) -> Result<Service> {
        std::fs::write(self.path("broker"), broker)?;
        let mut config = toml::Table::new();
        let table = |entries: &[(&str, String)]| {
            let entries = entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone().into()));
            toml::Value::Table(entries.collect())
        };
        let path = |name: &str| self.path(name).display().to_string();
        config.insert(
            "host".into(),
            table(&[("listen", "127.0.0.1:0".into()), ("address_file", path("address"))]),
        );
        config.insert("broker".into(), table(&[("url_file", path("broker"))]));
        if let Some(url) = target_broker {
            config.insert("target_broker".into(), table(&[("url", url.to_owned())]));
        }
        config.insert("secrets".into(), table(&[("directory", path("secrets"))]));
        std::fs::write(self.path("config.toml"), config.to_string())?;
        let log = File::create(self.path("log"))?;
        let process = Command::new(PROGRAM)
            .arg("--config")
            .arg(self.path("config.toml"))
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Service { process, folder: self.folder.path().to_owned() })
    }

    /// Whether the target has the bytes of the source.
    async fn assert_copied(&self) -> Result<()> {
        let mut contents = Vec::new();
        for container in [&self.source, &self.target] {
            let container = connect(container)?;
            let properties = container.properties(&name()).await?.context("no blob")?;
            contents.push(container.read(&name(), 0..properties.length, None).await?);
        }
        ensure!(contents[0] == contents[1], "the bytes differ");
        Ok(())
    }

    /// What the process logged. It never holds a token or a password.
    fn log(&self, password: &str) -> Result<String> {
        let log = std::fs::read_to_string(self.path("log"))?;
        for secret in [&self.source.account.key, &self.target.account.key, password, "sig="] {
            ensure!(!log.contains(secret), "a secret is in the log");
        }
        Ok(log)
    }
}

/// The process that is tested.
struct Service {
    process: Child,
    folder: PathBuf,
}

impl Service {
    /// What `healthcheck` says: nothing where the process is ready.
    async fn problem(&self) -> Result<Option<String>> {
        let config = self.folder.join("config.toml");
        let asked = Command::new(PROGRAM).arg("--config").arg(config).arg("healthcheck").output().await?;
        let said = String::from_utf8(asked.stderr)?;
        Ok((!asked.status.success()).then_some(said))
    }

    async fn ready(&self) -> Result<()> {
        until("the process is ready", async || Ok(self.problem().await?.is_none())).await
    }

    fn metrics(&self) -> Result<String> {
        let address: SocketAddr = std::fs::read_to_string(self.folder.join("address"))?.trim().parse()?;
        let mut connection = TcpStream::connect_timeout(&address, PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        write!(connection, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Whether the series that begins like this has this value.
    fn counts(&self, series: &str, value: u64) -> Result<bool> {
        let (begin, end) = (format!("transship_{series}"), format!(" {value}"));
        Ok(self.metrics()?.lines().any(|line| line.starts_with(&begin) && line.ends_with(&end)))
    }

    /// Asks the process to stop, and returns its exit code.
    async fn stop(mut self) -> Result<Option<i32>> {
        let pid = self
            .process
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.context("the process has ended")?, rustix::process::Signal::TERM)?;
        Ok(timeout(PATIENCE, self.process.wait()).await??.code())
    }
}

fn connect(container: &RigContainer) -> Result<std::sync::Arc<dyn Container>> {
    Ok(open(&container.url.parse()?, Some(Secret::new(&container.full_sas())))?)
}

/// Polls until `holds`.
async fn until(what: &str, holds: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await? {
        ensure!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

fn bus(url: &str) -> transship_bus::RabbitMq {
    transship_bus::RabbitMq::connect(BusSettings::new(Secret::new(url), "test"))
}

async fn request(bus: &dyn Bus, work: &CopyRequested) -> Result<()> {
    let headers = BTreeMap::from([("traceparent".to_owned(), format!("00-{TRACE}-00f067aa0ba902b7-01"))]);
    Ok(bus.publish(vec![work_message(work, WorkQueue::BlobCopierCopies, headers)]).await?)
}

/// The next fact that says how it ended; progress is passed over.
async fn next_end(facts: &mut Subscription) -> Result<(FactBody, String)> {
    loop {
        let message = timeout(PATIENCE, facts.facts.recv()).await?.context("the subscription ended")?;
        let fact = decode_fact(&message.body)?;
        assert_eq!(fact.execution, execution("run", 5));
        if !matches!(fact.body, FactBody::Progress { .. }) {
            return Ok((fact.body, message.headers.get("traceparent").cloned().unwrap_or_default()));
        }
    }
}

/// The work that the importer would get.
async fn next_import(bus: &dyn Bus) -> Result<(ImportRequested, String)> {
    let mut imports = bus.consume(WorkQueue::ImporterImports.into(), 1).await?;
    let delivery = timeout(PATIENCE, imports.next()).await?.context("the bus is closed")?;
    let import = ImportRequested::decode(&delivery.message.body)?;
    let trace = delivery.message.headers.get("traceparent").cloned().unwrap_or_default();
    delivery.settle.ack().await?;
    Ok((import, trace))
}

/// A way to a broker that a test opens: until then each connection is closed at once.
struct Gate {
    url: String,
    open: watch::Sender<bool>,
    _passing: AbortOnDrop,
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Gate {
    async fn before(broker: &str) -> Result<Self> {
        let mut url: url::Url = broker.parse()?;
        let beyond = (url.host_str().context("a host")?.to_owned(), url.port().context("a port")?);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        url.set_port(Some(listener.local_addr()?.port()))
            .map_err(|()| anyhow::anyhow!("a URL without ports"))?;
        let (open, is_open) = watch::channel(false);
        let passing = tokio::spawn(async move {
            let mut passing = JoinSet::new();
            while let Ok((mut inner, _)) = listener.accept().await {
                if !*is_open.borrow() {
                    continue;
                }
                let beyond = beyond.clone();
                passing.spawn(async move {
                    let mut outer = tokio::net::TcpStream::connect(beyond).await?;
                    tokio::io::copy_bidirectional(&mut inner, &mut outer).await
                });
            }
        });
        Ok(Self { url: url.to_string(), open, _passing: AbortOnDrop(passing) })
    }
}

fn password_of(url: &str) -> Result<String> {
    let url: url::Url = url.parse()?;
    Ok(url.password().context("a URL with a password")?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_becomes_a_blob_a_fact_and_a_request_to_import() -> Result<()> {
    let (place, work) = Place::prepare().await?;
    let broker = RabbitMq::shared().await?;
    let url = broker.vhost().await?;
    let bus = bus(&url);
    let mut facts = bus.subscribe("run.#").await?;
    let service = place.start(&url, None)?;
    service.ready().await?;
    request(&bus, &work).await?;

    let (fact, fact_trace) = next_end(&mut facts).await?;
    let FactBody::BundleCopied { container, blob, etag, length, mode, counters } = fact else {
        bail!("not the fact of a copy: {fact:?}")
    };
    assert_eq!(
        (&container, &blob, length, mode),
        (&work.route.target, &name(), work.length, CopyMode::Streamed)
    );
    assert_eq!((counters.bytes_moved, counters.bytes_skipped, counters.artifacts_moved), (work.length, 0, 3));
    place.assert_copied().await?;

    let (import, import_trace) = next_import(&bus).await?;
    assert_eq!((import.container, import.blob, import.etag), (work.route.target.clone(), name(), Some(etag)));
    assert_eq!(Some(import.pipeline), work.route.import_pipeline);
    assert!(
        fact_trace.contains(TRACE) && import_trace.contains(TRACE),
        "one trace: {fact_trace} {import_trace}"
    );

    until("the work is settled", async || service.counts("messages_total{outcome=\"acked\"", 1)).await?;
    let metrics = service.metrics()?;
    assert!(metrics.contains("transship_copy_mode_total{mode=\"streamed\"} 1"), "{metrics}");
    assert!(
        metrics.contains("transship_parts_total{outcome=\"succeeded\",stage=\"blob-copier\"} 1"),
        "{metrics}"
    );
    assert_eq!(service.stop().await?, Some(0));
    place.log(&password_of(&url)?)?;
    bus.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_a_letter_is_reported_and_the_work_waits() -> Result<()> {
    let (place, work) = Place::prepare().await?;
    let later = std::time::SystemTime::now() + Duration::from_secs(3600);
    std::fs::write(place.path("secrets/target-sas"), place.target.sas("r", later))?;
    let broker = RabbitMq::shared().await?;
    let url = broker.vhost().await?;
    let bus = bus(&url);
    let mut facts = bus.subscribe("run.failed").await?;
    let service = place.start(&url, None)?;
    request(&bus, &work).await?;
    let (fact, _) = next_end(&mut facts).await?;
    let FactBody::Failed { code, message, hint, terminal, container } = fact else { bail!("{fact:?}") };
    assert_eq!((code.as_str(), terminal, container), ("SasPermission", false, Some(work.route.target)));
    assert!(message.contains("open the target container") && message.contains("\"w\""), "{message}");
    assert!(hint.is_some_and(|hint| hint.contains("\"w\"")));
    until("the work is held", async || service.counts("messages_total{outcome=\"retried\"", 1)).await?;
    assert_eq!(service.stop().await?, Some(0));
    let log = place.log(&password_of(&url)?)?;
    assert!(log.contains("SasPermission"), "{log}");
    bus.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_two_brokers_nothing_is_reported_before_the_target_broker_has_its_work() -> Result<()> {
    let (place, work) = Place::prepare().await?;
    let broker = RabbitMq::shared().await?;
    let (near_url, far_url) = (broker.vhost().await?, broker.vhost().await?);
    let gate = Gate::before(&far_url).await?;
    let near_bus = bus(&near_url);
    let mut facts = near_bus.subscribe("run.bundle.copied").await?;
    let service = place.start(&near_url, Some(&gate.url))?;
    request(&near_bus, &work).await?;
    let target = connect(&place.target)?;
    until("the blob is there", async || Ok(target.properties(&name()).await?.is_some())).await?;
    let problem = service.problem().await?.context("not ready without the target broker")?;
    assert!(problem.contains("target_broker: connecting") && !problem.contains(" broker:"), "{problem}");
    assert!(facts.facts.try_recv().is_err(), "the copy is not reported yet");

    gate.open.send_replace(true);
    let far_bus = bus(&far_url);
    let (import, trace) = next_import(&far_bus).await?;
    assert_eq!((import.container, import.blob), (work.route.target.clone(), name()));
    assert!(trace.contains(TRACE));
    assert!(matches!(next_end(&mut facts).await?.0, FactBody::BundleCopied { .. }));
    service.ready().await?;
    assert_eq!(service.stop().await?, Some(0));
    place.log(&password_of(&far_url)?)?;
    near_bus.close().await;
    far_bus.close().await;
    Ok(())
}

#[test]
fn settings_that_cannot_be_used_are_refused_all_at_once_and_without_secrets() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file: &Path = &folder.path().join("config.toml");
    let refused = |text: &str| -> Result<String> {
        std::fs::write(file, text)?;
        let asked =
            std::process::Command::new(PROGRAM).arg("--config").arg(file).arg("check-config").output()?;
        ensure!(asked.status.code() == Some(2), "{:?}", asked.status);
        let said = String::from_utf8(asked.stderr)?;
        ensure!(!said.contains("CANARY"), "{said}");
        Ok(said)
    };
    let said = refused(
        "colour = 1\n[broker]\nurl = 'amqp://u:CANARY@h'\n[worker]\nslots = 'many'\n[copy]\nx = 1\n",
    )?;
    assert!(["colour", "worker.slots", "copy.x"].iter().all(|key| said.contains(key)), "{said}");
    let said = refused(
        "[broker]\nurl = 'amqp://u:CANARY@h'\nurl_file = 'x'\n[target_broker]\n[copy]\nparallel_streamed = 0\n\
         [worker]\nslots = 0\nslice_seconds = 3600\nbyte_budget_bytes = 1\n",
    )?;
    for key in [
        "broker:",
        "target_broker:",
        "copy.parallel_streamed",
        "worker.slots",
        "slice_seconds",
        "byte_budget_bytes",
    ] {
        assert!(said.contains(key), "{key}: {said}");
    }
    Ok(())
}
