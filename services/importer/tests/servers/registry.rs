use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use serde_json::json;
use transship_importer::Importer;
use transship_model::{MediaType, Tag};
use transship_registry::{RegistryClient, RegistrySettings, Target};
use transship_rig::{Registry, Side};
use transship_secrets::FixedSecrets;
use transship_stage::Verb;
use transship_storage::Containers;

use crate::scene::bundle::BundleBuilder;
use crate::scene::{Done, Scene, done};
use crate::{has_everything, image, points_to, pull};

/// Imports a bundle into a real registry, with the pipeline of a scene.
pub(crate) async fn import(scene: &Scene, url: &str, name: &str, bytes: &[u8]) -> Result<Done> {
    let client: Arc<dyn Target> = Arc::new(RegistryClient::new(RegistrySettings::new(url))?);
    let importer = Importer::new(
        BTreeMap::from([("target".parse()?, client)]),
        Arc::new(Containers::new(Arc::new(FixedSecrets::default()))),
        [("default".parse()?, scene.pipeline.clone())].into(),
        scene.settings.clone(),
    );
    let work = scene.put(name, bytes, &crate::scene::execution(1)).await;
    Ok(done(importer.handle(&work, &scene.context()).await?))
}

/// Every kind of thing that a registry of CNCF's distribution takes, in one repository.
fn zoo() -> (BundleBuilder, Vec<(&'static str, crate::scene::bundle::Item)>) {
    let mut bundle = BundleBuilder::default();
    let layer = bundle.layer(&vec![42; 9 << 20]);
    let zero = bundle.layer(b"");
    let (amd, arm) =
        (image(&mut bundle, "amd64", &[layer.clone(), zero]), image(&mut bundle, "arm64", &[layer]));
    let inner = bundle.index(&[amd.clone(), arm.clone()]);
    let outer = bundle.index(&[inner, amd.clone()]);
    let empty = bundle.blob("application/vnd.oci.empty.v1+json", b"{}");
    let artifact = bundle.manifest(
        MediaType::OCI_MANIFEST,
        &json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": empty.json(),
            "layers": [empty.json()], "artifactType": "application/vnd.acme.rocket",
        }),
    );
    let typeless = bundle.manifest(
        MediaType::OCI_MANIFEST,
        &json!({ "schemaVersion": 2, "config": empty.json(), "layers": [] }),
    );
    let docker_layer = bundle.blob("application/vnd.docker.image.rootfs.diff.tar.gzip", b"docker layer");
    let docker_config = bundle.blob("application/vnd.docker.container.image.v1+json", b"{\"docker\":1}");
    let docker = bundle.manifest(
        MediaType::DOCKER_MANIFEST,
        &json!({
            "schemaVersion": 2, "mediaType": MediaType::DOCKER_MANIFEST,
            "config": docker_config.json(), "layers": [docker_layer.json()],
        }),
    );
    let named = vec![
        ("nested", outer),
        ("rocket", artifact),
        ("typeless", typeless),
        ("docker", docker),
        ("plain", arm),
    ];
    (bundle, named)
}

#[tokio::test]
async fn a_zoo_arrives_byte_for_byte_and_the_second_import_moves_nothing() -> Result<()> {
    let registry = Registry::shared(Side::Target).await?;
    let scene = Scene::new();
    let (mut bundle, named) = zoo();
    let repository = format!("zoo/{}", std::process::id());
    for (tag, item) in &named {
        bundle.artifact(&format!("{repository}:{tag}"), item);
    }
    let first = import(&scene, &registry.url(), "zoo", &bundle.encode()).await?;
    assert_eq!(first.counters.artifacts_moved, named.len() as u64);
    has_everything(&registry.url(), &repository, &bundle).await?;
    for (tag, item) in &named {
        points_to(&registry.url(), &repository, tag, &bundle, item).await?;
    }
    let second = import(&scene, &registry.url(), "zoo", &bundle.encode()).await?;
    assert_eq!((second.counters.artifacts_skipped, second.counters.bytes_moved), (named.len() as u64, 0));
    Ok(())
}

