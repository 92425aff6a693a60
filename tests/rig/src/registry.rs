//! The CNCF distribution registry as Debian packages it (2.8), with its files in a temporary folder.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::endpoints::{Endpoints, RegistryEndpoint, Side, not_private, write_private};
use crate::guard::{Guard, Launch, Order, retry_taken_port};
use crate::{free_port, random};

const PROGRAM: &str = "/usr/bin/docker-registry";

/// How a private registry differs from the default one, which is anonymous and allows deletion.
#[derive(Clone, Debug, Default)]
pub struct RegistryOptions {
    /// The user and password that Basic authentication asks for.
    pub htpasswd: Option<(String, String)>,
    /// Answer with upload locations that are relative.
    pub relative_urls: bool,
    /// Refuse DELETE, as many registries do.
    pub refuse_delete: bool,
    /// Refuse every write.
    pub read_only: bool,
}

/// A registry, shared or private.
pub struct Registry {
    endpoint: RegistryEndpoint,
    private: Option<Private>,
}

/// The files and the process of a private registry. Fields are dropped in order: process, files.
struct Private {
    server: Mutex<Option<Guard>>,
    instance: Instance,
    folder: TempDir,
}

/// How a registry is told from another one that may have taken its port.
struct Instance {
    port: u16,
    /// The value of a header in each of its answers.
    mark: String,
}

/// The name of its configuration file.
const CONFIG: &str = "config.yml";

const MARK: &str = "transship-rig";

impl Registry {
    /// The registry that `transship-rig run` started for this side, or a private one where there is none.
    pub async fn shared(side: Side) -> Result<Self> {
        match Endpoints::from_environment()? {
            Some(endpoints) => Ok(Self { endpoint: endpoints.registry(side), private: None }),
            None => Self::start().await,
        }
    }

    /// A private registry without authentication.
    pub async fn start() -> Result<Self> {
        Self::start_with(RegistryOptions::default()).await
    }

    /// A private registry.
    pub async fn start_with(options: RegistryOptions) -> Result<Self> {
        ensure!(
            Path::new(PROGRAM).exists(),
            "docker-registry is not installed: run `make setup` in the root of the repository"
        );
        retry_taken_port(|| Self::attempt(&options)).await
    }

    async fn attempt(options: &RegistryOptions) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("transship-registry-").tempdir()?;
        let instance = Instance { port: free_port(), mark: random::hex::<8>() };
        write_files(folder.path(), &instance, options)?;
        let server = start_server(folder.path(), &instance).await?;
        let endpoint = RegistryEndpoint { host: format!("127.0.0.1:{}", instance.port) };
        Ok(Self { endpoint, private: Some(Private { server: Mutex::new(Some(server)), instance, folder }) })
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.endpoint.host
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.endpoint.host)
    }

    /// Where a private registry keeps its files, in the layout of distribution's filesystem driver.
    pub fn storage(&self) -> Option<std::path::PathBuf> {
        self.private.as_ref().map(|private| private.folder.path().join("storage"))
    }

    /// The process id of a private registry that runs.
    pub fn pid(&self) -> Option<u32> {
        let server = self.private.as_ref()?.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.as_ref().map(Guard::pid)
    }

    /// Stops a private registry; its data and port stay.
    pub async fn stop(&self) -> Result<()> {
        let Some(private) = &self.private else { return not_private("registry") };
        let server = private.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        server.context("the registry does not run")?.end(Order::Stop).await
    }

    /// Ends a private registry with SIGKILL.
    pub async fn kill(&self) -> Result<()> {
        let Some(private) = &self.private else { return not_private("registry") };
        let server = private.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        server.context("the registry does not run")?.end(Order::Kill).await
    }

    /// Has a private registry tell `url` of every push, with the bearer token `token`. It starts again for that.
    pub async fn notify(&self, url: &str, token: &str) -> Result<()> {
        let Some(private) = &self.private else { return not_private("registry") };
        let file = private.folder.path().join(CONFIG);
        let mut config: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
        config["notifications"] = json!({ "endpoints": [{
            "name": "transship",
            "url": url,
            "headers": { "Authorization": [format!("Bearer {token}")] },
            "timeout": "5s",
            "threshold": 3,
            "backoff": "1s",
            "ignore": { "mediatypes": ["application/octet-stream"], "actions": ["pull"] },
        }] });
        self.stop().await?;
        write_private(&file, &serde_json::to_vec_pretty(&config)?)?;
        self.start_again().await
    }

    /// Starts a private registry that was stopped or killed, on the same port and data.
    pub async fn start_again(&self) -> Result<()> {
        let Some(private) = &self.private else { return not_private("registry") };
        ensure!(self.pid().is_none(), "the registry runs already");
        let server = start_server(private.folder.path(), &private.instance).await?;
        *private.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        Ok(())
    }
}

/// The settings are JSON, which is YAML.
fn write_files(folder: &Path, instance: &Instance, options: &RegistryOptions) -> Result<()> {
    let mut config = json!({
        "version": 0.1,
        "log": { "level": "error", "accesslog": { "disabled": true } },
        "storage": {
            "filesystem": { "rootdirectory": folder.join("storage") },
            "delete": { "enabled": !options.refuse_delete },
            "maintenance": {
                "readonly": { "enabled": options.read_only },
                "uploadpurging": { "enabled": false },
            },
        },
        "http": {
            "addr": format!("127.0.0.1:{}", instance.port),
            // The same after a restart, so that an upload goes on.
            "secret": random::hex::<16>(),
            "relativeurls": options.relative_urls,
            "headers": { MARK: [instance.mark] },
        },
        "health": { "storagedriver": { "enabled": false } },
    });
    if let Some((user, password)) = &options.htpasswd {
        // The cheapest cost that bcrypt allows: the registry computes it on every request.
        let hash = bcrypt::hash(password, 4).context("hash the registry's password")?;
        let file = folder.join("htpasswd");
        write_private(&file, format!("{user}:{hash}\n").as_bytes())?;
        config["auth"] = json!({ "htpasswd": { "realm": "transship-rig", "path": file } });
    }
    write_private(&folder.join(CONFIG), &serde_json::to_vec_pretty(&config)?)
}

async fn start_server(folder: &Path, instance: &Instance) -> Result<Guard> {
    let config = folder.join(CONFIG).display().to_string();
    let mut server = Guard::start(Launch {
        command: vec![PROGRAM.to_owned(), "serve".to_owned(), config],
        environment: vec![("HOME".to_owned(), folder.display().to_string())],
        log: &folder.join("output.log"),
        folder: Some(folder),
    })?;
    let client = crate::servers::loopback_client()?;
    let base = format!("http://127.0.0.1:{}/v2/", instance.port);
    let answers = || async {
        let response = client.get(&base).send().await;
        response.is_ok_and(|response| response.headers().get(MARK).is_some_and(|mark| mark == &instance.mark))
    };
    server.ready("docker-registry", answers).await?;
    Ok(server)
}
