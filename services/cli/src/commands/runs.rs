//! `transship run create | list | show | watch | delete | clean`.

use serde_json::{Value, json};
use transship_api::{Kind, PipelineRun, ResourceId};

use super::pipeline::{deletion, typed, write};
use super::run_export::run_export;
use super::run_watch::watch;
use crate::args::{NameArgs, OutputFormat, RunCleanArgs, RunCommand, RunCreateArgs, RunListArgs};
use crate::control::{ControlPlane, check_new_name, check_old_name};
use crate::exit::{Exit, Problem};
use crate::references;
use crate::report::resources;
use crate::report::{json, units::counted};
use crate::screen::Screen;

/// Runs the command.
pub(crate) async fn runs(
    command: &RunCommand,
    format: OutputFormat,
    screen: &Screen,
) -> Result<Exit, Problem> {
    match command {
        RunCommand::Create(args) => create(args, format, screen).await,
        RunCommand::List(args) => list(args, format, screen).await,
        RunCommand::Show(args) => show(args, format, screen).await,
        RunCommand::Watch(args) => {
            check_old_name(&args.name)?;
            let control = ControlPlane::connect(&args.connection)?;
            let (id, _) = find(&control, &args.name).await?;
            watch(&control, &id, format, screen).await
        }
        RunCommand::Delete(args) => delete(args, format, screen).await,
        RunCommand::Clean(args) => clean(args, format, screen).await,
        RunCommand::Export(args) => run_export(args, format, screen).await,
    }
}

async fn create(args: &RunCreateArgs, format: OutputFormat, screen: &Screen) -> Result<Exit, Problem> {
    check_new_name(&args.name)?;
    let control = ControlPlane::connect(&args.connection)?;
    let (pipeline, request) = request(args, &control)?;
    let id = pipeline.parent().child(Kind::PipelineRun, &args.name);
    let mut properties = json!({ "request": request });
    if args.force {
        properties["forceUpdateTag"] = json!(jiff::Timestamp::now().as_millisecond().to_string());
    }
    let what = format!("create run {}", args.name);
    let put = control.put(&id.to_string(), &json!({ "properties": properties }), &what).await?;
    if put.status == 200 && !args.force {
        screen.note(&format!(
            "a run {} has done or is doing the same, so nothing was started; --force has it run again",
            args.name
        ));
    }
    if args.watch {
        return watch(&control, &id, format, screen).await;
    }
    write(&put.body, resources::run, &what, format, screen)?;
    Ok(Exit::Done)
}

/// The pipeline, and what it is to do.
fn request(args: &RunCreateArgs, control: &ControlPlane) -> Result<(ResourceId, Value), Problem> {
    let end = json!({ "type": "AzureStorageBlob", "name": args.blob.as_str() });
    if let Some(pipeline) = &args.import_pipeline {
        let id = pipeline_id(pipeline, Kind::ImportPipeline, control)?;
        let mut request = json!({ "pipelineResourceId": id.to_string(), "source": end });
        if let Some(digest) = &args.catalog_digest {
            request["catalogDigest"] = json!(digest);
        }
        return Ok((id, request));
    }
    let pipeline = args.export_pipeline.as_deref().unwrap_or_default();
    let id = pipeline_id(pipeline, Kind::ExportPipeline, control)?;
    let references = references::gather(&args.artifacts, args.artifacts_file.as_deref())?;
    let artifacts: Vec<String> = references.iter().map(ToString::to_string).collect();
    let request = json!({ "pipelineResourceId": id.to_string(), "artifacts": artifacts, "target": end });
    Ok((id, request))
}

fn pipeline_id(text: &str, kind: Kind, control: &ControlPlane) -> Result<ResourceId, Problem> {
    if !text.contains('/') {
        check_old_name(text)?;
        return Ok(control.registry_of(kind)?.child(kind, text));
    }
    let id: ResourceId = text.parse().map_err(|error| {
        Problem::usage("the pipeline is neither a name nor a resource id").caused_by(&error)
    })?;
    match &id.resource {
        Some((found, _)) if *found == kind => Ok(id),
        _ => Err(Problem::usage(format!(
            "{text} is not the resource id of an {}",
            super::pipeline::noun(kind)
        ))),
    }
}

