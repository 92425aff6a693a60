//! The deployment of a template: what was planned, put in order, and what it came to.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Map, Value, json};
use transship_api::{Deployment, DeploymentProperties, ErrorDetail, NotApplied, OutputResource, ResourceId};

use super::evaluate::Evaluation;
use super::fault::{Evaluated, Fault};
use super::order::order;
use super::plan::{Planned, What, names, plan};
use super::scope::{Frame, Known, Slot, Slots};
use super::template::Template;
use super::{DEPLOYMENTS, Deployer, DeploymentContext, identifiers, nested, parameters};

/// Deploys `template` with `parameters` (`{"name": {"value": …}}`). What [`Deployer::put`] waits for, the deployment
/// waits for.
///
/// # Errors
/// `InvalidTemplate` and the like, where nothing was put. A deployment that failed on its way is a [`Deployment`]
/// with `provisioningState: Failed` and its `error`.
pub async fn deploy(
    template: &Value,
    parameters: &Value,
    context: DeploymentContext,
    deployer: &mut dyn Deployer,
) -> Result<Deployment, ErrorDetail> {
    let started = Instant::now();
    if !context.mode.eq_ignore_ascii_case("Incremental") {
        return Err(refused_mode(&context.mode));
    }
    let read = Template::read(template).map_err(Fault::detail)?;
    let mut frame = Frame {
        place: (context.subscription.clone(), context.group.clone()),
        context,
        level: 0,
        parameters: Slots::new(),
        variables: slots(&read.variables),
        names: BTreeMap::new(),
    };
    let given = nested::given(parameters).map_err(Fault::detail)?;
    parameters::fill(&mut frame, &read.parameters, &given).map_err(Fault::detail)?;
    let shown = parameters::shown(&frame, &read.parameters);
    let mut session = Session { deployer, known: Known::new(), not_applied: Vec::new(), put: 0 };
    let mut ended = Ended::default();
    let error = match session.run(&read, &mut frame, &mut ended).await {
        Ok(()) => None,
        Err(stop) if session.put == 0 && stop.is_invalid => return Err(stop.error),
        Err(stop) => Some(failed(stop.error)),
    };
    let state = if error.is_some() { "Failed" } else { "Succeeded" };
    Ok(Deployment {
        id: frame.context.id(),
        name: frame.context.name.clone(),
        resource_type: DEPLOYMENTS.to_owned(),
        properties: DeploymentProperties {
            provisioning_state: state.to_owned(),
            correlation_id: frame.context.correlation_id.clone(),
            timestamp: frame.context.now.to_string(),
            duration: format!("PT{:.3}S", started.elapsed().as_secs_f64()),
            mode: "Incremental".to_owned(),
            parameters: shown.into_iter().collect(),
            outputs: ended.outputs.into_iter().collect(),
            output_resources: ended.resources.into_iter().map(|id| OutputResource { id }).collect(),
            not_applied: session.not_applied,
            error,
        },
    })
}

fn refused_mode(mode: &str) -> ErrorDetail {
    ErrorDetail {
        code: "InvalidDeploymentMode".to_owned(),
        message: format!(
            "The deployment mode {mode:?} is not done here: use Incremental, and delete what is not needed any more."
        ),
        target: Some("properties.mode".to_owned()),
        details: Vec::new(),
    }
}

fn failed(error: ErrorDetail) -> ErrorDetail {
    ErrorDetail {
        code: "DeploymentFailed".to_owned(),
        message: format!("At least one resource could not be deployed: {}", error.message),
        target: error.target.clone(),
        details: vec![error],
    }
}

/// Variables as the template says them.
pub(super) fn slots(variables: &Map<String, Value>) -> Slots {
    variables.iter().map(|(name, raw)| (name.to_ascii_lowercase(), Slot::Raw(raw.clone()))).collect()
}

/// What a template came to.
#[derive(Default)]
pub(super) struct Ended {
    /// The identifiers of its resources, in its order.
    pub(super) resources: Vec<String>,
    /// Its outputs.
    pub(super) outputs: Map<String, Value>,
}

/// Why a deployment stops.
pub(super) struct Stop {
    pub(super) error: ErrorDetail,
    /// Whether the template is to blame.
    pub(super) is_invalid: bool,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self { error: fault.detail(), is_invalid: true }
    }
}

/// A deployment on its way.
pub(super) struct Session<'d> {
    pub(super) deployer: &'d mut dyn Deployer,
    pub(super) known: Known,
    pub(super) not_applied: Vec<NotApplied>,
    /// How many resources were put.
    pub(super) put: usize,
}