#[tokio::test]
async fn a_layer_is_mounted_into_the_second_repository() -> Result<()> {
    let registry = Registry::shared(Side::Target).await?;
    let scene = Scene::new();
    let mut bundle = BundleBuilder::default();
    let unique = format!("layer of {}", std::process::id());
    let layer = bundle.layer(unique.repeat(100_000).as_bytes());
    for name in ["a", "b"] {
        let item = image(&mut bundle, name, std::slice::from_ref(&layer));
        bundle.artifact(&format!("mount/{}/{name}:1", std::process::id()), &item);
    }
    let done = import(&scene, &registry.url(), "mount", &bundle.encode()).await?;
    assert_eq!(done.counters.bytes_moved, bundle.bytes());
    for name in ["a", "b"] {
        let path = format!("mount/{}/{name}/blobs/{}", std::process::id(), layer.digest);
        assert_eq!(pull(&registry.url(), &path).await?.0, 200);
    }
    // Nothing of the second repository's layer had to move: a third one proves it by the counts alone.
    let mut third = BundleBuilder::default();
    let layer = third.layer(unique.repeat(100_000).as_bytes());
    let item = image(&mut third, "c", std::slice::from_ref(&layer));
    third.artifact(&format!("mount/{}/c:1", std::process::id()), &item);
    let mut scene = scene;
    scene.pipeline.mount_from = vec![format!("mount/{}/a", std::process::id()).parse()?];
    let done = import(&scene, &registry.url(), "third", &third.encode()).await?;
    assert_eq!((done.counters.blobs_mounted, done.counters.bytes_skipped), (1, layer.size));
    Ok(())
}

#[tokio::test]
async fn referrers_are_listed_under_the_fallback_tag_of_a_registry_without_the_api() -> Result<()> {
    let registry = Registry::start().await?;
    let scene = Scene::new();
    let mut bundle = BundleBuilder::default();
    let layer = bundle.layer(b"layer");
    let item = image(&mut bundle, "image", &[layer]);
    bundle.artifact("team/app:1", &item);
    let sbom = bundle.referrer("team/app", "sbom", &item);
    let tag = Tag::referrers_fallback(&item.digest);
    import(&scene, &registry.url(), "one", &bundle.encode()).await?;
    let list = async || -> Result<String> {
        Ok(String::from_utf8(pull(&registry.url(), &format!("team/app/manifests/{tag}")).await?.2)?)
    };
    assert!(list().await?.contains(&sbom.digest.to_string()));
    let signature = bundle.referrer("team/app", "signature", &item);
    import(&scene, &registry.url(), "two", &bundle.encode()).await?;
    let both = list().await?;
    assert!(
        both.contains(&sbom.digest.to_string()) && both.contains(&signature.digest.to_string()),
        "{both}"
    );
    has_everything(&registry.url(), "team/app", &bundle).await
}

#[tokio::test]
async fn a_registry_that_is_away_is_a_transient_failure_and_the_same_work_then_succeeds() -> Result<()> {
    let registry = Registry::start().await?;
    let scene = Scene::new();
    let mut bundle = BundleBuilder::default();
    let layer = bundle.layer(b"layer");
    let item = image(&mut bundle, "image", &[layer]);
    bundle.artifact("team/app:1", &item);
    registry.stop().await?;
    let failure = import(&scene, &registry.url(), "one", &bundle.encode()).await.unwrap_err();
    let failure = failure.downcast::<transship_model::Failure>()?;
    assert_eq!(failure.code, transship_model::Code::RegistryUnavailable, "{failure}");
    registry.start_again().await?;
    import(&scene, &registry.url(), "one", &bundle.encode()).await?;
    points_to(&registry.url(), "team/app", "1", &bundle, &item).await
}
