//! The OpenAPI document: made from the same types that are sent and received, and from the table below, which a test
//! holds to what is served.

use std::collections::BTreeMap;

use transship_api as wire;
use utoipa::openapi::path::{
    HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem, PathsBuilder,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ComponentsBuilder, ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required, ResponseBuilder, Schema,
};
use utoipa::{PartialSchema, ToSchema};

const REGISTRY: &str = "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}/providers/\
                        Microsoft.ContainerRegistry/registries/{registryName}";
const DEPLOYMENT: &str = "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}/providers/\
                          Microsoft.Resources/deployments/{deploymentName}";
const BEYOND: &str = "/transship/v1";

/// A schema, the name that it is referred to by, and the schemas inside of it.
struct Named {
    name: String,
    schemas: Vec<(String, RefOr<Schema>)>,
}

impl Named {
    fn of<T: ToSchema + PartialSchema>() -> Self {
        Self::called::<T>(T::name().into_owned())
    }

    fn page<T: ToSchema + PartialSchema>() -> Self
    where
        wire::Page<T>: ToSchema + PartialSchema,
    {
        let mut page = Self::called::<wire::Page<T>>(format!("Page_{}", T::name()));
        page.schemas.extend(Self::of::<T>().schemas);
        page
    }

    fn called<T: ToSchema + PartialSchema>(name: String) -> Self {
        let mut schemas = vec![(name.clone(), T::schema())];
        T::schemas(&mut schemas);
        Self { name, schemas }
    }
}

/// One operation.
pub(super) struct Row {
    pub(super) method: HttpMethod,
    pub(super) path: String,
    id: String,
    summary: &'static str,
    body: Option<Named>,
    answer: Option<Named>,
    /// The statuses of success.
    successes: &'static [&'static str],
}

impl Row {
    fn new(
        method: HttpMethod,
        path: impl Into<String>,
        id: impl Into<String>,
        summary: &'static str,
    ) -> Self {
        let (path, id) = (path.into(), id.into());
        Self { method, path, id, summary, body: None, answer: None, successes: &["200"] }
    }

    fn takes(mut self, body: Named) -> Self {
        self.body = Some(body);
        self
    }

    fn answers(mut self, answer: Named) -> Self {
        self.answer = Some(answer);
        self
    }

    fn with(mut self, successes: &'static [&'static str]) -> Self {
        self.successes = successes;
        self
    }
}

/// Every operation.
pub(super) fn rows() -> Vec<Row> {
    use HttpMethod::{Get, Post, Put};
    let mut rows =
        vec![Row::new(Get, REGISTRY, "Registries_Get", "A registry.").answers(Named::of::<wire::Registry>())];
    rows.extend(kind::<wire::ExportPipeline>("exportPipelines", "ExportPipelines", &["200"]));
    rows.extend(kind::<wire::ImportPipeline>("importPipelines", "ImportPipelines", &["200"]));
    rows.extend(kind::<wire::PipelineRun>("pipelineRuns", "PipelineRuns", &["200", "201"]));
    rows.extend(kind::<wire::RouteResource>("routes", "Routes", &["200"]));
    let operation = format!("{REGISTRY}/pipelineRuns/{{name}}/operationStatuses/{{operationId}}");
    rows.push(
        Row::new(Get, operation, "OperationStatuses_Get", "The status of a run's long-running operation.")
            .answers(Named::of::<wire::OperationStatus>()),
    );
    let hint = format!("{REGISTRY}/importPipelines/{{name}}/hint");
    rows.push(
        Row::new(
            Post,
            hint,
            "ImportPipelines_Hint",
            "Says that a bundle has arrived: {\"blob\": NAME}, or nothing.",
        )
        .with(&["202"]),
    );
    rows.push(
        Row::new(Put, DEPLOYMENT, "Deployments_Put", "Deploys an ARM template of these resources.")
            .takes(Named::of::<wire::DeploymentRequest>())
            .answers(Named::of::<wire::Deployment>())
            .with(&["200", "201"]),
    );
    rows.push(
        Row::new(Get, DEPLOYMENT, "Deployments_Get", "A deployment as it ended.")
            .answers(Named::of::<wire::Deployment>()),
    );
    let operation = format!("{DEPLOYMENT}/operationStatuses/{{operationId}}");
    rows.push(
        Row::new(
            Get,
            operation,
            "DeploymentOperations_Get",
            "The status of a deployment's long-running operation.",
        )
        .answers(Named::of::<wire::OperationStatus>()),
    );
    rows.extend(beyond());
    rows
}