impl Session<'_> {
    /// Carries out one template.
    pub(super) async fn run(
        &mut self,
        template: &Template<'_>,
        frame: &mut Frame,
        ended: &mut Ended,
    ) -> Result<(), Stop> {
        let planned = plan(frame, template.resources)?;
        let order = order(&planned)?;
        frame.names.extend(names(&planned));
        self.look_ahead(frame, &planned)?;
        let mut done: Vec<Vec<String>> = vec![Vec::new(); planned.len()];
        for index in order.into_iter().filter(|index| planned[*index].enabled) {
            let outcome = self.one(frame, &planned[index]).await;
            done[index] = outcome?;
            // In the template's order whenever it stops.
            ended.resources = done.iter().flatten().cloned().collect();
        }
        ended.outputs = self.outputs(frame, &template.outputs).await?;
        Ok(())
    }

    /// Finds mistakes in what can be evaluated already, before anything is put.
    fn look_ahead(&self, frame: &Frame, planned: &[Planned<'_>]) -> Evaluated<()> {
        let ours = |resource: &&Planned<'_>| resource.enabled && resource.what != What::Nested;
        for resource in planned.iter().filter(ours) {
            match Evaluation::late(frame, &self.known).object(&resource.body()) {
                Ok(_) | Err(Fault::Needs(_)) => {}
                Err(fault) => return Err(fault.under(&resource.at)),
            }
        }
        Ok(())
    }

    /// Does one resource; returns the identifiers that stand for it among the deployment's resources.
    async fn one(&mut self, frame: &Frame, resource: &Planned<'_>) -> Result<Vec<String>, Stop> {
        match &resource.what {
            What::Nested => return Box::pin(nested::deploy(self, frame, resource)).await,
            What::Put(id, kind) => {
                let body = self.evaluated(frame, &Value::Object(resource.body()), &resource.at).await?;
                self.put += 1;
                let put = self.deployer.put(id, *kind, body).await;
                let put =
                    put.map_err(|error| Stop { error: about(error, &resource.id), is_invalid: false })?;
                self.known.insert(identifiers::key(&resource.id), put);
            }
            What::Registry(_) | What::VaultAccess { .. } | What::Role => {
                let body = self.evaluated(frame, &Value::Object(resource.body()), &resource.at).await;
                self.not_applied.push(NotApplied {
                    id: resource.id.clone(),
                    resource_type: resource.resource_type.clone(),
                    reason: reason(&resource.what, body.ok().as_ref()),
                });
            }
        }
        Ok(vec![resource.id.clone()])
    }

    /// The value of `raw`, with every resource that it refers to.
    pub(super) async fn evaluated(&mut self, frame: &Frame, raw: &Value, at: &str) -> Result<Value, Stop> {
        loop {
            match Evaluation::late(frame, &self.known).value(raw) {
                Ok(value) => return Ok(value),
                // Each round makes one more known, and a template names so many at most.
                Err(Fault::Needs(id)) => self.learn(frame, id, at).await?,
                Err(fault) => return Err(fault.under(at).into()),
            }
        }
    }

    async fn learn(&mut self, frame: &Frame, id: String, at: &str) -> Result<(), Stop> {
        let resource = if let Some(name) = identifiers::vault(&id) {
            json!({ "properties": { "vaultUri": format!("https://{name}.{}/", frame.context.vault_suffix) } })
        } else if let Ok(known) = id.parse::<ResourceId>() {
            let found = self.deployer.get(&known).await;
            found.map_err(|error| Stop { error: about(error, &id), is_invalid: false })?
        } else {
            let fault = Fault::invalid(format!(
                "reference('{id}'): this control plane cannot ask for such a resource"
            ));
            return Err(fault.under(at).into());
        };
        self.known.insert(id, resource);
        Ok(())
    }

    async fn outputs(
        &mut self,
        frame: &Frame,
        declared: &Map<String, Value>,
    ) -> Result<Map<String, Value>, Stop> {
        let mut outputs = Map::new();
        for (name, declaration) in declared {
            let at = format!("outputs.{name}");
            let given = |key: &str| declaration.get(key).cloned().unwrap_or_default();
            if self.evaluated(frame, &given("condition"), &at).await? == Value::Bool(false) {
                continue;
            }
            let mut output = Map::from_iter([("type".to_owned(), given("type"))]);
            let value = self.evaluated(frame, &given("value"), &at).await?;
            if !parameters::is_secure(declaration) {
                output.insert("value".to_owned(), value);
            }
            outputs.insert(name.clone(), Value::Object(output));
        }
        Ok(outputs)
    }
}

fn about(mut error: ErrorDetail, id: &str) -> ErrorDetail {
    error.target.get_or_insert_with(|| id.to_owned());
    error
}

/// Why a resource is left as it is, and what a person does about it.
fn reason(what: &What, body: Option<&Value>) -> String {
    match what {
        What::VaultAccess { vault } => {
            let policies = body.and_then(|body| body.pointer("/properties/accessPolicies")?.as_array());
            let who = policies.into_iter().flatten().filter_map(|policy| policy.get("objectId")?.as_str());
            let who = who.map(|who| format!(" {who}")).collect::<String>();
            let who = if who.is_empty() { " of the pipeline".to_owned() } else { who };
            format!(
                "access to the vault {vault} is granted in Azure: let the identity{who} get secrets there, with \
                 `az keyvault set-policy` or the role Key Vault Secrets User"
            )
        }
        What::Role => "roles are assigned in Azure: use `az role assignment create`".to_owned(),
        _ => "registries are named in the control plane's configuration; a template does not change them"
            .to_owned(),
    }
}

#[cfg(test)]
#[path = "deploy_tests.rs"]
mod tests;
