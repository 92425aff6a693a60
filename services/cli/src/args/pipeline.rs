//! `transship pipeline …`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::connection::ConnectionArgs;
use super::help::{CONTROL, TEMPLATE};

/// Make and look at pipelines: long-lived settings of a registry's transfers.
#[derive(Debug, Args)]
#[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship pipeline export create nightly \\
      --container https://ACCOUNT.blob.core.windows.net/outbox \\
      --secret-uri https://VAULT.vault.azure.net/secrets/outbox-sas
  transship pipeline import list")]
pub(crate) struct PipelineArgs {
    #[command(subcommand)]
    pub(crate) direction: PipelineDirection,
}

/// Which pipelines.
#[derive(Debug, Subcommand)]
pub(crate) enum PipelineDirection {
    /// Pipelines from a registry to a container
    #[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship pipeline export create nightly \\
      --container https://ACCOUNT.blob.core.windows.net/outbox \\
      --secret-uri https://VAULT.vault.azure.net/secrets/outbox-sas
  transship pipeline export show nightly")]
    Export {
        #[command(subcommand)]
        command: PipelineCommand<ExportPipelineArgs>,
    },
    /// Pipelines from a container to a registry
    #[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship pipeline import create arrivals \\
      --container https://OTHER.blob.core.windows.net/inbox \\
      --secret-uri https://VAULT.vault.azure.net/secrets/inbox-sas
  transship pipeline import list -o json")]
    Import {
        #[command(subcommand)]
        command: PipelineCommand<ImportPipelineArgs>,
    },
}

/// What to do with pipelines.
#[derive(Debug, Subcommand)]
pub(crate) enum PipelineCommand<C: Args> {
    Create(C),
    /// List the pipelines of a registry, oldest first
    #[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship pipeline export list
  transship pipeline import list -o json")]
    List(ListArgs),
    /// Show a pipeline
    #[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship pipeline export show nightly
  transship pipeline import show arrivals -o json")]
    Show(NameArgs),
    /// Delete a pipeline; its runs stay
    #[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship pipeline export delete nightly")]
    Delete(NameArgs),
}

/// A resource of the control plane.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// A list of the control plane.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// How a storage account is accessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AccessMode {
    /// With a SAS token that a Key Vault secret holds.
    SasToken,
    /// As the pipeline's identity.
    ManagedIdentity,
}

impl AccessMode {
    /// As the control plane says it.
    pub(crate) fn wire(self) -> &'static str {
        match self {
            Self::SasToken => "SasToken",
            Self::ManagedIdentity => "ManagedIdentity",
        }
    }
}

/// A container, and how a pipeline gets into it.
#[derive(Debug, Args)]
pub(crate) struct ContainerArgs {
    /// The container of bundles: https://ACCOUNT.blob.core.windows.net/CONTAINER [else: of the stack of `make up`]
    #[arg(long, value_name = "URL", alias = "storage-container-uri")]
    pub(crate) container: Option<String>,
    /// The Key Vault secret that holds the container's SAS token: https://VAULT.vault.azure.net/secrets/NAME
    #[arg(long, value_name = "URL")]
    pub(crate) secret_uri: Option<String>,
    /// How the container is accessed
    #[arg(long, value_enum, value_name = "MODE", default_value = "sas-token")]
    pub(crate) storage_access_mode: AccessMode,
    /// The resource id of the identity that reads the secret or the container [else: one of the pipeline's own]
    #[arg(long, value_name = "ID")]
    pub(crate) assign_identity: Option<String>,
}

/// Make an export pipeline, or replace it.
#[derive(Debug, Args)]
#[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship pipeline export create nightly \\
      --container https://ACCOUNT.blob.core.windows.net/outbox \\
      --secret-uri https://VAULT.vault.azure.net/secrets/outbox-sas
  transship pipeline export create nightly --storage-access-mode managed-identity \\
      --container https://ACCOUNT.blob.core.windows.net/outbox --overwrite-blobs
  transship pipeline export create mirror --replicate 'team/**:v*' --interval 60 \\
      --container https://ACCOUNT.blob.core.windows.net/outbox \\
      --secret-uri https://VAULT.vault.azure.net/secrets/outbox-sas")]
pub(crate) struct ExportPipelineArgs {
    /// The pipeline's name: 5 to 50 letters and digits
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) container: ContainerArgs,
    /// Replace blobs of the same name
    #[arg(long)]
    pub(crate) overwrite_blobs: bool,
    /// Leave out artifacts that fail, and carry the rest
    #[arg(long)]
    pub(crate) continue_on_errors: bool,
    /// Export tags that match a glob of this repository by itself as they appear and move: REPOSITORY[:TAGS]
    /// [repeatable]
    #[arg(long, value_name = "REPOSITORY[:TAGS]")]
    pub(crate) replicate: Vec<String>,
    /// How often the registry is asked for what --replicate names, in seconds, at least 10
    #[arg(long, value_name = "SECONDS", requires = "replicate", value_parser = clap::value_parser!(u32).range(10..))]
    pub(crate) interval: Option<u32>,
    /// A JSON file with the whole schedule, for what --replicate cannot say
    #[arg(long, value_name = "FILE", conflicts_with = "replicate")]
    pub(crate) schedule_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// Make an import pipeline, or replace it.
#[derive(Debug, Args)]
#[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship pipeline import create arrivals \\
      --container https://OTHER.blob.core.windows.net/inbox \\
      --secret-uri https://VAULT.vault.azure.net/secrets/inbox-sas
  transship pipeline import create arrivals --storage-access-mode managed-identity \\
      --container https://OTHER.blob.core.windows.net/inbox --delete-source-blob --no-source-trigger")]
pub(crate) struct ImportPipelineArgs {
    /// The pipeline's name: 5 to 50 letters and digits
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) container: ContainerArgs,
    /// Move tags that point to another digest
    #[arg(long)]
    pub(crate) overwrite_tags: bool,
    /// Delete each bundle once all of it is imported
    #[arg(long)]
    pub(crate) delete_source_blob: bool,
    /// Leave out artifacts that fail, and import the rest
    #[arg(long)]
    pub(crate) continue_on_errors: bool,
    /// Import only what runs ask for, not each bundle that arrives
    #[arg(long)]
    pub(crate) no_source_trigger: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}
