//! `transship run …`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use transship_model::BlobName;

use super::ExportOptionArgs;
use super::connection::ConnectionArgs;
use super::help::{CONTROL, EXIT_CODES, TEMPLATE};
use super::pipeline::NameArgs;

/// Start, follow and list runs: one execution of a pipeline each.
#[derive(Debug, Args)]
#[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship run create nightly1 --export-pipeline nightly --blob nightly \\
      --artifact team/app:1.4.2 --watch
  transship run watch nightly1
  transship run export --artifact team/app:1.4.2 --blob nightly --wait")]
pub(crate) struct RunArgs {
    #[command(subcommand)]
    pub(crate) command: RunCommand,
}

/// What to run.
#[derive(Debug, Subcommand)]
pub(crate) enum RunCommand {
    /// Start a run of a pipeline
    ///
    /// The same request under the same name does nothing, unless --force says so.
    #[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship run create nightly1 --export-pipeline nightly --blob nightly \\
      --artifact team/app:1.4.2 --watch
  transship run create arrived1 --import-pipeline arrivals --blob nightly
  transship run create nightly1 --export-pipeline nightly --blob nightly \\
      --artifacts-file artifacts.txt --force")]
    Create(RunCreateArgs),
    /// List the runs, oldest first
    #[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship run list
  transship run list --last 10 -o json")]
    List(RunListArgs),
    /// Show a run with its artifacts and stages
    #[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship run show nightly1
  transship run show nightly1 -o json")]
    Show(NameArgs),
    /// Follow a run to its end, and end as it ended
    #[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship run watch nightly1")]
    Watch(NameArgs),
    /// Delete a run: its record, not what it moved
    #[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship run delete nightly1")]
    Delete(NameArgs),
    /// Delete the records of all runs that failed
    #[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship run clean --dry-run
  transship run clean")]
    Clean(RunCleanArgs),
    Export(RunExportArgs),
}

/// A run to be started.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("pipeline").required(true).args(["export_pipeline", "import_pipeline"]))]
pub(crate) struct RunCreateArgs {
    /// The run's name: 5 to 50 letters and digits
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The export pipeline, by its name or resource id
    #[arg(long, value_name = "PIPELINE")]
    pub(crate) export_pipeline: Option<String>,
    /// The import pipeline, by its name or resource id
    #[arg(long, value_name = "PIPELINE", conflicts_with_all = ["artifacts", "artifacts_file"])]
    pub(crate) import_pipeline: Option<String>,
    /// The bundle in the pipeline's container
    #[arg(long, value_name = "NAME")]
    pub(crate) blob: BlobName,
    /// An artifact to export: repository:tag or repository@sha256:…, without the registry [repeatable]
    #[arg(long = "artifact", value_name = "REF")]
    pub(crate) artifacts: Vec<String>,
    /// A file with more artifacts, one a line; - is standard input, # begins a comment
    #[arg(long, value_name = "FILE")]
    pub(crate) artifacts_file: Option<PathBuf>,
    /// The catalog digest that the bundle to import must have
    #[arg(long, value_name = "DIGEST", requires = "import_pipeline")]
    pub(crate) catalog_digest: Option<String>,
    /// Run again though a run of this name did the same
    #[arg(long)]
    pub(crate) force: bool,
    /// Follow the run to its end, and end as it ended
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// Which runs.
#[derive(Debug, Args)]
pub(crate) struct RunListArgs {
    /// Only the N newest, by when they were first created
    #[arg(long, value_name = "N", alias = "top")]
    pub(crate) last: Option<usize>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// Which records to delete.
#[derive(Debug, Args)]
pub(crate) struct RunCleanArgs {
    /// Only say what would be deleted
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// Have the exporters write a bundle, which then takes the routes that they have for it.
///
/// This sends the work through the broker itself, without a control plane: no pipeline, no record.
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
