//! RabbitMQ as Debian packages it (3.10), with its own node name, epmd and cookie.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::Method;
use tempfile::TempDir;

use crate::endpoints::{Endpoints, RabbitMqEndpoint, not_private, write_private};
use crate::guard::{Guard, Launch, Order, retry_taken_port};
use crate::{free_port, ports, random};

/// Debian's `/usr/sbin/rabbitmq-server` insists on the system's user and data; these scripts do not.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";

/// How a private broker differs from the default one.
#[derive(Clone, Debug, Default)]
pub struct RabbitMqOptions {
    /// How long a delivery may stay without an acknowledgement; the broker's own default is 30 minutes.
    /// The broker looks once a minute.
    pub consumer_timeout: Option<Duration>,
    /// Further lines of `rabbitmq.conf`.
    pub settings: Vec<String>,
}

/// A RabbitMQ broker, shared or private.
pub struct RabbitMq {
    endpoint: RabbitMqEndpoint,
    private: Option<Private>,
}

/// The files and processes of a private broker. Fields are dropped in order: broker, epmd, files.
struct Private {
    server: Mutex<Option<Guard>>,
    _epmd: Guard,
    node: Node,
    folder: TempDir,
}

/// What every script of the broker must be told.
struct Node {
    name: String,
    folder: PathBuf,
    epmd: u16,
    amqp: u16,
    distribution: u16,
    management: u16,
}

impl RabbitMq {
    /// The broker that `transship-rig run` started, or a private one where there is none.
    pub async fn shared() -> Result<Self> {
        match Endpoints::from_environment()? {
            Some(endpoints) => Ok(Self { endpoint: endpoints.rabbitmq, private: None }),
            None => Self::start().await,
        }
    }

    /// A private broker with default settings; it takes about five seconds.
    pub async fn start() -> Result<Self> {
        Self::start_with(RabbitMqOptions::default()).await
    }

    /// A private broker.
    pub async fn start_with(options: RabbitMqOptions) -> Result<Self> {
        ensure!(
            Path::new(SCRIPTS).join("rabbitmq-server").exists(),
            "RabbitMQ is not installed: run `make setup` in the root of the repository"
        );
        retry_taken_port(|| Self::attempt(&options)).await
    }

    async fn attempt(options: &RabbitMqOptions) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("transship-rabbitmq-").tempdir()?;
        let node = Node::new(folder.path());
        let user = "rig".to_owned();
        let password = random::hex::<16>();
        let endpoint = RabbitMqEndpoint {
            amqp: format!("amqp://127.0.0.1:{}", node.amqp),
            management_url: format!("http://{user}:{password}@127.0.0.1:{}", node.management),
            user,
            password,
        };
        node.write_files(options, &endpoint)?;
        let epmd = node.start_epmd().await?;
        let server = node.start_server(&endpoint).await?;
        let private = Private { server: Mutex::new(Some(server)), _epmd: epmd, node, folder };
        Ok(Self { endpoint, private: Some(private) })
    }

    /// Where the broker is, and as whom to log in.
    pub fn endpoint(&self) -> &RabbitMqEndpoint {
        &self.endpoint
    }

    /// `http://USER:PASSWORD@127.0.0.1:PORT` of the management API.
    pub fn management_url(&self) -> &str {
        &self.endpoint.management_url
    }

    /// `amqp://USER:PASSWORD@127.0.0.1:PORT/VHOST` of a virtual host that exists.
    pub fn amqp_url(&self, vhost: &str) -> String {
        let RabbitMqEndpoint { amqp, user, password, .. } = &self.endpoint;
        let address = amqp.trim_start_matches("amqp://");
        format!("amqp://{user}:{password}@{address}/{vhost}")
    }

    /// Makes a fresh virtual host and returns its URL, user and password included.
    pub async fn vhost(&self) -> Result<String> {
        let vhost = format!("rig-{}", random::hex::<6>());
        self.manage(Method::PUT, &format!("vhosts/{vhost}"), "{}").await?;
        let all = r#"{"configure":".*","write":".*","read":".*"}"#;
        self.manage(Method::PUT, &format!("permissions/{vhost}/{}", self.endpoint.user), all).await?;
        Ok(self.amqp_url(&vhost))
    }

    /// Loses what waits in a queue of the virtual host that `url` of [`Self::vhost`] names.
    pub async fn purge(&self, url: &str, queue: &str) -> Result<()> {
        let (_, vhost) = url.rsplit_once('/').context("a virtual host")?;
        self.manage(Method::DELETE, &format!("queues/{vhost}/{queue}/contents"), "").await
    }

    /// Asks the management API.
    async fn manage(&self, method: Method, path: &str, body: &'static str) -> Result<()> {
        let request = crate::servers::loopback_client()?
            .request(method.clone(), format!("{}/api/{path}", self.endpoint.management_url))
            .header("content-type", "application/json")
            .body(body);
        request.send().await?.error_for_status().with_context(|| format!("{method} {path}"))?;
        Ok(())
    }

    /// Runs `rabbitmqctl` and returns its standard output. Private brokers only.
    pub async fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let Some(private) = &self.private else { return not_private("broker") };
        let command = tokio::process::Command::new(format!("{SCRIPTS}/rabbitmqctl"))
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LANG", "C.UTF-8")
            .envs(private.node.environment())
            .kill_on_drop(true)
            .output();
        let Output { status, stdout, stderr } = tokio::time::timeout(Duration::from_secs(60), command)
            .await
            .context("rabbitmqctl takes too long")??;
        if !status.success() {
            bail!("rabbitmqctl {arguments:?} failed: {}", String::from_utf8_lossy(&stderr));
        }
        Ok(String::from_utf8(stdout)?)
    }

    /// The process id of a private broker that runs.
    pub fn pid(&self) -> Option<u32> {
        let server = self.private.as_ref()?.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.as_ref().map(Guard::pid)
    }

    /// The folder of a private broker: `log` and `data` are in it.
    pub fn folder(&self) -> Option<&Path> {
        self.private.as_ref().map(|private| private.folder.path())
    }

    /// Stops a private broker properly; its data and ports stay.
    pub async fn stop(&self) -> Result<()> {
        self.end(Order::Stop).await
    }

    /// Ends a private broker with SIGKILL; what it had confirmed stays.
    pub async fn kill(&self) -> Result<()> {
        self.end(Order::Kill).await
    }

    async fn end(&self, order: Order) -> Result<()> {
        let Some(private) = &self.private else { return not_private("broker") };
        let server = private.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        server.context("the broker does not run")?.end(order).await
    }

    /// Starts a private broker that was stopped or killed, on the same ports and data.
    pub async fn start_again(&self) -> Result<()> {
        let Some(private) = &self.private else { return not_private("broker") };
        ensure!(self.pid().is_none(), "the broker runs already");
        let server = private.node.start_server(&self.endpoint).await?;
        *private.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        Ok(())
    }
}

