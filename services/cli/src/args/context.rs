//! `transship context …`.

use clap::{Args, Subcommand};

use super::connection::ContextSetArgs;
use super::help::{EXIT_CODES, TEMPLATE};

/// Remember control planes, and which one is in use.
///
/// Contexts are kept in $XDG_CONFIG_HOME/transship/contexts.toml (else ~/.config/transship/contexts.toml). A token
/// is never kept there, only the name of its file.
#[derive(Debug, Args)]
#[command(help_template = TEMPLATE, after_help = EXIT_CODES, before_help = "\
Examples:
  transship context set prod --url https://transship.example --token-file ~/.transship-token \\
      --subscription 0000-prod --group transfers --registry contoso
  transship context use prod
  transship context list")]
pub(crate) struct ContextArgs {
    #[command(subcommand)]
    pub(crate) command: ContextCommand,
}

/// What to do with contexts.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Make a context, or change what is named; the first one is in use at once
    #[command(help_template = TEMPLATE, after_help = EXIT_CODES, before_help = "\
Examples:
  transship context set prod --url https://transship.example --token-file ~/.transship-token \\
      --subscription 0000-prod --group transfers --registry contoso
  transship context set prod --registry fabrikam")]
    Set(ContextSetArgs),
    /// List the contexts
    #[command(help_template = TEMPLATE, after_help = EXIT_CODES, before_help = "\
Examples:
  transship context list
  transship context list -o json")]
    List,
    /// Have commands use a context from now on
    #[command(help_template = TEMPLATE, after_help = EXIT_CODES, before_help = "\
Examples:
  transship context use prod")]
    Use(ContextNameArgs),
    /// Show which context commands use, and what it says
    #[command(help_template = TEMPLATE, after_help = EXIT_CODES, before_help = "\
Examples:
  transship context show
  transship context show prod -o json")]
    Show(ContextShowArgs),
    /// Forget a context; its token's file is left alone
    #[command(help_template = TEMPLATE, after_help = EXIT_CODES, before_help = "\
Examples:
  transship context delete prod")]
    Delete(ContextNameArgs),
}

/// A context.
#[derive(Debug, Args)]
pub(crate) struct ContextNameArgs {
    /// The context's name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

/// A context, or the one that is in use.
#[derive(Debug, Args)]
pub(crate) struct ContextShowArgs {
    /// The context's name [else: the one that commands use]
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
}
