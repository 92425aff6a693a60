//! The `main` of a service: arguments, settings, tracing, runtime, host, exit code.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use transship_model::Stage;
use transship_telemetry::{Metrics, Tracing, TracingSettings, redact};

use crate::host::chain;
use crate::settings::CONFIG_VARIABLE;
use crate::{Exit, Host, HostSettings, Process, SettingsSource, healthcheck, load_checked};

/// How long threads that block, such as the resolver's, may go on at the end.
const LAST_THREADS: Duration = Duration::from_secs(1);

/// The settings of a service.
pub trait ServiceSettings: DeserializeOwned {
    /// What they say about the process.
    fn host(&self) -> &HostSettings;

    /// Every fault that the types do not hold, as key and problem: `("bus.slots", "must not be 0")`.
    fn check(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Run,
    Healthcheck,
    CheckConfig,
    Version,
    Help,
}

/// Runs a service: what `main` returns. `arguments` are those of the command line without the program's name:
/// `[--config FILE] [healthcheck | check-config]`, `--version` or `--help`. `work` builds the service out of its
/// settings and runs it.
pub fn launch<S, W, F, E>(stage: Stage, arguments: impl Iterator<Item = String>, work: W) -> Exit
where
    S: ServiceSettings,
    W: FnOnce(S, Process) -> F,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
{
    let (command, file) = match parse(arguments) {
        Ok(parsed) => parsed,
        Err(problem) => return usage(&format!("{problem}\n\n{}", help(stage))),
    };
    match command {
        Command::Version => println!("{stage} {}", env!("CARGO_PKG_VERSION")),
        Command::Help => println!("{}", help(stage)),
        Command::Run | Command::Healthcheck | Command::CheckConfig => {
            let file = file.or_else(|| std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from));
            let settings: S = match load_checked(&SettingsSource::from_env(file), S::check) {
                Ok(settings) => settings,
                Err(faults) => return usage(&faults.to_string()),
            };
            return match command {
                Command::Run => run(stage, settings, work),
                Command::Healthcheck => ask(settings.host()),
                _ => Exit::Success,
            };
        }
    }
    Exit::Success
}

fn usage(problem: &str) -> Exit {
    // There is no log yet that would redact it.
    eprintln!("error: {}", redact(problem));
    Exit::Usage
}

fn help(stage: Stage) -> String {
    format!(
        "Usage: {stage} [--config FILE] [healthcheck | check-config]\n\n\
         Without a command the service runs until SIGTERM or SIGINT.\n\
         \x20 healthcheck   asks the running service whether it is ready: exit code 0 or 1\n\
         \x20 check-config  reads the settings and reports every fault: exit code 0 or 2\n\n\
         Settings come from FILE (or {CONFIG_VARIABLE}), in TOML, and from variables such as\n\
         TRANSSHIP_HOST__LISTEN for host.listen.\n\
         Exit codes: 0 done, 1 failure, 2 command line or settings, 130 interrupted."
    )
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<(Command, Option<PathBuf>), String> {
    let (mut command, mut file) = (None, None);
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let asked = match argument.as_str() {
            "--config" => {
                file = Some(PathBuf::from(arguments.next().ok_or("--config needs a file")?));
                continue;
            }
            "healthcheck" => Command::Healthcheck,
            "check-config" => Command::CheckConfig,
            "--version" | "-V" => Command::Version,
            "--help" | "-h" => Command::Help,
            _ => match argument.strip_prefix("--config=") {
                Some(path) => {
                    file = Some(PathBuf::from(path));
                    continue;
                }
                None => return Err(format!("unexpected argument {argument:?}")),
            },
        };
        if command.replace(asked).is_some() {
            return Err(format!("{argument:?}: one command at a time"));
        }
    }
    Ok((command.unwrap_or(Command::Run), file))
}

fn ask(settings: &HostSettings) -> Exit {
    match healthcheck(settings) {
        Ok(()) => Exit::Success,
        Err(why) => {
            eprintln!("{}", redact(&chain(&why)));
            Exit::Failure
        }
    }
}

fn run<S, W, F, E>(stage: Stage, settings: S, work: W) -> Exit
where
    S: ServiceSettings,
    W: FnOnce(S, Process) -> F,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
{
    let host = settings.host().clone();
    let service = format!("transship-{stage}");
    let tracing = match TracingSettings::from_env(&service, host.log_format).and_then(Tracing::init) {
        Ok(tracing) => tracing,
        Err(problem) => {
            return usage(&chain(&problem));
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(problem) => {
            tracing::error!("cannot start threads: {problem}");
            return Exit::Failure;
        }
    };
    let exit = runtime.block_on(async {
        let host = Host::bind(stage.name(), host, Metrics::new(stage)).await?;
        host.run(|process| work(settings, process)).await
    });
    // A thread that blocks must not hold up the end.
    runtime.shutdown_timeout(LAST_THREADS);
    let exit = exit.unwrap_or_else(|problem| {
        tracing::error!("{}", chain(&problem));
        Exit::Failure
    });
    tracing.shutdown();
    exit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_small_and_strict() {
        let parse = |line: &str| parse(line.split_whitespace().map(str::to_owned));
        assert_eq!(parse(""), Ok((Command::Run, None)));
        assert_eq!(parse("--config a.toml"), Ok((Command::Run, Some("a.toml".into()))));
        assert_eq!(parse("--config=a.toml healthcheck"), Ok((Command::Healthcheck, Some("a.toml".into()))));
        assert_eq!(parse("check-config"), Ok((Command::CheckConfig, None)));
        assert_eq!(parse("-V"), Ok((Command::Version, None)));
        for bad in ["--config", "--confg x", "run", "healthcheck check-config"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
