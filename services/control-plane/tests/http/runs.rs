use serde_json::{Value, json};
use transship_control_plane::state::RunState;
use transship_model::Code;

use crate::scene::{REGISTRY, Scene, export_run};

const RUN: &str = "/subscriptions/sub/resourceGroups/group/providers/Microsoft.ContainerRegistry/registries/source/pipelineRuns/nightly";

fn succeeded() -> RunState {
    RunState::Succeeded { message: None }
}

fn with_tag(mut run: Value, tag: &str) -> Value {
    run["properties"]["forceUpdateTag"] = tag.into();
    run
}

#[tokio::test]
async fn a_run_is_accepted_with_an_operation_that_tells_how_it_ends() {
    let scene = Scene::start().await;
    scene.pipelines().await;
    let put = scene.put(RUN, &export_run(&["hello-world", "a/b:1"])).await;
    assert_eq!(put.status, 201, "{put:?}");
    assert_eq!(put.header("retry-after"), Some("1"));
    let operation = put.header("azure-asyncoperation").unwrap().to_owned();
    assert!(
        operation.starts_with(&format!("{}{RUN}/operationStatuses/pipelineruns-", scene.url)),
        "{operation}"
    );
    let properties = &put.body["properties"];
    assert_eq!(
        (&properties["provisioningState"], &properties["response"]["status"]),
        (&json!("Creating"), &json!("Running"))
    );
    assert_eq!(properties["request"]["artifacts"], json!(["hello-world:latest", "a/b:1"]));
    let progress = scene.get(&operation).await;
    assert_eq!((progress.status, &progress.body["status"]), (200, &json!("InProgress")));
    assert_eq!(progress.header("retry-after"), Some("1"));

    let message = "a blob named blob is there (set OverwriteBlobs)";
    scene.end("nightly", RunState::Failed { code: Code::BlobExists, message: message.into() }).await;
    let failed = scene.get(&operation).await;
    assert_eq!((failed.status, &failed.body["status"]), (200, &json!("Failed")));
    assert_eq!(failed.body["error"], json!({ "code": "BlobExists", "message": message }));
    let run = scene.get(RUN).await;
    let properties = &run.body["properties"];
    assert_eq!(properties["provisioningState"], "Failed");
    assert_eq!(properties["response"]["pipelineRunErrorMessage"], message);
    assert_eq!(properties["response"]["artifacts"][0]["code"], "BlobExists");
    assert!(properties["response"]["finishTime"].is_string());
}

#[tokio::test]
async fn the_same_put_is_no_work_and_a_forced_one_runs_again() {
    let scene = Scene::start().await;
    scene.pipelines().await;
    let run = export_run(&["a:1"]);
    let first = scene.put(RUN, &run).await;
    let again = scene.put(RUN, &run).await;
    assert_eq!((again.status, &again.body), (200, &first.body));
    assert_eq!(again.header("azure-asyncoperation"), first.header("azure-asyncoperation"));
    scene.end("nightly", succeeded()).await;
    let ended = scene.put(RUN, &run).await;
    assert_eq!((ended.status, &ended.body["properties"]["provisioningState"]), (200, &json!("Succeeded")));
    assert_eq!(ended.header("azure-asyncoperation"), None);
    assert_eq!(ended.body["properties"]["response"]["progress"]["percentage"], "100");

    let forced = scene.put(RUN, &with_tag(run.clone(), "1")).await;
    assert_eq!(forced.status, 201);
    assert_eq!(forced.body["properties"]["response"]["progress"]["percentage"], "0");
    assert_ne!(forced.header("azure-asyncoperation"), first.header("azure-asyncoperation"));
    let old = scene.get(first.header("azure-asyncoperation").unwrap()).await;
    assert_eq!((old.status, old.code()), (404, "OperationNotFound"));
    scene.end("nightly", succeeded()).await;
    assert_eq!(scene.put(RUN, &with_tag(run.clone(), "1")).await.status, 200);
    assert_eq!(scene.put(RUN, &run).await.status, 200);
    assert_eq!(scene.put(RUN, &export_run(&["a:2"])).await.status, 201);
}

