//! `transship pipeline …`.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use transship_api::{
    ExportPipeline, ExportPipelineProperties, ExportTarget, IdentityProperties, ImportPipeline,
    ImportPipelineProperties, Kind, PipelineTrigger, Schedule, SourceTrigger, TagSelector,
};

use super::watching;
use crate::args::{
    AccessMode, ContainerArgs, ExportPipelineArgs, ImportPipelineArgs, ListArgs, NameArgs, OutputFormat,
    PipelineArgs, PipelineCommand, PipelineDirection,
};
use crate::control::{ControlPlane, check_new_name, check_old_name};
use crate::exit::{Exit, Problem};
use crate::report::{json, resources};
use crate::screen::Screen;

/// The largest file with a schedule, in bytes.
const MAX_SCHEDULE: u64 = 1 << 20;

/// Runs the command.
pub(crate) async fn pipeline(
    args: &PipelineArgs,
    format: OutputFormat,
    screen: &Screen,
) -> Result<Exit, Problem> {
    match &args.direction {
        PipelineDirection::Export { command } => match command {
            PipelineCommand::Create(args) => create_export(args, format, screen).await,
            PipelineCommand::List(args) => {
                list(args, Kind::ExportPipeline, resources::export_pipelines, format, screen).await
            }
            PipelineCommand::Show(args) => {
                show(args, Kind::ExportPipeline, resources::export_pipeline, format, screen).await
            }
            PipelineCommand::Delete(args) => delete(args, Kind::ExportPipeline, format, screen).await,
        },
        PipelineDirection::Import { command } => match command {
            PipelineCommand::Create(args) => create_import(args, format, screen).await,
            PipelineCommand::List(args) => {
                list(args, Kind::ImportPipeline, resources::import_pipelines, format, screen).await
            }
            PipelineCommand::Show(args) => {
                show(args, Kind::ImportPipeline, resources::import_pipeline, format, screen).await
            }
            PipelineCommand::Delete(args) => delete(args, Kind::ImportPipeline, format, screen).await,
        },
    }
}

/// What a kind is called.
pub(super) fn noun(kind: Kind) -> &'static str {
    match kind {
        Kind::ExportPipeline => "export pipeline",
        Kind::ImportPipeline => "import pipeline",
        Kind::PipelineRun => "run",
        Kind::Route => "route",
    }
}

/// A value of the control plane as the type that it should be.
pub(super) fn typed<T: DeserializeOwned>(value: &Value, what: &str) -> Result<T, Problem> {
    T::deserialize(value).map_err(|error| {
        Problem::new(Exit::Failed, format!("{what}: the control plane answered with something else"))
            .caused_by(&error)
            .hint("check that the context's address is that of a control plane, and compare the versions of both")
    })
}

/// Lists the resources of one kind.
pub(super) async fn list<T: DeserializeOwned>(
    args: &ListArgs,
    kind: Kind,
    table: fn(&[T]) -> String,
    format: OutputFormat,
    screen: &Screen,
) -> Result<Exit, Problem> {
    let control = ControlPlane::connect(&args.connection)?;
    let what = format!("list {}s", noun(kind));
    let path = format!("{}/{}", control.registry_of(kind)?, kind.segment());
    let values = control.list(&path, &what).await?;
    screen.data(&match format {
        OutputFormat::Json => json(&values),
        OutputFormat::Table => {
            table(&values.iter().map(|value| typed(value, &what)).collect::<Result<Vec<T>, _>>()?)
        }
    });
    Ok(Exit::Done)
}

/// Shows one resource, and what keeps a pipeline from working by itself.
pub(super) async fn show<T: DeserializeOwned>(
    args: &NameArgs,
    kind: Kind,
    table: fn(&T) -> String,
    format: OutputFormat,
    screen: &Screen,
) -> Result<Exit, Problem> {
    check_old_name(&args.name)?;
    let control = ControlPlane::connect(&args.connection)?;
    let what = format!("show {} {}", noun(kind), args.name);
    let id = control.registry_of(kind)?.child(kind, &args.name);
    let mut value = control.get(&id.to_string(), &what).await?.body;
    let watch = match kind {
        Kind::ExportPipeline | Kind::ImportPipeline => watching::watching(&control, &id).await?,
        Kind::PipelineRun | Kind::Route => None,
    };
    watching::add(&mut value, watch.as_ref());
    write(&value, table, &what, format, screen)?;
    watching::warn(watch.as_ref(), kind, &args.name, screen);
    Ok(Exit::Done)
}

