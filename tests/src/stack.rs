//! A stack: servers and services as processes, joined by configuration files, as a user would run them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use transship_rig::{Azurite, Container, Process, RabbitMq, Registry, Side};

use crate::client::Client;
use crate::control::{self, Access, Control, VAULT};
use crate::counting::WriteCounter;
pub use crate::options::Options;

/// 32 bytes in base64: what seals where an upload of these tests stands.
const SEAL_KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

/// How long a service may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The three kinds of services.
pub const KINDS: [&str; 3] = ["exporter", "blob-copier", "importer"];

/// The kind of the control plane.
pub const CONTROL_PLANE: &str = "control-plane";

/// One service of the stack.
pub struct Service {
    /// `exporter-1` and so on.
    pub name: String,
    /// The kind.
    pub kind: &'static str,
    /// Where its metrics are.
    pub metrics_url: String,
    /// Its output.
    pub log: PathBuf,
    process: Process,
}

impl Service {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// The peak of its resident memory (VmHWM), in bytes.
    pub fn peak_memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("VmHWM")?;
        let kib: u64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
        Ok(kib * 1024)
    }

    /// The processor seconds that it has used.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let fields: Vec<&str> = stat.rsplit_once(") ").context("stat")?.1.split(' ').collect();
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        // Linux counts these in hundredths of a second on every architecture that matters.
        Ok(ticks / 100.0)
    }
}

/// Servers and services.
pub struct Stack {
    /// The broker.
    pub rabbitmq: RabbitMq,
    /// The source's storage.
    pub source_storage: Azurite,
    /// The target's storage.
    pub target_storage: Azurite,
    /// The container that bundles are exported to.
    pub source_container: Container,
    /// The container that they are copied to.
    pub target_container: Container,
    /// The source registry.
    pub source_registry: Registry,
    /// The target registry.
    pub target_registry: Registry,
    /// The services that run.
    pub services: Vec<Service>,
    /// The counters in front of the two storage accounts, source first, where blocks are counted.
    pub counters: Vec<WriteCounter>,
    /// The counter between the importers and the target registry, where uploads are counted.
    pub uploads: Option<WriteCounter>,
    /// How clients of the control plane are known.
    pub access: Access,
    options: Options,
    amqp: String,
    folder: tempfile::TempDir,
}

impl Stack {
    /// Starts a stack on the shared servers, or on private ones where there are none.
    pub async fn start(options: Options) -> Result<Self> {
        let servers = if options.private { private_servers().await? } else { shared_servers().await? };
        let (rabbitmq, source_storage, target_storage, mut source_registry, target_registry) = servers;
        if options.notifications && source_registry.pid().is_none() {
            source_registry = Registry::start().await?;
        }
        let amqp = rabbitmq.vhost().await?;
        let mut source_container = source_storage.container("source").await?;
        let mut target_container = target_storage.container("target").await?;
        let mut counters = Vec::new();
        if options.count_blocks {
            for container in [&mut source_container, &mut target_container] {
                counters.push(count_blocks(container).await?);
            }
        }
        let uploads = match options.count_uploads {
            true => Some(WriteCounter::start(target_registry.host().to_owned()).await?),
            false => None,
        };
        let folder = tempfile::Builder::new().prefix("transship-stack-").tempdir()?;
        let mut stack = Self {
            rabbitmq,
            source_storage,
            target_storage,
            source_container,
            target_container,
            source_registry,
            target_registry,
            services: Vec::new(),
            counters,
            uploads,
            access: Access::new(),
            options,
            amqp,
            folder,
        };
        stack.write_secrets()?;
        if stack.options.control_plane {
            // First, so that its queue is there before a stage has anything to say.
            let service = stack.launch(CONTROL_PLANE, 1)?;
            ready(&service).await?;
            stack.services.push(service);
            if stack.options.notifications {
                let hook = format!("{}/transship/v1/webhooks/registry?registry=source", stack.control_url()?);
                stack.source_registry.notify(&hook, &stack.access.notifier).await?;
            }
        }
        for kind in KINDS {
            for number in 1..=stack.options.each {
                let service = stack.launch(kind, number)?;
                stack.services.push(service);
            }
        }
        for service in &stack.services {
            ready(service).await?;
        }
        Ok(stack)
    }

