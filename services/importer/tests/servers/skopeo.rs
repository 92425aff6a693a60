use std::path::Path;

use anyhow::{Result, ensure};
use tokio::process::Command;
use transship_rig::Registry;

use crate::registry::import;
use crate::scene::Scene;
use crate::scene::bundle::BundleBuilder;
use crate::{has_everything, image, points_to};

async fn skopeo(arguments: &[&str], home: &Path) -> Result<()> {
    let output =
        Command::new("/usr/bin/skopeo").args(arguments).env("HOME", home).kill_on_drop(true).output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(60), output).await??;
    ensure!(output.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[tokio::test]
async fn an_archive_that_skopeo_wrote_is_imported_byte_for_byte() -> Result<()> {
    let (source, target) = (Registry::start().await?, Registry::start().await?);
    let folder = tempfile::tempdir()?;
    let mut scene = Scene::new();
    let mut bundle = BundleBuilder::default();
    let layers = [bundle.layer(&vec![1; 3 << 20]), bundle.layer(&[2; 1000])];
    let children = ["amd64", "arm64"].map(|name| image(&mut bundle, name, &layers));
    let index = bundle.index(&children);
    bundle.artifact("team/app:1", &index);
    import(&scene, &source.url(), "seed", &bundle.encode()).await?;

    for (name, given) in [(":team/app:1", None), ("", Some("given/app:2")), (":latest", Some("given/app:3"))]
    {
        let file = folder.path().join(format!("archive{}.tar", name.len()));
        let to = format!("oci-archive:{}{name}", file.display());
        let from = format!("docker://{}/team/app:1", source.host());
        let copy = [
            "copy",
            "--all",
            "--preserve-digests",
            "--src-tls-verify=false",
            "--insecure-policy",
            &from,
            &to,
        ];
        skopeo(&copy, folder.path()).await?;
        let bytes = std::fs::read(&file)?;
        if let Some(given) = given {
            let failure = import(&scene, &target.url(), "archive", &bytes).await.unwrap_err();
            let failure = failure.downcast::<transship_model::Failure>()?;
            ensure!(failure.hint.is_some_and(|hint| hint.contains("--as")), "{}", failure.message);
            scene.pipeline.name_as = Some(given.parse()?);
        }
        let done = import(&scene, &target.url(), "archive", &bytes).await?;
        ensure!(done.counters.artifacts_moved == 1, "{done:?}");
        let (repository, tag) = given.unwrap_or("team/app:1").split_once(':').unwrap_or_default();
        has_everything(&target.url(), repository, &bundle).await?;
        points_to(&target.url(), repository, tag, &bundle, &index).await?;
        scene.pipeline.name_as = None;
    }
    Ok(())
}
