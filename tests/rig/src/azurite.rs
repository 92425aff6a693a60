//! Azurite's blob service, with a generated account.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use crate::endpoints::{AzuriteEndpoint, Endpoints, Side, not_private};
use crate::guard::{Guard, Launch, Order, retry_taken_port};
use crate::{free_port, random, sas};

/// One Azurite process with one account, shared or private.
pub struct Azurite {
    endpoint: AzuriteEndpoint,
    private: Option<Private>,
}

/// The files and the process of a private instance. Fields are dropped in order: process, files.
struct Private {
    server: Mutex<Option<Guard>>,
    port: u16,
    folder: TempDir,
}

/// A container that exists.
#[derive(Clone)]
pub struct Container {
    /// `http://127.0.0.1:PORT/ACCOUNT/NAME`.
    pub url: String,
    /// The container's name.
    pub name: String,
    /// The account that it is in.
    pub account: AzuriteEndpoint,
}

impl Azurite {
    /// The account that `transship-rig run` started for this side, or a private one where there is none.
    pub async fn shared(side: Side) -> Result<Self> {
        match Endpoints::from_environment()? {
            Some(endpoints) => {
                let endpoint = endpoints.azurite(side);
                sas::check_key(&endpoint.key)?;
                Ok(Self { endpoint, private: None })
            }
            None => Self::start().await,
        }
    }

    /// A private instance; it takes about two seconds.
    pub async fn start() -> Result<Self> {
        retry_taken_port(Self::attempt).await
    }

    async fn attempt() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("transship-azurite-").tempdir()?;
        let port = free_port();
        let account = format!("rig{}", random::hex::<4>());
        let endpoint = AzuriteEndpoint {
            url: format!("http://127.0.0.1:{port}/{account}"),
            account,
            key: STANDARD.encode(random::bytes::<64>()),
        };
        let server = start_server(folder.path(), port, &endpoint).await?;
        Ok(Self { endpoint, private: Some(Private { server: Mutex::new(Some(server)), port, folder }) })
    }

    /// Where the account is, and its key.
    pub fn endpoint(&self) -> &AzuriteEndpoint {
        &self.endpoint
    }

    /// An account SAS with every permission, valid for a day, without the question mark.
    pub fn account_sas(&self) -> String {
        sas::account(&self.endpoint, tomorrow())
    }

    /// Makes a fresh container whose name begins with `name_prefix` (lower-case letters, digits, hyphens).
    pub async fn container(&self, name_prefix: &str) -> Result<Container> {
        let name = format!("{name_prefix}-{}", random::hex::<5>());
        let url = format!("{}/{name}", self.endpoint.url);
        let request = crate::servers::loopback_client()?
            .put(format!("{url}?restype=container&{}", self.account_sas()))
            .header("content-length", 0);
        // The error of reqwest shows the URL, and with it the signature.
        let response = request.send().await.map_err(reqwest::Error::without_url)?;
        let status = response.status();
        ensure!(status.is_success(), "make container {name}: {status}: {}", response.text().await?);
        Ok(Container { url, name, account: self.endpoint.clone() })
    }

    /// The process id of a private instance that runs.
    pub fn pid(&self) -> Option<u32> {
        let server = self.private.as_ref()?.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.as_ref().map(Guard::pid)
    }

    /// Stops a private instance properly; its data and port stay.
    ///
    /// There is no kill: Azurite writes its metadata every few seconds and would forget what is newer.
    pub async fn stop(&self) -> Result<()> {
        let Some(private) = &self.private else { return not_private("storage account") };
        let server = private.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        server.context("Azurite does not run")?.end(Order::Stop).await
    }

    /// Starts a private instance that was stopped, on the same port and data.
    pub async fn start_again(&self) -> Result<()> {
        let Some(private) = &self.private else { return not_private("storage account") };
        ensure!(self.pid().is_none(), "Azurite runs already");
        let server = start_server(private.folder.path(), private.port, &self.endpoint).await?;
        *private.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        Ok(())
    }
}

impl Container {
    /// A container SAS without the question mark, for HTTP and HTTPS. The letters come in any order.
    pub fn sas(&self, permissions: &str, expires: SystemTime) -> String {
        sas::container(&self.account, &self.name, permissions, expires)
    }

    /// A container SAS with every permission that transship may need (`racwdl`), valid for a day.
    pub fn full_sas(&self) -> String {
        self.sas("racwdl", tomorrow())
    }
}

fn tomorrow() -> SystemTime {
    SystemTime::now() + Duration::from_secs(24 * 60 * 60)
}

async fn start_server(folder: &Path, port: u16, endpoint: &AzuriteEndpoint) -> Result<Guard> {
    let main: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "azurite/node_modules/azurite/dist/src/blob/main.js"].iter().collect();
    ensure!(main.exists(), "Azurite is not installed: run `make setup` in the root of the repository");
    let mut command = vec!["node".to_owned(), main.display().to_string()];
    for (name, value) in [
        ("--location", folder.display().to_string()),
        ("--blobHost", "127.0.0.1".to_owned()),
        ("--blobPort", port.to_string()),
    ] {
        command.extend([name.to_owned(), value]);
    }
    // The SDK speaks a version that is newer than this Azurite.
    command.extend(["--skipApiVersionCheck", "--disableTelemetry", "--silent"].map(str::to_owned));
    let environment = vec![
        ("HOME".to_owned(), folder.display().to_string()),
        ("AZURITE_ACCOUNTS".to_owned(), format!("{}:{}", endpoint.account, endpoint.key)),
    ];
    let log = folder.join("output.log");
    let mut server = Guard::start(Launch { command, environment, log: &log, folder: Some(folder) })?;
    // Only our own instance knows this account, whoever else may have taken the port.
    let client = crate::servers::loopback_client()?;
    let list = format!("{}?comp=list&{}", endpoint.url, sas::account(endpoint, tomorrow()));
    let answers =
        || async { client.get(&list).send().await.is_ok_and(|response| response.status().is_success()) };
    server.ready("Azurite", answers).await?;
    Ok(server)
}