#[tokio::test]
async fn a_run_that_is_not_over_cannot_be_changed() {
    let scene = Scene::start().await;
    scene.pipelines().await;
    scene.put(RUN, &export_run(&["a:1"])).await;
    for changed in [export_run(&["a:2"]), with_tag(export_run(&["a:1"]), "1")] {
        let refused = scene.put(RUN, &changed).await;
        assert_eq!((refused.status, refused.code()), (409, "RunInProgress"));
        assert!(refused.body["error"]["message"].as_str().unwrap().contains("delete the run"));
    }
}

#[tokio::test]
async fn a_run_that_is_deleted_is_gone_with_its_operation_and_its_name_is_free() {
    let scene = Scene::start().await;
    scene.pipelines().await;
    let put = scene.put(RUN, &export_run(&["a:1"])).await;
    assert_eq!((scene.delete(RUN).await.status, scene.delete(RUN).await.status), (200, 204));
    assert_eq!(scene.get(put.header("azure-asyncoperation").unwrap()).await.status, 404);
    assert_eq!(scene.put(RUN, &export_run(&["a:2"])).await.status, 201);
}

#[tokio::test]
async fn a_run_goes_on_when_its_pipeline_is_gone_and_is_the_same_without_it() {
    let scene = Scene::start().await;
    scene.pipelines().await;
    let run = export_run(&["a:1"]);
    assert_eq!(scene.put(RUN, &run).await.status, 201);
    assert_eq!(scene.delete(&format!("{REGISTRY}/exportPipelines/pipe1")).await.status, 200);
    assert_eq!(scene.put(RUN, &run).await.status, 200);
    let other = scene.put(&RUN.replace("nightly", "another"), &run).await;
    assert_eq!((other.status, other.code()), (404, "PipelineNotFound"));
}

#[tokio::test]
async fn what_templates_send_is_taken_both_halves_included() {
    let scene = Scene::start().await;
    scene.pipelines().await;
    let unused = json!({ "type": "", "name": "" });
    let import = json!({ "location": "westus", "properties": { "forceUpdateTag": "", "request": {
        "pipelineResourceId": format!("{REGISTRY}/importPipelines/inbox").to_lowercase(),
        "source": { "type": "AzureStorageBlob", "name": "dir/my blob" }, "target": unused,
        "artifacts": [], "catalogDigest": "",
    } } });
    let put = scene.put(RUN, &import).await;
    assert_eq!(put.status, 201, "{put:?}");
    assert_eq!(put.body["location"], "westus");
    assert!(put.body["properties"].get("forceUpdateTag").is_none());
    assert_eq!(put.body["properties"]["request"].get("target"), None);
    let source = &put.body["properties"]["response"]["source"];
    assert_eq!(source["uri"], "https://acct.blob.core.windows.net/c/dir/my%20blob");
}

#[tokio::test]
async fn a_proxys_headers_decide_where_an_operation_is_looked_for() {
    let scene = Scene::start().await;
    scene.pipelines().await;
    let request = scene.request("PUT", &format!("{RUN}?api-version=1&x=y")).json(&export_run(&["a:1"]));
    let request = request.header("x-forwarded-proto", "https").header("x-forwarded-host", "cp.example");
    let request =
        request.header("x-ms-client-request-id", "me-1").header("x-ms-correlation-request-id", "us-1");
    let put = scene.send(request).await;
    let operation = put.header("azure-asyncoperation").unwrap();
    assert!(
        operation.starts_with("https://cp.example/") && operation.ends_with("?api-version=1"),
        "{operation}"
    );
    assert_eq!(put.header("x-ms-client-request-id"), Some("me-1"));
    assert_eq!(put.header("x-ms-correlation-request-id"), Some("us-1"));
}
