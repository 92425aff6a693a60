//! `transship route …`.

use clap::{Args, Subcommand};

use super::connection::ConnectionArgs;
use super::help::{CONTROL, TEMPLATE};
use super::pipeline::{AccessMode, ListArgs, NameArgs};

/// Make and look at routes: where bundles go after an export.
#[derive(Debug, Args)]
#[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship route create onward --from https://ACCOUNT.blob.core.windows.net/outbox \\
      --to https://OTHER.blob.core.windows.net/inbox --import-pipeline arrivals
  transship route list")]
pub(crate) struct RouteArgs {
    #[command(subcommand)]
    pub(crate) command: RouteCommand,
}

/// What to do with routes.
#[derive(Debug, Subcommand)]
pub(crate) enum RouteCommand {
    /// Make a route, or replace it
    #[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship route create onward --name-pattern 'prod-*' \\
      --from https://ACCOUNT.blob.core.windows.net/outbox \\
      --to https://OTHER.blob.core.windows.net/inbox \\
      --secret-uri https://VAULT.vault.azure.net/secrets/inbox-sas --import-pipeline arrivals")]
    Create(RouteCreateArgs),
    /// List the routes of a registry, oldest first
    #[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship route list
  transship route list -o json")]
    List(ListArgs),
    /// Show a route
    #[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship route show onward")]
    Show(NameArgs),
    /// Delete a route; what is on its way arrives
    #[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship route delete onward")]
    Delete(NameArgs),
}

/// A route.
#[derive(Debug, Args)]
pub(crate) struct RouteCreateArgs {
    /// The route's name: 5 to 50 letters and digits
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The container that bundles are exported to
    #[arg(long, value_name = "URL")]
    pub(crate) from: String,
    /// The container that they are copied to
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
    /// The names of the bundles that take this route; * stands for any run of characters
    #[arg(long, value_name = "PATTERN", default_value = "*")]
    pub(crate) name_pattern: String,
    /// The Key Vault secret that holds the target container's SAS token
    #[arg(long, value_name = "URL")]
    pub(crate) secret_uri: Option<String>,
    /// How the target container is accessed
    #[arg(long, value_enum, value_name = "MODE", default_value = "sas-token")]
    pub(crate) storage_access_mode: AccessMode,
    /// Replace a blob of another execution in the target container
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// The import pipeline to start: a resource id, a name of this registry, or one of the importer's configuration
    #[arg(long, value_name = "PIPELINE")]
    pub(crate) import_pipeline: Option<String>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}
