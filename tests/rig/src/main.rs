//! `transship-rig run -- COMMAND…`: runs a command with every server up, and ends them afterwards.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use transship_rig::{Endpoints, Servers};

const USAGE: &str = "usage: transship-rig run -- COMMAND [ARGUMENT]…
Starts a RabbitMQ, two Azurite accounts and two registries on free loopback ports, sets TRANSSHIP_RIG to the
path of a file that describes them, runs COMMAND, ends the servers, and exits with COMMAND's code.";

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["run", "--", program, rest @ ..] => run(program, rest).await,
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            eprintln!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    }
}

async fn run(program: &str, arguments: &[&str]) -> Result<ExitCode> {
    let mut signals = Signals::new()?;
    // A signal drops the servers that are half started.
    let servers = tokio::select! {
        servers = Servers::start() => servers?,
        code = signals.next() => return Ok(ExitCode::from(code)),
    };
    // In a folder of a server: it is removed even where we are killed.
    let file = servers.rabbitmq.folder().context("the broker is private")?.join("endpoints.json");
    servers.endpoints().write(&file)?;
    let mut child = Command::new(program)
        .args(arguments)
        .env(Endpoints::VARIABLE, &file)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("run {program}"))?;
    let code = tokio::select! {
        status = child.wait() => exit_code(status?),
        code = signals.next() => {
            end(&mut child).await?;
            code
        }
    };
    drop(servers);
    Ok(ExitCode::from(code))
}

/// SIGTERM, and SIGKILL after ten seconds.
async fn end(child: &mut Child) -> Result<()> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended by the Ctrl-C that reached both of us.
        let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    if tokio::time::timeout(Duration::from_secs(10), child.wait()).await.is_err() {
        child.kill().await?;
    }
    Ok(())
}

/// As a shell reports it: 128 and the signal's number where a signal ended it.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// The signals that ask a command to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one and returns the exit code that belongs to it.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
            _ = self.hang_up.recv() => 129,
        }
    }
}
