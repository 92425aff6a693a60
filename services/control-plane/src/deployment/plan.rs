//! What a template's resources are, before any is put: their identifiers, conditions, and what each needs first.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use transship_api::{Kind, PROVIDER, ResourceId};

use super::evaluate::Evaluation;
use super::fault::{Evaluated, Fault};
use super::scope::{Frame, Names};
use super::syntax::{Expression, Reading, read};
use super::{DEPLOYMENTS, identifiers};

/// What is not part of a resource's body.
const NOT_BODY: [&str; 10] = [
    "apiVersion",
    "comments",
    "condition",
    "dependsOn",
    "metadata",
    "name",
    "resourceGroup",
    "resources",
    "subscriptionId",
    "type",
];

/// What is done with a resource.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    /// It is put.
    Put(ResourceId, Kind),
    /// It is left as it is: a registry.
    Registry(ResourceId),
    /// It is left as it is: access to a vault's secrets.
    VaultAccess { vault: String },
    /// It is left as it is: a role.
    Role,
    /// It is a deployment in this one.
    Nested,
}

/// A resource of a template.
#[derive(Debug)]
pub(super) struct Planned<'a> {
    /// Where it stands: `resources[1]`.
    pub(super) at: String,
    /// Its identifier.
    pub(super) id: String,
    /// Its type, without a `/` at its end.
    pub(super) resource_type: String,
    /// Its name, with its parents' names before it.
    pub(super) name: String,
    /// What is done with it.
    pub(super) what: What,
    /// Whether its condition holds.
    pub(super) enabled: bool,
    /// What it says.
    pub(super) raw: &'a Map<String, Value>,
    /// Those that must be done before it, by index.
    pub(super) after: Vec<usize>,
}

impl Planned<'_> {
    /// What the resource says of itself, without what is said to the deployment.
    pub(super) fn body(&self) -> Map<String, Value> {
        let body = self.raw.iter().filter(|(key, _)| !NOT_BODY.contains(&key.as_str()));
        body.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

/// A resource around others.
#[derive(Clone)]
struct Parent {
    index: usize,
    resource_type: String,
    name: String,
}

/// The resources of a template in its order, children behind their parents.
///
/// # Errors
/// Where one has no type, name or known kind, two are the same, or one depends on what is not there.
pub(super) fn plan<'a>(frame: &Frame, resources: &'a [Value]) -> Evaluated<Vec<Planned<'a>>> {
    let mut planned = Vec::new();
    collect(frame, resources, "", None, &mut planned)?;
    let mut seen = BTreeMap::new();
    for resource in &planned {
        if let Some(other) = seen.insert(identifiers::key(&resource.id), &resource.at) {
            let same = format!("the resource {} is defined twice, here and at {other}", resource.id);
            return Err(Fault::invalid(same).under(&resource.at));
        }
    }
    for index in 0..planned.len() {
        let needs = needs(frame, &planned, index).map_err(|fault| fault.under(&planned[index].at))?;
        planned[index].after.extend(needs);
    }
    Ok(planned)
}

/// The identifiers by whole names, and by the ends of those, for references by name.
pub(super) fn names(planned: &[Planned<'_>]) -> Names {
    let mut names = Names::new();
    for resource in planned {
        names.insert(resource.name.to_ascii_lowercase(), identifiers::key(&resource.id));
    }
    for resource in planned {
        let end = resource.name.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        names.entry(end).or_insert_with(|| identifiers::key(&resource.id));
    }
    names
}

fn collect<'a>(
    frame: &Frame,
    resources: &'a [Value],
    path: &str,
    parent: Option<Parent>,
    planned: &mut Vec<Planned<'a>>,
) -> Evaluated<()> {
    for (index, resource) in resources.iter().enumerate() {
        let at = format!("{path}resources[{index}]");
        let one =
            describe(frame, resource, parent.as_ref(), planned, &at).map_err(|fault| fault.under(&at))?;
        let this =
            Parent { index: planned.len(), resource_type: one.resource_type.clone(), name: one.name.clone() };
        let children = one.raw.get("resources").and_then(Value::as_array);
        planned.push(one);
        if let Some(children) = children {
            collect(frame, children, &format!("{at}."), Some(this), planned)?;
        }
    }
    Ok(())
}