fn kind<T>(segment: &str, group: &str, put: &'static [&'static str]) -> Vec<Row>
where
    T: ToSchema + PartialSchema,
    wire::Page<T>: ToSchema + PartialSchema,
{
    use HttpMethod::{Delete, Get, Put};
    let (all, one) = (format!("{REGISTRY}/{segment}"), format!("{REGISTRY}/{segment}/{{name}}"));
    vec![
        Row::new(Get, all, format!("{group}_List"), "The resources of this kind, oldest first.")
            .answers(Named::page::<T>()),
        Row::new(Get, &one, format!("{group}_Get"), "A resource.").answers(Named::of::<T>()),
        Row::new(Put, &one, format!("{group}_Create"), "Makes or replaces a resource.")
            .takes(Named::of::<T>())
            .answers(Named::of::<T>())
            .with(put),
        Row::new(Delete, one, format!("{group}_Delete"), "Deletes a resource.").with(&["200", "204"]),
    ]
}

fn beyond() -> Vec<Row> {
    use HttpMethod::{Get, Post};
    let at = |path: &str| format!("{BEYOND}{path}");
    vec![
        Row::new(Get, at("/health"), "Health", "Whether the control plane can work, and why not.")
            .answers(Named::of::<wire::Health>()),
        Row::new(
            Get,
            at("/artifacts"),
            "Artifacts_Find",
            "The newest runs that carried an artifact (?reference=).",
        )
        .answers(Named::page::<wire::ArtifactSighting>()),
        Row::new(Get, at("/dead-letters"), "DeadLetters_List", "Messages that were given up, oldest first.")
            .answers(Named::page::<wire::DeadLetterView>()),
        Row::new(
            Post,
            at("/dead-letters/{id}/requeue"),
            "DeadLetters_Requeue",
            "Puts a message back into its queue.",
        )
        .answers(Named::of::<wire::DeadLetterView>()),
        Row::new(
            Get,
            format!("{BEYOND}/pipelines{REGISTRY}/importPipelines/{{name}}/blobs"),
            "ImportPipelines_Blobs",
            "What the source trigger sees in its container, and why it imports it or not.",
        )
        .answers(Named::page::<wire::SeenBlobView>()),
        Row::new(
            Get,
            format!("{BEYOND}/pipelines{REGISTRY}/importPipelines/{{name}}/watch"),
            "ImportPipelines_Watch",
            "What the source trigger is doing, and what keeps it from its work.",
        )
        .answers(Named::of::<wire::WatchView>()),
        Row::new(
            Get,
            format!("{BEYOND}/pipelines{REGISTRY}/exportPipelines/{{name}}/watch"),
            "ExportPipelines_Watch",
            "What the schedule is doing, and what keeps it from its work.",
        )
        .answers(Named::of::<wire::WatchView>()),
        Row::new(Post, at("/webhooks/eventgrid"), "Webhooks_EventGrid", "Event Grid tells of blobs."),
        Row::new(Post, at("/webhooks/registry"), "Webhooks_Registry", "A registry tells of pushes."),
    ]
}

/// The document.
pub fn document() -> OpenApi {
    let mut schemas: BTreeMap<String, RefOr<Schema>> = BTreeMap::new();
    let error = Named::of::<wire::ErrorBody>();
    let mut paths = PathsBuilder::new();
    for row in rows() {
        let operation = operation(&row, &error.name);
        paths = paths.path(row.path.clone(), PathItem::new(row.method, operation));
        for named in [row.body, row.answer].into_iter().flatten() {
            schemas.extend(named.schemas);
        }
    }
    schemas.extend(error.schemas);
    let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    let components =
        ComponentsBuilder::new().schemas_from_iter(schemas).security_scheme("bearer", bearer).build();
    let description = "The interface that clients of Azure Container Registry's transfer pipelines speak, and below \
                       /transship/v1 and in additional properties what transship adds to it. Any api-version is \
                       served, and the words of a path have no certain case.";
    let info = InfoBuilder::new()
        .title("transship control plane")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(description))
        .build();
    OpenApiBuilder::new()
        .info(info)
        .paths(paths)
        .components(Some(components))
        .security(Some([SecurityRequirement::new::<_, [&str; 0], &str>("bearer", [])]))
        .build()
}