/// The runs of the registries of the context, of each of them all or the newest `last`, each list oldest first.
async fn all(control: &ControlPlane, last: Option<usize>) -> Result<Vec<Value>, Problem> {
    let mut runs = Vec::new();
    for registry in control.registries()? {
        let path = format!("{registry}/pipelineRuns");
        runs.extend(match last {
            None => control.list(&path, "list runs").await?,
            Some(last) => control.newest(&path, last, "list runs").await?,
        });
    }
    Ok(runs)
}

/// The run of this name, in whichever registry of the context it is.
async fn find(control: &ControlPlane, name: &str) -> Result<(ResourceId, Value), Problem> {
    let registries = control.registries()?;
    for registry in &registries {
        let id = registry.child(Kind::PipelineRun, name);
        if let Some(run) = control.find(&id.to_string(), &format!("show run {name}")).await? {
            return Ok((id, run));
        }
    }
    let names: Vec<&str> = registries.iter().map(ResourceId::name).collect();
    Err(Problem::new(Exit::Failed, format!("there is no run {name} of registry {}", names.join(" or ")))
        .hint("`transship run list` shows those that there are; --registry names another registry"))
}

async fn list(args: &RunListArgs, format: OutputFormat, screen: &Screen) -> Result<Exit, Problem> {
    let control = ControlPlane::connect(&args.connection)?;
    let mut runs = all(&control, args.last).await?;
    // Several registries are one list, oldest first.
    runs.sort_by_key(|run| run.pointer("/systemData/createdAt").map(ToString::to_string));
    if let Some(last) = args.last {
        runs.drain(..runs.len().saturating_sub(last));
    }
    screen.data(&match format {
        OutputFormat::Json => json(&runs),
        OutputFormat::Table => resources::runs(
            &runs.iter().map(|run| typed(run, "list runs")).collect::<Result<Vec<PipelineRun>, _>>()?,
        ),
    });
    Ok(Exit::Done)
}

async fn show(args: &NameArgs, format: OutputFormat, screen: &Screen) -> Result<Exit, Problem> {
    check_old_name(&args.name)?;
    let control = ControlPlane::connect(&args.connection)?;
    let (_, run) = find(&control, &args.name).await?;
    write(&run, resources::run, &format!("show run {}", args.name), format, screen)?;
    Ok(Exit::Done)
}

async fn delete(args: &NameArgs, format: OutputFormat, screen: &Screen) -> Result<Exit, Problem> {
    check_old_name(&args.name)?;
    let control = ControlPlane::connect(&args.connection)?;
    let what = format!("delete run {}", args.name);
    let (mut id, mut deleted) = (control.registries()?[0].child(Kind::PipelineRun, &args.name), false);
    for registry in control.registries()? {
        let candidate = registry.child(Kind::PipelineRun, &args.name);
        if control.delete(&candidate.to_string(), &what).await? {
            (id, deleted) = (candidate, true);
            break;
        }
    }
    deletion(&id.to_string(), "run", &args.name, deleted, format, screen);
    Ok(Exit::Done)
}

async fn clean(args: &RunCleanArgs, format: OutputFormat, screen: &Screen) -> Result<Exit, Problem> {
    let control = ControlPlane::connect(&args.connection)?;
    let (mut rows, mut first) = (Vec::new(), None);
    for run in all(&control, None).await? {
        if !run.pointer("/properties/provisioningState").is_some_and(|state| state == "Failed") {
            continue;
        }
        let run: PipelineRun = typed(&run, "list runs")?;
        let (id, name) = (run.id.unwrap_or_default(), run.name.unwrap_or_default());
        let asked = match args.dry_run {
            true => Ok(false),
            false => control.delete(&id, &format!("delete run {name}")).await,
        };
        // One that is not deleted keeps no other one.
        let problem = asked.as_ref().err().map(ToString::to_string);
        let deleted = asked.unwrap_or_else(|problem| {
            first.get_or_insert(problem);
            false
        });
        let mut row = json!({ "id": id, "name": name, "deleted": deleted });
        if let Some(problem) = problem {
            row["problem"] = json!(problem);
        }
        rows.push(row);
    }
    let did = if args.dry_run { "would be deleted" } else { "deleted" };
    screen.data(&match format {
        OutputFormat::Json => json(&rows),
        OutputFormat::Table => {
            let done: Vec<&Value> = rows.iter().filter(|row| row.get("problem").is_none()).collect();
            let names = done.iter().filter_map(|row| row["name"].as_str()).map(|name| format!("{name}\n"));
            format!("{}{} {did}\n", names.collect::<String>(), counted(done.len() as u64, "failed run"))
        }
    });
    first.map_or(Ok(Exit::Done), Err)
}
