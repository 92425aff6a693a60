//! The command line: what may be said, and how `--help` explains it. Nothing here does anything.

mod bundle;
mod connection;
mod context;
mod deployment;
mod doctor;
mod export;
mod help;
mod import;
mod lookup;
mod pipeline;
mod route;
mod run;
mod shared;
mod transfer;

pub(crate) use bundle::{BundleArgs, BundleCommand, InspectArgs};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
pub(crate) use connection::{ConnectionArgs, ContextSetArgs};
pub(crate) use context::{ContextArgs, ContextCommand};
pub(crate) use deployment::{DeploymentArgs, DeploymentCommand, DeploymentCreateArgs};
pub(crate) use doctor::DoctorArgs;
pub(crate) use export::ExportArgs;
pub(crate) use import::ImportArgs;
pub(crate) use lookup::{
    ArtifactArgs, ArtifactCommand, BlobArgs, BlobCommand, RepositoryArgs, RepositoryCommand,
    RepositoryListArgs,
};
pub(crate) use pipeline::{
    AccessMode, ContainerArgs, ExportPipelineArgs, ImportPipelineArgs, ListArgs, NameArgs, PipelineArgs,
    PipelineCommand, PipelineDirection,
};
pub(crate) use route::{RouteArgs, RouteCommand, RouteCreateArgs};
pub(crate) use run::{RunArgs, RunCleanArgs, RunCommand, RunCreateArgs, RunExportArgs, RunListArgs};
pub(crate) use shared::{ExportOptionArgs, ImportOptionArgs, ReachArgs, ReferenceArgs};
pub(crate) use transfer::TransferArgs;

use help::{EXIT_CODES, TEMPLATE};

/// Move OCI artifacts from one registry to another through blob storage.
#[derive(Debug, Parser)]
#[command(name = "transship", version, help_template = TEMPLATE, after_help = EXIT_CODES)]
#[command(
    disable_help_subcommand = true,
    before_help = "\
Examples:
  transship transfer --from-registry dev.example --to-registry prod.example team/app:1.4.2
  transship export --registry dev.example --to ./out --blob nightly team/app:1.4.2 team/chart:0.9.0
  transship bundle verify ./out/nightly
  transship import --registry prod.example --from ./out --blob nightly
  transship context set prod --url https://transship.example --token-file token --registry reg
  transship run create nightly1 --export-pipeline nightly --blob b1 --artifact team/app:1.4.2

"
)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct GlobalArgs {
    /// How the result is written to standard output
    #[arg(
        short,
        long,
        value_enum,
        default_value_t,
        global = true,
        value_name = "FORMAT",
        help_heading = "Global options"
    )]
    pub(crate) output: OutputFormat,
    /// Show no progress and no notes; errors are still shown
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub(crate) quiet: bool,
    /// Log what happens to standard error, with times; RUST_LOG chooses more finely
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) debug: bool,
}

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For a person.
    #[default]
    Table,
    /// For a program: one JSON document.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Export(ExportArgs),
    Import(ImportArgs),
    Transfer(TransferArgs),
    Bundle(BundleArgs),
    Pipeline(PipelineArgs),
    Run(RunArgs),
    Route(RouteArgs),
    Artifact(ArtifactArgs),
    Repository(RepositoryArgs),
    Blob(BlobArgs),
    Deployment(DeploymentArgs),
    Doctor(DoctorArgs),
    Context(ContextArgs),
    Version(VersionArgs),
    Completion(CompletionArgs),
}

/// Show the version of transship and of the formats that it reads and writes.
#[derive(Debug, Args)]
#[command(help_template = TEMPLATE, after_help = EXIT_CODES, before_help = "\
Examples:
  transship version
  transship version -o json")]
pub(crate) struct VersionArgs {}

/// Write the completions for a shell to standard output.
#[derive(Debug, Args)]
#[command(help_template = TEMPLATE, after_help = EXIT_CODES, before_help = "\
Examples:
  transship completion bash > ~/.local/share/bash-completion/completions/transship
  transship completion zsh > ~/.zfunc/_transship")]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_leads_with_examples_and_ends_with_exit_codes() {
        fn check(command: &mut clap::Command) {
            let help = command.render_long_help().to_string();
            let name = command.get_name().to_owned();
            let at =
                |text: &str| help.find(text).unwrap_or_else(|| panic!("{name} has no {text:?}:\n{help}"));
            assert!(
                at("Examples:\n  transship ") < at("Usage:") && at("Usage:") < at("Exit codes:"),
                "{help}"
            );
            command.get_subcommands_mut().for_each(check);
        }
        check(&mut Cli::command());
    }

    #[test]
    fn no_option_takes_a_secret_as_its_value() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments() {
                let name = argument.get_id().as_str();
                let secret =
                    ["sas", "password", "token", "secret", "key"].iter().any(|word| name.contains(word));
                // A URI of a vault names a secret, and is none.
                let is_name = name.ends_with("_file") || name.ends_with("_uri");
                assert!(!secret || is_name, "{} {name}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
