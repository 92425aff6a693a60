use serde_json::json;
use transship_api::{Kind, ResourceId};
use transship_control_plane::state::{NewDeadLetter, Queue, SeenBlob, SeenVerdict};

use crate::scene::{CONTAINER, REGISTRY, Scene, export_run};

fn letter(message_id: &str) -> NewDeadLetter {
    NewDeadLetter {
        queue: Queue::ExporterParts,
        message_id: message_id.into(),
        kind: "export.part".into(),
        execution: None,
        headers: Default::default(),
        body: vec![1, 2, 3],
        reason: "rejected".into(),
        at_ms: 1_700_000_000_000,
    }
}

#[tokio::test]
async fn dead_letters_are_listed_and_put_back_once() {
    let scene = Scene::start().await;
    let id = scene.store.add_dead_letter(letter("one")).await.unwrap();
    scene.store.add_dead_letter(letter("two")).await.unwrap();
    let first = scene.get("/transship/v1/dead-letters?$top=1").await;
    let value = &first.body["value"][0];
    assert_eq!(
        (&value["messageId"], &value["bodyBytes"], &value["queue"]),
        (&json!("one"), &json!(3), &json!("exporter-parts"))
    );
    let second = scene.get(first.body["nextLink"].as_str().unwrap()).await;
    assert_eq!(second.body["value"][0]["messageId"], "two");
    assert!(second.body.get("nextLink").is_none());
    let requeue = format!("/transship/v1/dead-letters/{id}/requeue");
    let done = scene.send(scene.request("POST", &requeue)).await;
    assert!(done.status == 200 && done.body["requeuedAt"].is_string(), "{done:?}");
    let again = scene.send(scene.request("POST", &requeue)).await;
    assert_eq!((again.status, again.code()), (409, "AlreadyRequeued"));
    let unknown = scene.send(scene.request("POST", "/transship/v1/dead-letters/99/requeue")).await;
    assert_eq!(unknown.status, 404);
}

#[tokio::test]
async fn a_pipeline_tells_of_each_blob_why_it_is_imported_or_not() {
    let scene = Scene::start().await;
    scene.pipelines().await;
    let pipeline = ResourceId::registry("sub", "group", "source").child(Kind::ImportPipeline, "inbox").key();
    for (blob, verdict) in [
        ("a", SeenVerdict::Imported { run: "inbox_1".into(), note: None }),
        ("b", SeenVerdict::Ignored { reason: "it is not a bundle".into() }),
        (
            "c",
            SeenVerdict::Waiting { reason: "a copier will announce it".into(), until_ms: 1_700_000_000_000 },
        ),
    ] {
        let (blob, pipeline) = (blob.parse().unwrap(), pipeline.clone());
        let seen =
            SeenBlob { pipeline, blob, etag: "e".into(), length: 7, verdict, first_ms: 0, changed_ms: 0 };
        scene.store.put_seen_blob(seen).await.unwrap();
    }
    let path = format!("/transship/v1/pipelines{REGISTRY}/importPipelines/inbox/blobs?$top=2");
    let first = scene.send(scene.request("GET", &path)).await;
    let imported = &first.body["value"][0];
    assert_eq!((&imported["verdict"], &imported["run"]), (&json!("Imported"), &json!("inbox_1")));
    assert_eq!(imported["runStatus"], "Deleted");
    assert!(imported["reason"].as_str().unwrap().contains("a hint that names this blob"));
    assert_eq!(first.body["value"][1]["reason"], "it is not a bundle");
    let second = scene.send(scene.request("GET", first.body["nextLink"].as_str().unwrap())).await;
    assert_eq!((second.body["value"][0]["blob"].as_str(), second.body.get("nextLink")), (Some("c"), None));
    let unknown = scene.send(scene.request("GET", &path.replace("inbox", "other"))).await;
    assert_eq!(unknown.status, 404);
}

#[tokio::test]
async fn an_artifact_is_found_in_the_newest_runs_that_carried_it() {
    let scene = Scene::start().await;
    scene.pipelines().await;
    for (name, artifacts) in
        [("first", ["a/b_c:1", "x:1"]), ("second", ["a/b_c:1", "y:1"]), ("third", ["a/bxc:1", "z:1"])]
    {
        scene.put(&format!("{REGISTRY}/pipelineRuns/{name}"), &export_run(&artifacts)).await;
    }
    let found = scene.get("/transship/v1/artifacts?reference=a/b_c:1").await;
    let value = found.body["value"].as_array().unwrap();
    let runs: Vec<&str> =
        value.iter().map(|one| one["run"].as_str().unwrap().rsplit('/').next().unwrap()).collect();
    assert_eq!(runs, ["second", "first"]);
    assert_eq!(
        (&value[0]["artifact"]["result"], &value[0]["status"]),
        (&json!("Pending"), &json!("Running"))
    );
    assert_eq!(scene.get("/transship/v1/artifacts?reference=nowhere").await.body, json!({ "value": [] }));
    for (query, code) in [("", "MissingReference"), ("?reference=A:1", "InvalidArtifactReference")] {
        assert_eq!(scene.get(&format!("/transship/v1/artifacts{query}")).await.code(), code);
    }
}

