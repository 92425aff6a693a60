//! The whole path on this machine: `demo` shows it once, `up` keeps it running, `bench` measures it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use transship_tests::stack::{Options, Stack};
use transship_tests::{bench, compare, zoo};

const USAGE: &str = "Usage: transship-local demo | up FILE | bench FILE\n\n  \
    demo        push artifacts of many kinds, move them through all services, compare byte for byte\n  \
    up FILE     keep servers and services running until SIGTERM; FILE is given their addresses\n  \
    bench FILE  measure against skopeo, tar and the Azure SDK for Python; FILE is given the table";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let work = async {
        match arguments[..] {
            ["demo"] => demo().await,
            ["up", file] => up(Path::new(file)).await,
            ["bench", file] => bench::run(Path::new(file)).await,
            _ => bail!("{USAGE}"),
        }
    };
    let ended = tokio::select! {
        ended = work => ended,
        () = interrupted() => Err(anyhow::anyhow!("interrupted; everything that was started ends with this process")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:?}");
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C. SIGTERM is `up`'s own affair, and ends the others at once: what they started is on a leash.
async fn interrupted() {
    // Where signals cannot be received, nothing interrupts.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// One row of the demo's table.
struct Row {
    artifact: String,
    kind: &'static str,
    bytes: u64,
    moved: u64,
    skipped: u64,
    seconds: f64,
}

async fn demo() -> Result<()> {
    let began = Instant::now();
    eprintln!("Starting a broker, two storage accounts, two registries and three services …");
    let stack = Stack::start(Options::default()).await?;
    eprintln!("Pushing artifacts of many kinds to the source registry …");
    let animals = zoo::fill(&stack.source()).await?;
    eprintln!("Moving them: registry → storage → storage → registry …");
    let mut rows = Vec::new();
    for (number, animal) in animals.iter().enumerate() {
        let blob = format!("demo-{number:02}");
        let row =
            moved(&stack, &animal.reference, animal.kind, &["--artifact", &animal.reference], &blob).await?;
        let compared = compare::artifact(&stack.source(), &stack.target(), &animal.reference).await?;
        rows.push(Row { bytes: compared.bytes, ..row });
    }
    let names: Vec<&str> = animals.iter().flat_map(|animal| ["--artifact", &animal.reference]).collect();
    let again = moved(&stack, "all of them", "a second run", &names, "demo-again").await?;
    ensure!(again.moved == 0, "a second run moved {} bytes to the target registry", again.moved);
    rows.push(Row { bytes: again.skipped, ..again });
    print_table(&rows);
    println!(
        "\n{} artifacts arrived byte for byte, with the same media types. A second run sent nothing to the target \
         registry. {:.1} s in all.",
        animals.len(),
        began.elapsed().as_secs_f64()
    );
    stack.stop().await
}

/// Moves artifacts through all services, and reads what the importer says.
async fn moved(
    stack: &Stack,
    artifact: &str,
    kind: &'static str,
    artifacts: &[&str],
    blob: &str,
) -> Result<Row> {
    let began = Instant::now();
    let mut arguments = vec!["run", "export", "--blob", blob, "--wait"];
    arguments.extend(artifacts);
    let report = stack.run(&arguments).await?;
    let seconds = began.elapsed().as_secs_f64();
    let bytes = |what: &str| importer_bytes(&report, what);
    Ok(Row {
        artifact: artifact.to_owned(),
        kind,
        bytes: 0,
        moved: bytes("moved")?,
        skipped: bytes("skipped")?,
        seconds,
    })
}

fn importer_bytes(report: &Value, what: &str) -> Result<u64> {
    let stages = report["totals"]["stages"].as_array().context("totals.stages")?;
    let importer =
        stages.iter().find(|stage| stage["stage"] == "importer").context("the importer's totals")?;
    importer["bytes"][what].as_u64().context("a number of bytes")
}

fn print_table(rows: &[Row]) {
    let shown = |text: &str| {
        if text.len() <= 40 {
            text.to_owned()
        } else {
            format!("{}…{}", &text[..26], &text[text.len() - 13..])
        }
    };
    println!(
        "{:<41} {:<40} {:>10} {:>10} {:>10} {:>8}",
        "artifact", "kind", "bytes", "moved", "skipped", "seconds"
    );
    for row in rows {
        println!(
            "{:<41} {:<40} {:>10} {:>10} {:>10} {:>8.2}",
            shown(&row.artifact),
            row.kind,
            row.bytes,
            row.moved,
            row.skipped,
            row.seconds
        );
    }
}

async fn up(file: &Path) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let stack =
        Stack::start(Options { control_plane: true, notifications: true, ..Options::default() }).await?;
    stack.add_route().await?;
    let endpoints = serde_json::to_vec_pretty(&stack.endpoints())?;
    // Whole or not at all: who waits for the file reads it at once. It holds tokens, so it is its owner's only.
    let draft = PathBuf::from(format!("{}.draft", file.display()));
    let mut open = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(&mut open, 0o600);
    let mut opened = open.create(true).truncate(true).write(true).open(&draft)?;
    std::io::Write::write_all(&mut opened, &endpoints)?;
    std::fs::rename(&draft, file)?;
    eprintln!("The stack runs; its addresses are in {}.", file.display());
    tokio::select! {
        _ = terminate.recv() => {}
        dead = first_end(&stack) => eprintln!("{dead} ended by itself; stopping the rest"),
    }
    let _absent = std::fs::remove_file(file);
    stack.stop().await
}

/// The name of the first service that ends.
async fn first_end(stack: &Stack) -> String {
    let mut second = tokio::time::interval(std::time::Duration::from_secs(1));
    loop {
        second.tick().await;
        if let Some(service) = stack.services.iter().find(|service| !service.is_running()) {
            return service.name.clone();
        }
    }
}
