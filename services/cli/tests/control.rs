//! The commands that ask a control plane, against a small one on loopback.

mod support;

use serde_json::{Value, json};
use support::*;
use transship_rig::Registry;

const EXPORT: &str = "pipeline export create nightly --container https://a.blob.core.windows.net/out \
                      --secret-uri https://v.vault.azure.net/secrets/out";

#[tokio::test]
async fn pipelines_are_made_listed_shown_and_deleted() {
    let world = World::new().await;
    let seen = world
        .transcript(&[
            "pipeline export list",
            &format!("{EXPORT} --overwrite-blobs --replicate team/** --interval 30"),
            "pipeline import create arrivals --container https://b.blob.core.windows.net/in \
             --storage-access-mode managed-identity --assign-identity /subscriptions/s/i --delete-source-blob",
            "pipeline export list",
            "pipeline import list",
            "pipeline import show arrivals",
            "pipeline export delete nightly",
            "pipeline export delete nightly",
            "pipeline export show nightly",
        ])
        .await;
    insta::assert_snapshot!("pipelines", seen);
    let puts: Vec<Heard> = world.fake.heard().into_iter().filter(|heard| heard.method == "PUT").collect();
    assert_eq!(puts[0].path, format!("{REGISTRY}/exportPipelines/nightly"));
    assert!(puts[0].query.contains("api-version=2025-06-01-preview"));
    assert_eq!(
        puts[0].body,
        json!({
            "identity": {"type": "SystemAssigned"},
            "properties": {
                "target": {
                    "type": "AzureStorageBlobContainer", "uri": "https://a.blob.core.windows.net/out",
                    "keyVaultUri": "https://v.vault.azure.net/secrets/out", "storageAccessMode": "SasToken"
                },
                "options": ["OverwriteBlobs"],
                "schedule": {
                    "repositories": ["team/**"], "tags": {}, "intervalSeconds": 30,
                    "notifications": true, "batchSeconds": 2
                }
            }
        })
    );
    assert_eq!(
        puts[1].body,
        json!({
            "identity": {"type": "UserAssigned", "userAssignedIdentities": {"/subscriptions/s/i": {}}},
            "properties": {
                "source": {
                    "type": "AzureStorageBlobContainer", "uri": "https://b.blob.core.windows.net/in",
                    "storageAccessMode": "ManagedIdentity"
                },
                "trigger": {"sourceTrigger": {"status": "Enabled"}},
                "options": ["DeleteSourceBlobOnSuccess"]
            }
        })
    );
}

#[tokio::test]
async fn lists_are_whole_arrays_whatever_their_pages_and_the_token_stays_with_its_control_plane() {
    let world = World::new().await;
    assert_eq!(world.run("route list -o json").await.ok().json(), json!([]));
    for n in 1..=5 {
        world
            .run(&format!("route create route{n} --from https://a.example/c --to https://b.example/c --import-pipeline p{n}"))
            .await
            .ok();
    }
    let listed = world.run("route list -o json").await.ok().json();
    let names: Vec<&str> =
        listed.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["route1", "route2", "route3", "route4", "route5"]);
    insta::assert_snapshot!(
        "routes",
        world.transcript(&["route list", "route show route2", "route delete route2"]).await
    );
}

fn stage(status: &str, moved: u64) -> Value {
    json!([{
        "stage": "exporter", "status": status, "partsDone": u64::from(status == "Succeeded"), "parts": 1, "attempts": 1,
        "bytes": {"discovered": 2048, "moved": moved, "skipped": 0, "failed": 2048 - moved}, "inFlight": []
    }])
}

fn artifact(name: &str, result: &str, more: Value) -> Value {
    let mut artifact = json!({"artifact": name, "result": result, "stage": "exporter"});
    artifact.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    artifact
}

#[tokio::test]
async fn a_run_is_started_followed_and_ends_the_command_as_it_ended() {
    let world = World::new().await;
    let waiting = json!({"response": {"waitingFor": "the broker"}});
    let running = json!({"provisioningState": "Running", "response": {
        "waitingFor": null, "progress": {"percentage": "50"},
        "stages": [{"stage": "exporter", "status": "Retrying", "partsDone": 0, "parts": 1, "attempts": 2,
                    "bytes": {"discovered": 2048, "moved": 1024, "skipped": 0, "failed": 0}, "message": "the registry is away"}],
        "artifacts": [artifact("team/app:1", "Pending", json!({}))]
    }});
    let done = json!({"provisioningState": "Succeeded", "response": {
        "status": "Succeeded", "progress": {"percentage": "100"}, "finishTime": "2026-11-25T20:00:09+00:00",
        "stages": stage("Succeeded", 2048), "artifacts": [artifact("team/app:1", "Succeeded", json!({}))]
    }});
    world.fake.play("nightly1", &[waiting, running, done]);
    let line = "run create nightly1 --export-pipeline nightly --artifact team/app:1 --blob nightly --watch";
    insta::assert_snapshot!("run_watched", world.settled(line, &world.run(line).await));
    assert_eq!(
        world.fake.last_put(),
        json!({"properties": {"request": {
            "pipelineResourceId": format!("{REGISTRY}/exportPipelines/nightly"),
            "artifacts": ["team/app:1"],
            "target": {"type": "AzureStorageBlob", "name": "nightly"}
        }}})
    );
}

