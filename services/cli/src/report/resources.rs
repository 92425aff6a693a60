//! Resources of the control plane as tables. As JSON they are what the control plane says.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use transship_api::{
    Deployment, ExportPipeline, ExportTarget, ImportPipeline, PipelineRun, ResourceId, RouteResource,
    StageProgress,
};

use super::units::{bytes, seconds};
use super::{numbers, plain, text};
use crate::screen::clean;

/// The longest message in a table, in characters; `show` has all of it.
const MAX_MESSAGE: usize = 100;

/// Names and values, one a line; lines without a value are left out.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let facts = facts.iter().filter(|(_, value)| !value.is_empty());
    let width = facts.clone().map(|(name, _)| name.len()).max().unwrap_or(0);
    facts.map(|(name, value)| format!("{name:width$}  {}\n", clean(value))).collect()
}

pub(super) fn or_dash(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).map_or("-".to_owned(), clean)
}

/// The export pipelines.
pub(crate) fn export_pipelines(pipelines: &[ExportPipeline]) -> String {
    let mut table = plain(["NAME", "CONTAINER", "ACCESS", "REPLICATES", "STATE"]);
    for pipeline in pipelines {
        let (target, properties) = (&pipeline.properties.target, &pipeline.properties);
        let replicates = properties.schedule.as_ref().map(|schedule| schedule.repositories.join(" "));
        table.add_row([
            or_dash(pipeline.name.as_deref()),
            or_dash(target.uri.as_deref()),
            or_dash(target.storage_access_mode.as_deref()),
            or_dash(replicates.as_deref()),
            or_dash(properties.provisioning_state.as_deref()),
        ]);
    }
    text(&table)
}

/// The import pipelines.
pub(crate) fn import_pipelines(pipelines: &[ImportPipeline]) -> String {
    let mut table = plain(["NAME", "CONTAINER", "ACCESS", "SOURCE TRIGGER", "STATE"]);
    for pipeline in pipelines {
        let source = &pipeline.properties.source;
        table.add_row([
            or_dash(pipeline.name.as_deref()),
            or_dash(source.uri.as_deref()),
            or_dash(source.storage_access_mode.as_deref()),
            or_dash(Some(trigger(pipeline))),
            or_dash(pipeline.properties.provisioning_state.as_deref()),
        ]);
    }
    text(&table)
}

fn trigger(pipeline: &ImportPipeline) -> &str {
    let trigger = pipeline.properties.trigger.as_ref().and_then(|trigger| trigger.source_trigger.as_ref());
    trigger.and_then(|trigger| trigger.status.as_deref()).unwrap_or("Enabled")
}

/// One export pipeline.
pub(crate) fn export_pipeline(pipeline: &ExportPipeline) -> String {
    let properties = &pipeline.properties;
    let schedule = properties.schedule.as_ref();
    let interval = schedule.and_then(|schedule| schedule.interval_seconds);
    let mut all = vec![("name", pipeline.name.clone().unwrap_or_default())];
    all.extend(container(&properties.target));
    all.extend([
        ("options", properties.options.join(", ")),
        ("replicates", schedule.map(|schedule| schedule.repositories.join(" ")).unwrap_or_default()),
        ("interval", interval.map(|interval| format!("{interval} s")).unwrap_or_default()),
        ("identity", pipeline.identity.as_ref().map(identity).unwrap_or_default()),
        ("state", properties.provisioning_state.clone().unwrap_or_default()),
        ("id", pipeline.id.clone().unwrap_or_default()),
    ]);
    facts(&all)
}

/// One import pipeline.
pub(crate) fn import_pipeline(pipeline: &ImportPipeline) -> String {
    let properties = &pipeline.properties;
    let mut all = vec![("name", pipeline.name.clone().unwrap_or_default())];
    all.extend(container(&properties.source));
    all.extend([
        ("options", properties.options.join(", ")),
        ("source trigger", trigger(pipeline).to_owned()),
        ("identity", pipeline.identity.as_ref().map(identity).unwrap_or_default()),
        ("state", properties.provisioning_state.clone().unwrap_or_default()),
        ("id", pipeline.id.clone().unwrap_or_default()),
    ]);
    facts(&all)
}

