//! Pipelines.

use transship_api::{ExportPipeline, ImportPipeline, PipelineTrigger, SourceTrigger};
use transship_model::{ExportOptions, ImportOptions};

use super::{shown, storage};
use crate::refusal::{Faults, Refusal};

/// The options of an export pipeline, as Azure Container Registry names them.
const EXPORT_OPTIONS: [&str; 2] = ["OverwriteBlobs", "ContinueOnErrors"];
/// The options of an import pipeline.
const IMPORT_OPTIONS: [&str; 3] = ["OverwriteTags", "DeleteSourceBlobOnSuccess", "ContinueOnErrors"];

/// An export pipeline with its words in the case that clients know and its defaults filled in.
pub(crate) fn export_pipeline(mut pipeline: ExportPipeline) -> Result<ExportPipeline, Refusal> {
    let mut faults = Faults::default();
    let properties = &mut pipeline.properties;
    storage::normalise(&mut properties.target, &mut pipeline.identity, "properties.target", &mut faults);
    normalise_options(&mut properties.options, &EXPORT_OPTIONS, &mut faults);
    if let Some(schedule) = &properties.schedule {
        for (property, problem) in crate::schedule::check(schedule) {
            faults.add("InvalidSchedule", format!("properties.schedule.{property}"), problem);
        }
    }
    faults.or(pipeline)
}

/// An import pipeline with its words in the case that clients know and its defaults filled in.
pub(crate) fn import_pipeline(mut pipeline: ImportPipeline) -> Result<ImportPipeline, Refusal> {
    let mut faults = Faults::default();
    let properties = &mut pipeline.properties;
    storage::normalise(&mut properties.source, &mut pipeline.identity, "properties.source", &mut faults);
    normalise_options(&mut properties.options, &IMPORT_OPTIONS, &mut faults);
    let status = properties.trigger.take().and_then(|trigger| trigger.source_trigger?.status);
    let status = status.unwrap_or_else(|| "Enabled".to_owned());
    let known = ["Enabled", "Disabled"].into_iter().find(|known| known.eq_ignore_ascii_case(&status));
    if known.is_none() {
        let message = format!("The status {:?} is not known: use Enabled or Disabled.", shown(&status));
        faults.add("InvalidTriggerStatus", "properties.trigger.sourceTrigger.status", message);
    }
    let source_trigger = SourceTrigger { status: known.map(str::to_owned), timestamp: None };
    properties.trigger = Some(PipelineTrigger { source_trigger: Some(source_trigger) });
    faults.or(pipeline)
}

fn normalise_options(options: &mut Vec<String>, known: &[&str], faults: &mut Faults) {
    let mut normal: Vec<String> = Vec::new();
    for (index, option) in options.iter().enumerate() {
        match known.iter().find(|known| known.eq_ignore_ascii_case(option)) {
            Some(known) if normal.iter().any(|option| option == known) => {}
            Some(known) => normal.push((*known).to_owned()),
            None => faults.add(
                "InvalidPipelineOption",
                format!("properties.options[{index}]"),
                format!("The option {:?} is not known here: use {}.", shown(option), known.join(", ")),
            ),
        }
    }
    *options = normal;
}

/// The options of a checked export pipeline.
pub(crate) fn export_options(options: &[String]) -> ExportOptions {
    let has = |name: &str| options.iter().any(|option| option == name);
    ExportOptions { overwrite_blobs: has("OverwriteBlobs"), continue_on_errors: has("ContinueOnErrors") }
}

