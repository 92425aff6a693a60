//! `transship transfer`.

use std::path::PathBuf;

use clap::Args;
use transship_model::BlobName;

use super::help::{TEMPLATE, after};
use super::{ExportOptionArgs, ImportOptionArgs, ReachArgs, ReferenceArgs};

/// Move artifacts from one registry to another: export, copy and import in one process.
///
/// The bundle goes through PLACE: by default a directory of transship's own, which is removed once everything
/// is imported. A command that was interrupted resumes when it is repeated.
#[derive(Debug, Args)]
#[command(help_template = TEMPLATE, after_help = after(), before_help = "\
Examples:
  transship transfer --from-registry dev.example --to-registry prod.example team/app:1.4.2
  transship transfer --from-registry dev.example --to-registry prod.example --via ./out \\
      --artifacts-file artifacts.txt --rename team=mirror/team
  transship transfer --from-registry localhost:5000 --to-registry localhost:5001 \\
      --via https://source.blob.core.windows.net/container --via-sas-file source.sas \\
      --copy-to https://target.blob.core.windows.net/container \\
      --copy-to-sas-file target.sas team/app:1.4.2")]
pub(crate) struct TransferArgs {
    #[command(flatten)]
    pub(crate) references: ReferenceArgs,
    /// The source registry: HOST[:PORT] or a URL
    #[arg(long, value_name = "REGISTRY")]
    pub(crate) from_registry: String,
    /// The target registry: HOST[:PORT] or a URL
    #[arg(long, value_name = "REGISTRY")]
    pub(crate) to_registry: String,
    /// Where the bundle is written: a directory, a file: URL, or the URL of an Azure container
    #[arg(long, value_name = "PLACE")]
    pub(crate) via: Option<String>,
    /// Where the bundle is copied to before it is imported from there
    #[arg(long, value_name = "PLACE")]
    pub(crate) copy_to: Option<String>,
    /// The name of the bundle [default: made of the artifacts]
    #[arg(long, value_name = "NAME")]
    pub(crate) blob: Option<BlobName>,
    /// A file with the SAS token of --via [else: TRANSSHIP_SOURCE_SAS]
    #[arg(long, value_name = "FILE", requires = "via")]
    pub(crate) via_sas_file: Option<PathBuf>,
    /// A file with the SAS token of --copy-to [else: TRANSSHIP_TARGET_SAS]
    #[arg(long, value_name = "FILE", requires = "copy_to")]
    pub(crate) copy_to_sas_file: Option<PathBuf>,
    /// Leave out artifacts that fail, and move the rest
    #[arg(long)]
    pub(crate) continue_on_errors: bool,
    #[command(flatten)]
    pub(crate) export: ExportOptionArgs,
    /// Write the bundle again though it is there already, from what is staged
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) import: ImportOptionArgs,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}