fn container(place: &ExportTarget) -> [(&'static str, String); 3] {
    [
        ("container", place.uri.clone().unwrap_or_default()),
        ("access", place.storage_access_mode.clone().unwrap_or_default()),
        ("secret", place.key_vault_uri.clone().unwrap_or_default()),
    ]
}

fn identity(identity: &transship_api::IdentityProperties) -> String {
    let principal = identity.principal_id.iter().map(|id| format!("principal {id}"));
    let assigned = identity.user_assigned_identities.iter().map(|(id, found)| match &found.principal_id {
        Some(principal) => format!("{id} (principal {principal})"),
        None => id.clone(),
    });
    let origin = identity.origin.iter().map(|origin| format!("({origin})"));
    let all: Vec<String> =
        identity.identity_type.iter().cloned().chain(principal).chain(assigned).chain(origin).collect();
    all.join(" ")
}

/// The routes.
pub(crate) fn routes(routes: &[RouteResource]) -> String {
    let mut table = plain(["NAME", "FROM", "NAMES", "TO", "IMPORT PIPELINE"]);
    for route in routes {
        let properties = &route.properties;
        table.add_row([
            or_dash(route.name.as_deref()),
            or_dash(Some(&properties.source_uri)),
            or_dash(properties.name_pattern.as_deref().or(Some("*"))),
            or_dash(Some(&properties.target_uri)),
            or_dash(properties.import_pipeline.as_deref().map(last_segment)),
        ]);
    }
    text(&table)
}

/// One route.
pub(crate) fn route(route: &RouteResource) -> String {
    let properties = &route.properties;
    facts(&[
        ("name", route.name.clone().unwrap_or_default()),
        ("from", properties.source_uri.clone()),
        ("names", properties.name_pattern.clone().unwrap_or_else(|| "*".to_owned())),
        ("to", properties.target_uri.clone()),
        ("access", properties.storage_access_mode.clone().unwrap_or_default()),
        ("secret", properties.target_key_vault_uri.clone().unwrap_or_default()),
        ("overwrite", properties.overwrite.to_string()),
        ("import pipeline", properties.import_pipeline.clone().unwrap_or_default()),
        ("id", route.id.clone().unwrap_or_default()),
    ])
}

pub(super) fn last_segment(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or(id)
}

/// The runs.
pub(crate) fn runs(runs: &[PipelineRun]) -> String {
    let mut table = plain(["NAME", "PIPELINE", "STARTED", "TOOK", "STATUS", "DONE", "MESSAGE"]);
    numbers(&mut table, 5);
    for run in runs {
        let response = run.properties.response.as_ref();
        let pipeline = run.properties.request.pipeline_resource_id.as_deref().map(pipeline_of);
        let message = response.and_then(|response| {
            response.pipeline_run_error_message.as_deref().or(response.waiting_for.as_deref())
        });
        table.add_row([
            or_dash(run.name.as_deref()),
            or_dash(pipeline.as_deref()),
            or_dash(response.map(|response| response.start_time.get(..19).unwrap_or(&response.start_time))),
            or_dash(took(run).map(seconds).as_deref()),
            status(run),
            response.map_or("-".to_owned(), |response| format!("{} %", clean(&response.progress.percentage))),
            or_dash(message.map(shortened).as_deref()),
        ]);
    }
    text(&table)
}

/// `export nightly`, of the pipeline's resource id.
fn pipeline_of(id: &str) -> String {
    let kind = match id.parse::<ResourceId>().ok().and_then(|id| id.resource) {
        Some((transship_api::Kind::ImportPipeline, _)) => "import ",
        Some((transship_api::Kind::ExportPipeline, _)) => "export ",
        _ => "",
    };
    format!("{kind}{}", last_segment(id))
}

fn shortened(message: &str) -> String {
    match message.char_indices().nth(MAX_MESSAGE) {
        Some((at, _)) => format!("{}…", &message[..at]),
        None => message.to_owned(),
    }
}

fn took(run: &PipelineRun) -> Option<Duration> {
    let response = run.properties.response.as_ref()?;
    let time = |text: &str| text.parse::<Timestamp>().ok();
    let (start, end) = (time(&response.start_time)?, time(response.finish_time.as_deref()?)?);
    Duration::try_from(end.duration_since(start)).ok()
}

fn status(run: &PipelineRun) -> String {
    let response = run.properties.response.as_ref().map(|response| response.status.as_str());
    or_dash(response.or(run.properties.provisioning_state.as_deref()))
}

/// One run with its stages and its artifacts.
pub(crate) fn run(run: &PipelineRun) -> String {
    let (request, response) = (&run.properties.request, run.properties.response.clone().unwrap_or_default());
    let triggered = response.trigger.as_ref().and_then(|trigger| trigger.source_trigger.as_ref());
    let bundle = response.target.as_ref().or(response.source.as_ref()).and_then(|end| end.uri.clone());
    let mut out = facts(&[
        ("run", run.name.clone().unwrap_or_default()),
        ("pipeline", request.pipeline_resource_id.as_deref().map(pipeline_of).unwrap_or_default()),
        ("bundle", bundle.unwrap_or_default()),
        ("status", format!("{}, {} %", status(run), response.progress.percentage)),
        ("waiting for", response.waiting_for.clone().unwrap_or_default()),
        ("started", response.start_time.clone()),
        ("took", took(run).map(seconds).unwrap_or_default()),
        ("arrived", triggered.and_then(|trigger| trigger.timestamp.clone()).unwrap_or_default()),
        ("catalog digest", response.catalog_digest.clone().unwrap_or_default()),
        ("correlation", response.correlation_id.clone().unwrap_or_default()),
        ("message", response.pipeline_run_error_message.clone().unwrap_or_default()),
    ]);
    if !response.stages.is_empty() {
        out += &format!("\n{}", stages(&response.stages));
    }
    if !response.artifacts.is_empty() {
        let mut table = plain(["ARTIFACT", "RESULT", "STAGE", "MESSAGE"]);
        for artifact in &response.artifacts {
            let name = match &artifact.imported_as {
                Some(other) if *other != artifact.artifact => format!("{} as {other}", artifact.artifact),
                _ => artifact.artifact.clone(),
            };
            let hint = artifact.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
            let message = artifact.message.as_ref().map(|message| format!("{message}{hint}"));
            table.add_row([
                clean(&name),
                clean(&artifact.result),
                clean(&artifact.stage),
                or_dash(message.as_deref()),
            ]);
        }
        out += &format!("\n{}", text(&table));
    }
    out
}

fn stages(stages: &[StageProgress]) -> String {
    let mut table = plain(["STAGE", "STATUS", "PARTS", "ATTEMPTS", "MOVED", "ALREADY THERE", "FAILED", "OF"]);
    (3..8).for_each(|column| numbers(&mut table, column));
    for stage in stages {
        let name = match &stage.target {
            Some(target) => format!("{} to {target}", stage.stage),
            None => stage.stage.clone(),
        };
        table.add_row([
            clean(&name),
            clean(&stage.status),
            format!("{} of {}", stage.parts_done, stage.parts),
            stage.attempts.to_string(),
            bytes(stage.bytes.moved),
            bytes(stage.bytes.skipped),
            bytes(stage.bytes.failed),
            bytes(stage.bytes.discovered),
        ]);
    }
    text(&table)
}

/// A deployment: its resources, what was left as it is, and its outputs.
pub(crate) fn deployment(deployment: &Deployment) -> String {
    let properties = &deployment.properties;
    let mut out = facts(&[
        ("deployment", deployment.name.clone()),
        ("state", properties.provisioning_state.clone()),
        ("took", properties.duration.clone()),
        ("correlation", properties.correlation_id.clone()),
        ("message", properties.error.as_ref().map(|error| error.message.clone()).unwrap_or_default()),
    ]);
    let mut table = plain(["RESOURCE", "DONE"]);
    for resource in &properties.output_resources {
        let left = properties.not_applied.iter().find(|left| left.id.eq_ignore_ascii_case(&resource.id));
        let did = left.map_or("put".to_owned(), |left| format!("left as it is: {}", left.reason));
        table.add_row([clean(&resource.id), clean(&did)]);
    }
    if !properties.output_resources.is_empty() {
        out += &format!("\n{}", text(&table));
    }
    for (name, output) in &properties.outputs {
        let value = output.get("value").map_or("(secret)".to_owned(), simple);
        out += &format!("output {}: {value}\n", clean(name));
    }
    out
}

/// A table of whatever the control plane lists: the members of each value that are simple, in columns.
pub(crate) fn listed<const N: usize>(header: [&str; N], members: [&str; N], values: &[Value]) -> String {
    let mut table = plain(header);
    for value in values {
        table.add_row(members.map(|member| match value.pointer(member) {
            Some(Value::String(text)) => or_dash(Some(text)),
            None | Some(Value::Null) => "-".to_owned(),
            Some(Value::Array(values)) => values.iter().map(simple).collect::<Vec<_>>().join(" "),
            Some(other) => simple(other),
        }));
    }
    text(&table)
}

fn simple(value: &Value) -> String {
    value.as_str().map_or_else(|| clean(&value.to_string()), clean)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const REGISTRY: &str =
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/contoso";

    fn failed_run() -> PipelineRun {
        serde_json::from_value(json!({
            "name": "nightly1",
            "properties": {
                "provisioningState": "Failed",
                "request": {"pipelineResourceId": format!("{REGISTRY}/exportPipelines/nightly"), "artifacts": ["a:1"]},
                "response": {
                    "status": "Failed",
                    "progress": {"percentage": "50"},
                    "startTime": "2026-11-25T20:00:00.5+00:00",
                    "finishTime": "2026-11-25T20:01:01.5+00:00",
                    "target": {"uri": "https://a.blob.core.windows.net/c/nightly"},
                    "pipelineRunErrorMessage": "team/b:2: there is no such artifact",
                    "stages": [{
                        "stage": "exporter", "status": "Failed", "partsDone": 1, "parts": 1, "attempts": 2,
                        "bytes": {"discovered": 3072, "moved": 1024, "skipped": 0, "failed": 2048}
                    }],
                    "artifacts": [
                        {"artifact": "team/a:1", "result": "Succeeded", "stage": "exporter"},
                        {"artifact": "team/b:2", "result": "Failed", "stage": "exporter", "code": "ArtifactNotFound",
                         "message": "there is no\nsuch artifact", "hint": "check the tag"}
                    ]
                }
            }
        }))
        .unwrap()
    }

    #[test]
    fn a_list_of_runs_is_one_line_a_run() {
        insta::assert_snapshot!(runs(&[failed_run(), PipelineRun::default()]), @r"
        NAME      PIPELINE        STARTED              TOOK       STATUS  DONE  MESSAGE
        nightly1  export nightly  2026-11-25T20:00:00  1 min 1 s  Failed  50 %  team/b:2: there is no such artifact
        -         -               -                    -          -          -  -
        ");
    }

    #[test]
    fn a_run_is_shown_with_its_stages_and_artifacts() {
        insta::assert_snapshot!(run(&failed_run()));
    }

    #[test]
    fn values_of_any_kind_become_columns() {
        let values = [json!({"a": "x", "b": {"c": 1}, "d": ["y", 2]}), json!({})];
        insta::assert_snapshot!(listed(["A", "C", "D"], ["/a", "/b/c", "/d"], &values), @r"
        A  C  D
        x  1  y 2
        -  -  -
        ");
    }
}
