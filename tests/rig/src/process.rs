//! Any program on the same leash as the servers: a service of the product, for example.

use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result};

use crate::guard::{Guard, Launch, Order};

/// A running program. Dropping it kills the program, and so does the end of this process.
pub struct Process {
    guard: Mutex<Option<Guard>>,
    pid: u32,
}

impl Process {
    /// Starts `command` (program and arguments) with `environment` besides `PATH`; what it prints is appended to `log`.
    pub fn start(command: Vec<String>, environment: Vec<(String, String)>, log: &Path) -> Result<Self> {
        let guard = Guard::start(Launch { command, environment, log, folder: None })?;
        Ok(Self { pid: guard.pid(), guard: Mutex::new(Some(guard)) })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        Path::new("/proc").join(self.pid.to_string()).exists()
    }

    /// Ends it with SIGTERM, after 20 seconds with SIGKILL, and waits for that.
    pub async fn stop(&self) -> Result<()> {
        self.end(Order::Stop).await
    }

    /// Ends it with SIGKILL, and waits for that.
    pub async fn kill(&self) -> Result<()> {
        self.end(Order::Kill).await
    }

    async fn end(&self, order: Order) -> Result<()> {
        let guard = self.guard.lock().ok().and_then(|mut guard| guard.take());
        guard.context("the process was ended before")?.end(order).await
    }
}
