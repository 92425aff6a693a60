//! The real binary, real registries, and artifacts to move.
#![allow(dead_code, unused_imports, reason = "each test file uses its own part of this")]

mod artifacts;
mod fake;
mod world;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
pub(crate) use artifacts::{Pusher, content, push_zoo};
pub(crate) use fake::{Fake, Heard, TOKEN};
use tempfile::TempDir;
use tokio::process::{Child, Command};
pub(crate) use world::{REGISTRY, World};

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a command left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The result as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// The same, where the command succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }

    /// The lines of standard error that are errors, causes and hints.
    pub(crate) fn errors(&self) -> String {
        let is_error = |line: &&str| {
            ["error: ", "  caused by: ", "hint: ", "stopped: "].iter().any(|start| line.starts_with(start))
        };
        self.stderr.lines().filter(is_error).map(|line| format!("{line}\n")).collect()
    }
}

/// A home of its own, in which the binary runs with a clean environment.
pub(crate) struct Home {
    pub(crate) folder: TempDir,
    pub(crate) environment: Vec<(String, String)>,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), environment: Vec::new() }
    }

    /// Sets a variable for every command.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a directory and returns its path as text.
    pub(crate) fn directory(&self, name: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("make a directory");
        path.display().to_string()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("write a file");
        path.display().to_string()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_transship"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs the binary to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        end(self.start(arguments)).await
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().expect("start the binary")
    }
}

/// Waits for the end of a command.
pub(crate) async fn end(child: Child) -> Ended {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.expect("the command ends in time").expect("the command runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Ended {
        // A signal has no code.
        code: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// Runs another program, and returns its standard output.
pub(crate) async fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let running = Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, running).await.context("it takes too long")??;
    if !output.status.success() {
        bail!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Asks `probe` until it says yes, or the time is up, or the command ended.
pub(crate) async fn until(child: &mut Child, what: &str, mut probe: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !probe().await {
        let ended = child.try_wait().expect("ask for the command's end");
        assert!(ended.is_none(), "the command ended ({ended:?}) before {what}");
        assert!(Instant::now() < deadline, "waiting for {what} took too long");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Sends a signal to a command.
pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
    rustix::process::kill_process(pid.expect("the command runs"), signal).expect("send the signal");
}

/// All files below a directory that are staged blocks.
pub(crate) fn staged_blocks(directory: &Path) -> usize {
    let blobs = std::fs::read_dir(directory.join(".transship/blobs")).into_iter().flatten().flatten();
    blobs.map(|blob| std::fs::read_dir(blob.path().join("staged")).into_iter().flatten().count()).sum()
}

/// The files of a directory that are not transship's own.
pub(crate) fn bundles(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name != ".transship");
    names.sort();
    names
}
