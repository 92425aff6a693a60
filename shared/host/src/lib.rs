//! **Owns** a process: its settings, signals, drain, the endpoints for health, readiness and metrics, and its
//! exit code.
//! **May know** the telemetry of the process, files, environment variables and HTTP/1.1.
//! **Never knows** what the process works on: the settings of a service are its own.

mod exit;
mod healthcheck;
mod host;
mod launch;
mod readiness;
mod server;
mod settings;
mod signals;

pub use exit::Exit;
pub use healthcheck::{HealthcheckError, healthcheck};
pub use host::{Host, HostError, HostSettings, Process, write_whole};
pub use launch::{ServiceSettings, launch};
pub use readiness::Readiness;
pub use settings::{Fault, SettingsError, SettingsSource, load, load_checked};
