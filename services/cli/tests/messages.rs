//! Every failure reaches the person with its subject and with what to do. The snapshots hold whole messages.

mod support;

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use support::*;
use transship_rig::{Azurite, Registry, RegistryOptions, Side};

/// A message without what differs from run to run.
fn settled(ended: &Ended, changing: &[(&str, &str)]) -> String {
    let mut text = ended.errors();
    for (value, name) in changing {
        text = text.replace(value, name);
    }
    format!("{text}exit code {}\n", ended.code)
}

struct World {
    home: Home,
    registry: Registry,
    pusher: Pusher,
}

impl World {
    async fn new() -> Result<Self> {
        let registry = Registry::start().await?;
        let pusher = Pusher::new(&registry.url());
        pusher.image("team/app", Some("1"), &[2000, 3_000_000]).await?;
        Ok(Self { home: Home::new(), registry, pusher })
    }

    async fn export(&self, place: &str, more: &[&str]) -> Ended {
        let arguments = ["export", "--registry", self.registry.host(), "--to", place, "--blob", "nightly"];
        self.home.run(&[&arguments[..], more].concat()).await
    }

    async fn import(&self, place: &str, more: &[&str]) -> Ended {
        let arguments = ["import", "--registry", self.registry.host(), "--from", place, "--blob", "nightly"];
        self.home.run(&[&arguments[..], more].concat()).await
    }

    fn settled(&self, ended: &Ended) -> String {
        let home = self.home.folder.path().display().to_string();
        settled(ended, &[(&home, "[HOME]"), (self.registry.host(), "[REGISTRY]")])
    }
}

#[tokio::test]
async fn an_artifact_that_does_not_exist_is_named() -> Result<()> {
    let world = World::new().await?;
    let place = world.home.directory("out");
    let ended = world.export(&place, &["team/app:1", "team/app:2"]).await;
    insta::assert_snapshot!("artifact_missing", world.settled(&ended));
    let rest =
        world.export(&place, &["team/app:1", "team/app:2", "--continue-on-errors", "-o", "json"]).await;
    insta::assert_snapshot!("artifact_missing_continued", world.settled(&rest));
    let report = rest.json();
    assert_eq!(
        (&report["outcome"], &report["totals"]["artifacts"]["failed"]),
        (&"partial".into(), &1.into())
    );
    assert_eq!(report["artifacts"][1]["code"], "ArtifactNotFound");
    // Where each is a part of its own, the part that carries nothing is no other failure.
    let place = world.home.directory("parts");
    let options = ["--continue-on-errors", "--part-size", "1", "-o", "json"];
    let parts = world.export(&place, &[&["team/app:1", "team/app:2"], &options[..]].concat()).await;
    let report = parts.json();
    let artifacts = &report["totals"]["artifacts"];
    assert_eq!((parts.code, &report["outcome"]), (3, &"partial".into()), "{parts:?}");
    assert_eq!((&artifacts["moved"], &artifacts["failed"]), (&1.into(), &1.into()), "{report}");
    // And where nothing at all is carried, it is.
    let place = world.home.directory("nothing");
    let nothing = world.export(&place, &["team/app:2", "--continue-on-errors"]).await;
    assert_eq!(nothing.code, 1, "{nothing:?}");
    Ok(())
}

#[tokio::test]
async fn a_blob_that_exists_stays_unless_it_may_be_overwritten() -> Result<()> {
    let world = World::new().await?;
    world.pusher.image("team/other", Some("1"), &[100]).await?;
    let place = world.home.directory("out");
    world.export(&place, &["team/app:1"]).await.ok();
    let ended = world.export(&place, &["team/other:1"]).await;
    insta::assert_snapshot!("blob_exists", world.settled(&ended));
    world.export(&place, &["team/other:1", "--overwrite-blobs"]).await.ok();
    let listed = world.home.run(&["bundle", "list", "out/nightly", "-o", "json"]).await.ok().json();
    assert_eq!(listed[0]["name"], "team/other:1");
    let again = world.export(&place, &["team/other:1", "-o", "json"]).await.ok().json();
    assert_eq!(again["bundles"][0]["state"], "already there");
    let forced = world.export(&place, &["team/other:1", "--force", "-o", "json"]).await.ok().json();
    assert_eq!(forced["bundles"][0]["state"], "written");
    let once_more = world.export(&place, &["team/other:1", "-o", "json"]).await.ok().json();
    assert_eq!(once_more["bundles"][0]["state"], "already there", "the forced one is this command's own too");
    Ok(())
}

