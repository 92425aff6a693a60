//! Snapshots: what a pipeline says when a run is accepted, so that a pipeline that changes later changes no run.

use transship_api::{ExportPipeline, ImportPipeline, Kind, ResourceId, RouteProperties, RouteResource};
use transship_model::{
    Code, ContainerUrl, Failure, Identity, ImportDestination, NamePattern, PipelineName, Route,
    StorageCredential,
};

use crate::check;
use crate::registries::{Policy, Registries, Resolved};
use crate::state::{Action, PipelineSnapshot, ResourceRecord, Store};

/// The snapshot of the pipeline `record`, for a run that is accepted now.
///
/// # Errors
/// Where the store fails, or where what it holds cannot be used any more, such as a registry that is no longer in
/// the configuration.
pub async fn snapshot(
    store: &Store,
    registries: &Registries,
    record: &ResourceRecord,
) -> Result<PipelineSnapshot, Failure> {
    match record.kind {
        Kind::ExportPipeline => {
            let registry = record.id.parent();
            may_export(registries, record)?;
            let routes = store.every_resource(Kind::Route, Some(&registry)).await?;
            // Most registries have no routes, and then nothing else is needed.
            let imports = match routes.is_empty() {
                true => Vec::new(),
                false => store.every_resource(Kind::ImportPipeline, None).await?,
            };
            export_snapshot(registries, record, &routes, &imports)
        }
        Kind::ImportPipeline => import_snapshot(registries, record),
        Kind::PipelineRun | Kind::Route => Err(broken(record, "it is not a pipeline")),
    }
}

/// Whether artifacts may leave the registry now: the policy may be another one than when the pipeline was put.
fn may_export(registries: &Registries, record: &ResourceRecord) -> Result<(), Failure> {
    let closed = |resolved: Resolved| resolved.export_policy == Policy::Disabled;
    if !registries.resolve(&record.id.registry).is_some_and(closed) {
        return Ok(());
    }
    let message = format!(
        "the export policy of the registry {} is disabled, so nothing may leave it",
        record.id.registry
    );
    let hint = "enable export_policy in its entry in the control plane's configuration";
    Err(Failure::permanent(Code::ConfigurationInvalid, message).with_hint(hint))
}

/// The snapshot of an import pipeline.
///
/// # Errors
/// Where the record cannot be used.
pub fn import_snapshot(
    registries: &Registries,
    record: &ResourceRecord,
) -> Result<PipelineSnapshot, Failure> {
    let pipeline: ImportPipeline = read(record)?;
    let container = container(record, pipeline.properties.source.uri.as_deref())?;
    let credential = check::credential(&pipeline.properties.source, pipeline.identity.as_ref(), &container);
    let registry = registry_name(registries, record)?;
    let destination = ImportDestination {
        registry: registry.clone(),
        credential: credential.clone(),
        options: check::import_options(&pipeline.properties.options),
    };
    let action = Action::Import { pipeline: message_name(&record.id)?, destination };
    Ok(PipelineSnapshot { id: record.id.to_string(), registry, container, credential, action })
}

/// The snapshot of an export pipeline, with the routes of its registry that begin at its container. Where the
/// registry has no route at all, those of the exporter's configuration hold.
fn export_snapshot(
    registries: &Registries,
    record: &ResourceRecord,
    routes: &[ResourceRecord],
    imports: &[ResourceRecord],
) -> Result<PipelineSnapshot, Failure> {
    let pipeline: ExportPipeline = read(record)?;
    let container = container(record, pipeline.properties.target.uri.as_deref())?;
    let credential = check::credential(&pipeline.properties.target, pipeline.identity.as_ref(), &container);
    let registry = registry_name(registries, record)?;
    let mut applying = Vec::new();
    // The pattern is the exporter's to match: a run of several parts has several names.
    for route in routes.iter().filter(|route| begins_at(route, &container)) {
        applying.push(self::route(registries, route, imports)?);
    }
    let routes = (!routes.is_empty()).then_some(applying);
    let options = check::export_options(&pipeline.properties.options);
    let action = Action::Export { options, routes };
    Ok(PipelineSnapshot { id: record.id.to_string(), registry, container, credential, action })
}

