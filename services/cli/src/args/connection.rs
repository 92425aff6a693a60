//! Which control plane, and which of its registries.

use std::path::PathBuf;

use clap::Args;

/// Which control plane is asked.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Control plane")]
pub(crate) struct ConnectionArgs {
    /// The context to use [else: TRANSSHIP_CONTEXT, the one that is in use, the stack of `make up`]
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The registry's name in the control plane [else: of the context]
    #[arg(long, value_name = "NAME")]
    pub(crate) registry: Option<String>,
    /// The resource group [else: of the context]
    #[arg(short = 'g', long = "group", alias = "resource-group", value_name = "NAME")]
    pub(crate) group: Option<String>,
    /// The subscription [else: of the context]
    #[arg(long, value_name = "ID")]
    pub(crate) subscription: Option<String>,
}

/// What a context says.
#[derive(Debug, Clone, Args)]
pub(crate) struct ContextSetArgs {
    /// The context's name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The control plane: https://HOST[:PORT], or http:// on this machine
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// A file with the bearer token; it is read at each command, and never copied [else: TRANSSHIP_TOKEN]
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// A file with the certificate authorities of the control plane (PEM), beside those of the system
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The subscription
    #[arg(long, value_name = "ID")]
    pub(crate) subscription: Option<String>,
    /// The resource group
    #[arg(short = 'g', long = "group", alias = "resource-group", value_name = "NAME")]
    pub(crate) group: Option<String>,
    /// The registry that pipelines and runs belong to
    #[arg(long, value_name = "NAME")]
    pub(crate) registry: Option<String>,
}
