//! What keeps the trigger or the schedule of a pipeline from its work: a secret that cannot be read, a container that
//! is not there. Nothing else would show it: such a pipeline just does nothing.

use serde_json::{Value, json};
use transship_api::{Kind, ResourceId, WatchView};

use super::doctor::{Check, Status};
use super::pipeline::{noun, typed};
use crate::control::ControlPlane;
use crate::exit::Problem;
use crate::report::units::counted;
use crate::screen::Screen;

/// The name of the checks of pipelines.
const NAME: &str = "pipelines";
/// The most pipelines that are asked about: each is a request.
const MAX_PIPELINES: u64 = 200;

/// What the trigger or schedule of the pipeline `id` is doing; `None` where this control plane does not say.
///
/// # Errors
/// What the control plane says, or that it does not answer.
pub(super) async fn watching(control: &ControlPlane, id: &ResourceId) -> Result<Option<WatchView>, Problem> {
    let what = format!("ask what watches {}", id.name());
    let found = control.find(&format!("/transship/v1/pipelines{id}/watch"), &what).await?;
    found.map(|value| typed(&value, &what)).transpose()
}

/// Warns where the pipeline does nothing by itself because something keeps it from it.
pub(super) fn warn(watch: Option<&WatchView>, kind: Kind, name: &str, screen: &Screen) {
    if let Some(problem) = watch.and_then(|watch| watch.problem.as_ref()) {
        screen.warn(&format!("{} {name} does nothing by itself: {problem}", noun(kind)));
    }
}

/// Adds what the trigger or schedule is doing to a resource that is written as JSON.
pub(super) fn add(resource: &mut Value, watch: Option<&WatchView>) {
    if let (Some(watch), Some(resource)) = (watch, resource.as_object_mut()) {
        resource.insert("watch".to_owned(), json!(watch));
    }
}

/// A check for each pipeline that something keeps from its work, or one for all.
pub(super) async fn check(control: &ControlPlane) -> Vec<Check> {
    match try_check(control).await {
        Ok(checks) => checks,
        Err(problem) => vec![Check::skipped(NAME, problem)],
    }
}

async fn try_check(control: &ControlPlane) -> Result<Vec<Check>, Problem> {
    let (mut checks, mut count) = (Vec::new(), 0);
    for registry in control.registries()? {
        for kind in [Kind::ExportPipeline, Kind::ImportPipeline] {
            let list = format!("{registry}/{}", kind.segment());
            let found = control.list(&list, &format!("list {}s", noun(kind))).await?;
            for name in found.iter().filter_map(|pipeline| pipeline["name"].as_str()) {
                count += 1;
                if count > MAX_PIPELINES {
                    let message = format!("only the first {MAX_PIPELINES} pipelines were asked about");
                    checks.push(Check::new(NAME, Status::Skipped, message));
                    return Ok(checks);
                }
                let watch = watching(control, &registry.child(kind, name)).await?;
                checks.extend(judge(watch.as_ref(), kind, name));
            }
        }
    }
    if checks.is_empty() {
        let message =
            format!("{}; nothing keeps a trigger or schedule from its work", counted(count, "pipeline"));
        checks.push(Check::new(NAME, Status::Ok, message));
    }
    Ok(checks)
}

fn judge(watch: Option<&WatchView>, kind: Kind, name: &str) -> Option<Check> {
    let problem = watch?.problem.as_ref()?;
    Some(Check::new(NAME, Status::Failed, format!("{} {name}: {problem}", noun(kind))))
}
