//! From one registry to another through a directory, with the real binary.

mod support;

use anyhow::Result;
use rustix::process::Signal;
use support::*;
use transship_rig::Registry;

struct World {
    home: Home,
    source: Registry,
    target: Registry,
    from: Pusher,
    to: Pusher,
}

impl World {
    async fn new() -> Result<Self> {
        let source = Registry::start().await?;
        // A target of its own: what a test finds there is what it moved.
        let target = Registry::start().await?;
        let (from, to) = (Pusher::new(&source.url()), Pusher::new(&target.url()));
        Ok(Self { home: Home::new(), source, target, from, to })
    }

    async fn transfer(&self, more: &[&str]) -> Ended {
        self.home.run(&self.arguments(more)).await
    }

    fn arguments<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let both = ["transfer", "--from-registry", self.source.host(), "--to-registry", self.target.host()];
        both.iter().chain(more).copied().collect()
    }

    async fn assert_same(&self, repository: &str, tag: &str) -> Result<()> {
        let source = self.from.read(repository, tag).await?;
        assert!(source.is_some());
        assert_eq!(source, self.to.read(repository, tag).await?, "{repository}:{tag}");
        Ok(())
    }
}

#[tokio::test]
async fn an_index_and_a_chart_arrive_and_a_second_run_moves_nothing() -> Result<()> {
    let world = World::new().await?;
    push_zoo(&world.from).await?;
    let via = world.home.directory("out");
    let arguments = ["--via", &via, "--blob", "nightly", "team/app:1", "team/chart:0.1.0", "-o", "json"];
    let first = world.transfer(&arguments).await.ok().json();
    assert_eq!((&first["outcome"], &first["totals"]["artifacts"]["moved"]), (&"succeeded".into(), &2.into()));
    let kinds: Vec<_> =
        first["artifacts"].as_array().unwrap().iter().map(|row| row["kind"].clone()).collect();
    assert_eq!(kinds, ["index", "helm chart"]);
    world.assert_same("team/app", "1").await?;
    world.assert_same("team/chart", "0.1.0").await?;
    assert_eq!(bundles(via.as_ref()), ["nightly"]);

    let second = world.transfer(&arguments).await.ok().json();
    assert_eq!(second["totals"]["artifacts"]["skipped"], 2);
    assert_eq!(second["bundles"][0]["state"], "already there");
    for stage in second["totals"]["stages"].as_array().unwrap() {
        assert_eq!(stage["bytes"]["moved"], 0, "{stage}");
    }
    Ok(())
}

#[tokio::test]
async fn without_a_place_the_bundle_goes_through_the_cache_and_leaves_nothing() -> Result<()> {
    let world = World::new().await?;
    push_zoo(&world.from).await?;
    let ended = world.transfer(&["team/app:1", "--rename", "team=mirror/team"]).await.ok();
    assert!(
        ended.stdout.contains("team/app:1 as mirror/team/app:1") && ended.stdout.contains("1 moved"),
        "{ended:#?}"
    );
    assert_eq!(world.to.read("mirror/team/app", "1").await?, world.from.read("team/app", "1").await?);
    let transfers = world.home.path(".cache/transship/transfers");
    assert_eq!(std::fs::read_dir(transfers)?.count(), 0);
    Ok(())
}