/// Whether a route begins at this container. One that cannot be used may be another pipeline's, and is no reason for this
/// one to stand still.
fn begins_at(route: &ResourceRecord, container: &ContainerUrl) -> bool {
    let body: serde_json::Value = serde_json::from_str(&route.body).unwrap_or_default();
    let source = body["properties"]["sourceUri"].as_str().and_then(|uri| uri.parse::<ContainerUrl>().ok());
    source.as_ref() == Some(container)
}

fn route(
    registries: &Registries,
    record: &ResourceRecord,
    imports: &[ResourceRecord],
) -> Result<Route, Failure> {
    let RouteResource { properties, .. } = read(record)?;
    let target = container(record, Some(&properties.target_uri))?;
    let (import_pipeline, import_destination) = match properties.import_pipeline.as_deref() {
        None => (None, None),
        Some(text) => match text.parse::<ResourceId>() {
            Ok(id) => match imports.iter().find(|import| import.id == id) {
                Some(found) => {
                    let Action::Import { pipeline, destination } = import_snapshot(registries, found)?.action
                    else {
                        return Err(broken(found, "it does not import"));
                    };
                    (Some(pipeline), Some(destination))
                }
                None => (Some(message_name(&id)?), None),
            },
            Err(_) => (Some(text.parse().map_err(|error| broken(record, error))?), None),
        },
    };
    Ok(Route {
        source: container(record, Some(&properties.source_uri))?,
        pattern: properties.name_pattern.as_deref().map(NamePattern::new).unwrap_or_default(),
        target_secret: target_secret(&properties, &target),
        target,
        overwrite: properties.overwrite,
        import_pipeline,
        import_destination,
    })
}

fn target_secret(route: &RouteProperties, target: &ContainerUrl) -> Option<StorageCredential> {
    if target.directory().is_some() {
        return None;
    }
    match route.storage_access_mode.as_deref() {
        Some("ManagedIdentity") => Some(StorageCredential::Identity(Identity::System)),
        _ => route.target_key_vault_uri.as_deref()?.parse().ok(),
    }
}

/// The name of a pipeline in messages: `REGISTRY.PIPELINE`, both as in its resource id.
///
/// # Errors
/// Where the two together are longer than a name may be.
pub fn message_name(id: &ResourceId) -> Result<PipelineName, Failure> {
    let name = format!("{}.{}", id.registry, id.name());
    name.parse()
        .map_err(|error| Failure::permanent(Code::ConfigurationInvalid, format!("pipeline {id}: {error}")))
}

fn registry_name(
    registries: &Registries,
    record: &ResourceRecord,
) -> Result<transship_model::RegistryName, Failure> {
    let resolved = registries.resolve(&record.id.registry);
    resolved.map(|resolved| resolved.name).ok_or_else(|| {
        broken(record, "its registry is not in the configuration")
            .with_hint("add [registries.NAME] to the control plane's configuration")
    })
}

fn read<T: serde::de::DeserializeOwned>(record: &ResourceRecord) -> Result<T, Failure> {
    serde_json::from_str(&record.body).map_err(|error| broken(record, error))
}

fn container(record: &ResourceRecord, uri: Option<&str>) -> Result<ContainerUrl, Failure> {
    uri.unwrap_or_default().parse().map_err(|error| broken(record, error))
}