#[tokio::test]
async fn a_tag_that_exists_stays_unless_it_may_be_overwritten() -> Result<()> {
    let world = World::new().await?;
    let place = world.home.directory("out");
    world.export(&place, &["team/app:1"]).await.ok();
    world.pusher.image("team/app", Some("1"), &[77]).await?;
    let ended = world.import(&place, &[]).await;
    insta::assert_snapshot!("tag_exists", world.settled(&ended));
    world.import(&place, &["--overwrite-tags"]).await.ok();
    Ok(())
}

#[tokio::test]
async fn places_and_bundles_that_do_not_exist_are_named() -> Result<()> {
    let world = World::new().await?;
    let place = world.home.directory("out");
    let missing = world.home.path("missing").display().to_string();
    let mut seen = String::new();
    for ended in [
        world.export(&missing, &["team/app:1"]).await,
        world.import(&missing, &[]).await,
        world.import(&place, &[]).await,
        world.home.run(&["bundle", "verify", "out#nightly"]).await,
    ] {
        seen += &format!("{}\n", world.settled(&ended));
    }
    insta::assert_snapshot!("places_missing", seen);
    Ok(())
}

#[tokio::test]
async fn bytes_that_changed_on_their_way_are_named_with_both_digests() -> Result<()> {
    let world = World::new().await?;
    let place = world.home.directory("out");
    world.export(&place, &["team/app:1"]).await.ok();
    let bundle = world.home.path("out/nightly");
    let mut bytes = std::fs::read(&bundle)?;
    let at = bytes.len() - 100_000;
    bytes[at] ^= 1;
    std::fs::write(&bundle, &bytes)?;
    let damaged = world.home.run(&["bundle", "verify", "out/nightly"]).await;
    insta::assert_snapshot!("bundle_damaged", world.settled(&damaged));
    let empty = Registry::start().await?;
    let arguments = ["import", "--registry", empty.host(), "--from", &place, "--blob", "nightly"];
    let ended = world.home.run(&arguments).await;
    insta::assert_snapshot!("bundle_damaged_import", settled(&ended, &[(empty.host(), "[REGISTRY]")]));
    assert_eq!(Pusher::new(&empty.url()).read("team/app", "1").await?, None, "nothing of it is visible");
    Ok(())
}

#[tokio::test]
async fn a_layer_that_is_damaged_in_the_source_registry_is_named_with_both_digests() -> Result<()> {
    let world = World::new().await?;
    let (manifest, _) = world.pusher.read("team/app", "1").await?.context("it was pushed")?;
    let manifest: serde_json::Value = serde_json::from_slice(&manifest)?;
    let digest = manifest["layers"][1]["digest"].as_str().context("a digest")?.trim_start_matches("sha256:");
    let storage = world.registry.storage().context("the registry is private")?;
    let file = storage.join(format!("docker/registry/v2/blobs/sha256/{}/{digest}/data", &digest[..2]));
    let mut bytes = std::fs::read(&file)?;
    bytes[1_000_000] ^= 1;
    std::fs::write(&file, bytes)?;
    let place = world.home.directory("out");
    let ended = world.export(&place, &["team/app:1"]).await;
    insta::assert_snapshot!("source_damaged", world.settled(&ended));
    assert!(bundles(place.as_ref()).is_empty());
    Ok(())
}