#[tokio::test]
async fn hints_reach_those_who_look() {
    let scene = Scene::start().await;
    scene.pipelines().await;
    scene.heard.looks.lock().unwrap().clear();
    let hint = format!("{REGISTRY}/importPipelines/inbox/hint");
    let post = |path: &str, body: &'static str| scene.request("POST", path).body(body);
    assert_eq!(scene.send(post(&hint, "")).await.status, 202);
    assert_eq!(scene.send(post(&hint, r#"{"blob": "x.tar"}"#)).await.status, 202);
    let looks = [("inbox".to_owned(), None), ("inbox".to_owned(), Some("x.tar".to_owned()))];
    assert_eq!(*scene.heard.looks.lock().unwrap(), looks);
    assert_eq!(scene.send(post(&hint, r#"{"blob": "../x"}"#)).await.code(), "InvalidBlobName");
    assert_eq!(scene.send(post(&hint, r#"{"blob": 7}"#)).await.code(), "InvalidRequestContent");
    assert_eq!(scene.send(post(&hint.replace("inbox", "other"), "")).await.status, 404);
}

#[tokio::test]
async fn event_grid_and_registries_are_understood() {
    let scene = Scene::start().await;
    let post = |path: &str, body: &serde_json::Value| scene.request("POST", path).json(body);
    let validation = json!([{
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": { "validationCode": "512d38b6" },
    }]);
    let proof = scene.send(post("/transship/v1/webhooks/eventgrid", &validation)).await;
    assert_eq!((proof.status, &proof.body), (200, &json!({ "validationResponse": "512d38b6" })));
    let created = json!([{ "eventType": "Microsoft.Storage.BlobCreated", "data": { "url": format!("{CONTAINER}/x.tar") } }]);
    assert_eq!(scene.send(post("/transship/v1/webhooks/eventgrid", &created)).await.status, 200);
    assert_eq!(
        scene.heard.blobs.lock().unwrap().iter().map(|blob| blob.as_str()).collect::<Vec<_>>(),
        ["x.tar"]
    );
    let push = json!({ "events": [{ "action": "push", "target": {
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "repository": "a", "tag": "1",
        "digest": format!("sha256:{}", "0".repeat(64)),
    }, "request": { "host": "internal:5000" } }] });
    let path = "/transship/v1/webhooks/registry?registry=source";
    assert_eq!(scene.send(post(path, &push)).await.status, 200);
    let pushes = scene.heard.pushes.lock().unwrap().clone();
    assert_eq!((pushes[0].tag.as_str(), pushes[0].host.as_deref()), ("1", Some("127.0.0.1:5000")));
    assert_eq!(scene.send(post(&path.replace("source", "a-b"), &push)).await.code(), "UnknownRegistry");
    assert_eq!(
        scene.send(post("/transship/v1/webhooks/eventgrid", &json!(7))).await.code(),
        "InvalidNotification"
    );
    let asks = scene
        .request("OPTIONS", "/transship/v1/webhooks/eventgrid")
        .header("webhook-request-origin", "eventgrid.azure.net");
    let may = scene.send(asks).await;
    assert_eq!((may.status, may.header("webhook-allowed-origin")), (200, Some("eventgrid.azure.net")));
}

#[tokio::test]
async fn health_and_the_document_are_served() {
    let scene = Scene::start().await;
    let health = scene.get("/transship/v1/health").await;
    assert_eq!((health.status, &health.body["reasons"]), (200, &json!(["process: starting"])));
    assert_eq!(health.body["unattended"], json!(["importer.imports"]));
    let document = scene.get("/openapi.json").await;
    assert!(document.body["openapi"].as_str().unwrap().starts_with('3'));
}

#[tokio::test]
async fn a_pipeline_says_what_watches_it() {
    let scene = Scene::start().await;
    scene.pipelines().await;
    let path = |pipeline: &str| format!("/transship/v1/pipelines{REGISTRY}/{pipeline}/watch");
    let inbox = scene.get(&path("importPipelines/inbox")).await.body;
    let expected = json!({ "watching": true, "elsewhere": false, "checked": "1970-01-01T00:00:00.000+00:00", "seen": 7 });
    assert_eq!(inbox, expected);
    assert_eq!(scene.get(&path("exportPipelines/pipe1")).await.body["watching"], false);
    assert_eq!(scene.get(&path("exportPipelines/nowhere")).await.status, 404);
}
