//! Paths: which endpoint is meant, whatever the case of ARM's words. Pure.

use percent_encoding::percent_decode_str;
use transship_api::{Kind, PROVIDER, ResourceId};

use super::auth::Role;

/// The longest path, in bytes. Azure Resource Manager's own ids are at most 2,048 characters long.
const MAX_PATH: usize = 4096;
/// Where everything begins that Azure Resource Manager does not know.
const BEYOND: [&str; 2] = ["transship", "v1"];

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A registry.
    Registry(ResourceId),
    /// The resources of one kind below a registry.
    Collection(ResourceId, Kind),
    /// A resource below a registry.
    Resource(ResourceId),
    /// A run's long-running operation.
    Operation(ResourceId, String),
    /// A hint that a bundle has arrived for an import pipeline.
    Hint(ResourceId),
    /// A deployment of a template.
    Deployment(DeploymentId),
    /// A deployment's long-running operation.
    DeploymentOperation(DeploymentId, String),
    /// What the trigger of an import pipeline sees.
    SeenBlobs(ResourceId),
    /// What the trigger or schedule of a pipeline is doing.
    Watch(ResourceId),
    /// Whether the control plane can work.
    Health,
    /// Where an artifact is.
    Artifacts,
    /// Messages that were given up.
    DeadLetters,
    /// Puts such a message back.
    Requeue(i64),
    /// Where Event Grid tells of blobs.
    EventGrid,
    /// Where registries tell of pushes.
    Pushes,
    /// The OpenAPI document.
    OpenApi,
}

/// The name of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeploymentId {
    /// The subscription.
    pub(crate) subscription: String,
    /// The resource group.
    pub(crate) group: String,
    /// The deployment's own name.
    pub(crate) name: String,
}

impl Endpoint {
    /// Whether the endpoint is one of Azure Resource Manager, which all want an `api-version`.
    pub(crate) fn is_arm(&self) -> bool {
        matches!(
            self,
            Self::Registry(_)
                | Self::Collection(..)
                | Self::Resource(_)
                | Self::Operation(..)
                | Self::Deployment(_)
                | Self::DeploymentOperation(..)
        )
    }

    /// The role that a request with this method needs.
    pub(crate) fn needs(&self, method: &str) -> Role {
        match self {
            Self::Hint(_) | Self::EventGrid | Self::Pushes => Role::Notifier,
            _ if matches!(method, "GET" | "HEAD") => Role::Reader,
            _ => Role::Contributor,
        }
    }

    /// The methods that it takes.
    pub(crate) fn methods(&self) -> &'static [&'static str] {
        match self {
            Self::Resource(_) => &["GET", "PUT", "DELETE"],
            Self::Deployment(_) => &["GET", "PUT"],
            Self::Hint(_) | Self::Requeue(_) | Self::EventGrid | Self::Pushes => &["POST"],
            _ => &["GET"],
        }
    }
}

/// The endpoint at `path`; `None` where there is none.
pub(crate) fn endpoint(path: &str) -> Option<Endpoint> {
    if path.len() > MAX_PATH {
        return None;
    }
    let decode = |segment: &str| {
        let text = percent_decode_str(segment).decode_utf8().ok()?.into_owned();
        let fine = !text.is_empty() && !text.contains('/') && !text.chars().any(char::is_control);
        fine.then_some(text)
    };
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let segments: Vec<String> = path.split('/').map(decode).collect::<Option<_>>()?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["openapi.json"] => Some(Endpoint::OpenApi),
        [first, second, rest @ ..] if [*first, *second] == BEYOND => beyond(rest),
        _ => arm(&segments),
    }
}

fn beyond(segments: &[&str]) -> Option<Endpoint> {
    match segments {
        ["health"] => Some(Endpoint::Health),
        ["artifacts"] => Some(Endpoint::Artifacts),
        ["dead-letters"] => Some(Endpoint::DeadLetters),
        ["dead-letters", id, "requeue"] => id.parse().ok().map(Endpoint::Requeue),
        ["webhooks", "eventgrid"] => Some(Endpoint::EventGrid),
        ["webhooks", "registry"] => Some(Endpoint::Pushes),
        ["pipelines", id @ .., "blobs"] => match arm(id)? {
            Endpoint::Resource(id) if is_import(&id) => Some(Endpoint::SeenBlobs(id)),
            _ => None,
        },
        ["pipelines", id @ .., "watch"] => match arm(id)? {
            Endpoint::Resource(id) if is_pipeline(&id) => Some(Endpoint::Watch(id)),
            _ => None,
        },
        _ => None,
    }
}