#[tokio::test]
async fn a_bundle_can_be_copied_to_another_place_and_deleted_everywhere() -> Result<()> {
    let world = World::new().await?;
    push_zoo(&world.from).await?;
    let (via, copy) = (world.home.directory("via"), world.home.directory("copy"));
    let arguments = ["--via", &via, "--copy-to", &copy, "--blob", "b", "team/app:1"];
    let report = world.transfer(&[&arguments[..], &["-o", "json"]].concat()).await.ok().json();
    let stages = report["totals"]["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 3, "{report}");
    assert_eq!((bundles(via.as_ref()), bundles(copy.as_ref())), (vec!["b".to_owned()], vec!["b".to_owned()]));
    assert_eq!(std::fs::read(world.home.path("via/b"))?, std::fs::read(world.home.path("copy/b"))?);
    world.transfer(&[&arguments[..], &["--delete-source-blob"]].concat()).await.ok();
    assert!(bundles(via.as_ref()).is_empty() && bundles(copy.as_ref()).is_empty());
    world.assert_same("team/app", "1").await
}

#[tokio::test]
async fn a_bundle_that_holds_more_than_the_target_took_is_not_deleted() -> Result<()> {
    let world = World::new().await?;
    let image = world.from.image("team/app", Some("1"), &[100]).await?;
    let signature = image["digest"].as_str().unwrap().replace(':', "-") + ".sig";
    world.from.image("team/app", Some(&signature), &[10]).await?;
    world.to.image("team/app", Some(&signature), &[20]).await?;
    let place = world.home.directory("out");
    let arguments = ["--via", &place, "--blob", "b", "team/app:1", "--delete-source-blob"];
    let kept = world.transfer(&arguments).await.ok();
    assert!(kept.stderr.contains("warning: the bundle is kept: "), "{kept:?}");
    assert_eq!(bundles(place.as_ref()), ["b"]);
    let import = ["import", "--registry", world.target.host(), "--from", &place, "--blob", "b"];
    let kept = world.home.run(&[&import[..], &["--delete-source-blob"]].concat()).await.ok();
    assert!(kept.stderr.contains("warning: the bundle is kept: "), "{kept:?}");
    assert_eq!(bundles(place.as_ref()), ["b"]);
    world.home.run(&[&import[..], &["--delete-source-blob", "--overwrite-tags"]].concat()).await.ok();
    assert!(bundles(place.as_ref()).is_empty());
    Ok(())
}

#[tokio::test]
async fn a_run_of_many_parts_is_imported_by_its_name() -> Result<()> {
    let world = World::new().await?;
    let mut list = String::from("# all of them\n");
    for number in 0..5 {
        world.from.image("many/small", Some(&format!("v{number}")), &[1000 + number]).await?;
        list += &format!("many/small:v{number}\n");
    }
    let (file, place) = (world.home.write("list", &list), world.home.directory("out"));
    let export = ["export", "--registry", world.source.host(), "--to", &place, "--blob", "many"];
    let arguments = [&export[..], &["--artifacts-file", &file, "--part-size", "2", "-o", "json"]].concat();
    let report = world.home.run(&arguments).await.ok().json();
    assert_eq!(report["bundles"].as_array().unwrap().len(), 3, "{report}");
    assert_eq!(bundles(place.as_ref()), ["many-0001-of-0003", "many-0002-of-0003", "many-0003-of-0003"]);
    let import = ["import", "--registry", world.target.host(), "--from", &place, "--blob", "many"];
    let report = world.home.run(&[&import[..], &["-o", "json"]].concat()).await.ok().json();
    assert_eq!(report["totals"]["artifacts"]["moved"], 5, "{report}");
    for number in 0..5 {
        world.assert_same("many/small", &format!("v{number}")).await?;
    }
    std::fs::remove_file(world.home.path("out/many-0002-of-0003"))?;
    let incomplete = world.home.run(&import).await;
    assert_eq!(incomplete.code, 1);
    assert!(incomplete.stderr.contains("missing are 2"), "{}", incomplete.stderr);
    Ok(())
}

/// Six layers of 24 MiB, which take long enough to be interrupted.
async fn push_large(world: &World, repository: &str) -> Result<()> {
    let layers: Vec<usize> = (0..6).map(|i| (24 << 20) + i).collect();
    world.from.image(repository, Some("1"), &layers).await?;
    Ok(())
}

#[tokio::test]
async fn a_command_that_was_killed_resumes_when_it_is_repeated() -> Result<()> {
    let world = World::new().await?;
    push_large(&world, "large/killed").await?;
    let via = world.home.directory("out");
    let arguments = world.arguments(&["--via", &via, "--blob", "b", "large/killed:1", "-o", "json"]);
    let mut child = world.home.start(&arguments);
    until(&mut child, "half of the blocks are staged", async || staged_blocks(via.as_ref()) >= 12).await;
    signal(&child, Signal::KILL);
    assert_eq!(end(child).await.code, -1);
    assert!(bundles(via.as_ref()).is_empty(), "nothing is committed yet");
    let report = world.home.run(&arguments).await.ok().json();
    let export = &report["totals"]["stages"][0]["bytes"];
    let sum = |key: &str| export[key].as_u64().unwrap();
    assert!(sum("skipped") >= 8 << 20, "what is staged is not read again: {export}");
    assert_eq!(sum("moved") + sum("skipped"), sum("discovered"), "{export}");
    world.assert_same("large/killed", "1").await
}

#[tokio::test]
async fn a_command_that_was_killed_while_importing_resumes_too() -> Result<()> {
    let world = World::new().await?;
    push_large(&world, "large/pushed").await?;
    let via = world.home.directory("out");
    let arguments = world.arguments(&["--via", &via, "--blob", "b", "large/pushed:1", "-o", "json"]);
    let mut child = world.home.start(&arguments);
    let manifest: serde_json::Value =
        serde_json::from_slice(&world.from.read("large/pushed", "1").await?.unwrap().0)?;
    let layers: Vec<&str> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["digest"].as_str().unwrap())
        .collect();
    until(&mut child, "one layer has arrived", async || {
        for layer in &layers {
            if world.to.has_blob("large/pushed", layer).await {
                return true;
            }
        }
        false
    })
    .await;
    signal(&child, Signal::KILL);
    end(child).await;
    assert_eq!(world.to.read("large/pushed", "1").await?, None, "the tag appears last");
    let report = world.home.run(&arguments).await.ok().json();
    assert_eq!(report["bundles"][0]["state"], "already there");
    let import = &report["totals"]["stages"][1];
    assert!(import["bytes"]["skipped"].as_u64().unwrap() >= 24 << 20, "{import}");
    world.assert_same("large/pushed", "1").await
}

