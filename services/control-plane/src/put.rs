//! What a PUT of a run comes to. Pure: it is asked inside the transaction that writes.

use transship_api::{ResourceId, RunRequest};

use crate::refusal::Refusal;
use crate::state::RunRecord;

/// What a client wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The run.
    pub(crate) id: &'a ResourceId,
    /// The checked request.
    pub(crate) request: &'a RunRequest,
    /// What makes the same request run again.
    pub(crate) force_update_tag: Option<&'a str>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PutDecision {
    /// There is no such run: make it.
    Start,
    /// The run is over and is wanted again: a new generation, its response reset.
    StartAgain,
    /// The run is what is wanted.
    Same,
    /// It cannot be done now.
    Refuse(Refusal),
}

/// Decides on a PUT. An identical request of a run that exists is no work, whatever became of the run; a PUT
/// without a tag does not force anything.
pub(crate) fn decide_put(existing: Option<&RunRecord>, wanted: Wanted<'_>) -> PutDecision {
    let Some(run) = existing else { return PutDecision::Start };
    let forced =
        wanted.force_update_tag.is_some() && wanted.force_update_tag != run.force_update_tag.as_deref();
    if is_same(&run.request, wanted.request) && !forced {
        return PutDecision::Same;
    }
    if run.state.is_terminal() {
        return PutDecision::StartAgain;
    }
    let name = wanted.id.name();
    let message = format!(
        "The run {name} is not over, so it cannot be changed. Wait until it has ended and send this again, use \
         another name, or delete the run first."
    );
    PutDecision::Refuse(Refusal::new(409, "RunInProgress", message).at("pipelineRunName"))
}

/// Whether two requests ask for the same. Resource ids are compared without regard to case.
fn is_same(one: &RunRequest, other: &RunRequest) -> bool {
    let pipeline =
        |request: &RunRequest| request.pipeline_resource_id.as_ref().map(|id| id.to_ascii_lowercase());
    let blobs = |request: &RunRequest| {
        [&request.source, &request.target].map(|end| end.as_ref().and_then(|end| end.name.clone()))
    };
    pipeline(one) == pipeline(other)
        && one.artifacts == other.artifacts
        && blobs(one) == blobs(other)
        && one.catalog_digest == other.catalog_digest
}

#[cfg(test)]
mod tests {
    use transship_model::Code;

    use super::*;
    use crate::state::RunState;
    use crate::testing::run_record;

    fn is(decision: &PutDecision) -> &'static str {
        match decision {
            PutDecision::Start => "start",
            PutDecision::StartAgain => "again",
            PutDecision::Same => "same",
            PutDecision::Refuse(refusal) if refusal.status == 409 => "conflict",
            PutDecision::Refuse(_) => "refused",
        }
    }

    #[test]
    fn a_put_of_a_run_is_decided_by_what_is_there() {
        let waiting = RunState::Waiting { on: "a blob".into() };
        let succeeded = RunState::Succeeded { message: None };
        let failed = RunState::Failed { code: Code::BlobExists, message: "m".into() };
        for (state, tag, new_tag, changed, expected) in [
            (None, None, None, false, "start"),
            (None, None, Some("1"), false, "start"),
            (Some(RunState::Running), None, None, false, "same"),
            (Some(waiting.clone()), None, None, false, "same"),
            (Some(succeeded.clone()), None, None, false, "same"),
            (Some(failed.clone()), None, None, false, "same"),
            (Some(succeeded.clone()), Some("1"), Some("1"), false, "same"),
            (Some(succeeded.clone()), Some("1"), None, false, "same"),
            (Some(succeeded.clone()), None, Some("1"), false, "again"),
            (Some(succeeded.clone()), Some("1"), Some("2"), false, "again"),
            (Some(failed.clone()), None, None, true, "again"),
            (Some(succeeded), None, None, true, "again"),
            (Some(RunState::Running), None, None, true, "conflict"),
            (Some(RunState::Running), Some("1"), Some("2"), false, "conflict"),
            (Some(waiting), None, Some("2"), false, "conflict"),
        ] {
            let existing = state.clone().map(|state| RunRecord {
                state,
                force_update_tag: tag.map(str::to_owned),
                ..run_record("nightly")
            });
            let mut request = run_record("nightly").request;
            if changed {
                request.artifacts.push("other:1".into());
            }
            let id = run_record("nightly").id;
            let wanted = Wanted { id: &id, request: &request, force_update_tag: new_tag };
            let decision = decide_put(existing.as_ref(), wanted);
            assert_eq!(is(&decision), expected, "{state:?} {tag:?} {new_tag:?} {changed}");
        }
    }

    #[test]
    fn the_case_of_a_pipelines_id_and_the_type_of_a_blob_change_nothing() {
        let run = run_record("nightly");
        let mut request = run.request.clone();
        request.pipeline_resource_id = request.pipeline_resource_id.map(|id| id.to_uppercase());
        request.target.as_mut().unwrap().storage_type = None;
        let wanted = Wanted { id: &run.id, request: &request, force_update_tag: None };
        assert_eq!(decide_put(Some(&run), wanted), PutDecision::Same);
    }
}
