use serde_json::{Value, json};
use transship_control_plane::api::LimitsConfig;

use crate::scene::{CONTAINER, GROUP, REGISTRY, Scene, VAULT, With, export_run};

#[tokio::test]
async fn every_wrong_request_gets_an_error_that_says_what_to_change() {
    let limits = LimitsConfig { artifacts_per_run: 2, body_bytes: 4096, ..LimitsConfig::default() };
    let scene = Scene::with(With { limits, ..With::default() }).await;
    scene.pipelines().await;
    let run = format!("{REGISTRY}/pipelineRuns/nightly");
    let export = format!("{REGISTRY}/exportPipelines/other");
    let target = |target: Value| json!({ "properties": { "target": target } });
    let sas = format!("{CONTAINER}?sig=CANARY");
    let other_registry = export_run(&["a:1"]);
    let other = REGISTRY.replace("/source", "/contoso");
    for (method, path, body, status, code) in [
        ("PUT", format!("{run}1?api-version="), export_run(&["a:1"]), 400, "MissingApiVersionParameter"),
        ("PUT", format!("{REGISTRY}/pipelineRuns/run"), export_run(&["a:1"]), 400, "InvalidResourceName"),
        ("PUT", format!("{REGISTRY}/pipelineRuns/my_run"), export_run(&["a:1"]), 400, "InvalidResourceName"),
        (
            "PUT",
            REGISTRY.replace("/source", "/x-y") + "/pipelineRuns/nightly",
            export_run(&["a:1"]),
            400,
            "InvalidRegistryName",
        ),
        ("PUT", format!("{other}/pipelineRuns/nightly"), other_registry, 400, "PipelineOfAnotherRegistry"),
        ("PUT", run.clone(), export_run(&[]), 400, "NoArtifacts"),
        ("PUT", run.clone(), export_run(&["a", "b", "c"]), 400, "TooManyArtifacts"),
        ("PUT", run.clone(), export_run(&["UPPER:1"]), 400, "InvalidArtifactReference"),
        ("PUT", run.clone(), export_run(&["a:1", "a:1"]), 400, "DuplicateArtifact"),
        ("PUT", run.clone(), json!({ "properties": {} }), 400, "InvalidRequestContent"),
        (
            "PUT",
            run.clone(),
            json!({ "properties": { "request": { "artifacts": "a" } } }),
            400,
            "InvalidRequestContent",
        ),
        ("PUT", run.clone(), json!([]), 400, "InvalidRequestContent"),
        ("PUT", run.clone(), export_run(&["a".repeat(5000).as_str()]), 413, "RequestBodyTooLarge"),
        ("PUT", export.clone(), json!({}), 400, "InvalidRequestContent"),
        (
            "PUT",
            export.clone(),
            target(json!({ "uri": sas, "keyVaultUri": VAULT })),
            400,
            "InvalidContainerUri",
        ),
        ("PUT", export.clone(), target(json!({ "uri": CONTAINER })), 400, "MissingKeyVaultUri"),
        (
            "PUT",
            export.clone(),
            target(json!({ "uri": CONTAINER, "keyVaultUri": "x" })),
            400,
            "InvalidKeyVaultUri",
        ),
        ("GET", format!("{REGISTRY}/webhooks"), Value::Null, 404, "InvalidResourcePath"),
        ("GET", format!("{GROUP}/providers/Microsoft.Storage/x"), Value::Null, 404, "InvalidResourcePath"),
        ("GET", "/".to_owned(), Value::Null, 404, "InvalidResourcePath"),
        ("GET", run.clone(), Value::Null, 404, "ResourceNotFound"),
        ("PATCH", run.clone(), json!({}), 405, "MethodNotAllowed"),
        ("DELETE", format!("{REGISTRY}/pipelineRuns"), Value::Null, 405, "MethodNotAllowed"),
        ("GET", format!("{REGISTRY}/pipelineRuns?$top=0"), Value::Null, 400, "InvalidQueryParameter"),
        ("GET", format!("{REGISTRY}/pipelineRuns?$skipToken=x"), Value::Null, 400, "InvalidQueryParameter"),
    ] {
        let path = match (path.contains("api-version"), path.contains('?')) {
            (true, _) => path,
            (false, true) => format!("{path}&api-version=1"),
            (false, false) => format!("{path}?api-version=1"),
        };
        let mut request = scene.request(method, &path);
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = scene.send(request).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{method} {path} {body}");
        let error = &answer.body["error"];
        assert!(error["message"].as_str().is_some_and(|message| message.len() > 20), "{error}");
        assert!(!answer.body.to_string().contains("CANARY"));
        assert_eq!(answer.header("allow").is_some(), status == 405);
        assert!(answer.header("x-ms-request-id").is_some());
    }
    // Nothing of all this was kept.
    assert_eq!(scene.get(&format!("{REGISTRY}/pipelineRuns")).await.body, json!({ "value": [] }));
}

#[tokio::test]
async fn a_body_that_is_not_json_is_told_so() {
    let scene = Scene::start().await;
    let path = format!("{REGISTRY}/pipelineRuns/nightly?api-version=1");
    for body in ["", "{", "nonsense", "{} trailing"] {
        let answer = scene.send(scene.request("PUT", &path).body(body)).await;
        assert_eq!((answer.status, answer.code()), (400, "InvalidRequestContent"), "{body}");
    }
}

#[tokio::test]
async fn all_faults_of_a_request_are_told_at_once() {
    let scene = Scene::start().await;
    let body =
        json!({ "properties": { "target": { "uri": "x", "storageAccessMode": "y" }, "options": ["z"] } });
    let answer = scene.put(&format!("{REGISTRY}/exportPipelines/pipe1"), &body).await;
    let error = &answer.body["error"];
    let targets: Vec<&Value> =
        std::iter::once(error).chain(error["details"].as_array().unwrap()).map(|e| &e["target"]).collect();
    assert_eq!(
        targets,
        ["properties.target.storageAccessMode", "properties.target.uri", "properties.options[0]"]
    );
}
