//! PostgreSQL starts, answers, comes back after a kill, and leaves no process behind.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use transship_rig::Postgres;

/// Processes end in their own time: asks until it is so, for 15 seconds at most.
fn ends(pid: u32) -> bool {
    let process = format!("/proc/{pid}");
    let deadline = Instant::now() + Duration::from_secs(15);
    while Path::new(&process).exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    !Path::new(&process).exists()
}

#[tokio::test]
async fn postgresql_makes_databases_comes_back_after_a_kill_and_leaves_nothing() -> Result<()> {
    let server = Postgres::start().await?;
    let (first, second) = (server.database().await?, server.database().await?);
    assert_ne!(first, second);

    let killed = server.pid().context("it runs")?;
    server.kill().await?;
    assert!(ends(killed) && server.pid().is_none());
    server.database().await.expect_err("nobody answers");
    server.start_again().await?;
    server.database().await?;

    let pid = server.pid().context("it runs")?;
    let folder = std::fs::read_link(format!("/proc/{pid}/cwd"))?;
    assert!(folder.ends_with("data") && folder.exists(), "{}", folder.display());
    drop(server);
    assert!(ends(pid));
    assert!(!folder.exists());
    Ok(())
}
