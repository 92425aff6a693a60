//! Failpoints as a process has them: what `FAILPOINTS` says takes effect, and `FAILPOINTS_KILL_AT` has the process
//! die like by `kill -9`, between any two effects. Only in builds with the feature `failpoints`.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The environment variable: names of failpoints, separated by commas; `name:3` dies at the third time.
const KILL_AT: &str = "FAILPOINTS_KILL_AT";

/// Sets up the failpoints of this process, for as long as the value lives.
///
/// # Panics
/// Where a failpoint cannot be configured: only a test that is wrong does that.
pub fn failpoints() -> fail::FailScenario<'static> {
    let scenario = fail::FailScenario::setup();
    for entry in std::env::var(KILL_AT).unwrap_or_default().split(',').filter(|entry| !entry.is_empty()) {
        let (name, times) = entry.split_once(':').unwrap_or((entry, "1"));
        let left = AtomicU64::new(times.parse().expect("a number of times"));
        let die = move || {
            if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                die();
            }
        };
        fail::cfg_callback(name, die).expect("a failpoint can be given a callback");
    }
    scenario
}

/// Ends this process with SIGKILL: no destructor, no flush, no goodbye to the broker.
fn die() {
    let _ended = Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
    std::thread::sleep(Duration::from_secs(60));
}
