//! `transship version`.

use serde::Serialize;

use crate::args::OutputFormat;
use crate::report::{SCHEMA_VERSION, json};
use crate::screen::Screen;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    schema_version: u32,
    name: &'static str,
    version: &'static str,
    bundle_version: u32,
    message_version: u16,
    os: &'static str,
    architecture: &'static str,
}

/// Shows the version.
pub(crate) fn version(format: OutputFormat, screen: &Screen) {
    let version = Version {
        schema_version: SCHEMA_VERSION,
        name: "transship",
        version: env!("CARGO_PKG_VERSION"),
        bundle_version: transship_bundle::TABLE_VERSION,
        message_version: transship_messages::VERSION,
        os: std::env::consts::OS,
        architecture: std::env::consts::ARCH,
    };
    screen.data(&match format {
        OutputFormat::Json => json(&version),
        OutputFormat::Table => format!(
            "transship {} ({} {}; bundles of version {}, messages of version {})\n",
            version.version,
            version.os,
            version.architecture,
            version.bundle_version,
            version.message_version
        ),
    });
}