/// The options of a checked import pipeline.
pub(crate) fn import_options(options: &[String]) -> ImportOptions {
    let has = |name: &str| options.iter().any(|option| option == name);
    ImportOptions {
        overwrite_tags: has("OverwriteTags"),
        delete_source_blob_on_success: has("DeleteSourceBlobOnSuccess"),
        continue_on_errors: has("ContinueOnErrors"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const URI: &str = "https://acct.blob.core.windows.net/c";
    const VAULT: &str = "https://kv.vault.azure.net/secrets/sas";

    fn export(target: Value, more: Value) -> Result<ExportPipeline, Refusal> {
        let mut properties = json!({ "target": target });
        properties.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        export_pipeline(serde_json::from_value(json!({ "properties": properties })).unwrap())
    }

    #[test]
    fn an_export_pipeline_is_filled_in() {
        let target = json!({ "type": "azurestorageblobcontainer", "uri": URI, "keyVaultUri": VAULT });
        let pipeline = export(target, json!({ "options": ["overwriteblobs", "OverwriteBlobs"] })).unwrap();
        let properties = pipeline.properties;
        assert_eq!(properties.options, ["OverwriteBlobs"]);
        assert_eq!(properties.target.storage_access_mode.as_deref(), Some("SasToken"));
        assert_eq!(properties.target.storage_type.as_deref(), Some("AzureStorageBlobContainer"));
    }

    #[test]
    fn every_wrong_storage_end_is_refused_by_its_own_code() {
        for (target, code, at) in [
            (json!({ "keyVaultUri": VAULT }), "MissingContainerUri", "properties.target.uri"),
            (
                json!({ "uri": "nonsense", "keyVaultUri": VAULT }),
                "InvalidContainerUri",
                "properties.target.uri",
            ),
            (
                json!({ "uri": format!("{URI}?sig=CANARY"), "keyVaultUri": VAULT }),
                "InvalidContainerUri",
                "properties.target.uri",
            ),
            (
                json!({ "uri": "http://x.example/c", "keyVaultUri": VAULT }),
                "InvalidContainerUri",
                "properties.target.uri",
            ),
            (json!({ "uri": URI }), "MissingKeyVaultUri", "properties.target.keyVaultUri"),
            (json!({ "uri": URI, "keyVaultUri": "" }), "MissingKeyVaultUri", "properties.target.keyVaultUri"),
            (
                json!({ "uri": URI, "keyVaultUri": "https://kv.vault.azure.net/keys/x" }),
                "InvalidKeyVaultUri",
                "properties.target.keyVaultUri",
            ),
            (
                json!({ "uri": URI, "keyVaultUri": VAULT, "storageAccessMode": "Key" }),
                "InvalidStorageAccessMode",
                "properties.target.storageAccessMode",
            ),
            (
                json!({ "uri": URI, "keyVaultUri": VAULT, "type": "AzureFiles" }),
                "InvalidStorageType",
                "properties.target.type",
            ),
        ] {
            let error = export(target.clone(), json!({})).unwrap_err().error;
            assert_eq!((error.code.as_str(), error.target.as_deref()), (code, Some(at)), "{target}");
            assert!(!error.message.contains("CANARY"));
        }
    }

    #[test]
    fn an_unknown_option_is_named_with_the_ones_that_there_are() {
        let target = json!({ "uri": URI, "keyVaultUri": VAULT });
        let error =
            export(target, json!({ "options": ["OverwriteBlobs", "OverwriteTags"] })).unwrap_err().error;
        assert_eq!(error.target.as_deref(), Some("properties.options[1]"));
        assert_eq!(
            error.message,
            "The option \"OverwriteTags\" is not known here: use OverwriteBlobs, ContinueOnErrors."
        );
    }

    #[test]
    fn with_an_identity_a_secret_is_not_needed_and_not_minded() {
        for vault in [Value::Null, json!(VAULT), json!("https://kv.vault.azure.net/")] {
            let target = json!({ "uri": URI, "keyVaultUri": vault, "storageAccessMode": "managedidentity" });
            assert!(export(target, json!({})).is_ok());
        }
        assert!(export(json!({ "uri": "file:///tmp/c" }), json!({})).is_ok());
    }

    #[test]
    fn the_trigger_of_an_import_pipeline_is_on_unless_it_is_switched_off() {
        let import = |trigger: Value| {
            let source = json!({ "uri": URI, "keyVaultUri": VAULT });
            let body = json!({ "properties": { "source": source, "trigger": trigger } });
            let status =
                |p: ImportPipeline| p.properties.trigger.unwrap().source_trigger.unwrap().status.unwrap();
            import_pipeline(serde_json::from_value(body).unwrap()).map(status).map_err(|r| r.error.code)
        };
        for (trigger, expected) in [
            (json!(null), Ok("Enabled".to_owned())),
            (json!({ "sourceTrigger": { "status": "disabled" } }), Ok("Disabled".to_owned())),
            (json!({ "sourceTrigger": { "status": "Off" } }), Err("InvalidTriggerStatus".to_owned())),
        ] {
            assert_eq!(import(trigger.clone()), expected, "{trigger}");
        }
    }

    #[test]
    fn identities_that_cannot_be_used_are_refused() {
        for (identity, code) in [
            (json!({ "type": "Robot" }), "InvalidIdentityType"),
            (json!({ "type": "None" }), "MissingIdentity"),
            (json!({ "type": "UserAssigned" }), "MissingUserAssignedIdentity"),
            (
                json!({ "type": "UserAssigned", "userAssignedIdentities": { "a\u{7}": {} } }),
                "InvalidUserAssignedIdentity",
            ),
            (
                json!({ "type": "UserAssigned", "userAssignedIdentities": { "/a": {}, "/b": {} } }),
                "AmbiguousUserAssignedIdentity",
            ),
        ] {
            let target = json!({ "uri": URI, "storageAccessMode": "ManagedIdentity" });
            let body = json!({ "identity": identity, "properties": { "target": target } });
            let refused = export_pipeline(serde_json::from_value(body).unwrap()).unwrap_err();
            assert_eq!(refused.error.code, code, "{identity}");
        }
    }
}