fn arm(segments: &[&str]) -> Option<Endpoint> {
    let (base, rest) = segments.split_at_checked(4)?;
    let is = |at: usize, word: &str| base[at].eq_ignore_ascii_case(word);
    if !is(0, "subscriptions") || !is(2, "resourceGroups") {
        return None;
    }
    let (subscription, group) = (base[1], base[3]);
    let [providers, provider, kind, below @ ..] = rest else { return None };
    if !providers.eq_ignore_ascii_case("providers") {
        return None;
    }
    if provider.eq_ignore_ascii_case("Microsoft.Resources") && kind.eq_ignore_ascii_case("deployments") {
        let id = |name: &str| DeploymentId {
            subscription: subscription.to_owned(),
            group: group.to_owned(),
            name: name.to_owned(),
        };
        return match below {
            [name] => Some(Endpoint::Deployment(id(name))),
            [name, word, operation] if word.eq_ignore_ascii_case("operationStatuses") => {
                Some(Endpoint::DeploymentOperation(id(name), (*operation).to_owned()))
            }
            _ => None,
        };
    }
    if !provider.eq_ignore_ascii_case(PROVIDER) || !kind.eq_ignore_ascii_case("registries") {
        return None;
    }
    let (name, below) = below.split_first()?;
    let registry = ResourceId::registry(subscription, group, name);
    match below {
        [] => Some(Endpoint::Registry(registry)),
        [kind] => Some(Endpoint::Collection(registry, Kind::of_segment(kind)?)),
        [kind, name] => Some(Endpoint::Resource(registry.child(Kind::of_segment(kind)?, name))),
        [kind, name, action] => {
            let id = registry.child(Kind::of_segment(kind)?, name);
            (is_import(&id) && action.eq_ignore_ascii_case("hint")).then_some(Endpoint::Hint(id))
        }
        [kind, name, word, operation] => {
            let id = registry.child(Kind::of_segment(kind)?, name);
            let fits = matches!(id.resource, Some((Kind::PipelineRun, _)))
                && word.eq_ignore_ascii_case("operationStatuses");
            fits.then(|| Endpoint::Operation(id, (*operation).to_owned()))
        }
        _ => None,
    }
}

fn is_pipeline(id: &ResourceId) -> bool {
    is_import(id) || matches!(id.resource, Some((Kind::ExportPipeline, _)))
}

fn is_import(id: &ResourceId) -> bool {
    matches!(id.resource, Some((Kind::ImportPipeline, _)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTRY: &str =
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/contoso";

    #[test]
    fn paths_lead_to_endpoints_whatever_their_case() {
        let registry = ResourceId::registry("s", "g", "contoso");
        let run = registry.child(Kind::PipelineRun, "Nightly_1");
        let inbox = registry.child(Kind::ImportPipeline, "inbox");
        for (path, expected) in [
            (REGISTRY.to_owned(), Endpoint::Registry(registry.clone())),
            (
                format!("{REGISTRY}/exportpipelines/"),
                Endpoint::Collection(registry.clone(), Kind::ExportPipeline),
            ),
            (format!("{REGISTRY}/PIPELINERUNS/Nightly_1"), Endpoint::Resource(run.clone())),
            (format!("{REGISTRY}/pipelineRuns/Nightly%5F1"), Endpoint::Resource(run.clone())),
            (
                format!("{REGISTRY}/pipelineRuns/Nightly_1/OperationStatuses/pipelineruns-1"),
                Endpoint::Operation(run, "pipelineruns-1".into()),
            ),
            (format!("{REGISTRY}/importPipelines/inbox/hint"), Endpoint::Hint(inbox.clone())),
            (
                format!("/transship/v1/pipelines{REGISTRY}/importPipelines/inbox/blobs"),
                Endpoint::SeenBlobs(inbox),
            ),
            ("/transship/v1/dead-letters/7/requeue".into(), Endpoint::Requeue(7)),
            ("/transship/v1/webhooks/eventgrid".into(), Endpoint::EventGrid),
            ("/openapi.json".into(), Endpoint::OpenApi),
        ] {
            assert_eq!(endpoint(&path), Some(expected.clone()), "{path}");
            if expected.is_arm() {
                let shouted = endpoint(&path.to_uppercase().replace("%5F", "_"));
                assert_eq!(shouted.map(|found| found.methods()), Some(expected.methods()), "{path}");
            }
        }
        let deployment = "/subscriptions/s/resourcegroups/g/providers/microsoft.resources/deployments/d";
        assert!(matches!(endpoint(deployment), Some(Endpoint::Deployment(id)) if id.name == "d"));
    }

    #[test]
    fn other_paths_lead_nowhere() {
        for path in [
            "",
            "/",
            "/subscriptions/s",
            "/transship/v1",
            "/transship/v1/dead-letters/x/requeue",
            "/transship/v2/health",
            &format!("{REGISTRY}/webhooks"),
            &format!("{REGISTRY}//x"),
            &format!("{REGISTRY}/pipelineRuns/a%2Fb"),
            &format!("{REGISTRY}/pipelineRuns/a%00"),
            &format!("{REGISTRY}/pipelineRuns/x/hint"),
            &format!("{REGISTRY}/importPipelines/x/operationStatuses/y"),
            &format!("{REGISTRY}/pipelineRuns/{}", "x".repeat(5000)),
            &REGISTRY.replace("ContainerRegistry", "Storage"),
        ] {
            assert_eq!(endpoint(path), None, "{path}");
        }
    }
}
