//! The binary `transship`.

use std::process::ExitCode;

use clap::Parser;
use transship_cli::{Cli, run};

#[tokio::main]
async fn main() -> ExitCode {
    ExitCode::from(run(Cli::parse()).await.code())
}