    /// The folder of configuration, secrets and logs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client of the source registry.
    pub fn source(&self) -> Client {
        Client::new(self.source_registry.url())
    }

    /// A client of the target registry.
    pub fn target(&self) -> Client {
        Client::new(self.target_registry.url())
    }

    fn write_secrets(&self) -> Result<()> {
        let secrets = self.folder().join("secrets");
        std::fs::create_dir_all(&secrets)?;
        std::fs::write(secrets.join("source-sas"), self.source_container.full_sas())?;
        std::fs::write(secrets.join("target-sas"), self.target_container.full_sas())?;
        std::fs::write(secrets.join("broker-url"), &self.amqp)?;
        std::fs::write(secrets.join("seal-key"), SEAL_KEY)?;
        std::fs::write(self.folder().join("tokens"), self.access.tokens_file())?;
        Ok(())
    }

    /// The configuration of a service, as its reference documents it.
    fn configuration(&self, kind: &str, name: &str) -> String {
        let folder = self.folder().display();
        let (source, target) = (&self.source_container.url, &self.target_container.url);
        let common = format!(
            "[host]\nlisten = \"127.0.0.1:0\"\naddress_file = \"{folder}/{name}.address\"\n\n\
             [broker]\nurl_file = \"{folder}/secrets/broker-url\"\n\n\
             [secrets]\ndirectory = \"{folder}/secrets\"\nvaults = {{ \"{VAULT}\" = \"{folder}/secrets\" }}\n\n"
        );
        if kind == CONTROL_PLANE {
            let registries = [("source", self.source_registry.url()), ("target", self.target_registry.url())];
            let own = control::configuration(&folder.to_string(), name, &registries);
            return format!("{common}{own}\n{}", self.options.control_configuration);
        }
        let (mandatory, worker) = (self.options.control_plane, &self.options.worker);
        let common = format!("{common}[worker]\nfacts_mandatory = {mandatory}\n{worker}\n");
        let own = match kind {
            "exporter" => format!(
                "[registries.source]\nurl = \"{}\"\n\n[[routes]]\nsource = \"{source}\"\ntarget = \"{target}\"\n\
                 target_secret = \"target-sas\"\nimport_pipeline = \"default\"\n",
                self.source_registry.url()
            ),
            "importer" => format!(
                "{}[registries.target]\nurl = \"{}\"\n\n[pipelines.default]\nregistry = \"target\"\n\
                 container = \"{target}\"\nsecret = \"target-sas\"\noptions = {{ overwrite_tags = {}, delete_source_blob_on_success = {} }}\n",
                if self.options.seal_uploads { "[import]\nseal_key_secret = \"seal-key\"\n\n" } else { "" },
                self.uploads.as_ref().map_or_else(|| self.target_registry.url(), WriteCounter::origin),
                self.options.overwrite_tags,
                self.options.delete_bundles
            ),
            _ => String::new(),
        };
        format!("{common}{own}")
    }

    fn launch(&self, kind: &'static str, number: usize) -> Result<Service> {
        let name = format!("{kind}-{number}");
        let configuration = self.folder().join(format!("{name}.toml"));
        std::fs::write(&configuration, self.configuration(kind, &name))?;
        let address = self.folder().join(format!("{name}.address"));
        let api = self.folder().join(format!("{name}.api"));
        let _absent = (std::fs::remove_file(&address), std::fs::remove_file(&api));
        let binary = self.binaries()?.join(format!("transship-{kind}"));
        ensure!(binary.exists(), "{} is not built; run `cargo build --workspace --bins`", binary.display());
        let log = self.folder().join(format!("{name}.log"));
        let mut environment = self.options.environment.get(kind).cloned().unwrap_or_default();
        // No credentials of whoever runs this reach a service.
        environment.push(("DOCKER_CONFIG".to_owned(), self.folder().display().to_string()));
        let command =
            vec![binary.display().to_string(), "--config".to_owned(), configuration.display().to_string()];
        let process = Process::start(command, environment, &log)?;
        let bound = wait_for_file(&address, &process).with_context(|| log_tail(&log))?;
        if kind == CONTROL_PLANE {
            wait_for_file(&api, &process).with_context(|| log_tail(&log))?;
        }
        let metrics_url = format!("http://{}/metrics", bound.trim());
        Ok(Service { name, kind, metrics_url, log, process })
    }