#[tokio::test]
async fn a_registry_that_wants_credentials_takes_them_from_the_docker_configuration() -> Result<()> {
    let account = ("mover".to_owned(), "CANARY-password".to_owned());
    let options = RegistryOptions { htpasswd: Some(account), ..RegistryOptions::default() };
    let guarded = Registry::start_with(options).await?;
    let world = World::new().await?;
    let mut home = Home::new();
    let both = [
        "transfer",
        "--from-registry",
        world.registry.host(),
        "--to-registry",
        guarded.host(),
        "--blob",
        "b",
        "team/app:1",
    ];
    let ended = home.run(&both).await;
    insta::assert_snapshot!("registry_forbidden", settled(&ended, &[(guarded.host(), "[REGISTRY]")]));
    let auth = "bW92ZXI6Q0FOQVJZLXBhc3N3b3Jk";
    home.write("config.json", &format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, guarded.host()));
    let folder = home.folder.path().display().to_string();
    home.set("DOCKER_CONFIG", &folder);
    let ended = home.run(&[&both[..], &["--debug"]].concat()).await.ok();
    assert!(!format!("{}{}", ended.stdout, ended.stderr).contains("CANARY"));
    Ok(())
}

#[tokio::test]
async fn a_sas_token_that_does_not_do_says_why_and_where_to_put_another() -> Result<()> {
    let world = World::new().await?;
    let azurite = Azurite::shared(Side::Source).await?;
    let container = azurite.container("messages").await?;
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    let expired = container.sas("racwdl", SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    let mut seen = String::new();
    let mut add = |what: &str, ended: &Ended| {
        let text = settled(ended, &[(&container.url, "[CONTAINER]"), (world.registry.host(), "[REGISTRY]")]);
        seen += &format!("{what}\n{text}\n");
    };
    let export = async |sas: &str| {
        let file = world.home.write("out.sas", sas);
        world.export(&container.url, &["team/app:1", "--to-sas-file", &file]).await
    };
    add("no token", &world.export(&container.url, &["team/app:1"]).await);
    add("no file", &world.export(&container.url, &["team/app:1", "--to-sas-file", "nowhere.sas"]).await);
    add("not a token", &export("AccountKey=CANARY").await);
    add("expired", &export(&expired).await);
    add("may not write", &export(&container.sas("rl", tomorrow)).await);
    add("signed by another key", &export(&container.sas("rw", tomorrow).replace("sig=", "sig=AAAA")).await);
    export(&container.sas("rw", tomorrow)).await.ok();
    let import = async |more: &[&str]| {
        let import =
            ["import", "--registry", world.registry.host(), "--from", &container.url, "--blob", "nightly"];
        world.home.run(&[&import[..], more].concat()).await
    };
    let may_read = world.home.write("in.sas", &container.sas("r", tomorrow));
    add("may not delete", &import(&["--from-sas-file", &may_read, "--delete-source-blob"]).await);
    import(&["--from-sas-file", &may_read]).await.ok();
    insta::assert_snapshot!("sas_tokens", seen);
    assert!(!seen.contains("CANARY") && !seen.contains("sig="));
    Ok(())
}

#[tokio::test]
async fn a_container_that_does_not_exist_is_named() -> Result<()> {
    let world = World::new().await?;
    let azurite = Azurite::shared(Side::Source).await?;
    let mut container = azurite.container("gone").await?;
    container.url = container.url.replace(&container.name, "never-made");
    container.name = "never-made".to_owned();
    let file = world.home.write("out.sas", &container.full_sas());
    let ended = world.export(&container.url, &["team/app:1", "--to-sas-file", &file]).await;
    insta::assert_snapshot!("container_missing", settled(&ended, &[(&container.url, "[CONTAINER]")]));
    Ok(())
}

#[tokio::test]
async fn a_registry_that_is_away_is_named() -> Result<()> {
    let world = World::new().await?;
    let place = world.home.directory("out");
    world.registry.stop().await?;
    let ended = world.export(&place, &["team/app:1"]).await;
    assert_eq!(ended.code, 1);
    let text = world.settled(&ended);
    assert!(text.contains("look up team/app:1: [REGISTRY] is not available"), "{text}");
    assert!(text.contains("hint: repeat the command: it resumes where it was"), "{text}");
    Ok(())
}
