//! `transship export`.

use std::path::PathBuf;

use clap::Args;
use transship_model::BlobName;

use super::help::{TEMPLATE, after};
use super::{ExportOptionArgs, ReachArgs, ReferenceArgs};

/// Write artifacts of a registry, and everything that belongs to them, into a bundle in storage.
///
/// A bundle holds images, indexes and any other artifact with its signatures and referrers, each blob once. It
/// is an OCI archive that other tools open too. A command that was interrupted resumes when it is repeated.
#[derive(Debug, Args)]
#[command(help_template = TEMPLATE, after_help = after(), before_help = "\
Examples:
  transship export --registry dev.example --to ./out --blob nightly team/app:1.4.2
  transship export --registry dev.example --to ./out --blob nightly --artifacts-file artifacts.txt
  transship export --registry localhost:5000 --to https://account.blob.core.windows.net/container \\
      --to-sas-file container.sas --blob nightly team/app:1.4.2")]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) references: ReferenceArgs,
    /// The source registry: HOST[:PORT] or a URL
    #[arg(long, value_name = "REGISTRY")]
    pub(crate) registry: String,
    /// Where the bundle goes: a directory, a file: URL, or the URL of an Azure container
    #[arg(long, value_name = "PLACE")]
    pub(crate) to: String,
    /// The name of the bundle in PLACE
    #[arg(long, value_name = "NAME")]
    pub(crate) blob: BlobName,
    /// A file with the SAS token of PLACE [else: TRANSSHIP_SOURCE_SAS]
    #[arg(long, value_name = "FILE")]
    pub(crate) to_sas_file: Option<PathBuf>,
    /// Leave out artifacts that fail, and carry the rest
    #[arg(long)]
    pub(crate) continue_on_errors: bool,
    #[command(flatten)]
    pub(crate) options: ExportOptionArgs,
    /// Write the bundle again though it is there already, from what is staged
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}