#[tokio::test]
async fn a_run_that_fails_or_fails_in_part_has_its_own_exit_code() {
    let world = World::new().await;
    let ended = |state: &str, message: Value, artifacts: Value| {
        json!({"provisioningState": state, "response": {
            "status": state, "finishTime": "2026-11-25T20:01:01+00:00", "pipelineRunErrorMessage": message,
            "progress": {"percentage": "100"}, "stages": stage(state, 1024), "artifacts": artifacts
        }})
    };
    let failed = artifact(
        "team/b:2",
        "Failed",
        json!({"code": "ArtifactNotFound", "message": "there is none", "hint": "check the tag"}),
    );
    let expired = artifact(
        "team/b:2",
        "Failed",
        json!({"code": "SasExpired", "message": "it has expired", "hint": "issue a new one"}),
    );
    world.fake.play(
        "partly1",
        &[ended("Succeeded", json!(null), json!([artifact("team/a:1", "Succeeded", json!({})), failed]))],
    );
    world.fake.play("failed1", &[ended("Failed", json!("team/b:2: there is none"), json!([failed]))]);
    world.fake.play("expired1", &[ended("Failed", json!("the SAS token has expired"), json!([expired]))]);
    for name in ["partly1", "failed1", "expired1"] {
        let line = format!("run create {name} --export-pipeline nightly --artifact team/b:2 --blob {name}");
        world.run(&line).await.ok();
    }
    let seen = world
        .transcript(&[
            "run watch partly1",
            "run watch failed1",
            "run watch expired1 -q",
            "run watch missing1",
            "run list",
            "run list --last 1",
            "run clean --dry-run",
            "run clean",
            "run list -q",
            "run delete partly1",
            "run delete partly1",
        ])
        .await;
    insta::assert_snapshot!("runs", seen);
    let json = world.run("run clean --dry-run -o json").await.ok().json();
    assert_eq!(json, json!([]));
}

#[tokio::test]
async fn a_control_plane_that_is_busy_is_asked_again_and_one_that_stays_busy_is_told() {
    let world = World::new().await;
    world.fake.inner.lock().unwrap().refusals.extend([(429, "0"), (503, "0"), (502, "0")]);
    world.run("run list").await.ok();
    assert_eq!(world.fake.heard().len(), 4);
    world.fake.inner.lock().unwrap().refusals.extend([(429, "0"); 5]);
    let ended = world.run("run list").await;
    insta::assert_snapshot!("busy", world.settled("run list", &ended));
    assert_eq!(world.fake.heard().len(), 9, "five times, and no more");
}

#[tokio::test]
async fn what_goes_wrong_says_what_to_do() {
    let world = World::new().await;
    let refused = json!({"error": {
        "code": "MultipleErrors", "message": "The pipeline is not valid.",
        "details": [{"code": "InvalidUri", "message": "The container's address is wrong.", "target": "properties.target.uri"}]
    }});
    world.fake.answer(&format!("{REGISTRY}/exportPipelines/broken"), 400, refused);
    world.fake.answer(
        &format!("{REGISTRY}/exportPipelines/locked"),
        403,
        json!({"error": {"code": "AuthorizationFailed", "message": "This token may read only."}}),
    );
    world.fake.answer(
        &format!("{REGISTRY}/pipelineRuns/running1"),
        409,
        json!({"error": {"code": "Conflict", "message": "The run is going on."}}),
    );
    world.fake.answer(&format!("{REGISTRY}/exportPipelines/strange"), 200, json!("hello"));
    let mut seen = world
        .transcript(&[
            "pipeline export create nightly",
            "pipeline export create nightly --container https://a.example/c",
            "pipeline export create nightly --container https://a.example/c --secret-uri https://v/secrets/x --storage-access-mode managed-identity",
            "pipeline export create n! --container https://a.example/c --secret-uri https://v/secrets/x",
            "pipeline export show ../x",
            "pipeline export show broken",
            "pipeline export delete locked",
            "pipeline export show strange",
            "run create running1 --export-pipeline nightly --artifact a:1 --blob b",
            "run create nightly1 --export-pipeline nightly --blob b",
            "run create nightly1 --export-pipeline /subscriptions/x --artifact a:1 --blob b",
            "run create nightly1 --blob b",
            "run show nothing1",
            "pipeline export list --context nowhere",
        ])
        .await;
    world.home.write("token", "CANARY-old");
    seen += &world.transcript(&["run list"]).await;
    std::fs::remove_file(world.home.path("token")).unwrap();
    seen += &world.transcript(&["run list", "context delete here", "run list"]).await;
    insta::assert_snapshot!("control_errors", seen);
}