fn operation(row: &Row, error: &str) -> OperationBuilder {
    let mut operation = OperationBuilder::new()
        .operation_id(Some(row.id.clone()))
        .summary(Some(row.summary))
        .parameters(Some(parameters(row)));
    if let Some(body) = &row.body {
        let body = RequestBodyBuilder::new()
            .content("application/json", content(&body.name))
            .required(Some(Required::True));
        operation = operation.request_body(Some(body.build()));
    }
    for status in row.successes {
        let mut response = ResponseBuilder::new().description("Done.");
        if let Some(answer) = row.answer.as_ref().filter(|_| *status != "204") {
            response = response.content("application/json", content(&answer.name));
        }
        operation = operation.response(*status, response.build());
    }
    let failed =
        ResponseBuilder::new().description("ARM's error.").content("application/json", content(error));
    operation.response("default", failed.build())
}

fn content(name: &str) -> utoipa::openapi::Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name(name))).build()
}

fn parameters(row: &Row) -> Vec<Parameter> {
    let one = |name: &str, place: ParameterIn, required: Required| {
        ParameterBuilder::new()
            .name(name)
            .parameter_in(place)
            .required(required)
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
            .build()
    };
    let in_path = row.path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let mut parameters: Vec<Parameter> =
        in_path.map(|name| one(name, ParameterIn::Path, Required::True)).collect();
    let is_arm = row.path.starts_with("/subscriptions") && !row.path.ends_with("/hint");
    if is_arm {
        parameters.push(one("api-version", ParameterIn::Query, Required::True));
    }
    if row.answer.as_ref().is_some_and(|answer| answer.name.starts_with("Page_")) {
        for name in ["$top", "$skipToken"] {
            parameters.push(one(name, ParameterIn::Query, Required::False));
        }
    }
    if row.id == "PipelineRuns_List" {
        parameters.push(one("$orderby", ParameterIn::Query, Required::False));
    }
    if row.id == "Artifacts_Find" {
        parameters.push(one("reference", ParameterIn::Query, Required::True));
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::path;

    #[test]
    fn every_operation_of_the_document_is_served_and_every_endpoint_is_in_it() {
        let mut documented = std::collections::BTreeSet::new();
        for row in rows() {
            let example = row.path.replace("{id}", "7").replace("{name}", "nightly");
            let example: String = example.replace(['{', '}'], "");
            let endpoint = path::endpoint(&example).unwrap_or_else(|| panic!("{example}"));
            let method = match row.method {
                HttpMethod::Get => "GET",
                HttpMethod::Put => "PUT",
                HttpMethod::Post => "POST",
                HttpMethod::Delete => "DELETE",
                _ => panic!("no operation has another method"),
            };
            assert!(endpoint.methods().contains(&method), "{method} {example}");
            documented.insert((example, method));
        }
        for (example, _) in documented.clone() {
            for method in path::endpoint(&example).unwrap().methods() {
                assert!(documented.contains(&(example.clone(), method)), "{method} {example}");
            }
        }
    }

    #[test]
    fn the_committed_document_is_the_one_that_is_served() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        let made = document().to_pretty_json().unwrap() + "\n";
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == made, "docs/openapi.json is not up to date; UPDATE_OPENAPI=1 rewrites it");
    }

    #[test]
    fn every_reference_of_the_document_leads_to_a_schema() {
        let text = document().to_json().unwrap();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        let known = document["components"]["schemas"].as_object().unwrap();
        for reference in text.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(known.contains_key(name), "{name}");
        }
        assert!(known.len() > 20);
    }
}
