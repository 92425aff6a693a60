//! Runs of a control plane that are asked for twice, left alone, and cleaned up.

mod support;

use serde_json::json;
use support::*;

#[tokio::test]
async fn the_same_run_twice_is_one_run_unless_it_is_forced() {
    let world = World::new().await;
    let line = "run create arrived1 --import-pipeline arrivals --blob nightly --catalog-digest sha256:00";
    let first = world.run(line).await.ok();
    assert!(!first.stderr.contains("nothing was started"), "{first:?}");
    let again = world.run(line).await.ok();
    assert!(again.stderr.contains("nothing was started; --force"), "{again:?}");
    let forced = world.run(&format!("{line} --force -o json")).await.ok();
    assert!(forced.stderr.is_empty() && forced.json()["properties"]["forceUpdateTag"].is_string());
    let request = &world.fake.last_put()["properties"]["request"];
    assert_eq!(request["source"], json!({"type": "AzureStorageBlob", "name": "nightly"}));
    assert_eq!(request["catalogDigest"], "sha256:00");
}

#[tokio::test]
async fn of_many_runs_only_the_pages_of_the_newest_are_read() {
    let world = World::new().await;
    for number in 1..=9 {
        let line =
            format!("run create nightly{number} --export-pipeline nightly --artifact a:{number} --blob b");
        world.run(&line).await.ok();
    }
    let before = world.fake.heard().len();
    let listed = world.run("run list --last 3 -o json").await.ok().json();
    let names: Vec<&str> = listed.as_array().unwrap().iter().filter_map(|run| run["name"].as_str()).collect();
    assert_eq!(names, ["nightly7", "nightly8", "nightly9"], "oldest first");
    let pages = world.fake.heard().len() - before;
    assert_eq!(pages, 2);
}

#[tokio::test]
async fn a_run_that_is_followed_goes_on_when_the_command_is_interrupted() {
    let world = World::new().await;
    world.run("run create nightly1 --export-pipeline nightly --artifact a:1 --blob b").await.ok();
    let mut child = world.home.start(&["run", "watch", "nightly1"]);
    let asked = |world: &World| world.fake.heard().iter().filter(|heard| heard.method == "GET").count();
    until(&mut child, "it asks twice", async || asked(&world) >= 3).await;
    signal(&child, rustix::process::Signal::INT);
    let ended = end(child).await;
    assert_eq!(ended.code, 130);
    assert!(ended.stderr.contains("`transship run watch nightly1` follows it again"), "{ended:?}");
}

#[tokio::test]
async fn a_failed_run_that_cannot_be_deleted_keeps_no_other_one_from_being_deleted() {
    let world = World::new().await;
    for name in ["first1", "second1", "third1"] {
        let failed = json!({"provisioningState": "Failed", "response": {"status": "Failed"}});
        world.fake.play(name, &[failed]);
        let line = format!("run create {name} --export-pipeline nightly --artifact a:1 --blob {name}");
        world.run(&line).await.ok();
        world.run(&format!("run show {name}")).await.ok();
    }
    let refused = json!({"error": {"code": "AuthorizationFailed", "message": "This one is kept."}});
    world.fake.answer(&format!("{REGISTRY}/pipelineRuns/second1"), 403, refused);
    let ended = world.run("run clean").await;
    assert_eq!(ended.code, 4, "{ended:?}");
    assert_eq!(ended.stdout, "first1\nthird1\n2 failed runs deleted\n");
    assert!(ended.stderr.contains("delete run second1"), "{ended:?}");
    let again = world.run("run clean -o json").await;
    assert_eq!(again.json()[0]["deleted"], false);
    assert!(again.json()[0]["problem"].as_str().unwrap().contains("This one is kept"), "{again:?}");
}
