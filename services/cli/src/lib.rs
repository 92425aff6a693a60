//! **Owns** the command line: arguments, exit codes, errors with hints, progress, results; and the composition of
//! the stages in one process, over the in-process bus.
//! **May know** every room, and the stages as libraries.
//! **Never knows** how a stage does its work.

mod args;
mod bundle;
mod commands;
mod conclusion;
mod control;
mod endpoints;
mod exit;
mod files;
mod hints;
mod identity;
mod interrupt;
mod ledger;
mod outspoken;
mod place;
mod plan;
mod process;
mod references;
mod registry;
mod report;
mod resolve;
mod rows;
mod sas;
mod screen;
mod split;
mod staging;
mod view;
mod warnings;
mod watch;

pub use args::Cli;
pub use exit::{Exit, Problem};

use args::{Command, RunArgs, RunCommand};
use screen::Screen;
use transship_telemetry::{LogFormat, Tracing, TracingSettings};

/// Runs the command, and says how it ended. Everything that a person should read was written by then.
pub async fn run(cli: Cli) -> Exit {
    let screen = Screen::new(cli.global.quiet);
    let result = match logging(&cli, &screen) {
        Ok(_tracing) => dispatch(&cli, &screen).await,
        Err(problem) => Err(problem),
    };
    result.unwrap_or_else(|problem| {
        screen.error(&problem);
        problem.exit
    })
}

async fn dispatch(cli: &Cli, screen: &Screen) -> Result<Exit, Problem> {
    let format = cli.global.output;
    match &cli.command {
        Command::Bundle(args) => commands::bundle(args, format, screen).await,
        Command::Version(_) => {
            commands::version(format, screen);
            Ok(Exit::Done)
        }
        Command::Completion(args) => {
            commands::completion(args, screen);
            Ok(Exit::Done)
        }
        Command::Export(args) => Box::pin(commands::export(args, format, screen)).await,
        Command::Import(args) => Box::pin(commands::import(args, format, screen)).await,
        Command::Transfer(args) => Box::pin(commands::transfer(args, format, screen)).await,
        Command::Run(RunArgs { command: RunCommand::Export(args) }) => {
            Box::pin(commands::run_export(args, format, screen)).await
        }
        Command::Run(RunArgs { command }) => Box::pin(commands::runs(command, format, screen)).await,
        Command::Pipeline(args) => Box::pin(commands::pipeline(args, format, screen)).await,
        Command::Route(args) => Box::pin(commands::route(args, format, screen)).await,
        Command::Artifact(args) => Box::pin(commands::artifact(args, format, screen)).await,
        Command::Repository(args) => Box::pin(commands::repository(args, format, screen)).await,
        Command::Blob(args) => Box::pin(commands::blob(args, format, screen)).await,
        Command::Deployment(args) => Box::pin(commands::deployment(args, format, screen)).await,
        Command::Doctor(args) => Box::pin(commands::doctor(args, format, screen)).await,
        Command::Context(args) => commands::context(args, format, screen),
    }
}

/// Log lines where they are asked for; else only what the stages warn of. Traces where a collector is named, and
/// for a run, whose services go on with the command's trace.
fn logging(cli: &Cli, screen: &Screen) -> Result<Option<Tracing>, Problem> {
    let wrong =
        |error: transship_telemetry::TracingError| Problem::usage("logs cannot be set up").caused_by(&error);
    let debug = cli.global.debug;
    let mut settings = TracingSettings::from_env("transship", LogFormat::Text).map_err(wrong)?;
    let is_run = matches!(&cli.command, Command::Run(RunArgs { command: RunCommand::Export(_) }));
    if settings.filter.is_none() && !debug && settings.otlp_endpoint.is_none() && !is_run {
        warnings::show_on(screen);
        return Ok(None);
    }
    let default = if debug { "info,transship=debug" } else { "off" };
    settings.filter.get_or_insert_with(|| default.to_owned());
    Tracing::init(settings).map(Some).map_err(wrong)
}
