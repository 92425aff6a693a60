use std::collections::BTreeMap;

use async_trait::async_trait;
use transship_api::Kind;

use super::*;
use crate::deployment::evaluate::tests::context;

#[path = "deploy_templates.rs"]
mod templates;
use templates::{pipeline_template, run_template};

const REGISTRY: &str =
    "/subscriptions/sub/resourceGroups/rg/providers/Microsoft.ContainerRegistry/registries/contoso";
const VAULT: &str =
    "/subscriptions/sub/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/kv/accessPolicies/add";

/// Holds what is put, and answers as the control plane would.
#[derive(Default)]
struct Fake {
    resources: BTreeMap<String, Value>,
    puts: Vec<(String, Value)>,
}

#[async_trait]
impl Deployer for Fake {
    async fn put(&mut self, id: &ResourceId, kind: Kind, body: Value) -> Result<Value, ErrorDetail> {
        self.puts.push((id.to_string(), body.clone()));
        if id.name() == "refused" {
            let error =
                ErrorDetail { code: "BadRequest".to_owned(), message: "no".to_owned(), ..Default::default() };
            return Err(error);
        }
        let mut resource = body;
        resource["id"] = json!(id.to_string());
        resource["type"] = json!(kind.resource_type());
        resource["properties"]["provisioningState"] = json!("Succeeded");
        if !resource["identity"].is_null() {
            resource["identity"]["principalId"] = json!(format!("principal-of-{}", id.name()));
        }
        self.resources.insert(id.key(), resource.clone());
        Ok(resource)
    }

    async fn get(&mut self, id: &ResourceId) -> Result<Value, ErrorDetail> {
        self.resources.get(&id.key()).cloned().ok_or_else(|| ErrorDetail {
            code: "ResourceNotFound".to_owned(),
            message: format!("there is no {id}"),
            ..Default::default()
        })
    }
}

fn values(values: Value) -> Value {
    let wrap = |(name, value): (&String, &Value)| (name.clone(), json!({ "value": value }));
    values.as_object().unwrap().iter().map(wrap).collect::<Map<_, _>>().into()
}

fn pipeline_values() -> Value {
    json!({
        "registry": "contoso", "pipeline": "nightly", "container": "https://a.blob.core.windows.net/c",
        "vault": "kv", "secretName": "sas", "options": ["OverwriteBlobs"]
    })
}

async fn deployed(fake: &mut Fake, template: &Value, given: Value) -> Deployment {
    deploy(template, &values(given), context(), fake).await.unwrap()
}

async fn refused(template: &Value, given: Value) -> String {
    let mut fake = Fake::default();
    let error = deploy(template, &values(given), context(), &mut fake).await.unwrap_err();
    assert_eq!(error.code, "InvalidTemplate");
    assert!(fake.puts.is_empty(), "nothing is put where the template is wrong: {:?}", fake.puts);
    error.message
}

#[tokio::test]
async fn the_articles_procedure_works_from_start_to_end() {
    let mut fake = Fake::default();
    let pipeline = deployed(&mut fake, &pipeline_template(), pipeline_values()).await;
    assert_eq!(pipeline.properties.provisioning_state, "Succeeded");
    let ids: Vec<&str> =
        pipeline.properties.output_resources.iter().map(|resource| resource.id.as_str()).collect();
    assert_eq!(ids, [REGISTRY, &format!("{REGISTRY}/exportPipelines/nightly"), VAULT]);
    assert_eq!(
        fake.puts,
        [(
            format!("{REGISTRY}/exportPipelines/nightly"),
            json!({
                "location": "westeurope",
                "identity": { "type": "SystemAssigned" },
                "properties": {
                    "target": {
                        "type": "AzureStorageBlobContainer",
                        "uri": "https://a.blob.core.windows.net/c",
                        "keyVaultUri": "https://kv.vault.azure.net/secrets/sas",
                        "storageAccessMode": "SasToken"
                    },
                    "options": ["OverwriteBlobs"]
                }
            })
        )]
    );
    let left: Vec<(&str, &str)> =
        pipeline.properties.not_applied.iter().map(|left| (left.id.as_str(), left.reason.as_str())).collect();
    assert_eq!(left[0].0, REGISTRY);
    assert_eq!(left[1].0, VAULT);
    assert!(left[1].1.contains("principal-of-nightly") && left[1].1.contains("vault kv"), "{left:?}");
    assert_eq!(
        pipeline.properties.outputs["principal"],
        json!({"type": "string", "value": "principal-of-nightly"})
    );
    assert_eq!(pipeline.properties.parameters["place"], json!({"type": "string", "value": "westeurope"}));

    let run = json!({"registry": "contoso", "run": "first1", "pipelineId": ids[1], "artifacts": ["team/app:1"], "target": "blob"});
    let ran = deployed(&mut fake, &run_template(), run.clone()).await;
    assert_eq!(
        ran.properties.output_resources,
        [OutputResource { id: format!("{REGISTRY}/pipelineRuns/first1") }]
    );
    let request = &fake.puts[1].1["properties"]["request"];
    assert_eq!(request["source"], json!({"type": "", "name": ""}));
    assert_eq!(request["target"], json!({"type": "AzureStorageBlob", "name": "blob"}));
    let mut again = run;
    again["tag"] = json!("2");
    deployed(&mut fake, &run_template(), again).await;
    assert_eq!(fake.puts[2].1["properties"]["forceUpdateTag"], "2");
}

