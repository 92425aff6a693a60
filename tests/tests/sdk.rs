//! The Azure SDK for Python, unmodified, in the versions that people have, against a control plane and its stages.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;
use transship_tests::client::{Client, content};
use transship_tests::compare;
use transship_tests::control::secret_uri;
use transship_tests::stack::{Options, Stack};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The versions, and the api-version that the older ones must be asked for.
const VERSIONS: [(&str, Option<&str>); 3] =
    [("8.2.0", Some("2020-11-01-preview")), ("14.0.0", None), ("15.1.0b3", None)];

/// How long the installation of one version may take, and one pass through everything.
const INSTALL: Duration = Duration::from_secs(300);
const PASS: Duration = Duration::from_secs(300);

/// The Python of a virtual environment with this version of the SDK. It is made once, and kept with what is built.
async fn python(version: &str) -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/sdk").join(version);
    let (python, done) = (folder.join("bin/python"), folder.join("installed"));
    if !done.exists() {
        let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder).output();
        ensure!(made.await?.status.success(), "python3 -m venv {} failed", folder.display());
        let sdk = format!("azure-mgmt-containerregistry=={version}");
        let mut pip = Command::new(&python);
        // Version 8.2.0 forgot that it needs six.
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", &sdk, "six"])
            .kill_on_drop(true);
        let installed = tokio::time::timeout(INSTALL, pip.output()).await.context("pip took too long")??;
        ensure!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
        std::fs::write(done, version)?;
    }
    Ok(python)
}

/// An image of one small layer.
async fn image(source: &Client, repository: &str) -> Result<String> {
    let config = source.blob(repository, b"{}".to_vec(), "application/vnd.oci.empty.v1+json").await?;
    let layer = source.blob(repository, content(repository, 3000), LAYER).await?;
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    let bytes = serde_json::to_vec(&manifest)?;
    let digest = transship_tests::client::digest_of(&bytes);
    source.manifest(repository, Some("1.0"), bytes, MANIFEST).await?;
    Ok(digest)
}

async fn pass(stack: &Stack, number: usize, version: &str, api_version: Option<&str>) -> Result<Value> {
    let (by_tag, by_digest) = (format!("sdk/tag{number}"), format!("sdk/digest{number}"));
    image(&stack.source(), &by_tag).await?;
    let digest = image(&stack.source(), &by_digest).await?;
    let (by_tag, by_digest) = (format!("{by_tag}:1.0"), format!("{by_digest}@{digest}"));
    let given = json!({
        "url": stack.control_url()?,
        "token": stack.access.token,
        "subscription": stack.access.subscription,
        "api_version": api_version,
        "prefix": format!("sdk{number}"),
        "source_container": stack.source_container.url,
        "target_container": stack.target_container.url,
        "export_secret": secret_uri("source-sas"),
        "import_secret": secret_uri("target-sas"),
        "by_tag": by_tag,
        "by_digest": by_digest,
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/transfer.py");
    let mut command = Command::new(python(version).await?);
    command.arg(script).env("TRANSFER", given.to_string()).kill_on_drop(true);
    // A proxy of whoever runs this has no business with this machine's own address.
    for variable in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(variable);
    }
    let output = tokio::time::timeout(PASS, command.output()).await.context("the script took too long")??;
    let talk = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "with {version}:\n{talk}\n{}", stack.log_tails());
    for artifact in [&by_tag, &by_digest] {
        compare::artifact(&stack.source(), &stack.target(), artifact).await?;
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_three_versions_of_the_azure_sdk_do_everything_unmodified() -> Result<()> {
    let stack = Stack::start(Options { control_plane: true, ..Options::default() }).await?;
    for (number, (version, api_version)) in VERSIONS.into_iter().enumerate() {
        let seen =
            pass(&stack, number, version, api_version).await.with_context(|| format!("SDK {version}"))?;
        for credential in ["key", "token"] {
            let seen = &seen[credential];
            ensure!(seen["failure"].as_str().is_some_and(|text| text.contains("no/such:tag")), "{seen}");
            ensure!(seen["triggered"].as_array().is_some_and(|runs| runs.len() >= 2), "{seen}");
        }
    }
    stack.stop().await
}
