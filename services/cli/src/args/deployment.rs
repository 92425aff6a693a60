//! `transship deployment …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::connection::ConnectionArgs;
use super::help::{CONTROL, TEMPLATE};
use super::pipeline::NameArgs;

/// Deploy the ARM templates that Azure Container Registry's pipelines are made with.
#[derive(Debug, Args)]
#[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship deployment create exportPipeline --template-file azuredeploy.json \\
      --parameters azuredeploy.parameters.json --parameters registryName=contoso
  transship deployment show exportPipeline -o json")]
pub(crate) struct DeploymentArgs {
    #[command(subcommand)]
    pub(crate) command: DeploymentCommand,
}

/// What to do with deployments.
#[derive(Debug, Subcommand)]
pub(crate) enum DeploymentCommand {
    /// Deploy a template
    #[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship deployment create exportPipeline --template-file azuredeploy.json \\
      --parameters azuredeploy.parameters.json --parameters registryName=contoso
  transship deployment create run1 --template-file run.json \\
      --parameters 'artifacts=[\"team/app:1.4.2\"]' --parameters targetName=nightly")]
    Create(DeploymentCreateArgs),
    /// Show a deployment
    #[command(help_template = TEMPLATE, after_help = CONTROL, before_help = "\
Examples:
  transship deployment show exportPipeline -o json")]
    Show(NameArgs),
}

/// A deployment.
#[derive(Debug, Args)]
pub(crate) struct DeploymentCreateArgs {
    /// The deployment's name [else: the name of the template's file]
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The template, in JSON
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) template_file: PathBuf,
    /// A parameter, or a file with some (@FILE or FILE.json); what is said later wins [repeatable]
    #[arg(short = 'p', long, value_name = "NAME=VALUE|FILE")]
    pub(crate) parameters: Vec<String>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}