/// Writes one resource.
pub(super) fn write<T: DeserializeOwned>(
    value: &Value,
    table: fn(&T) -> String,
    what: &str,
    format: OutputFormat,
    screen: &Screen,
) -> Result<(), Problem> {
    screen.data(&match format {
        OutputFormat::Json => json(value),
        OutputFormat::Table => table(&typed(value, what)?),
    });
    Ok(())
}

/// Deletes one resource.
pub(super) async fn delete(
    args: &NameArgs,
    kind: Kind,
    format: OutputFormat,
    screen: &Screen,
) -> Result<Exit, Problem> {
    check_old_name(&args.name)?;
    let control = ControlPlane::connect(&args.connection)?;
    let id = control.registry_of(kind)?.child(kind, &args.name);
    let noun = noun(kind);
    let deleted = control.delete(&id.to_string(), &format!("delete {noun} {}", args.name)).await?;
    deletion(&id.to_string(), noun, &args.name, deleted, format, screen);
    Ok(Exit::Done)
}

/// Says what became of a deletion.
pub(super) fn deletion(
    id: &str,
    noun: &str,
    name: &str,
    deleted: bool,
    format: OutputFormat,
    screen: &Screen,
) {
    match (format, deleted) {
        (OutputFormat::Json, _) => screen.data(&json(&json!({ "id": id, "deleted": deleted }))),
        (OutputFormat::Table, true) => screen.note(&format!("{noun} {name} is deleted")),
        (OutputFormat::Table, false) => screen.note(&format!("there was no {noun} {name}")),
    }
}

async fn create_export(
    args: &ExportPipelineArgs,
    format: OutputFormat,
    screen: &Screen,
) -> Result<Exit, Problem> {
    check_new_name(&args.name)?;
    let control = ControlPlane::connect(&args.connection)?;
    let flags = [(args.overwrite_blobs, "OverwriteBlobs"), (args.continue_on_errors, "ContinueOnErrors")];
    let pipeline = ExportPipeline {
        identity: Some(identity(&args.container)),
        properties: ExportPipelineProperties {
            target: container(&args.container, &control, Kind::ExportPipeline)?,
            options: chosen(&flags),
            schedule: schedule(args)?,
            ..ExportPipelineProperties::default()
        },
        ..ExportPipeline::default()
    };
    let body = serde_json::to_value(&pipeline).unwrap_or_default();
    put(&control, &args.name, Kind::ExportPipeline, &body, resources::export_pipeline, format, screen).await
}

async fn create_import(
    args: &ImportPipelineArgs,
    format: OutputFormat,
    screen: &Screen,
) -> Result<Exit, Problem> {
    check_new_name(&args.name)?;
    let control = ControlPlane::connect(&args.connection)?;
    let flags = [
        (args.overwrite_tags, "OverwriteTags"),
        (args.delete_source_blob, "DeleteSourceBlobOnSuccess"),
        (args.continue_on_errors, "ContinueOnErrors"),
    ];
    let status = if args.no_source_trigger { "Disabled" } else { "Enabled" };
    let trigger = SourceTrigger { status: Some(status.to_owned()), timestamp: None };
    let pipeline = ImportPipeline {
        identity: Some(identity(&args.container)),
        properties: ImportPipelineProperties {
            source: container(&args.container, &control, Kind::ImportPipeline)?,
            trigger: Some(PipelineTrigger { source_trigger: Some(trigger) }),
            options: chosen(&flags),
            ..ImportPipelineProperties::default()
        },
        ..ImportPipeline::default()
    };
    let body = serde_json::to_value(&pipeline).unwrap_or_default();
    put(&control, &args.name, Kind::ImportPipeline, &body, resources::import_pipeline, format, screen).await
}

/// Puts a resource, and shows what it became.
pub(super) async fn put<T: DeserializeOwned>(
    control: &ControlPlane,
    name: &str,
    kind: Kind,
    body: &Value,
    table: fn(&T) -> String,
    format: OutputFormat,
    screen: &Screen,
) -> Result<Exit, Problem> {
    let what = format!("create {} {name}", noun(kind));
    let id = control.registry_of(kind)?.child(kind, name);
    let value = control.put(&id.to_string(), body, &what).await?.body;
    write(&value, table, &what, format, screen)?;
    Ok(Exit::Done)
}

