use serde_json::json;

use crate::scene::{CONTAINER, REGISTRY, Scene, VAULT};

#[tokio::test]
async fn a_pipeline_is_put_read_and_deleted_as_clients_of_acr_do() {
    let scene = Scene::start().await;
    let path = format!("{REGISTRY}/exportPipelines/Nightly");
    let target = json!({ "type": "AzureStorageBlobContainer", "uri": CONTAINER, "storageAccessMode": "SasToken", "keyVaultUri": VAULT });
    let body = json!({ "identity": { "type": "SystemAssigned" }, "properties": { "target": target, "options": ["OverwriteBlobs"] } });
    let put = scene.put(&path, &body).await;
    assert_eq!(put.status, 200);
    assert!(put.header("azure-asyncoperation").is_none());
    assert!(put.header("x-ms-request-id").is_some() && put.header("x-ms-correlation-request-id").is_some());
    assert_eq!(put.body["id"], path.as_str());
    assert_eq!(
        (&put.body["name"], &put.body["type"]),
        (&json!("Nightly"), &json!("Microsoft.ContainerRegistry/registries/exportPipelines"))
    );
    assert_eq!(put.body["properties"]["provisioningState"], "Succeeded");
    assert_eq!(put.body["properties"]["target"], target);
    let identity = &put.body["identity"];
    assert_eq!((&identity["type"], &identity["origin"]), (&json!("systemAssigned"), &json!("derived")));
    assert_eq!(identity["principalId"].as_str().unwrap().len(), 36);
    assert!(put.body["systemData"]["createdAt"].as_str().unwrap().ends_with("+00:00"));
    assert!(put.body.get("location").is_none());
    let got = scene.get(&path.to_uppercase().replace("NIGHTLY", "nightly")).await;
    assert_eq!((got.status, &got.body), (200, &put.body));
    // What a client read it may put back.
    assert_eq!(scene.put(&path, &got.body).await.body["properties"], put.body["properties"]);
    assert_eq!(scene.delete(&path).await.status, 200);
    assert_eq!(scene.delete(&path).await.status, 204);
    let gone = scene.get(&path).await;
    assert_eq!((gone.status, gone.code()), (404, "ResourceNotFound"));
}

#[tokio::test]
async fn an_import_pipeline_with_an_identity_says_what_was_given_and_its_defaults() {
    let scene = Scene::start().await;
    let path = format!("{REGISTRY}/importPipelines/inbox");
    let user =
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/me";
    let body = json!({
        "location": "westus",
        "identity": { "type": "UserAssigned", "userAssignedIdentities": { user: {} } },
        "properties": { "source": { "uri": CONTAINER, "storageAccessMode": "ManagedIdentity" } },
    });
    let put = scene.put(&path, &body).await;
    assert_eq!(put.status, 200, "{put:?}");
    assert_eq!(put.body["location"], "westus");
    let identity = &put.body["identity"];
    assert!(identity.get("principalId").is_none() && identity["type"] == "userAssigned");
    assert!(identity["userAssignedIdentities"][user]["principalId"].is_string());
    let properties = &put.body["properties"];
    assert_eq!(properties["trigger"]["sourceTrigger"]["status"], "Enabled");
    assert!(properties["source"].get("keyVaultUri").is_none() && properties.get("options").is_none());
    // The trigger looks at once.
    assert_eq!(*scene.heard.looks.lock().unwrap(), [("inbox".to_owned(), None)]);
}

#[tokio::test]
async fn a_route_is_a_resource_that_names_an_import_pipeline_that_is_there() {
    let scene = Scene::start().await;
    scene.pipelines().await;
    let path = format!("{REGISTRY}/routes/route1");
    let route = |import: &str| {
        json!({ "properties": {
            "sourceUri": CONTAINER, "targetUri": "https://b.blob.core.windows.net/c", "targetKeyVaultUri": VAULT,
            "importPipeline": import,
        } })
    };
    let missing = scene.put(&path, &route(&format!("{REGISTRY}/importPipelines/nowhere"))).await;
    assert_eq!((missing.status, missing.code()), (400, "ImportPipelineNotFound"));
    let put = scene.put(&path, &route(&format!("{REGISTRY}/importPipelines/INBOX"))).await;
    assert_eq!((put.status, &put.body["properties"]["overwrite"]), (200, &json!(false)));
    assert_eq!(scene.get(&path).await.body, put.body);
}

#[tokio::test]
async fn a_registry_says_what_clients_read_and_none_is_made_here() {
    let scene = Scene::start().await;
    let source = scene.get(REGISTRY).await;
    assert_eq!((source.status, &source.body["location"]), (200, &json!("here")));
    assert_eq!(source.body["properties"]["loginServer"], "127.0.0.1:5000");
    let closed = scene.get(&REGISTRY.replace("/source", "/closed")).await;
    assert_eq!(closed.body["properties"]["policies"]["exportPolicy"]["status"], "disabled");
    let azure = scene.get(&REGISTRY.replace("/source", "/Contoso")).await;
    assert_eq!(azure.body["properties"]["loginServer"], "contoso.azurecr.io");
    let put = scene.put(REGISTRY, &json!({})).await;
    assert_eq!((put.status, put.header("allow")), (405, Some("GET")));
}

#[tokio::test]
async fn nothing_may_be_set_up_to_leave_a_registry_whose_export_policy_is_disabled() {
    let scene = Scene::start().await;
    let closed = REGISTRY.replace("/source", "/closed");
    let end = json!({ "uri": CONTAINER, "keyVaultUri": VAULT });
    let export = scene
        .put(&format!("{closed}/exportPipelines/pipe1"), &json!({ "properties": { "target": end } }))
        .await;
    assert_eq!((export.status, export.code()), (403, "ExportPolicyDisabled"));
    let import = scene
        .put(&format!("{closed}/importPipelines/inbox"), &json!({ "properties": { "source": end } }))
        .await;
    assert_eq!(import.status, 200);
}