impl Node {
    fn new(folder: &Path) -> Self {
        Self {
            name: format!("rig-{}@localhost", random::hex::<4>()),
            folder: folder.to_owned(),
            epmd: free_port(),
            amqp: free_port(),
            distribution: free_port(),
            management: free_port(),
        }
    }

    fn environment(&self) -> Vec<(String, String)> {
        let path = |name: &str| self.folder.join(name).display().to_string();
        // Busy waiting of Erlang's schedulers would take the CPU from everything else on a small machine.
        let erlang = "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none";
        [
            ("HOME", path("")),
            ("ERL_EPMD_PORT", self.epmd.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            // A file that does not exist: the machine's own configuration is not ours.
            ("RABBITMQ_CONF_ENV_FILE", path("rabbitmq-env.conf")),
            ("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf")),
            ("RABBITMQ_CONFIG_FILES", path("conf.d")),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", path("advanced.config")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins")),
            ("RABBITMQ_NODENAME", self.name.clone()),
            ("RABBITMQ_DIST_PORT", self.distribution.to_string()),
            ("RABBITMQ_MNESIA_BASE", path("data")),
            ("RABBITMQ_LOG_BASE", path("log")),
            ("RABBITMQ_PID_FILE", path("pid")),
            // The script then becomes the broker, in place of a shell that waits for it.
            ("RUNNING_UNDER_SYSTEMD", "true".to_owned()),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", erlang.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn write_files(&self, options: &RabbitMqOptions, endpoint: &RabbitMqEndpoint) -> Result<()> {
        let mut lines = vec![
            format!("listeners.tcp.1 = 127.0.0.1:{}", self.amqp),
            "management.tcp.ip = 127.0.0.1".to_owned(),
            format!("management.tcp.port = {}", self.management),
            // The first user takes the place of `guest`.
            format!("default_user = {}", endpoint.user),
            format!("default_pass = {}", endpoint.password),
            "default_user_tags.administrator = true".to_owned(),
        ];
        if let Some(timeout) = options.consumer_timeout {
            lines.push(format!("consumer_timeout = {}", timeout.as_millis()));
        }
        lines.extend(options.settings.iter().cloned());
        write_private(&self.folder.join("rabbitmq.conf"), (lines.join("\n") + "\n").as_bytes())?;
        write_private(&self.folder.join("enabled_plugins"), b"[rabbitmq_management].\n")?;
        let cookie = self.folder.join(".erlang.cookie");
        write_private(&cookie, random::hex::<16>().as_bytes())?;
        // Erlang refuses a cookie that its owner could write.
        Ok(std::fs::set_permissions(cookie, std::fs::Permissions::from_mode(0o400))?)
    }

    /// Without an epmd of ours, Erlang would start one as a daemon that outlives the broker.
    async fn start_epmd(&self) -> Result<Guard> {
        let port = self.epmd.to_string();
        let mut epmd = Guard::start(Launch {
            command: ["epmd", "-address", "127.0.0.1", "-port", &port].map(str::to_owned).into(),
            environment: vec![("HOME".to_owned(), self.folder.display().to_string())],
            log: &self.folder.join("epmd.log"),
            folder: None,
        })?;
        // It says nothing where another process holds the port; there is no other reason for it to end.
        epmd.ready("epmd", || ports::accepts(self.epmd)).await.context("address already in use")?;
        Ok(epmd)
    }

    async fn start_server(&self, endpoint: &RabbitMqEndpoint) -> Result<Guard> {
        let mut server = Guard::start(Launch {
            command: vec![format!("{SCRIPTS}/rabbitmq-server")],
            environment: self.environment(),
            log: &self.folder.join("output.log"),
            folder: Some(&self.folder),
        })?;
        let client = crate::servers::loopback_client()?;
        let overview = format!("{}/api/vhosts", endpoint.management_url);
        let answers = || async {
            let response = client.get(&overview).send().await;
            ports::accepts(self.amqp).await && response.is_ok_and(|response| response.status().is_success())
        };
        server.ready("RabbitMQ", answers).await?;
        Ok(server)
    }
}
