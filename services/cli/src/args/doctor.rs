//! `transship doctor`.

use std::path::PathBuf;

use clap::Args;

use super::ReachArgs;
use super::connection::ConnectionArgs;
use super::help::{CONTROL, TEMPLATE};

/// Check everything that transfers depend on, and say what to do about what does not work.
///
/// The control plane is asked for itself and for its broker, its state and its stores. A registry and a container
/// that are named here are tried from this machine, with its credentials.
#[derive(Debug, Args)]
#[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship doctor
  transship doctor --address registry.example \\
      --container https://ACCOUNT.blob.core.windows.net/outbox --sas-file outbox.sas")]
pub(crate) struct DoctorArgs {
    /// Also try this registry: HOST[:PORT] or a URL [else: what the control plane says]
    #[arg(long, value_name = "REGISTRY")]
    pub(crate) address: Option<String>,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    /// Also try this place: a directory, a file: URL, or the URL of an Azure container
    #[arg(long, value_name = "PLACE")]
    pub(crate) container: Option<String>,
    /// A file with the SAS token of PLACE [else: TRANSSHIP_SOURCE_SAS, then TRANSSHIP_TARGET_SAS]
    #[arg(long, value_name = "FILE", requires = "container")]
    pub(crate) sas_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}