fn describe<'a>(
    frame: &Frame,
    resource: &'a Value,
    parent: Option<&Parent>,
    planned: &[Planned<'_>],
    at: &str,
) -> Evaluated<Planned<'a>> {
    let raw = resource.as_object().ok_or_else(|| Fault::invalid("a resource is an object"))?;
    if raw.contains_key("copy") {
        return Err(
            Fault::invalid("copy loops are not evaluated here: write the resources out").under("copy")
        );
    }
    let evaluation = Evaluation::early(frame);
    let text = |name: &str| text(&evaluation, raw, name).map_err(|fault| fault.under(name));
    let own = (text("type")?, text("name")?);
    let (Some(own_type), Some(own_name)) = own else {
        return Err(Fault::invalid("a resource needs a type and a name"));
    };
    let own_type = own_type.strip_suffix('/').map_or(own_type.clone(), str::to_owned);
    let (resource_type, name) = match parent {
        // A child says only the end of both, as part of its parent.
        Some(parent) => {
            (format!("{}/{own_type}", parent.resource_type), format!("{}/{own_name}", parent.name))
        }
        None => (own_type, own_name),
    };
    let subscription = text("subscriptionId")?.unwrap_or_else(|| frame.place.0.clone());
    let group = text("resourceGroup")?.unwrap_or_else(|| frame.place.1.clone());
    let scope = identifiers::group(&subscription, &group);
    let id = identifiers::join(&scope, &resource_type, &[&name]).map_err(Fault::invalid)?;
    let enabled = match raw.get("condition").map(|condition| evaluation.value(condition)) {
        None => true,
        Some(Ok(Value::Bool(truth))) => truth,
        Some(Ok(_)) => return Err(Fault::invalid("a condition must be a bool").under("condition")),
        Some(Err(fault)) => return Err(fault.under("condition")),
    };
    let what = what(&id, &resource_type).map_err(|fault| fault.under("type"))?;
    let enabled = enabled && parent.is_none_or(|parent| planned[parent.index].enabled);
    let after = parent.map(|parent| parent.index).into_iter().collect();
    Ok(Planned { at: at.to_owned(), id, resource_type, name, what, enabled, raw, after })
}

fn text(evaluation: &Evaluation<'_>, raw: &Map<String, Value>, name: &str) -> Evaluated<Option<String>> {
    match raw.get(name).map(|value| evaluation.value(value)).transpose()? {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Fault::invalid("it must be a string")),
    }
}

fn what(id: &str, resource_type: &str) -> Evaluated<What> {
    let is = |known: &str| resource_type.eq_ignore_ascii_case(known);
    if let Ok(id) = id.parse::<ResourceId>() {
        return Ok(match id.resource.as_ref().map(|(kind, _)| *kind) {
            Some(kind) => What::Put(id, kind),
            None => What::Registry(id),
        });
    }
    if is("Microsoft.KeyVault/vaults/accessPolicies") {
        let vault = id.rsplit('/').nth(2).unwrap_or_default().to_owned();
        return Ok(What::VaultAccess { vault });
    }
    if resource_type.to_ascii_lowercase().ends_with("microsoft.authorization/roleassignments")
        || resource_type.to_ascii_lowercase().ends_with("providers/roleassignments")
    {
        return Ok(What::Role);
    }
    if is(DEPLOYMENTS) {
        return Ok(What::Nested);
    }
    let kinds = Kind::ALL.map(|kind| kind.segment()).join(", ");
    Err(Fault::invalid(format!(
        "resources of the type {resource_type:?} are not deployed here, only {PROVIDER}/registries with {kinds} below \
         them, {DEPLOYMENTS}, and (left as they are) Microsoft.KeyVault/vaults/accessPolicies and role assignments"
    )))
}

/// What a resource says that it depends on, and what it refers to.
fn needs(frame: &Frame, planned: &[Planned<'_>], index: usize) -> Evaluated<Vec<usize>> {
    let evaluation = Evaluation::early(frame);
    let raw = planned[index].raw;
    let mut needs = Vec::new();
    let said = raw.get("dependsOn").map_or(Ok(Value::Null), |said| evaluation.value(said));
    match said.map_err(|fault| fault.under("dependsOn"))? {
        Value::Null => {}
        Value::Array(said) => {
            for on in said {
                let on = on.as_str().unwrap_or_default();
                let found = find(planned, on).ok_or_else(|| {
                    Fault::invalid(format!("the resource {on:?} is not defined in the template"))
                        .under("dependsOn")
                })?;
                needs.push(found);
            }
        }
        _ => return Err(Fault::invalid("it must be an array").under("dependsOn")),
    }
    let mut referred = Vec::new();
    references(&evaluation, &Value::Object(planned[index].body()), &mut referred);
    needs.extend(referred.iter().filter_map(|on| find(planned, on)));
    Ok(needs)
}

/// The resource that `on` means: an identifier, `TYPE/NAME`, a whole name, or the end of one.
fn find(planned: &[Planned<'_>], on: &str) -> Option<usize> {
    let on = identifiers::key(on);
    let by = |holds: &dyn Fn(&Planned<'_>) -> bool| planned.iter().position(holds);
    by(&|resource| identifiers::key(&resource.id) == on)
        .or_else(|| by(&|resource| identifiers::key(&resource.id).ends_with(&format!("/providers/{on}"))))
        .or_else(|| by(&|resource| resource.name.eq_ignore_ascii_case(&on)))
        .or_else(|| by(&|resource| resource.name.to_ascii_lowercase().ends_with(&format!("/{on}"))))
        .filter(|_| !on.is_empty())
}

/// What `value` refers to, as far as it can be told without any resource.
fn references(evaluation: &Evaluation<'_>, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            let Ok(Reading::Expression(expression)) = read(text) else { return };
            expression.calls(&mut |name, arguments: &[Expression]| {
                if let (true, [of, ..]) = (name.eq_ignore_ascii_case("reference"), arguments)
                    && let Ok(Value::String(id)) = evaluation.expression(of)
                {
                    found.push(id);
                }
            });
        }
        Value::Array(values) => values.iter().for_each(|value| references(evaluation, value, found)),
        Value::Object(members) => members.values().for_each(|value| references(evaluation, value, found)),
        _ => {}
    }
}
