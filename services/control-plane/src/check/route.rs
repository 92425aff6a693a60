//! Routes.

use transship_api::{Kind, ResourceId, RouteResource};
use transship_model::{ContainerUrl, PipelineName, StorageCredential};

use super::{is_identity_mode_word, shown};
use crate::refusal::{Faults, Refusal};

/// A route with its defaults filled in.
pub(crate) fn route(mut route: RouteResource) -> Result<RouteResource, Refusal> {
    let mut faults = Faults::default();
    let properties = &mut route.properties;
    let mut ends = [("sourceUri", &properties.source_uri), ("targetUri", &properties.target_uri)]
        .map(|(name, uri)| (name, uri.parse::<ContainerUrl>()));
    for (name, parsed) in &mut ends {
        if let Err(error) = parsed {
            let message = format!("The container's address is not valid: {error}.");
            faults.add("InvalidContainerUri", format!("properties.{name}"), message);
        }
    }
    if let [(_, Ok(source)), (_, Ok(target))] = &ends
        && source == target
    {
        let message = "A route leads from one container to another: sourceUri and targetUri are the same.";
        faults.add("InvalidRoute", "properties.targetUri", message);
    }
    let mode = properties.storage_access_mode.take().unwrap_or_else(|| "SasToken".to_owned());
    let target_is_directory = matches!(&ends[1].1, Ok(target) if target.directory().is_some());
    match is_identity_mode_word(&mode) {
        Some(true) => properties.storage_access_mode = Some("ManagedIdentity".to_owned()),
        Some(false) => {
            properties.storage_access_mode = Some("SasToken".to_owned());
            check_secret(properties.target_key_vault_uri.as_deref(), target_is_directory, &mut faults);
        }
        None => faults.add(
            "InvalidStorageAccessMode",
            "properties.storageAccessMode",
            format!("The access mode {:?} is not known: use SasToken or ManagedIdentity.", shown(&mode)),
        ),
    }
    if let Some(pipeline) = &properties.import_pipeline {
        let is_id = pipeline
            .parse::<ResourceId>()
            .is_ok_and(|id| matches!(id.resource, Some((Kind::ImportPipeline, _))));
        if !is_id && pipeline.parse::<PipelineName>().is_err() {
            let message =
                "Name the import pipeline by its resource id, or as the importer's configuration names it.";
            faults.add("InvalidImportPipeline", "properties.importPipeline", message);
        }
    }
    faults.or(route)
}

fn check_secret(secret: Option<&str>, is_directory: bool, faults: &mut Faults) {
    let target = "properties.targetKeyVaultUri";
    match secret.map(str::parse::<StorageCredential>) {
        None if is_directory => {}
        None => faults.add(
            "MissingKeyVaultUri",
            target,
            "The secret is missing: set targetKeyVaultUri to https://VAULT.vault.azure.net/secrets/NAME, or to the \
             name of a secret that the copier has, or set storageAccessMode to ManagedIdentity.",
        ),
        Some(Ok(StorageCredential::Vault(_) | StorageCredential::Secret(_))) => {}
        Some(_) => faults.add(
            "InvalidKeyVaultUri",
            target,
            "Expected https://VAULT.vault.azure.net/secrets/NAME or the name of a secret that the copier has.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_wrong_route_is_refused_by_its_own_code() {
        let (from, to) = ("https://a.blob.core.windows.net/c", "https://b.blob.core.windows.net/c");
        for (properties, code) in [
            (json!({ "sourceUri": from, "targetUri": to, "targetKeyVaultUri": "inbox-sas" }), None),
            (json!({ "sourceUri": from, "targetUri": to, "storageAccessMode": "managedIdentity" }), None),
            (json!({ "sourceUri": "file:///a", "targetUri": "file:///b", "importPipeline": "inbox" }), None),
            (json!({ "sourceUri": from, "targetUri": to }), Some("MissingKeyVaultUri")),
            (
                json!({ "sourceUri": from, "targetUri": to, "targetKeyVaultUri": "http://x" }),
                Some("InvalidKeyVaultUri"),
            ),
            (
                json!({ "sourceUri": from, "targetUri": to, "targetKeyVaultUri": "identity:system" }),
                Some("InvalidKeyVaultUri"),
            ),
            (json!({ "sourceUri": from, "targetUri": from, "targetKeyVaultUri": "s" }), Some("InvalidRoute")),
            (
                json!({ "sourceUri": "x", "targetUri": to, "targetKeyVaultUri": "s" }),
                Some("InvalidContainerUri"),
            ),
            (
                json!({ "sourceUri": from, "targetUri": to, "targetKeyVaultUri": "s", "storageAccessMode": "x" }),
                Some("InvalidStorageAccessMode"),
            ),
            (
                json!({ "sourceUri": from, "targetUri": to, "targetKeyVaultUri": "s", "importPipeline": "/subscriptions/x" }),
                Some("InvalidImportPipeline"),
            ),
        ] {
            let body = serde_json::from_value(json!({ "properties": properties })).unwrap();
            let found = route(body).err().map(|refusal| refusal.error.code);
            assert_eq!(found.as_deref(), code, "{properties}");
        }
    }
}