#[tokio::test]
async fn an_identity_of_ones_own_and_no_secret_leave_the_vault_alone() {
    let mut fake = Fake::default();
    let mut given = pipeline_values();
    given["identityId"] = json!(
        "/subscriptions/sub/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id"
    );
    let assigned = deployed(&mut fake, &pipeline_template(), given.clone()).await;
    let identities = &fake.puts[0].1["identity"]["userAssignedIdentities"];
    assert_eq!(identities[given["identityId"].as_str().unwrap()], json!({}));
    assert!(
        assigned.properties.not_applied[1].reason.contains("of the pipeline"),
        "the identity is unknown here"
    );
    assert!(assigned.properties.outputs.is_empty(), "its condition is false");
    given["mode"] = json!("ManagedIdentity");
    let managed = deployed(&mut fake, &pipeline_template(), given).await;
    assert_eq!(managed.properties.output_resources.len(), 2, "the policy's condition is false");
}

#[tokio::test]
async fn resources_are_put_in_the_order_of_their_needs_and_listed_in_the_templates() {
    let mut fake = Fake::default();
    let resource = |name: &str, more: Value| {
        let mut resource = json!({"type": "Microsoft.ContainerRegistry/registries/routes", "name": format!("contoso/{name}"), "properties": {}});
        resource.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        resource
    };
    let template = json!({"resources": [
        resource("three", json!({"dependsOn": ["contoso/four4"]})),
        resource("four4", json!({"properties": {"sourceUri": "[reference('contoso/five5').x]"}})),
        resource("five5", json!({"properties": {"x": "first"}})),
        resource("off", json!({"condition": false})),
        resource("last1", json!({"dependsOn": ["off", "Microsoft.ContainerRegistry/registries/contoso/routes/three"]})),
    ]});
    let done = deployed(&mut fake, &template, json!({})).await;
    let put: Vec<&str> = fake.puts.iter().map(|(id, _)| id.rsplit('/').next().unwrap()).collect();
    assert_eq!(put, ["five5", "four4", "three", "last1"]);
    let listed: Vec<&str> =
        done.properties.output_resources.iter().map(|one| one.id.rsplit('/').next().unwrap()).collect();
    assert_eq!(listed, ["three", "four4", "five5", "last1"]);
    assert_eq!(fake.puts[1].1["properties"]["sourceUri"], "first");
}

#[tokio::test]
async fn children_and_deployments_inside_are_deployed_too() {
    let mut fake = Fake::default();
    let template = json!({
        "parameters": {"registry": {"type": "string"}},
        "resources": [
            {
                "type": "Microsoft.ContainerRegistry/registries", "name": "[parameters('registry')]",
                "resources": [{
                    "type": "importPipelines", "name": "arrive", "identity": {"type": "SystemAssigned"},
                    "properties": {"source": {"uri": "https://b.blob.core.windows.net/c"}}
                }]
            },
            {
                "type": "Microsoft.Resources/deployments", "name": "inside", "resourceGroup": "vaults",
                "properties": {
                    "mode": "Incremental",
                    "expressionEvaluationOptions": {"scope": "inner"},
                    "parameters": {"who": {"value": "[reference(resourceId('Microsoft.ContainerRegistry/registries/importPipelines', parameters('registry'), 'arrive'), '2019-12-01-preview', 'full').identity.principalId]"}},
                    "template": {
                        "parameters": {"who": {"type": "string"}},
                        "resources": [{
                            "type": "Microsoft.KeyVault/vaults/accessPolicies", "name": "kv/add",
                            "properties": {"accessPolicies": [{"objectId": "[parameters('who')]"}]}
                        }],
                        "outputs": {"group": {"type": "string", "value": "[resourceGroup().name]"}}
                    }
                }
            },
            {
                "type": "Microsoft.Resources/deployments", "name": "around", "dependsOn": ["inside"],
                "properties": {"template": {"resources": [{
                    "type": "Microsoft.ContainerRegistry/registries/routes", "name": "[concat(parameters('registry'), '/route1')]",
                    "properties": {"sourceUri": "[reference('inside').outputs.group.value]"}
                }]}}
            }
        ]
    });
    let done = deployed(&mut fake, &template, json!({"registry": "contoso"})).await;
    assert_eq!(done.properties.error, None);
    assert_eq!(fake.puts[0].0, format!("{REGISTRY}/importPipelines/arrive"));
    assert_eq!(fake.puts[1].1["properties"]["sourceUri"], "vaults");
    let policy = &done.properties.not_applied[1];
    assert!(
        policy.id.contains("/resourceGroups/vaults/") && policy.reason.contains("principal-of-arrive"),
        "{policy:?}"
    );
    let listed: Vec<&str> = done.properties.output_resources.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(listed, [REGISTRY, &fake.puts[0].0, &policy.id, &fake.puts[1].0]);
}