fn chosen(flags: &[(bool, &str)]) -> Vec<String> {
    flags.iter().filter(|(on, _)| *on).map(|(_, name)| (*name).to_owned()).collect()
}

fn identity(args: &ContainerArgs) -> IdentityProperties {
    let named = args.assign_identity.iter().map(|id| (id.clone(), Default::default()));
    let kind = if args.assign_identity.is_some() { "UserAssigned" } else { "SystemAssigned" };
    IdentityProperties {
        identity_type: Some(kind.to_owned()),
        user_assigned_identities: named.collect(),
        ..IdentityProperties::default()
    }
}

/// The container and its secret, as they are named, or those of the stack on this machine.
fn container(args: &ContainerArgs, control: &ControlPlane, kind: Kind) -> Result<ExportTarget, Problem> {
    let stack = control.place.stack.as_ref();
    let (place, secret) = match (stack, kind) {
        (None, _) => (None, None),
        (Some(stack), Kind::ImportPipeline) => {
            (stack.target_container.url.clone(), stack.import_secret.clone())
        }
        (Some(stack), _) => (stack.source_container.url.clone(), stack.export_secret.clone()),
    };
    let is_stacks = args.container.is_none() || args.container == place;
    let uri = args.container.clone().or(place).ok_or_else(|| {
        Problem::usage("no container is named")
            .hint("say --container https://ACCOUNT.blob.core.windows.net/CONTAINER")
    })?;
    let secret = args.secret_uri.clone().or(secret.filter(|_| is_stacks));
    let secret = match (args.storage_access_mode, secret) {
        (AccessMode::ManagedIdentity, _) if args.secret_uri.is_some() => {
            return Err(Problem::usage("a managed identity needs no secret").hint("leave out --secret-uri"));
        }
        (AccessMode::ManagedIdentity, _) => None,
        (AccessMode::SasToken, None) => {
            return Err(Problem::usage("no secret holds the SAS token of the container").hint(
                "say --secret-uri https://VAULT.vault.azure.net/secrets/NAME, or --storage-access-mode managed-identity",
            ));
        }
        (AccessMode::SasToken, secret) => secret,
    };
    Ok(ExportTarget {
        storage_type: Some("AzureStorageBlobContainer".to_owned()),
        uri: Some(uri),
        key_vault_uri: secret,
        storage_access_mode: Some(args.storage_access_mode.wire().to_owned()),
    })
}

fn schedule(args: &ExportPipelineArgs) -> Result<Option<Schedule>, Problem> {
    if let Some(file) = &args.schedule_file {
        return read_schedule(file).map(Some);
    }
    if args.replicate.is_empty() {
        return Ok(None);
    }
    let (mut repositories, mut globs) = (Vec::new(), Vec::new());
    for text in &args.replicate {
        let (repository, tags) = text.split_once(':').map_or((text.as_str(), None), |(a, b)| (a, Some(b)));
        repositories.push(repository.to_owned());
        globs.extend(tags.map(str::to_owned));
    }
    if !globs.is_empty() && args.replicate.len() > 1 {
        return Err(Problem::usage(
            "one schedule has one rule for tags, so --replicate REPOSITORY:TAGS stands alone",
        )
        .hint("make a pipeline for each, or write the schedule into a file for --schedule-file"));
    }
    let schedule = json!({
        "repositories": repositories,
        "tags": TagSelector { globs, ..TagSelector::default() },
        "intervalSeconds": args.interval,
    });
    typed(&schedule, "make a schedule").map(Some)
}

fn read_schedule(path: &Path) -> Result<Schedule, Problem> {
    let problem = || Problem::usage(format!("{} does not hold a schedule", path.display()));
    let text = crate::files::read_text(path, MAX_SCHEDULE).map_err(|error| problem().caused_by(&error))?;
    serde_json::from_str(&text).map_err(|error| {
        problem().caused_by(&error).hint(
            "a schedule is JSON such as {\"repositories\": [\"team/**\"], \"tags\": {\"semver\": \">=1.4\"}, \
             \"intervalSeconds\": 60}",
        )
    })
}