fn broken(record: &ResourceRecord, why: impl std::fmt::Display) -> Failure {
    Failure::permanent(Code::ConfigurationInvalid, format!("{} cannot be used: {why}", record.id))
        .with_hint("PUT it again")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::registries;

    const SOURCE: &str = "https://a.blob.core.windows.net/c";
    const TARGET: &str = "https://b.blob.core.windows.net/c";
    const VAULT: &str = "https://kv.vault.azure.net/secrets/sas";

    fn record(kind: Kind, name: &str, properties: &Value) -> ResourceRecord {
        let body = json!({ "properties": properties }).to_string();
        let id = ResourceId::registry("s", "g", "Source").child(kind, name);
        let (created_by, modified_by) = (String::new(), String::new());
        ResourceRecord { seq: 1, id, kind, body, created_by, created_ms: 0, modified_by, modified_ms: 0 }
    }

    #[test]
    fn an_import_pipeline_becomes_a_destination() {
        let source = json!({ "uri": TARGET, "keyVaultUri": VAULT, "storageAccessMode": "SasToken" });
        let properties = json!({ "source": source, "options": ["OverwriteTags"] });
        let taken =
            import_snapshot(&registries(), &record(Kind::ImportPipeline, "Inbox", &properties)).unwrap();
        let Action::Import { pipeline, destination } = taken.action else { panic!("an import") };
        assert_eq!(pipeline.as_str(), "Source.Inbox");
        assert_eq!(destination.registry.as_str(), "source");
        assert!(destination.options.overwrite_tags && !destination.options.continue_on_errors);
        assert_eq!(taken.credential.unwrap().to_string(), VAULT);
    }

    #[tokio::test]
    async fn nothing_leaves_a_registry_whose_export_policy_is_disabled_whoever_starts_the_run() {
        let store = Store::open(&transship_model::Secret::new("sqlite::memory:")).await.unwrap();
        let target = json!({ "uri": SOURCE, "keyVaultUri": VAULT, "storageAccessMode": "SasToken" });
        let open = record(Kind::ExportPipeline, "pipe", &json!({ "target": target }));
        let id = ResourceId::registry("s", "g", "closed").child(Kind::ExportPipeline, "pipe");
        let closed = ResourceRecord { id, ..open.clone() };
        assert!(snapshot(&store, &registries(), &open).await.is_ok());
        let failure = snapshot(&store, &registries(), &closed).await.unwrap_err();
        assert!(failure.message.contains("export policy") && failure.hint.is_some(), "{failure}");
        store.close().await;
    }

    #[test]
    fn an_identity_needs_no_secret_and_a_directory_needs_nothing() {
        for (end, expected) in [
            (
                json!({ "uri": SOURCE, "keyVaultUri": VAULT, "storageAccessMode": "ManagedIdentity" }),
                Some("identity:system"),
            ),
            (json!({ "uri": "file:///tmp/c", "keyVaultUri": VAULT, "storageAccessMode": "SasToken" }), None),
        ] {
            let pipeline = record(Kind::ExportPipeline, "pipe", &json!({ "target": end }));
            let taken = export_snapshot(&registries(), &pipeline, &[], &[]).unwrap();
            assert_eq!(taken.credential.map(|c| c.to_string()).as_deref(), expected, "{end}");
            assert!(matches!(taken.action, Action::Export { routes: None, .. }));
        }
    }

    #[test]
    fn routes_that_begin_at_the_container_are_taken_with_the_pipeline_that_they_start() {
        let pipeline = record(
            Kind::ExportPipeline,
            "pipe",
            &json!({ "target": { "uri": SOURCE, "keyVaultUri": VAULT } }),
        );
        let inbox = record(
            Kind::ImportPipeline,
            "inbox",
            &json!({ "source": { "uri": TARGET, "keyVaultUri": VAULT } }),
        );
        let route = |from: &str, import: &str| {
            let properties = json!({
                "sourceUri": from, "targetUri": TARGET, "targetKeyVaultUri": "inbox-sas", "importPipeline": import,
            });
            record(Kind::Route, "route", &properties)
        };
        let id = inbox.id.to_string().to_uppercase();
        // What is wrong with a route of another container is no matter of this one.
        let broken = record(Kind::Route, "broken", &json!({ "sourceUri": "https://x.example/c" }));
        let strange = ResourceRecord { body: "not JSON".to_owned(), ..broken.clone() };
        let others = [route("https://x.example/c", &id), broken, strange];
        let routes = [&[route(SOURCE, &id), route(SOURCE, "elsewhere")][..], &others].concat();
        let taken = export_snapshot(&registries(), &pipeline, &routes, &[inbox]).unwrap();
        let Action::Export { routes: Some(routes), .. } = taken.action else {
            panic!("an export with routes")
        };
        let names: Vec<_> =
            routes.iter().map(|route| route.import_pipeline.as_ref().unwrap().as_str()).collect();
        assert_eq!(names, ["Source.inbox", "elsewhere"]);
        assert_eq!(routes[0].import_destination.as_ref().unwrap().registry.as_str(), "source");
        assert_eq!(routes[1].import_destination, None);
        let none =
            export_snapshot(&registries(), &pipeline, &[route("https://x.example/c", "elsewhere")], &[]);
        assert!(
            matches!(none.unwrap().action, Action::Export { routes: Some(routes), .. } if routes.is_empty())
        );
    }
}
