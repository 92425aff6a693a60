//! The benchmark: 24 images with shared base layers, moved by transship and by what a user would do today, on the
//! same servers in the same run.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::client::{Client, content};
use crate::compare;
use crate::stack::{Options, Service, Stack};

const MIB: usize = 1 << 20;
const IMAGES: usize = 24;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What one way of moving took.
struct Figures {
    wall: f64,
    cpu: f64,
}

/// Runs both, checks both, and writes the table to `file`.
pub async fn run(file: &Path) -> Result<()> {
    let python = python().await?;
    let stack = Stack::start(Options::default()).await?;
    eprintln!("Pushing {IMAGES} images …");
    let (names, bytes) = images(&stack.source()).await?;
    eprintln!("Moving them with skopeo, tar and the Azure SDK for Python …");
    let peer = peer(&stack, &python, &names).await?;
    eprintln!("Moving them with transship …");
    let ours = ours(&stack, &names).await?;
    for name in &names {
        compare::artifact(&stack.source(), &stack.target(), &format!("{name}:1")).await?;
    }
    let table = table(&ours, &peer, bytes);
    println!("{table}");
    std::fs::write(file, &table)?;
    stack.stop().await
}

/// Four bases of 100 MiB in two layers, shared by six images each, and 16 MiB of its own in each image.
async fn images(source: &Client) -> Result<(Vec<String>, usize)> {
    let mut names = Vec::new();
    for number in 0..IMAGES {
        let (name, base) = (format!("bench/image-{number:02}"), number % 4);
        let mut layers = Vec::new();
        for (what, size) in
            [(format!("base {base} a"), 80), (format!("base {base} b"), 20), (format!("own {number}"), 16)]
        {
            layers.push(source.blob(&name, content(&what, size * MIB), LAYER).await?);
        }
        let config = serde_json::to_vec(
            &json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}, "n": number}),
        )?;
        let config = source.blob(&name, config, "application/vnd.oci.image.config.v1+json").await?;
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        source.manifest(&name, Some("1"), serde_json::to_vec(&manifest)?, MANIFEST).await?;
        names.push(name);
    }
    Ok((names, (4 * 100 + IMAGES * 16) * MIB))
}

async fn ours(stack: &Stack, names: &[String]) -> Result<Figures> {
    let cpu = || stack.services.iter().map(Service::cpu_seconds).sum::<Result<f64>>();
    let (before, began) = (cpu()?, Instant::now());
    let artifacts: Vec<String> = names.iter().map(|name| format!("{name}:1")).collect();
    let mut arguments = vec!["run", "export", "--blob", "bench", "--wait"];
    arguments.extend(artifacts.iter().flat_map(|artifact| ["--artifact", artifact.as_str()]));
    stack.run(&arguments).await?;
    Ok(Figures { wall: began.elapsed().as_secs_f64(), cpu: cpu()? - before })
}

/// The peer's steps, in a script of its own that reports its wall and CPU seconds.
async fn peer(stack: &Stack, python: &Path, names: &[String]) -> Result<Figures> {
    let folder = stack.folder().join("peer");
    std::fs::create_dir_all(&folder)?;
    let plan = json!({
        "images": names, "folder": folder,
        "source": stack.source_registry.host(), "target": stack.target_registry.host(),
        "source_container": format!("{}?{}", stack.source_container.url, stack.source_container.full_sas()),
        "target_container": format!("{}?{}", stack.target_container.url, stack.target_container.full_sas()),
    });
    let plan_file = folder.join("plan.json");
    std::fs::write(&plan_file, serde_json::to_vec(&plan)?)?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/peer.py");
    let output =
        tokio::process::Command::new(python).arg(script).arg(&plan_file).kill_on_drop(true).output().await?;
    ensure!(output.status.success(), "the peer failed:\n{}", String::from_utf8_lossy(&output.stderr));
    let figures: Value = serde_json::from_slice(&output.stdout).context("the peer's figures")?;
    let number = |key: &str| figures[key].as_f64().with_context(|| format!("the peer's {key}"));
    Ok(Figures { wall: number("wall")?, cpu: number("cpu")? })
}

/// A Python with the Azure SDK, in a virtual environment beside what is built.
async fn python() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench-python");
    let python = folder.join("bin/python");
    if !folder.join("ready").exists() {
        eprintln!("Installing the Azure SDK for Python into {} …", folder.display());
        run_to_end("python3", &["-m", "venv", &folder.display().to_string()]).await?;
        run_to_end(
            &python.display().to_string(),
            &["-m", "pip", "install", "-q", "azure-storage-blob==12.27.1"],
        )
        .await?;
        std::fs::write(folder.join("ready"), "")?;
    }
    Ok(python)
}

async fn run_to_end(program: &str, arguments: &[&str]) -> Result<()> {
    let output = tokio::process::Command::new(program).args(arguments).kill_on_drop(true).output().await?;
    ensure!(output.status.success(), "{program} {arguments:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn table(ours: &Figures, peer: &Figures, bytes: usize) -> String {
    let row =
        |name: &str, figures: &Figures| format!("| {name} | {:.1} | {:.1} |", figures.wall, figures.cpu);
    format!(
        "| {IMAGES} images, {} MiB distinct | wall seconds | CPU seconds |\n| --- | ---: | ---: |\n{}\n{}\n\
         | ratio | {:.2} | {:.2} |\n",
        bytes / MIB,
        row("transship (three services)", ours),
        row("skopeo, tar, Azure SDK for Python", peer),
        ours.wall / peer.wall,
        ours.cpu / peer.cpu,
    )
}