#[tokio::test]
async fn a_mistake_is_found_before_anything_is_put_and_its_place_is_named() {
    let ours = |name: &str, properties: Value| json!({"type": "Microsoft.ContainerRegistry/registries/routes", "name": name, "properties": properties});
    let mut wrong = pipeline_values();
    wrong["registry"] = json!("four");
    let message = refused(&pipeline_template(), wrong).await;
    assert!(message.contains("at parameters.registry: its length is 4"), "{message}");
    for (resources, why) in [
        (
            json!([
                ours("contoso/one11", json!({})),
                ours("contoso/two22", json!({"a": "[variables('x')]"}))
            ]),
            "resources[1].properties.a: the template has no variable",
        ),
        (json!([ours("contoso", json!({}))]), "needs 2 names, and there are 1"),
        (
            json!([ours("contoso/a", json!({})), ours("CONTOSO/A", json!({}))]),
            "defined twice, here and at resources[0]",
        ),
        (
            json!([{"type": "Microsoft.Storage/storageAccounts", "name": "x"}]),
            "at resources[0].type: resources of the type \"Microsoft.Storage/storageAccounts\" are not deployed here",
        ),
        (json!([{"name": "x"}]), "needs a type and a name"),
        (json!([{"type": "a/b", "name": "[reference('/x/y').z]"}]), "is not allowed where names"),
        (
            json!([{"type": "Microsoft.ContainerRegistry/registries", "name": "contoso", "copy": {}}]),
            "copy loops",
        ),
        (
            json!([{"type": "Microsoft.ContainerRegistry/registries", "name": "contoso", "condition": "yes"}]),
            "a condition must be a bool",
        ),
        (
            json!([{"type": "Microsoft.ContainerRegistry/registries", "name": "contoso", "dependsOn": ["other"]}]),
            "the resource \"other\" is not defined in the template",
        ),
        (
            json!([
                ours("contoso/a", json!({"a": "[reference('contoso/b').x]"})),
                ours("contoso/b", json!({"a": "[reference('contoso/a').x]"}))
            ]),
            "a circular dependency was detected among",
        ),
        (
            json!([{"type": "Microsoft.Resources/deployments", "name": "n", "properties": {"templateLink": {}}}]),
            "templates elsewhere are not fetched",
        ),
        (
            json!([ours(
                "contoso/a",
                json!({"a": "[reference('/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/x').y]"})
            )]),
            "cannot ask for such a resource",
        ),
    ] {
        let message = refused(&json!({ "resources": resources }), json!({})).await;
        assert!(message.contains(why), "{message}");
    }
}

#[tokio::test]
async fn deployments_too_deep_in_each_other_are_refused() {
    let mut template = json!({"resources": []});
    for level in 0..6 {
        template = json!({"resources": [{"type": "Microsoft.Resources/deployments", "name": format!("n{level}"), "properties": {"template": template}}]});
    }
    let message = refused(&template, json!({})).await;
    assert!(message.contains("too deep"), "{message}");
}

#[tokio::test]
async fn a_resource_that_is_refused_ends_the_deployment_and_says_why() {
    let mut fake = Fake::default();
    let route = |name: &str| json!({"type": "Microsoft.ContainerRegistry/registries/routes", "name": name, "properties": {}});
    let template =
        json!({"resources": [route("contoso/good1"), route("contoso/refused"), route("contoso/never")]});
    let done = deployed(&mut fake, &template, json!({})).await;
    assert_eq!(done.properties.provisioning_state, "Failed");
    let error = done.properties.error.unwrap();
    assert_eq!((error.code.as_str(), error.details[0].code.as_str()), ("DeploymentFailed", "BadRequest"));
    assert_eq!(error.target.as_deref(), Some(fake.puts[1].0.as_str()));
    assert_eq!(done.properties.output_resources.len(), 1, "what was put is listed");
    assert_eq!(fake.puts.len(), 2);
}

#[tokio::test]
async fn only_incremental_deployments_are_done() {
    let context = DeploymentContext { mode: "Complete".to_owned(), ..context() };
    let error =
        deploy(&json!({"resources": []}), &Value::Null, context, &mut Fake::default()).await.unwrap_err();
    assert_eq!(error.code, "InvalidDeploymentMode");
}
