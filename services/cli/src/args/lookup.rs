//! `transship artifact …`, `transship repository …`, `transship blob …`: where things are.

use clap::{Args, Subcommand};
use transship_model::ArtifactReference;

use super::ReachArgs;
use super::connection::ConnectionArgs;
use super::help::{CONTROL, TEMPLATE};

/// Find out where an artifact is.
#[derive(Debug, Args)]
#[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship artifact show team/app:1.4.2")]
pub(crate) struct ArtifactArgs {
    #[command(subcommand)]
    pub(crate) command: ArtifactCommand,
}

/// What to find out.
#[derive(Debug, Subcommand)]
pub(crate) enum ArtifactCommand {
    /// Show where an artifact is now: which runs carried it, and how far they are
    #[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship artifact show team/app:1.4.2
  transship artifact show team/app@sha256:… -o json")]
    Show(ArtifactShowArgs),
}

/// Which artifact.
#[derive(Debug, Args)]
pub(crate) struct ArtifactShowArgs {
    /// The artifact: repository:tag or repository@sha256:…, without the registry
    #[arg(value_name = "REF")]
    pub(crate) reference: ArtifactReference,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// Look into the registry of a context.
#[derive(Debug, Args)]
#[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship repository list")]
pub(crate) struct RepositoryArgs {
    #[command(subcommand)]
    pub(crate) command: RepositoryCommand,
}

/// What to find out.
#[derive(Debug, Subcommand)]
pub(crate) enum RepositoryCommand {
    /// List the repositories of a registry
    ///
    /// The registry is asked itself, with the credentials of the Docker configuration.
    #[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship repository list
  transship repository list --registry contoso -o json
  transship repository list --address localhost:5000")]
    List(RepositoryListArgs),
}

/// Which registry.
#[derive(Debug, Args)]
pub(crate) struct RepositoryListArgs {
    /// The registry's address, HOST[:PORT] or a URL [else: what the control plane says]
    #[arg(long, value_name = "REGISTRY")]
    pub(crate) address: Option<String>,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// Look at the bundles that arrive.
#[derive(Debug, Args)]
#[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship blob list arrivals")]
pub(crate) struct BlobArgs {
    #[command(subcommand)]
    pub(crate) command: BlobCommand,
}

/// What to find out.
#[derive(Debug, Subcommand)]
pub(crate) enum BlobCommand {
    /// List what an import pipeline's trigger sees in its container, and why it does not import what it does not
    #[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship blob list arrivals
  transship blob list arrivals -o json")]
    List(BlobListArgs),
}

/// Whose container.
#[derive(Debug, Args)]
pub(crate) struct BlobListArgs {
    /// The import pipeline
    #[arg(value_name = "PIPELINE")]
    pub(crate) pipeline: String,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}
