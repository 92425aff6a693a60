//! `transship run watch`: a run, followed to its end.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use transship_api::{ArtifactProgress, PipelineRun, ResourceId, StageProgress};
use transship_model::Code;

use super::pipeline::{typed, write};
use crate::args::OutputFormat;
use crate::control::ControlPlane;
use crate::exit::{Exit, Problem};
use crate::interrupt;
use crate::report::resources;
use crate::screen::Screen;
use crate::view::{COPY, EXPORT, IMPORT, Row, View};

/// How often the control plane is asked.
const PERIOD: Duration = Duration::from_millis(500);

/// The most artifacts that are shown on a terminal at a time.
const SHOWN: usize = 8;

/// Follows the run `id` to its end, shows what it came to, and ends as it ended.
pub(super) async fn watch(
    control: &ControlPlane,
    id: &ResourceId,
    format: OutputFormat,
    screen: &Screen,
) -> Result<Exit, Problem> {
    let interrupted = interrupt::watch(screen)?;
    let run = follow(control, id, &interrupted, screen).await?;
    write(&run, resources::run, "follow the run", format, screen)?;
    end(&typed(&run, "follow the run")?)
}

async fn follow(
    control: &ControlPlane,
    id: &ResourceId,
    interrupted: &CancellationToken,
    screen: &Screen,
) -> Result<serde_json::Value, Problem> {
    let name = id.name();
    let again =
        format!("the run goes on without this command: `transship run watch {name}` follows it again");
    let what = format!("follow run {name}");
    let (path, mut view) = (id.to_string(), View::new(screen));
    let mut told = Told::default();
    loop {
        let asking = control.get(&path, &what);
        let asked = tokio::select! {
            () = interrupted.cancelled() => return Err(Problem::interrupted(again)),
            asked = asking => asked?,
        };
        let run: PipelineRun = typed(&asked.body, &what)?;
        show(&run, &mut view, &mut told, screen);
        if is_over(&run) {
            return Ok(asked.body);
        }
        tokio::select! {
            () = interrupted.cancelled() => return Err(Problem::interrupted(again)),
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

fn is_over(run: &PipelineRun) -> bool {
    let state = run.properties.provisioning_state.as_deref().unwrap_or_default();
    ["Succeeded", "Failed", "Canceled"].iter().any(|over| over.eq_ignore_ascii_case(state))
}

/// What a log of plain lines has said already.
#[derive(Default)]
struct Told {
    artifacts: BTreeMap<String, String>,
    waiting: Option<String>,
    messages: BTreeMap<String, String>,
}

fn show(run: &PipelineRun, view: &mut View, told: &mut Told, screen: &Screen) {
    let Some(response) = &run.properties.response else { return };
    let many = |stage: &str| response.stages.iter().filter(|other| other.stage == stage).count() > 1;
    let rows: Vec<Row> = response.stages.iter().map(|stage| row(stage, many(&stage.stage))).collect();
    view.show(&rows);
    view.lines(&lines(&response.artifacts));
    if response.waiting_for != told.waiting {
        told.waiting.clone_from(&response.waiting_for);
        if let Some(waiting) = &response.waiting_for {
            screen.note(&format!("the run waits: {waiting}"));
        }
    }
    for stage in response.stages.iter().filter(|stage| stage.status == "Retrying") {
        let message = stage.message.clone().unwrap_or_default();
        if told.messages.insert(stage.stage.clone(), message.clone()).as_ref() != Some(&message) {
            screen.warn(&format!("{} tries again: {message}", stage.stage));
        }
    }
    if !screen.is_terminal() {
        changes(&response.artifacts, &mut told.artifacts).iter().for_each(|line| screen.note(line));
    }
}

fn row(stage: &StageProgress, has_others: bool) -> Row {
    let word = match stage.stage.as_str() {
        "exporter" => EXPORT,
        "blob-copier" => COPY,
        "importer" => IMPORT,
        other => other,
    };
    let label = match (&stage.target, has_others) {
        (Some(target), true) => format!("{word} to {target}"),
        _ => word.to_owned(),
    };
    let parts = if stage.parts > 1 {
        format!("part {} of {}  ", stage.parts_done, stage.parts)
    } else {
        String::new()
    };
    Row {
        label,
        done: stage.bytes.moved + stage.bytes.skipped + stage.bytes.failed,
        total: stage.bytes.discovered,
        message: format!("{parts}{}", stage.in_flight.join(" ")),
        over: stage.status == "Succeeded",
    }
}

/// The artifacts that are not over, as far as they fit, and how many there are.
fn lines(artifacts: &[ArtifactProgress]) -> Vec<String> {
    let open: Vec<&ArtifactProgress> =
        artifacts.iter().filter(|artifact| artifact.result == "Pending").collect();
    let failed = artifacts.iter().filter(|artifact| artifact.result == "Failed").count();
    let mut lines: Vec<String> = open
        .iter()
        .take(SHOWN)
        .map(|artifact| format!("{}  {}", artifact.artifact, artifact.stage))
        .collect();
    if !artifacts.is_empty() {
        let over = artifacts.len() - open.len();
        lines.push(format!("{over} of {} artifacts are over, {failed} of them failed", artifacts.len()));
    }
    lines
}

/// What is new of the artifacts, one line each.
fn changes(artifacts: &[ArtifactProgress], told: &mut BTreeMap<String, String>) -> Vec<String> {
    let mut lines = Vec::new();
    for ArtifactProgress { artifact, result, stage, message, .. } in artifacts {
        let now = match (result.as_str(), message) {
            ("Pending", _) => stage.clone(),
            (_, Some(message)) => format!("{result} at {stage}: {message}"),
            (_, None) => format!("{result} at {stage}"),
        };
        if told.get(artifact) != Some(&now) {
            lines.push(format!("{artifact}  {now}"));
            told.insert(artifact.clone(), now);
        }
    }
    lines
}

/// How the command ends, as the run ended.
fn end(run: &PipelineRun) -> Result<Exit, Problem> {
    let name = run.name.as_deref().unwrap_or_default();
    let response = run.properties.response.clone().unwrap_or_default();
    let failed: Vec<&ArtifactProgress> =
        response.artifacts.iter().filter(|artifact| artifact.result == "Failed").collect();
    let succeeded = run.properties.provisioning_state.as_deref() == Some("Succeeded");
    if succeeded && failed.is_empty() {
        return Ok(Exit::Done);
    }
    let first = failed.first();
    let hint = first.and_then(|artifact| artifact.hint.clone());
    let mut problem = match succeeded {
        true => {
            let (failed, all) = (failed.len(), response.artifacts.len());
            Problem::new(Exit::Partial, format!("run {name}: {failed} of {all} artifacts failed"))
        }
        false => {
            let code = first.and_then(|artifact| code(artifact.code.as_deref()?));
            let why = response.pipeline_run_error_message.unwrap_or_else(|| "it does not say why".to_owned());
            let exit = code.map_or(Exit::Failed, Exit::of);
            Problem { code, ..Problem::new(exit, format!("run {name} failed: {why}")) }
        }
    };
    problem.hint = hint;
    Err(problem)
}

fn code(text: &str) -> Option<Code> {
    Code::ALL.iter().copied().find(|code| code.as_str() == text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(state: &str, artifacts: serde_json::Value) -> PipelineRun {
        serde_json::from_value(json!({
            "name": "nightly1",
            "properties": {
                "provisioningState": state,
                "request": {},
                "response": {
                    "status": state, "progress": {"percentage": "1"}, "startTime": "",
                    "pipelineRunErrorMessage": "why", "artifacts": artifacts
                }
            }
        }))
        .unwrap()
    }

    #[test]
    fn a_command_ends_as_its_run_ended() {
        let artifact = |result: &str, code: &str| json!({"artifact": "a:1", "result": result, "stage": "importer", "code": code, "hint": "h"});
        for (state, artifacts, code, message) in [
            ("Succeeded", json!([artifact("Succeeded", "")]), 0, ""),
            (
                "Succeeded",
                json!([artifact("Succeeded", ""), artifact("Failed", "TagExists")]),
                3,
                "run nightly1: 1 of 2 artifacts failed",
            ),
            ("Failed", json!([]), 1, "run nightly1 failed: why"),
            ("Failed", json!([artifact("Failed", "SasExpired")]), 4, "run nightly1 failed: why"),
            ("Canceled", json!([artifact("Failed", "Unheard")]), 1, "run nightly1 failed: why"),
        ] {
            let run = run(state, artifacts);
            assert!(is_over(&run));
            let (exit, said) = match end(&run) {
                Ok(exit) => (exit, String::new()),
                Err(problem) => (problem.exit, problem.message),
            };
            assert_eq!((exit.code(), said.as_str()), (code, message), "{state}");
        }
        assert!(!is_over(&run("Running", json!([]))) && !is_over(&PipelineRun::default()));
    }

    #[test]
    fn a_log_says_what_is_new_and_a_terminal_what_is_open() {
        let artifact = |name: &str, result: &str, stage: &str| ArtifactProgress {
            artifact: name.to_owned(),
            result: result.to_owned(),
            stage: stage.to_owned(),
            ..ArtifactProgress::default()
        };
        let mut told = BTreeMap::new();
        let first = [artifact("a:1", "Pending", "exporter"), artifact("b:1", "Pending", "exporter")];
        assert_eq!(changes(&first, &mut told), ["a:1  exporter", "b:1  exporter"]);
        let second = [artifact("a:1", "Succeeded", "importer"), artifact("b:1", "Pending", "exporter")];
        assert_eq!(changes(&second, &mut told), ["a:1  Succeeded at importer"]);
        assert!(changes(&second, &mut told).is_empty());
        assert_eq!(lines(&second), ["b:1  exporter", "1 of 2 artifacts are over, 0 of them failed"]);
        let many: Vec<ArtifactProgress> =
            (0..100).map(|n| artifact(&format!("a:{n}"), "Pending", "exporter")).collect();
        assert_eq!(lines(&many).len(), SHOWN + 1);
    }

    #[test]
    fn stages_are_told_apart_by_their_targets() {
        let stage = StageProgress {
            stage: "blob-copier".to_owned(),
            target: Some("https://b.example/c".to_owned()),
            status: "Running".to_owned(),
            parts_done: 1,
            parts: 2,
            in_flight: vec!["x".to_owned()],
            ..StageProgress::default()
        };
        assert_eq!(row(&stage, false).label, "copy");
        let row = row(&stage, true);
        assert_eq!(
            (row.label.as_str(), row.message.as_str()),
            ("copy to https://b.example/c", "part 1 of 2  x")
        );
    }
}
