use serde_json::{Value, json};

use super::*;

const PIPELINES: &str =
    "/subscriptions/S/resourceGroups/G/providers/Microsoft.ContainerRegistry/registries/contoso";

fn registry() -> ResourceId {
    ResourceId::registry("s", "g", "contoso")
}

fn check(request: Value) -> Result<CheckedRun, Refusal> {
    let properties = serde_json::from_value(json!({ "request": request })).unwrap();
    run(&registry(), properties, 3)
}

fn export(more: Value) -> Value {
    let mut request = json!({
        "pipelineResourceId": format!("{PIPELINES}/exportPipelines/pipe"),
        "target": { "type": "AzureStorageBlob", "name": "blob" },
        "artifacts": ["hello-world", "a/b:1"],
    });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

fn import(more: Value) -> Value {
    let mut request = json!({
        "pipelineResourceId": format!("{PIPELINES}/importpipelines/inbox"),
        "source": { "type": "AzureStorageBlob", "name": "blob" },
    });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

#[test]
fn a_bare_repository_means_its_latest() {
    let checked = check(export(json!({}))).unwrap();
    assert_eq!(checked.request.artifacts, ["hello-world:latest", "a/b:1"]);
    assert_eq!((checked.kind, checked.blob.as_str()), (RunKind::Export, "blob"));
}

#[test]
fn what_templates_send_for_the_other_half_is_taken_for_absent() {
    let unused = json!({ "type": "", "name": "" });
    let checked = check(export(json!({ "source": unused, "catalogDigest": "" }))).unwrap();
    assert_eq!((checked.request.source, checked.request.catalog_digest), (None, None));
    let checked = check(import(json!({ "target": unused, "artifacts": [], "catalogDigest": "" }))).unwrap();
    assert_eq!((checked.kind, checked.request.target), (RunKind::Import, None));
}

#[test]
fn every_wrong_request_is_refused_by_its_own_code() {
    let other = PIPELINES.replace("contoso", "fabrikam");
    for (request, code, at) in [
        (json!({}), "MissingPipelineResourceId", "pipelineResourceId"),
        (export(json!({ "pipelineResourceId": "pipe" })), "InvalidPipelineResourceId", "pipelineResourceId"),
        (
            export(json!({ "pipelineResourceId": format!("{PIPELINES}/pipelineRuns/x") })),
            "InvalidPipelineResourceId",
            "pipelineResourceId",
        ),
        (
            export(json!({ "pipelineResourceId": format!("{other}/exportPipelines/x") })),
            "PipelineOfAnotherRegistry",
            "pipelineResourceId",
        ),
        (export(json!({ "artifacts": [] })), "NoArtifacts", "artifacts"),
        (export(json!({ "artifacts": null })), "NoArtifacts", "artifacts"),
        (export(json!({ "artifacts": ["a", "b", "c", "d"] })), "TooManyArtifacts", "artifacts"),
        (export(json!({ "artifacts": ["a", "B:1"] })), "InvalidArtifactReference", "artifacts[1]"),
        (export(json!({ "artifacts": ["a@sha256:00"] })), "InvalidArtifactReference", "artifacts[0]"),
        (export(json!({ "artifacts": [""] })), "InvalidArtifactReference", "artifacts[0]"),
        (export(json!({ "artifacts": ["a", "a:latest"] })), "DuplicateArtifact", "artifacts[1]"),
        (export(json!({ "target": null })), "MissingTargetName", "target.name"),
        (export(json!({ "target": { "name": "" } })), "MissingTargetName", "target.name"),
        (export(json!({ "target": { "name": "../x" } })), "InvalidBlobName", "target.name"),
        (export(json!({ "target": { "type": "File", "name": "x" } })), "InvalidStorageType", "target.type"),
        (export(json!({ "source": { "name": "x" } })), "UnexpectedSource", "source.name"),
        (export(json!({ "catalogDigest": "sha256:00" })), "UnexpectedCatalogDigest", "catalogDigest"),
        (import(json!({ "source": null })), "MissingSourceName", "source.name"),
        (import(json!({ "source": { "name": "a//b" } })), "InvalidBlobName", "source.name"),
        (import(json!({ "target": { "name": "x" } })), "UnexpectedTarget", "target.name"),
        (import(json!({ "artifacts": ["a"] })), "UnexpectedArtifacts", "artifacts"),
        (import(json!({ "catalogDigest": "md5:00" })), "InvalidCatalogDigest", "catalogDigest"),
    ] {
        let error = check(request.clone()).unwrap_err().error;
        let at = format!("properties.request.{at}");
        assert_eq!((error.code.as_str(), error.target.as_deref()), (code, Some(at.as_str())), "{request}");
    }
}

#[test]
fn every_fault_of_a_request_is_told() {
    let error = check(export(json!({ "artifacts": ["B", "a", "a"], "target": null }))).unwrap_err().error;
    let codes: Vec<&str> = error.details.iter().map(|detail| detail.code.as_str()).collect();
    assert_eq!(error.code, "InvalidArtifactReference");
    assert_eq!(codes, ["DuplicateArtifact", "MissingTargetName"]);
}

#[test]
fn without_a_limit_a_run_may_name_thousands_if_the_numbered_blobs_have_room() {
    let artifacts: Vec<String> = (0..1000).map(|n| format!("a:{n}")).collect();
    let run_of = |name: &str| {
        let request = export(json!({ "artifacts": artifacts, "target": { "name": name } }));
        run(&registry(), serde_json::from_value(json!({ "request": request })).unwrap(), 0)
    };
    assert!(run_of("blob").is_ok());
    assert_eq!(run_of(&"b".repeat(1020)).unwrap_err().error.code, "InvalidBlobName");
}
