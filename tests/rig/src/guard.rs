//! One server process on a leash: it ends when its value is dropped, and also when this process dies.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The shell script that holds the server; it is passed to `sh -c`, so it needs no file.
const SCRIPT: &str = include_str!("guard.sh");

/// How long a server may take to answer for the first time, on a machine that is busy compiling.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// A graceful stop takes at most this long: the script's 20 seconds and the kill after them.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);

/// What to run, and where its files are.
pub(crate) struct Launch<'a> {
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// The whole environment besides `PATH` and `LANG`; nothing is inherited.
    pub(crate) environment: Vec<(String, String)>,
    /// Standard output and standard error of the server are appended here.
    pub(crate) log: &'a Path,
    /// Removed when this process dies without dropping the guard.
    pub(crate) folder: Option<&'a Path>,
}

/// How a server is to end.
#[derive(Clone, Copy)]
pub(crate) enum Order {
    /// SIGTERM, and SIGKILL after 20 seconds.
    Stop,
    /// SIGKILL.
    Kill,
}

/// A running server. Dropping it kills the server and waits for its end.
pub(crate) struct Guard {
    shell: Child,
    leash: Option<ChildStdin>,
    pid: u32,
    log: PathBuf,
}

impl Guard {
    /// Starts the server; whether it works is for [`Guard::ready`] to find out.
    pub(crate) fn start(launch: Launch<'_>) -> Result<Self> {
        let program = launch.command.first().context("an empty command")?.clone();
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "guard"])
            .arg(launch.log)
            .arg(launch.folder.unwrap_or(Path::new("")))
            .args(&launch.command)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LANG", "C.UTF-8")
            .envs(launch.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Whatever ends our process group must not end the guard before it has done its work.
            .process_group(0)
            .spawn()
            .with_context(|| format!("start a shell for {program}"))?;
        let leash = shell.stdin.take();
        let stdout = shell.stdout.take().context("the guard's output is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("read the server's process id")?;
        let pid = line.trim().parse().with_context(|| format!("{program} did not start: {line:?}"))?;
        Ok(Self { shell, leash, pid, log: launch.log.to_owned() })
    }

    /// The server's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Asks `probe` until it says yes; fails where the server ended, or after 90 seconds.
    pub(crate) async fn ready<P, F>(&mut self, name: &str, probe: P) -> Result<()>
    where
        P: Fn() -> F,
        F: Future<Output = bool>,
    {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let answered = probe().await;
            // In this order: an answer may have come from another process that holds the port.
            if let Some(status) = self.shell.try_wait()? {
                bail!("{name} ended with {status} before it answered:\n{}", self.log_tail());
            }
            if answered {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{name} did not answer within {READY_WITHIN:?}:\n{}", self.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends the server and waits until it is gone.
    pub(crate) async fn end(mut self, order: Order) -> Result<()> {
        let line = match order {
            Order::Stop => "stop\n",
            Order::Kill => "kill\n",
        };
        if let Some(leash) = self.leash.as_mut() {
            // A server that ended by itself took its guard along: the pipe is broken, the aim reached.
            let _gone = leash.write_all(line.as_bytes());
        }
        let deadline = Instant::now() + STOPPED_WITHIN;
        while self.shell.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("process {} did not end within {STOPPED_WITHIN:?}", self.pid);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// The last lines of the server's output, for an error message.
    fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.leash.take());
        // The guard's own end comes after the server's; waiting here keeps ports and files from the next test.
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(self.shell.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Starts again where the reason of the failure was a port that someone else took meanwhile.
///
/// Ports are chosen before the server binds them, so the race cannot be closed; three attempts make it rare.
pub(crate) async fn retry_taken_port<T, S, F>(start: S) -> Result<T>
where
    S: Fn() -> F,
    F: Future<Output = Result<T>>,
{
    for _ in 0..2 {
        match start().await {
            Err(error) if names_a_taken_port(&format!("{error:#}")) => {}
            other => return other,
        }
    }
    start().await
}

/// The words of Erlang, Go and Node.js for EADDRINUSE.
fn names_a_taken_port(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["eaddrinuse", "address already in use", "address_in_use"].iter().any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::free_port;
    use std::cell::Cell;

    /// Each server, told to use a port that this test holds, says so in words that are recognised.
    #[tokio::test]
    async fn a_taken_port_is_recognised_and_tried_again() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let attempts = Cell::new(0);
        let started = retry_taken_port(|| async {
            attempts.set(attempts.get() + 1);
            let port = free_port();
            let held = std::net::TcpListener::bind(("127.0.0.1", port))?;
            let script = "require('net').createServer().listen(Number(process.argv[1]), '127.0.0.1')";
            let mut guard = Guard::start(Launch {
                command: ["node", "-e", script, &port.to_string()].map(str::to_owned).into(),
                environment: Vec::new(),
                log: &folder.path().join("log"),
                folder: None,
            })?;
            let ready = guard.ready("node", || async { false }).await;
            drop(held);
            ready
        });
        let error = started.await.expect_err("the port is taken each time");
        assert!(format!("{error:#}").contains("EADDRINUSE"), "{error:#}");
        assert_eq!(attempts.get(), 3);
        Ok(())
    }

    #[test]
    fn what_erlang_go_and_epmd_say_of_a_taken_port_is_recognised() {
        for text in [
            "Failed to start listener {tcp,{127,0,0,1},5672}: eaddrinuse",
            "listen tcp 127.0.0.1:5000: bind: address already in use",
        ] {
            assert!(names_a_taken_port(text), "{text}");
        }
        assert!(!names_a_taken_port("permission denied"));
    }
}
