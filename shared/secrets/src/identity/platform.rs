//! What the platform says about the identities of a process: its environment, read once.

use std::path::PathBuf;

use transship_model::Secret;
use url::Url;

use crate::hosts::is_loopback;

/// Microsoft Entra of the public cloud, where workload identities are exchanged.
pub const PUBLIC_AUTHORITY: &str = "https://login.microsoftonline.com";

/// The Azure Instance Metadata Service, which is at this address on every virtual machine.
const METADATA_SERVICE: &str = "http://169.254.169.254";

/// Where a process gets tokens of its identities.
#[derive(Debug, Clone)]
pub struct Platform {
    /// The Instance Metadata Service.
    pub(crate) metadata: Url,
    /// The identity endpoint of App Service and Container Apps.
    pub(crate) app_service: Option<AppService>,
    /// The workload identity of a pod.
    pub(crate) workload: Option<Workload>,
    /// Microsoft Entra, for the workload identity.
    pub(crate) authority: Url,
}

/// The identity endpoint that App Service and Container Apps put beside a process.
#[derive(Debug, Clone)]
pub(crate) struct AppService {
    pub(crate) endpoint: Url,
    /// What shows that the request comes from this process.
    pub(crate) header: Secret,
}

/// A workload identity: what a pod gets from the webhook. Each part may be missing.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    pub(crate) tenant: Option<String>,
    pub(crate) client: Option<String>,
    pub(crate) token_file: PathBuf,
}

/// Why what the environment says cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable} {problem}")]
pub struct PlatformError {
    /// The variable or the setting.
    pub variable: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Platform {
    /// What the environment says, whose variables `variable` knows (an empty one counts as not set), with
    /// `authority_host` in place of `AZURE_AUTHORITY_HOST` where it is given. `plain_http` lets the authority be
    /// plain http on this machine, for tests.
    ///
    /// # Errors
    /// Where an address in it is none, or the authority is not https.
    pub fn read(
        authority_host: Option<&str>,
        plain_http: bool,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, PlatformError> {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let authority = match authority_host {
            Some(host) => address("authority_host", host)?,
            None => match set("AZURE_AUTHORITY_HOST") {
                Some(host) => address("AZURE_AUTHORITY_HOST", &host)?,
                None => address("AZURE_AUTHORITY_HOST", PUBLIC_AUTHORITY)?,
            },
        };
        if authority.scheme() != "https" && !(plain_http && is_loopback(&authority)) {
            // The federated token is sent there.
            return Err(PlatformError { variable: "authority_host", problem: "must be https" });
        }
        let metadata = set("AZURE_POD_IDENTITY_AUTHORITY_HOST");
        let metadata = metadata.as_deref().unwrap_or(METADATA_SERVICE);
        let app_service = match (set("IDENTITY_ENDPOINT"), set("IDENTITY_HEADER")) {
            (Some(endpoint), Some(header)) => Some(AppService {
                endpoint: address("IDENTITY_ENDPOINT", &endpoint)?,
                header: Secret::new(&header),
            }),
            _ => None,
        };
        let workload = set("AZURE_FEDERATED_TOKEN_FILE").map(|file| Workload {
            tenant: set("AZURE_TENANT_ID"),
            client: set("AZURE_CLIENT_ID"),
            token_file: file.into(),
        });
        let metadata = address("AZURE_POD_IDENTITY_AUTHORITY_HOST", metadata)?;
        Ok(Self { metadata, app_service, workload, authority })
    }
}

/// An address of http or https. The platform's endpoints are plain http beside the process, by their nature.
fn address(variable: &'static str, text: &str) -> Result<Url, PlatformError> {
    let problem = PlatformError { variable, problem: "is not the address of a host" };
    let text = text.trim();
    let text = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url: Url = text.parse().map_err(|_| problem.clone())?;
    let fine = matches!(url.scheme(), "http" | "https") && url.host().is_some() && url.username().is_empty();
    if fine { Ok(url) } else { Err(problem) }
}
