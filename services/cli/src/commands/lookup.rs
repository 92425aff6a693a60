//! `transship artifact show`, `transship repository list`, `transship blob list`.

use transship_api::{ArtifactSighting, Kind, Registry, ResourceId, SeenBlobView};
use transship_model::Failure;
use transship_registry::Catalog;

use super::pipeline::typed;
use super::watching::{warn, watching};
use crate::args::{
    ArtifactArgs, ArtifactCommand, BlobArgs, BlobCommand, OutputFormat, RepositoryArgs, RepositoryCommand,
    RepositoryListArgs,
};
use crate::control::{ControlPlane, check_old_name};
use crate::exit::{Exit, Problem};
use crate::hints::{Doer, reword};
use crate::registry::connect;
use crate::report::{json, lookups};
use crate::screen::Screen;

/// Shows where an artifact is.
pub(crate) async fn artifact(
    args: &ArtifactArgs,
    format: OutputFormat,
    screen: &Screen,
) -> Result<Exit, Problem> {
    let ArtifactCommand::Show(args) = &args.command;
    let control = ControlPlane::connect(&args.connection)?;
    let what = format!("find {}", args.reference);
    let query = [("reference", args.reference.to_string())];
    let query = query.each_ref().map(|(name, value)| (*name, value.as_str()));
    let found = control.query("/transship/v1/artifacts", &query, &what).await?.body;
    let values = found["value"].as_array().cloned().unwrap_or_default();
    match format {
        OutputFormat::Json => screen.data(&json(&values)),
        OutputFormat::Table if values.is_empty() => {
            screen.note(&format!("no run that this control plane remembers carried {}", args.reference));
        }
        OutputFormat::Table => {
            let found: Vec<ArtifactSighting> =
                values.iter().map(|value| typed(value, &what)).collect::<Result<_, _>>()?;
            screen.data(&lookups::sightings(&found));
        }
    }
    Ok(Exit::Done)
}

/// Lists what an import pipeline's trigger sees.
pub(crate) async fn blob(args: &BlobArgs, format: OutputFormat, screen: &Screen) -> Result<Exit, Problem> {
    let BlobCommand::List(args) = &args.command;
    check_old_name(&args.pipeline)?;
    let control = ControlPlane::connect(&args.connection)?;
    let what = format!("list what import pipeline {} sees", args.pipeline);
    let id = control.registry_of(Kind::ImportPipeline)?.child(Kind::ImportPipeline, &args.pipeline);
    let values = control.list(&format!("/transship/v1/pipelines{id}/blobs"), &what).await?;
    screen.data(&match format {
        OutputFormat::Json => json(&values),
        OutputFormat::Table => {
            let seen: Vec<SeenBlobView> =
                values.iter().map(|value| typed(value, &what)).collect::<Result<_, _>>()?;
            lookups::seen_blobs(&seen)
        }
    });
    // An empty list may mean that the container could not be listed.
    let watch = watching(&control, &id).await?;
    warn(watch.as_ref(), Kind::ImportPipeline, &args.pipeline, screen);
    Ok(Exit::Done)
}

/// Lists the repositories of a registry, which is asked itself.
pub(crate) async fn repository(
    args: &RepositoryArgs,
    format: OutputFormat,
    screen: &Screen,
) -> Result<Exit, Problem> {
    let RepositoryCommand::List(RepositoryListArgs { address, reach, connection }) = &args.command;
    let address = match address {
        Some(address) => address.clone(),
        None => {
            let control = ControlPlane::connect(connection)?;
            login_server(&control, &control.registry_of(Kind::ExportPipeline)?).await?
        }
    };
    let registry = connect(&address, reach)?;
    let listed = registry.list_repositories().await;
    let listed = listed
        .map_err(|error| reword(Failure::from(error).into(), Doer::Command(&[])))?
        .ok_or_else(|| {
            Problem::new(Exit::Failed, format!("{address} does not list its repositories"))
                .hint("some registries, such as Docker Hub, have no such list: name artifacts instead")
        })?;
    let names: Vec<String> = listed.iter().map(ToString::to_string).collect();
    screen.data(&match format {
        OutputFormat::Json => json(&names),
        OutputFormat::Table => names.iter().map(|name| format!("{name}\n")).collect(),
    });
    Ok(Exit::Done)
}

/// The address of a registry, as the control plane knows it.
pub(super) async fn login_server(control: &ControlPlane, id: &ResourceId) -> Result<String, Problem> {
    let what = format!("look up registry {}", id.name());
    let registry: Registry = typed(&control.get(&id.to_string(), &what).await?.body, &what)?;
    Ok(registry.properties.login_server)
}
