//! Templates that a person would deploy.

use serde_json::{Value, json};

/// A template for an export pipeline, with the registry before it and the vault's policy behind it.
pub(super) fn pipeline_template() -> Value {
    json!({
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "parameters": {
            "place": { "type": "string", "defaultValue": "[resourceGroup().location]" },
            "registry": { "type": "string", "minLength": 5, "maxLength": 50 },
            "pipeline": { "type": "string", "minLength": 5, "maxLength": 50 },
            "identityId": { "type": "string", "defaultValue": "" },
            "container": { "type": "string" },
            "vault": { "type": "string" },
            "secretName": { "type": "string" },
            "options": { "type": "array", "defaultValue": [] },
            "mode": { "type": "string", "defaultValue": "SasToken", "allowedValues": ["SasToken", "ManagedIdentity"] }
        },
        "variables": {
            "own": { "type": "SystemAssigned" },
            "assigned": { "type": "UserAssigned", "userAssignedIdentities": { "[parameters('identityId')]": {} } },
            "permissions": ["get"]
        },
        "resources": [
            {
                "type": "Microsoft.ContainerRegistry/registries",
                "apiVersion": "2019-12-01-preview",
                "name": "[parameters('registry')]",
                "location": "[parameters('place')]",
                "sku": { "name": "Premium" },
                "properties": { "adminUserEnabled": false }
            },
            {
                "type": "Microsoft.ContainerRegistry/registries/exportPipelines/",
                "apiVersion": "2019-12-01-preview",
                "name": "[concat(parameters('registry'), '/', parameters('pipeline'))]",
                "location": "[parameters('place')]",
                "dependsOn": ["[resourceId('Microsoft.ContainerRegistry/registries', parameters('registry'))]"],
                "identity": "[if(empty(parameters('identityId')), variables('own'), variables('assigned'))]",
                "properties": {
                    "target": {
                        "type": "AzureStorageBlobContainer",
                        "uri": "[parameters('container')]",
                        "keyVaultUri": "[concat(reference(resourceId('Microsoft.KeyVault/vaults', parameters('Vault')), '2019-09-01').vaultUri, 'secrets/', parameters('secretName'))]",
                        "storageAccessMode": "[parameters('mode')]"
                    },
                    "options": "[parameters('options')]"
                }
            },
            {
                "condition": "[equals(parameters('mode'), 'SasToken')]",
                "type": "Microsoft.KeyVault/vaults/accessPolicies",
                "apiVersion": "2019-09-01",
                "name": "[concat(parameters('vault'), '/add')]",
                "dependsOn": ["[resourceId('Microsoft.ContainerRegistry/registries/exportPipelines', parameters('registry'), parameters('pipeline'))]"],
                "properties": {
                    "accessPolicies": [{
                        "tenantId": "[subscription().tenantId]",
                        "objectId": "[if(empty(parameters('identityId')), reference(resourceId('Microsoft.ContainerRegistry/registries/exportPipelines', parameters('registry'), parameters('pipeline')), '2019-12-01-preview', 'Full').identity.principalId, reference(parameters('identityId'), '2018-11-30').principalId)]",
                        "permissions": { "secrets": "[variables('permissions')]" }
                    }]
                }
            }
        ],
        "outputs": {
            "principal": {
                "type": "string",
                "condition": "[empty(parameters('identityId'))]",
                "value": "[reference(parameters('pipeline'), '2019-12-01-preview', 'Full').identity.principalId]"
            }
        }
    })
}

/// A template for runs, both halves of the request in it.
pub(super) fn run_template() -> Value {
    json!({
        "parameters": {
            "registry": { "type": "string" },
            "run": { "type": "string" },
            "pipelineId": { "type": "string" },
            "artifacts": { "type": "array", "defaultValue": [] },
            "source": { "type": "string", "defaultValue": "" },
            "target": { "type": "string", "defaultValue": "" },
            "tag": { "type": "string", "defaultValue": "" }
        },
        "variables": { "blob": "AzureStorageBlob" },
        "resources": [{
            "type": "Microsoft.ContainerRegistry/registries/pipelineRuns/",
            "apiVersion": "2025-06-01-preview",
            "name": "[format('{0}/{1}', parameters('registry'), parameters('run'))]",
            "location": "[resourceGroup().location]",
            "properties": {
                "request": {
                    "pipelineResourceId": "[parameters('pipelineId')]",
                    "artifacts": "[parameters('artifacts')]",
                    "source": { "type": "[if(empty(parameters('source')), '', variables('blob'))]", "name": "[parameters('source')]" },
                    "target": { "type": "[if(empty(parameters('target')), '', variables('blob'))]", "name": "[parameters('target')]" },
                    "catalogDigest": ""
                },
                "forceUpdateTag": "[parameters('tag')]"
            }
        }]
    })
}
