//! `transship run …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use transship_model::BlobName;

use super::ExportOptionArgs;
use super::help::{EXIT_CODES, TEMPLATE};

/// Send work to services that run, through their broker.
#[derive(Debug, Args)]
#[command(help_template = TEMPLATE, after_help = EXIT_CODES, before_help = "\
Examples:
  transship run export --artifact team/app:1.4.2 --blob nightly --wait")]
pub(crate) struct RunArgs {
    #[command(subcommand)]
    pub(crate) command: RunCommand,
}

/// What to run.
#[derive(Debug, Subcommand)]
pub(crate) enum RunCommand {
    Export(RunExportArgs),
}

/// Have the exporters write a bundle, which then takes the routes that they have for it.
///
/// The stack of `make up` is found by the file that it writes. Without --wait the command ends once the broker
/// has the work.
#[derive(Debug, Args)]
#[command(help_template = TEMPLATE, after_help = EXIT_CODES, before_help = "\
Examples:
  transship run export --artifact team/app:1.4.2 --artifact team/chart:0.9.0 --blob nightly --wait
  transship run export --artifacts-file artifacts.txt --blob nightly --wait -o json")]
pub(crate) struct RunExportArgs {
    /// An artifact: repository:tag or repository@sha256:…, without the registry [repeatable]
    #[arg(long = "artifact", value_name = "REF")]
    pub(crate) artifacts: Vec<String>,
    /// A file with more artifacts, one a line; - is standard input, # begins a comment
    #[arg(long, value_name = "FILE")]
    pub(crate) artifacts_file: Option<PathBuf>,
    /// The name of the bundle in the source container
    #[arg(long, value_name = "NAME")]
    pub(crate) blob: BlobName,
    /// Wait until every part is imported on every route, or the run failed
    #[arg(long)]
    pub(crate) wait: bool,
    /// Leave out artifacts that fail, and carry the rest
    #[arg(long)]
    pub(crate) continue_on_errors: bool,
    #[command(flatten)]
    pub(crate) options: ExportOptionArgs,
    /// The file that says where the broker and the containers are
    #[arg(long, value_name = "FILE", default_value = ".local/endpoints.json")]
    pub(crate) endpoints: PathBuf,
}