    fn binaries(&self) -> Result<PathBuf> {
        if let Some(binaries) = &self.options.binaries {
            return Ok(binaries.clone());
        }
        let program = std::env::current_exe()?;
        let folder = program.parent().context("a folder")?;
        // Tests run in `deps`, one below the binaries.
        let is_deps = folder.file_name().is_some_and(|name| name == "deps");
        Ok(if is_deps { folder.parent().context("a folder")?.to_owned() } else { folder.to_owned() })
    }

    /// Kills the service with SIGKILL.
    pub async fn kill(&self, index: usize) -> Result<()> {
        self.services[index].process.kill().await
    }

    /// Kills the service with SIGKILL, and starts it again with the same configuration and `environment`.
    pub async fn kill_and_restart(&mut self, index: usize, environment: Vec<(String, String)>) -> Result<()> {
        if self.services[index].is_running() {
            self.kill(index).await?;
        }
        self.restart(index, environment).await
    }

    /// Starts a service that has ended again, once the storage has answered what it had been sent.
    pub async fn restart(&mut self, index: usize, environment: Vec<(String, String)>) -> Result<()> {
        for counter in &self.counters {
            counter.settled().await?;
        }
        let kind = self.services[index].kind;
        self.options.environment.insert(kind, environment);
        let number = self.services[..=index].iter().filter(|service| service.kind == kind).count();
        self.services[index] = self.launch(kind, number)?;
        ready(&self.services[index]).await
    }

    /// A client of the control plane that runs now.
    pub fn control(&self) -> Result<Control> {
        Control::new(&self.control_url()?, &self.access)
    }

    /// Where the control plane answers.
    pub fn control_url(&self) -> Result<String> {
        let file = self.folder().join(format!("{CONTROL_PLANE}-1.api"));
        let address = std::fs::read_to_string(file).context("the stack has no control plane")?;
        Ok(format!("http://{}", address.trim()))
    }

    /// The broker's address, with the virtual host of this stack.
    pub fn amqp_url(&self) -> &str {
        &self.amqp
    }

    /// What `.local/endpoints.json` holds; of the control plane only where there is one.
    pub fn endpoints(&self) -> Value {
        let services: Vec<Value> = self
            .services
            .iter()
            .map(|service| {
                json!({"name": service.name, "pid": service.pid(), "metrics_url": service.metrics_url, "log": service.log})
            })
            .collect();
        let mut endpoints = json!({
            "source_registry": {"url": self.source_registry.url(), "name": "source"},
            "target_registry": {"url": self.target_registry.url(), "name": "target"},
            "source_container": {"url": self.source_container.url, "sas": self.source_container.full_sas()},
            "target_container": {"url": self.target_container.url, "sas": self.target_container.full_sas()},
            "rabbitmq": {"url": self.amqp, "management_url": self.rabbitmq.management_url()},
            "services": services,
        });
        if let Ok(url) = self.control_url() {
            let Access { token, subscription, group, .. } = &self.access;
            endpoints["control_plane"] =
                json!({"url": url, "token": token, "subscription": subscription, "group": group});
            endpoints["export_secret"] = json!(control::secret_uri("source-sas"));
            endpoints["import_secret"] = json!(control::secret_uri("target-sas"));
        }
        endpoints
    }

    /// Makes the route from the source container to the target container a resource of the control plane. It starts
    /// no import: an import pipeline's own trigger, or a run, does.
    pub async fn add_route(&self) -> Result<()> {
        let control = self.control()?;
        let route = json!({"properties": {
            "sourceUri": self.source_container.url,
            "targetUri": self.target_container.url,
            "targetKeyVaultUri": control::secret_uri("target-sas"),
        }});
        control.put(&control.id("source", "routes", "totarget"), &route).await.map(drop)
    }

