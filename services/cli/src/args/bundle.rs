//! `transship bundle …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::help::{EXIT_CODES, TEMPLATE};

/// Look into bundles and OCI archives, without a registry.
#[derive(Debug, Args)]
#[command(help_template = TEMPLATE, after_help = EXIT_CODES, before_help = "\
Examples:
  transship bundle inspect ./out/nightly
  transship bundle list ./out#nightly -o json
  transship bundle verify https://account.blob.core.windows.net/container#nightly --sas-file container.sas")]
pub(crate) struct BundleArgs {
    #[command(subcommand)]
    pub(crate) command: BundleCommand,
}

/// What to do with a bundle.
#[derive(Debug, Subcommand)]
pub(crate) enum BundleCommand {
    /// Show who made a bundle and what it holds
    #[command(help_template = TEMPLATE, after_help = EXIT_CODES, before_help = "\
Examples:
  transship bundle inspect ./out/nightly
  transship bundle inspect ./out#nightly -o json")]
    Inspect(InspectArgs),
    /// List the artifacts of a bundle
    #[command(help_template = TEMPLATE, after_help = EXIT_CODES, before_help = "\
Examples:
  transship bundle list ./out/nightly
  transship bundle list image.tar -o json")]
    List(InspectArgs),
    /// Read all of a bundle, and check every digest, the archive, the table and the bill
    #[command(help_template = TEMPLATE, after_help = EXIT_CODES, before_help = "\
Examples:
  transship bundle verify ./out/nightly
  transship bundle verify https://account.blob.core.windows.net/container#nightly --sas-file container.sas")]
    Verify(InspectArgs),
}

/// Which bundle.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A file, or PLACE#NAME: all parts of NAME in a directory, a file: URL or an Azure container
    #[arg(value_name = "FILE|PLACE#NAME")]
    pub(crate) bundle: String,
    /// A file with the SAS token of PLACE [else: TRANSSHIP_TARGET_SAS, then TRANSSHIP_SOURCE_SAS]
    #[arg(long, value_name = "FILE")]
    pub(crate) sas_file: Option<PathBuf>,
}