#[tokio::test]
async fn ctrl_c_stops_cleanly_with_130_and_says_how_to_resume() -> Result<()> {
    let world = World::new().await?;
    push_large(&world, "large/stopped").await?;
    let via = world.home.directory("out");
    let arguments = world.arguments(&["--via", &via, "--blob", "b", "large/stopped:1"]);
    let mut child = world.home.start(&arguments);
    until(&mut child, "a block is staged", async || staged_blocks(via.as_ref()) >= 1).await;
    signal(&child, Signal::INT);
    let ended = end(child).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (130, ""), "{ended:#?}");
    assert!(ended.stderr.contains("hint: repeat the same command: it resumes"), "{}", ended.stderr);
    world.transfer(&arguments[5..]).await.ok();
    world.assert_same("large/stopped", "1").await
}

#[tokio::test]
async fn output_is_data_and_talk_is_elsewhere() -> Result<()> {
    let world = World::new().await?;
    push_zoo(&world.from).await?;
    let quiet = world.transfer(&["team/chart:0.1.0", "--quiet"]).await.ok();
    assert_eq!(quiet.stderr, "");
    assert!(quiet.stdout.starts_with("ARTIFACT"), "{quiet:#?}");
    let loud = world.transfer(&["team/chart:0.1.0", "-o", "json"]).await.ok();
    assert_eq!(loud.json()["artifacts"][0]["outcome"], "skipped");
    assert!(
        !format!("{}{}", loud.stdout, loud.stderr).contains('\u{1b}'),
        "no colours and no bars off a terminal"
    );
    Ok(())
}

#[tokio::test]
async fn content_of_another_repository_is_mounted_where_it_is_named() -> Result<()> {
    let world = World::new().await?;
    world.from.image("team/mounted", Some("1"), &[2_500_000, 700]).await?;
    world.to.image("base/images", Some("any"), &[2_500_000]).await?;
    let arguments = ["team/mounted:1", "--mount-from", "base/images", "-o", "json"];
    let report = world.transfer(&arguments).await.ok().json();
    let import = &report["totals"]["stages"][1];
    assert_eq!(import["blobs"]["mounted"], 1, "{import}");
    assert!(import["bytes"]["moved"].as_u64().unwrap() < 10_000, "{import}");
    world.assert_same("team/mounted", "1").await
}

#[tokio::test]
async fn one_artifact_that_fails_does_not_stop_the_others_where_errors_are_passed_over() -> Result<()> {
    let world = World::new().await?;
    push_zoo(&world.from).await?;
    world.to.image("team/app", Some("1"), &[5]).await?;
    let arguments = ["team/app:1", "team/chart:0.1.0"];
    let strict = world.transfer(&arguments).await;
    assert_eq!(strict.code, 1, "{strict:#?}");
    assert_eq!(world.to.read("team/chart", "0.1.0").await?, None, "no tag before all content is in");
    let partial = world.transfer(&[&arguments[..], &["--continue-on-errors"]].concat()).await;
    assert_eq!(partial.code, 3, "{partial:#?}");
    assert!(
        partial.errors().starts_with("error: 1 of 2 artifacts failed\n  caused by: team/app:1: "),
        "{partial:#?}"
    );
    assert!(partial.errors().contains("hint: repeat the command with --overwrite-tags"), "{partial:#?}");
    world.assert_same("team/chart", "0.1.0").await?;
    world.transfer(&[&arguments[..], &["--overwrite-tags"]].concat()).await.ok();
    world.assert_same("team/app", "1").await
}
