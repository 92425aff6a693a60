//! `transship route …`.

use transship_api::{Kind, RouteProperties, RouteResource};

use super::pipeline::{delete, list, put, show};
use crate::args::{AccessMode, OutputFormat, RouteArgs, RouteCommand, RouteCreateArgs};
use crate::control::{ControlPlane, check_new_name};
use crate::exit::{Exit, Problem};
use crate::report::resources;
use crate::screen::Screen;

/// Runs the command.
pub(crate) async fn route(args: &RouteArgs, format: OutputFormat, screen: &Screen) -> Result<Exit, Problem> {
    match &args.command {
        RouteCommand::Create(args) => create(args, format, screen).await,
        RouteCommand::List(args) => list(args, Kind::Route, resources::routes, format, screen).await,
        RouteCommand::Show(args) => show(args, Kind::Route, resources::route, format, screen).await,
        RouteCommand::Delete(args) => delete(args, Kind::Route, format, screen).await,
    }
}

async fn create(args: &RouteCreateArgs, format: OutputFormat, screen: &Screen) -> Result<Exit, Problem> {
    check_new_name(&args.name)?;
    let control = ControlPlane::connect(&args.connection)?;
    if args.storage_access_mode == AccessMode::ManagedIdentity && args.secret_uri.is_some() {
        return Err(Problem::usage("a managed identity needs no secret").hint("leave out --secret-uri"));
    }
    let properties = RouteProperties {
        source_uri: args.from.clone(),
        name_pattern: Some(args.name_pattern.clone()),
        target_uri: args.to.clone(),
        target_key_vault_uri: args.secret_uri.clone(),
        storage_access_mode: Some(args.storage_access_mode.wire().to_owned()),
        overwrite: args.overwrite,
        import_pipeline: args.import_pipeline.clone(),
        provisioning_state: None,
    };
    let body =
        serde_json::to_value(RouteResource { properties, ..RouteResource::default() }).unwrap_or_default();
    put(&control, &args.name, Kind::Route, &body, resources::route, format, screen).await
}
