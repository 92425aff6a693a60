use serde_json::{Value, json};
use transship_control_plane::state::RunState;
use transship_model::Code;

use crate::scene::{CONTAINER, GROUP, REGISTRY, Scene, VAULT, export_run};

fn deployment(name: &str) -> String {
    format!("{GROUP}/providers/Microsoft.Resources/deployments/{name}")
}

fn template() -> Value {
    json!({
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "parameters": { "name": { "type": "string" }, "uri": { "type": "string" } },
        "resources": [{
            "type": "Microsoft.ContainerRegistry/registries/exportPipelines",
            "apiVersion": "2025-06-01-preview",
            "name": "[concat('source/', parameters('name'))]",
            "identity": { "type": "SystemAssigned" },
            "properties": { "target": { "uri": "[parameters('uri')]", "keyVaultUri": VAULT } },
        }],
        "outputs": { "principal": {
            "type": "string",
            "value": "[reference(resourceId('Microsoft.ContainerRegistry/registries/exportPipelines', 'source', parameters('name')), '2025-06-01-preview', 'Full').identity.principalId]",
        } },
    })
}

fn request(uri: &str) -> Value {
    let parameters = json!({ "name": { "value": "pipe1" }, "uri": { "value": uri } });
    json!({ "properties": { "mode": "Incremental", "template": template(), "parameters": parameters } })
}

#[tokio::test]
async fn a_template_makes_its_resources_and_is_remembered() {
    let scene = Scene::start().await;
    let put = scene.put(&deployment("first"), &request(CONTAINER)).await;
    assert_eq!(put.status, 201, "{put:?}");
    let properties = &put.body["properties"];
    assert_eq!(properties["provisioningState"], "Succeeded");
    let id = format!("{REGISTRY}/exportPipelines/pipe1");
    assert_eq!(properties["outputResources"], json!([{ "id": id }]));
    let pipeline = scene.get(&id).await;
    assert_eq!(properties["outputs"]["principal"]["value"], pipeline.body["identity"]["principalId"]);
    assert_eq!(scene.get(&deployment("FIRST")).await.body, put.body);
    assert_eq!(scene.put(&deployment("first"), &request(CONTAINER)).await.status, 200);
    assert_eq!(scene.get(&deployment("second")).await.code(), "DeploymentNotFound");
    assert_eq!(
        scene.put(&format!("{REGISTRY}/pipelineRuns/nightly"), &export_run(&["a:1"])).await.status,
        201
    );
}

#[tokio::test]
async fn vaults_of_a_template_are_in_the_configured_cloud() {
    let scene = Scene::start().await;
    let outputs = json!({ "vaults": { "type": "string", "value": "[environment().suffixes.keyvaultDns]" } });
    let template = json!({ "contentVersion": "1.0.0.0", "resources": [], "outputs": outputs });
    let body = json!({ "properties": { "mode": "Incremental", "template": template } });
    let put = scene.put(&deployment("first"), &body).await;
    assert_eq!(put.body["properties"]["outputs"]["vaults"]["value"], ".vault.azure.cn", "{put:?}");
}

#[tokio::test]
async fn a_deployment_that_fails_says_why_at_once_and_later() {
    let scene = Scene::start().await;
    let put = scene.put(&deployment("first"), &request("nonsense")).await;
    assert_eq!((put.status, put.code()), (409, "DeploymentFailed"), "{put:?}");
    assert_eq!(put.body["error"]["details"][0]["code"], "InvalidContainerUri");
    let kept = scene.get(&deployment("first")).await;
    assert_eq!((kept.status, &kept.body["properties"]["provisioningState"]), (200, &json!("Failed")));
}

#[tokio::test]
async fn what_is_no_template_is_refused() {
    let scene = Scene::start().await;
    let bad_name = deployment("a%20b");
    for (path, body, code) in [
        (deployment("first"), json!({ "properties": {} }), "InvalidTemplate"),
        (
            deployment("first"),
            json!({ "properties": { "templateLink": { "uri": "https://x" } } }),
            "InvalidTemplate",
        ),
        (
            deployment("first"),
            json!({ "properties": { "template": { "resources": [{}] } } }),
            "InvalidTemplate",
        ),
        (bad_name, request(CONTAINER), "InvalidDeploymentName"),
    ] {
        let answer = scene.put(&path, &body).await;
        assert_eq!((answer.status, answer.code()), (400, code), "{body}");
    }
}

#[tokio::test]
async fn a_deployment_is_over_when_its_runs_are_and_fails_with_them() {
    let scene = Scene::start().await;
    scene.pipelines().await;
    let template = json!({
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "resources": [{
            "type": "Microsoft.ContainerRegistry/registries/pipelineRuns",
            "apiVersion": "2025-06-01-preview",
            "name": "source/nightly",
            "properties": export_run(&["a:1"])["properties"],
        }],
    });
    let put = scene.put(&deployment("run"), &json!({ "properties": { "template": template } })).await;
    assert_eq!(
        (put.status, &put.body["properties"]["provisioningState"]),
        (201, &json!("Running")),
        "{put:?}"
    );
    let operation = put.header("azure-asyncoperation").unwrap().to_owned();
    let open = scene.get(&operation).await;
    assert_eq!((&open.body["status"], open.header("retry-after")), (&json!("InProgress"), Some("1")));
    let failed = RunState::Failed { code: Code::BlobExists, message: "it is there".into() };
    scene.end("nightly", failed).await;
    let over = scene.get(&operation).await.body;
    assert_eq!(
        (&over["status"], &over["error"]["details"][0]["code"]),
        (&json!("Failed"), &json!("BlobExists"))
    );
    assert!(over["error"]["message"].as_str().unwrap().contains("it is there"));
    assert_eq!(scene.get(&deployment("run")).await.body["properties"]["provisioningState"], "Failed");
    let unknown = scene.get(&format!("{}/operationStatuses/other", deployment("run"))).await;
    assert_eq!((unknown.status, unknown.code()), (404, "OperationNotFound"));
}