#[tokio::test]
async fn contexts_are_remembered_without_a_token() {
    let world = World::new().await;
    let seen = world
        .transcript(&[
            "context list",
            "context set away --url https://transship.example --registry fabrikam",
            "context set away --group g2",
            "context list",
            "context use away",
            "context show",
            "context show here",
            "context list -o json",
            "context use nowhere",
            "context set plain --url http://transship.example",
            "context set new",
            "context set b@d --url https://x.example",
            "context delete away",
            "context show away",
        ])
        .await;
    insta::assert_snapshot!("contexts", seen);
    let kept = std::fs::read_to_string(world.home.path(".config/transship/contexts.toml")).unwrap();
    assert!(!kept.contains(TOKEN), "{kept}");
}

#[tokio::test]
async fn a_stack_on_this_machine_is_found_by_its_file() {
    let (mut home, fake) = (Home::new(), Fake::start().await);
    home.directory(".local");
    let endpoints = json!({
        "control_plane": {"url": fake.url, "token": TOKEN, "subscription": "local"},
        "source_registry": {"url": "http://127.0.0.1:1", "name": "source"},
        "target_registry": {"url": "http://127.0.0.1:2", "name": "target"},
        "source_container": {"url": "http://127.0.0.1:3/a/c", "sas": "CANARY"},
        "target_container": {"url": "http://127.0.0.1:4/b/c", "sas": "CANARY"},
        "export_secret": "https://local.vault/secrets/source", "import_secret": "https://local.vault/secrets/target"
    });
    home.write(".local/endpoints.json", &endpoints.to_string());
    home.run(&["pipeline", "export", "create", "nightly"]).await.ok();
    home.run(&["pipeline", "import", "create", "arrivals"]).await.ok();
    let puts = fake.heard();
    assert!(puts[0].path.ends_with("/registries/source/exportPipelines/nightly"), "{puts:?}");
    assert_eq!(puts[0].body["properties"]["target"]["uri"], "http://127.0.0.1:3/a/c");
    assert_eq!(puts[0].body["properties"]["target"]["keyVaultUri"], "https://local.vault/secrets/source");
    assert!(puts[1].path.ends_with("/registries/target/importPipelines/arrivals"), "{puts:?}");
    assert_eq!(puts[1].body["properties"]["source"]["keyVaultUri"], "https://local.vault/secrets/target");
    home.run(&["run", "create", "arrived1", "--import-pipeline", "arrivals", "--blob", "b"]).await.ok();
    let shown = home.run(&["run", "show", "arrived1", "-o", "json"]).await.ok().json();
    assert!(shown["id"].as_str().unwrap().contains("/registries/target/"), "it is found in either registry");
    home.set("TRANSSHIP_TOKEN", "CANARY-other");
    let refused = home.run(&["run", "list"]).await;
    assert_eq!(refused.code, 4, "the environment's token wins: {refused:?}");
    assert!(!format!("{refused:?}").contains("CANARY"));
}

#[tokio::test]
async fn artifacts_and_blobs_are_looked_up() {
    let world = World::new().await;
    let run = format!("{REGISTRY}/pipelineRuns/nightly1");
    world.fake.answer("/transship/v1/artifacts", 200, json!({"value": [{
        "run": run, "status": "Succeeded", "startTime": "2026-11-25T20:00:00+00:00", "stages": [],
        "artifact": artifact("team/app:1", "Succeeded", json!({"digest": format!("sha256:{}", "a".repeat(64))}))
    }]}));
    world.fake.answer(&format!("/transship/v1/pipelines{REGISTRY}/importPipelines/arrivals/blobs"), 200, json!({"value": [
        {"blob": "nightly", "etag": "e", "length": 2048, "verdict": "Imported", "run": run, "firstSeen": "", "changed": ""},
        {"blob": "notes.txt", "etag": "e", "length": 5, "verdict": "Ignored", "reason": "it is not a bundle", "firstSeen": "", "changed": ""}
    ]}));
    insta::assert_snapshot!(
        "lookups",
        world.transcript(&["artifact show team/app:1", "blob list arrivals", "artifact show team"]).await
    );
    assert!(world.fake.heard()[0].query.contains("reference=team%2Fapp%3A1"));
    world.fake.answer("/transship/v1/artifacts", 200, json!({"value": []}));
    assert_eq!(world.run("artifact show team/app:2 -o json").await.ok().json(), json!([]));
}

