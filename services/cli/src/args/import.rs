//! `transship import`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use transship_model::BlobName;

use super::help::{TEMPLATE, after};
use super::{ImportOptionArgs, ReachArgs};

/// Push the artifacts of a bundle to a registry.
///
/// Content that the registry has is not sent again, and content of its other repositories is mounted. A tag
/// appears only once everything below it is there. OCI archives that other tools wrote are imported too.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("where").required(true).args(["from", "file"]))]
#[command(help_template = TEMPLATE, after_help = after(), before_help = "\
Examples:
  transship import --registry prod.example --from ./out --blob nightly
  transship import --registry prod.example --file image.tar --as team/app:1.4.2
  transship import --registry prod.example --from ./out --blob nightly --rename team=mirror/team
  transship import --registry localhost:5000 --from https://account.blob.core.windows.net/container \\
      --from-sas-file container.sas --blob nightly")]
pub(crate) struct ImportArgs {
    /// The target registry: HOST[:PORT] or a URL
    #[arg(long, value_name = "REGISTRY")]
    pub(crate) registry: String,
    /// Where the bundle is: a directory, a file: URL, or the URL of an Azure container
    #[arg(
        long,
        value_name = "PLACE",
        required_unless_present = "file",
        conflicts_with = "file",
        requires = "blob"
    )]
    pub(crate) from: Option<String>,
    /// The name of the bundle in PLACE; all its parts are imported
    #[arg(long, value_name = "NAME", requires = "from")]
    pub(crate) blob: Option<BlobName>,
    /// A bundle, or an OCI archive of another tool, that is a file
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// A file with the SAS token of PLACE [else: TRANSSHIP_TARGET_SAS]
    #[arg(long, value_name = "FILE", requires = "from")]
    pub(crate) from_sas_file: Option<PathBuf>,
    /// Leave out artifacts that fail, and import the rest
    #[arg(long)]
    pub(crate) continue_on_errors: bool,
    #[command(flatten)]
    pub(crate) options: ImportOptionArgs,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}
