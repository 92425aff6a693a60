//! Deployments in deployments: a template that is part of another one.

use serde_json::{Map, Value, json};

use super::deploy::{Ended, Session, Stop, slots};
use super::fault::{Evaluated, Fault};
use super::plan::Planned;
use super::scope::{Frame, Slots};
use super::template::Template;
use super::{DEPLOYMENTS, DeploymentContext, identifiers, parameters};

/// Carries out a nested deployment; returns the identifiers of its resources.
pub(super) async fn deploy(
    session: &mut Session<'_>,
    outer: &Frame,
    resource: &Planned<'_>,
) -> Result<Vec<String>, Stop> {
    let at = |fault: Fault| fault.under(&resource.at);
    let properties = resource.raw.get("properties").and_then(Value::as_object);
    let properties = properties.ok_or_else(|| at(Fault::invalid("a deployment needs properties")))?;
    if properties.contains_key("templateLink") {
        let why = "templates elsewhere are not fetched: put the template itself here";
        return Err(at(Fault::invalid(why).under("properties.templateLink")).into());
    }
    if !outer.may_nest() {
        return Err(at(Fault::invalid("deployments are in each other too deep")).into());
    }
    let raw = properties.get("template").unwrap_or(&Value::Null);
    let template = Template::read(raw).map_err(|fault| at(fault.under("properties.template")))?;
    let mut frame = frame(session, outer, resource, properties, &template).await?;
    let mut ended = Ended::default();
    session.run(&template, &mut frame, &mut ended).await?;
    session.known.insert(
        identifiers::key(&resource.id),
        json!({
            "id": resource.id,
            "name": resource.name,
            "type": DEPLOYMENTS,
            "properties": {
                "mode": "Incremental",
                "provisioningState": "Succeeded",
                "outputs": ended.outputs,
                "outputResources": ended.resources.iter().map(|id| json!({ "id": id })).collect::<Vec<_>>(),
            },
        }),
    );
    Ok(ended.resources)
}

/// What the inner template sees: its own parameters and variables, or those around it, as it says.
async fn frame(
    session: &mut Session<'_>,
    outer: &Frame,
    resource: &Planned<'_>,
    properties: &Map<String, Value>,
    template: &Template<'_>,
) -> Result<Frame, Stop> {
    let place = place(outer, resource);
    let level = outer.level + 1;
    let scope = properties.get("expressionEvaluationOptions").and_then(|options| options.get("scope"));
    let is_inner = scope.and_then(Value::as_str).is_some_and(|scope| scope.eq_ignore_ascii_case("inner"));
    if !is_inner {
        return Ok(Frame { place, level, ..outer.clone() });
    }
    let raw = properties.get("parameters").unwrap_or(&Value::Null);
    let at = format!("{}.properties.parameters", resource.at);
    let values = session.evaluated(outer, raw, &at).await?;
    let given = given(&values).map_err(|fault| fault.under(&at))?;
    let context = DeploymentContext {
        subscription: place.0.clone(),
        group: place.1.clone(),
        name: resource.name.clone(),
        ..outer.context.clone()
    };
    let variables = slots(&template.variables);
    let mut frame =
        Frame { context, place, level, parameters: Slots::new(), variables, names: Default::default() };
    let filled = parameters::fill(&mut frame, &template.parameters, &given);
    filled.map_err(|fault| fault.under(&format!("{}.properties.template", resource.at)))?;
    Ok(frame)
}

/// Where the inner deployment's resources are: its identifier says it.
fn place(outer: &Frame, resource: &Planned<'_>) -> (String, String) {
    let mut segments = resource.id.split('/');
    match (segments.nth(2), segments.nth(1)) {
        (Some(subscription), Some(group)) => (subscription.to_owned(), group.to_owned()),
        _ => outer.place.clone(),
    }
}

/// Parameters as they are given: an object of objects, or nothing.
pub(super) fn given(parameters: &Value) -> Evaluated<Map<String, Value>> {
    match parameters {
        Value::Null => Ok(Map::new()),
        Value::Object(given) => Ok(given.clone()),
        _ => Err(Fault::invalid("they must be an object of {\"name\": {\"value\": …}}").under("parameters")),
    }
}