    /// Has the broker lose what waits in a queue.
    pub async fn purge(&self, queue: &str) -> Result<()> {
        self.rabbitmq.purge(&self.amqp, queue).await
    }

    /// Runs `transship` with these arguments against this stack, and returns what it printed, as JSON.
    pub async fn run(&self, arguments: &[&str]) -> Result<Value> {
        let report = self.start_run(arguments)?.await?;
        report.with_context(|| self.log_tails())
    }

    /// The same in the background, so that services can be killed meanwhile. At most 20 minutes.
    pub fn start_run(&self, arguments: &[&str]) -> Result<tokio::task::JoinHandle<Result<Value>>> {
        let endpoints = self.folder().join("endpoints.json");
        std::fs::write(&endpoints, serde_json::to_vec_pretty(&self.endpoints())?)?;
        let mut command = tokio::process::Command::new(self.binaries()?.join("transship"));
        command.args(arguments).arg("--endpoints").arg(&endpoints).args(["-o", "json"]).kill_on_drop(true);
        let shown = arguments.iter().take(6).copied().collect::<Vec<_>>().join(" ");
        Ok(tokio::spawn(async move {
            let output = tokio::time::timeout(Duration::from_secs(1200), command.output()).await;
            let output =
                output.context("transship did not end within 20 minutes")?.context("run transship")?;
            let talk = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "transship {shown} … ended with {}:\n{talk}", output.status);
            serde_json::from_slice(&output.stdout)
                .with_context(|| format!("transship printed no JSON:\n{talk}"))
        }))
    }

    /// The last lines of every service's log.
    pub fn log_tails(&self) -> String {
        self.services
            .iter()
            .map(|service| format!("\n--- {}\n{}", service.name, log_tail(&service.log)))
            .collect()
    }

    /// Ends the services, and then the servers that belong to this stack alone.
    pub async fn stop(self) -> Result<()> {
        for service in &self.services {
            service.process.stop().await?;
        }
        Ok(())
    }
}

/// Broker, storage of source and target, registries of source and target.
type Servers = (RabbitMq, Azurite, Azurite, Registry, Registry);

async fn shared_servers() -> Result<Servers> {
    tokio::try_join!(
        RabbitMq::shared(),
        Azurite::shared(Side::Source),
        Azurite::shared(Side::Target),
        Registry::shared(Side::Source),
        Registry::shared(Side::Target),
    )
}

async fn private_servers() -> Result<Servers> {
    let servers = transship_rig::Servers::start().await?;
    let transship_rig::Servers { rabbitmq, source_azurite, target_azurite, source_registry, target_registry } =
        servers;
    Ok((rabbitmq, source_azurite, target_azurite, source_registry, target_registry))
}

/// Has everything that uses the container go by way of a counter.
async fn count_blocks(container: &mut Container) -> Result<WriteCounter> {
    let (_, rest) = container.url.split_once("://").context("a scheme")?;
    let (upstream, _) = rest.split_once('/').context("a path")?;
    let counter = WriteCounter::start(upstream.to_owned()).await?;
    container.url = counter.in_front_of(&container.url)?;
    Ok(counter)
}

fn log_tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

fn wait_for_file(path: &Path, process: &Process) -> Result<String> {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        if let Ok(text) = std::fs::read_to_string(path) {
            return Ok(text);
        }
        ensure!(process.is_running(), "the service ended");
        ensure!(Instant::now() < deadline, "the service did not say its address within {READY_WITHIN:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

async fn ready(service: &Service) -> Result<()> {
    let url = service.metrics_url.replace("/metrics", "/readyz");
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        let answer = reqwest::get(&url).await;
        if answer.as_ref().is_ok_and(|answer| answer.status().is_success()) {
            return Ok(());
        }
        ensure!(service.is_running(), "{} ended:\n{}", service.name, log_tail(&service.log));
        ensure!(
            Instant::now() < deadline,
            "{} is not ready: {answer:?}\n{}",
            service.name,
            log_tail(&service.log)
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