#[tokio::test]
async fn repositories_are_asked_of_the_registry_itself() -> anyhow::Result<()> {
    let (world, registry) = (World::new().await, Registry::start().await?);
    Pusher::new(&registry.url()).image("team/app", Some("1"), &[2000]).await?;
    world.fake.answer(REGISTRY, 200, json!({
        "id": REGISTRY, "name": "contoso", "type": "Microsoft.ContainerRegistry/registries", "location": "local",
        "properties": {
            "loginServer": registry.host(), "provisioningState": "Succeeded",
            "policies": {"exportPolicy": {"status": "enabled"}}
        }
    }));
    assert_eq!(world.run("repository list").await.ok().stdout, "team/app\n");
    assert_eq!(world.run("repository list -o json").await.ok().json(), json!(["team/app"]));
    let direct = world.run(&format!("repository list --address {}", registry.host())).await.ok();
    assert_eq!(direct.stdout, "team/app\n");
    world.fake.answer("/transship/v1/health", 200, json!({"version": "0.1.0", "ready": true, "reasons": []}));
    let place = world.home.directory("out");
    let well = world.run(&format!("doctor --container {place}")).await.ok();
    insta::assert_snapshot!(
        "doctor_well",
        world.settled("doctor", &well).replace(registry.host(), "[REGISTRY]")
    );
    Ok(())
}

#[tokio::test]
async fn what_keeps_a_pipeline_from_its_work_is_told_by_whoever_shows_it() {
    let world = World::new().await;
    world.run("pipeline import create arrivals --container https://a.blob.core.windows.net/in --secret-uri https://v.vault.azure.net/secrets/in").await.ok();
    let pipeline = format!("{REGISTRY}/importPipelines/arrivals");
    let problem = "https://v.vault.azure.net/secrets/in is not read: there is no such secret (make it)";
    world.fake.answer(&format!("/transship/v1/pipelines{pipeline}/blobs"), 200, json!({"value": []}));
    let watch = json!({"watching": true, "elsewhere": false, "seen": 0, "problem": problem});
    world.fake.answer(&format!("/transship/v1/pipelines{pipeline}/watch"), 200, watch.clone());
    let ready = json!({"version": "0.1.0", "ready": true, "reasons": []});
    world.fake.answer("/transship/v1/health", 200, ready);
    let lines = ["pipeline import show arrivals", "blob list arrivals", "doctor --address 127.0.0.1:1"];
    insta::assert_snapshot!("kept_from_its_work", world.transcript(&lines).await);
    let shown = world.run("pipeline import show arrivals -o json").await.ok();
    assert_eq!(shown.json()["watch"], watch);
}

#[tokio::test]
async fn a_doctor_names_everything_that_does_not_work() {
    let world = World::new().await;
    world.fake.answer(
        "/transship/v1/health",
        200,
        json!({"version": "0.1.0", "ready": false, "reasons": ["broker: it is away"]}),
    );
    let lines = [
        "doctor --container ./missing --address 127.0.0.1:1",
        "doctor --context nowhere",
        "doctor -o json --address 127.0.0.1:1",
    ];
    insta::assert_snapshot!("doctor_ill", world.transcript(&lines).await);
}

#[tokio::test]
async fn a_template_is_deployed_with_its_parameters() {
    let world = World::new().await;
    let deployment =
        "/subscriptions/sub/resourceGroups/grp/providers/Microsoft.Resources/deployments/pipelines";
    world.fake.answer(deployment, 201, json!({
        "id": deployment, "name": "pipelines", "type": "Microsoft.Resources/deployments",
        "properties": {
            "provisioningState": "Succeeded", "correlationId": "c", "timestamp": "t", "duration": "PT1S", "mode": "Incremental",
            "parameters": {}, "outputs": {"id": {"type": "string", "value": "x"}},
            "outputResources": [{"id": REGISTRY}, {"id": format!("{REGISTRY}/exportPipelines/nightly")}],
            "notApplied": [{"id": REGISTRY, "type": "registries", "reason": "it is configured"}]
        }
    }));
    world.home.write(
        "pipelines.json",
        r#"{"parameters": {"name": {"type": "string"}, "options": {"type": "array"}}, "resources": []}"#,
    );
    world
        .home
        .write("values.json", r#"{"parameters": {"name": {"value": "first"}, "options": {"value": []}}}"#);
    let line = "deployment create --template-file pipelines.json --parameters values.json --parameters options=[\"A\"]";
    let seen = world
        .transcript(&[line, "deployment show pipelines", "deployment create --template-file nowhere.json"])
        .await;
    insta::assert_snapshot!("deployments", seen);
    let put = world.fake.last_put();
    assert_eq!(put["properties"]["mode"], "Incremental");
    assert_eq!(
        put["properties"]["parameters"],
        json!({"name": {"value": "first"}, "options": {"value": ["A"]}})
    );
}
