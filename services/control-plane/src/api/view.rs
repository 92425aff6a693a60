//! Runs as clients see them. Pure.

use transship_api::{
    ArtifactProgress, ErrorDetail, ExportTarget, OperationStatus, PipelineRun, PipelineRunProperties,
    PipelineTrigger, RunProgress, RunResponse, SourceTrigger, SystemData,
};
use transship_model::StorageCredential;

use crate::clock::shown;
use crate::fold::{self, PartState, RunSummary};
use crate::state::{Origin, PartRecord, RunKind, RunRecord, RunState};

/// A run as clients see it, with its artifacts where its parts are given.
pub(crate) fn run_view(run: &RunRecord, parts: Option<&[PartRecord]>) -> PipelineRun {
    let provisioning_state = match run.state {
        RunState::Waiting { .. } | RunState::Running => "Creating",
        RunState::Succeeded { .. } => "Succeeded",
        RunState::Failed { .. } => "Failed",
    };
    let kind = transship_api::Kind::PipelineRun;
    PipelineRun {
        id: Some(run.id.to_string()),
        name: Some(run.id.name().to_owned()),
        resource_type: Some(kind.resource_type()),
        location: run.location.clone(),
        system_data: Some(system_data(run)),
        properties: PipelineRunProperties {
            provisioning_state: Some(provisioning_state.to_owned()),
            request: run.request.clone(),
            response: Some(response(run, parts)),
            force_update_tag: run.force_update_tag.clone(),
        },
    }
}

fn response(run: &RunRecord, parts: Option<&[PartRecord]>) -> RunResponse {
    // A summary is empty until something is heard of the run.
    let summary: RunSummary = serde_json::from_str(&run.summary).unwrap_or_default();
    let parts: Vec<(u32, PartState)> =
        parts.unwrap_or_default().iter().map(|part| (part.number, part.state.clone())).collect();
    let (status, message) = match &run.state {
        RunState::Waiting { .. } | RunState::Running => ("Running", None),
        RunState::Succeeded { message } => ("Succeeded", message.clone()),
        RunState::Failed { message, .. } => ("Failed", Some(message.clone())),
    };
    let end = Some(blob(run));
    let (source, target) = match run.kind {
        RunKind::Export => (None, end),
        RunKind::Import => (end, None),
    };
    let imported_artifacts = match run.kind {
        RunKind::Export => Vec::new(),
        RunKind::Import => fold::imported_artifacts(&run.view, &parts),
    };
    let trigger = match run.origin {
        Origin::SourceTrigger { found_ms } => {
            let timestamp = Some(shown(found_ms));
            Some(PipelineTrigger { source_trigger: Some(SourceTrigger { status: None, timestamp }) })
        }
        Origin::Request | Origin::Schedule => None,
    };
    RunResponse {
        status: status.to_owned(),
        imported_artifacts,
        progress: RunProgress { percentage: percentage(run, &summary).to_string() },
        start_time: shown(run.started_ms),
        finish_time: run.finished_ms.map(shown),
        source,
        target,
        catalog_digest: summary.catalog_digest,
        trigger,
        pipeline_run_error_message: message,
        waiting_for: match &run.state {
            RunState::Waiting { on } => Some(on.clone()),
            _ => None,
        },
        artifacts: artifacts(run, &parts),
        stages: summary.stages,
        correlation_id: run.traceparent.split('-').nth(1).map(str::to_owned),
    }
}

/// 100 exactly where the run succeeded.
fn percentage(run: &RunRecord, summary: &RunSummary) -> u8 {
    match run.state {
        RunState::Succeeded { .. } => 100,
        _ => summary.percentage.min(99),
    }
}

/// Each artifact. Before a run has parts, its request says which there are.
fn artifacts(run: &RunRecord, parts: &[(u32, PartState)]) -> Vec<ArtifactProgress> {
    if !parts.is_empty() {
        return fold::artifacts(&run.view, parts);
    }
    let (result, code, message) = match &run.state {
        RunState::Failed { code, message } => ("Failed", Some(code.to_string()), Some(message.clone())),
        _ => ("Pending", None, None),
    };
    let one = |artifact: &String| ArtifactProgress {
        artifact: artifact.clone(),
        result: result.to_owned(),
        code: code.clone(),
        message: message.clone(),
        stage: transship_model::Stage::ControlPlane.name().to_owned(),
        ..ArtifactProgress::default()
    };
    run.request.artifacts.iter().map(one).collect()
}

/// The run's blob, in the form of the pipeline's storage end.
fn blob(run: &RunRecord) -> ExportTarget {
    let (mode, key_vault_uri) = match &run.pipeline.credential {
        Some(StorageCredential::Identity(_)) => ("ManagedIdentity", None),
        Some(StorageCredential::Vault(secret)) => ("SasToken", Some(secret.to_string())),
        Some(StorageCredential::Secret(_)) | None => ("SasToken", None),
    };
    let mut uri = run.pipeline.container.as_url().clone();
    if let Ok(mut segments) = uri.path_segments_mut() {
        segments.pop_if_empty().extend(run.blob.as_str().split('/'));
    }
    ExportTarget {
        storage_type: Some("AzureStorageBlob".to_owned()),
        uri: Some(uri.to_string()),
        key_vault_uri,
        storage_access_mode: Some(mode.to_owned()),
    }
}

fn system_data(run: &RunRecord) -> SystemData {
    SystemData {
        created_by: run.created_by.clone(),
        created_by_type: "User".to_owned(),
        created_at: shown(run.created_ms),
        last_modified_by: run.created_by.clone(),
        last_modified_by_type: "User".to_owned(),
        last_modified_at: shown(run.started_ms),
    }
}

/// The status of a run's operation. The error's message is the run's own, so that a client that polls shows it.
pub(crate) fn operation_status(run: &RunRecord) -> OperationStatus {
    let (status, error) = match &run.state {
        RunState::Waiting { .. } | RunState::Running => ("InProgress", None),
        RunState::Succeeded { .. } => ("Succeeded", None),
        RunState::Failed { code, message } => {
            let (code, message) = (code.to_string(), message.clone());
            ("Failed", Some(ErrorDetail { code, message, ..ErrorDetail::default() }))
        }
    };
    let summary: RunSummary = serde_json::from_str(&run.summary).unwrap_or_default();
    OperationStatus {
        id: format!("{}/operationStatuses/{}", run.id, run.operation),
        name: run.operation.clone(),
        status: status.to_owned(),
        start_time: shown(run.started_ms),
        end_time: run.finished_ms.map(shown),
        percent_complete: percentage(run, &summary),
        error,
    }
}

#[cfg(test)]
mod tests {
    use transship_model::Code;

    use super::*;
    use crate::testing::run_record;

    #[test]
    fn a_run_that_runs_is_shown_as_clients_know_it() {
        let view = serde_json::to_value(run_view(&run_record("nightly"), None)).unwrap();
        let properties = &view["properties"];
        assert_eq!(view["type"], "Microsoft.ContainerRegistry/registries/pipelineRuns");
        assert_eq!(properties["provisioningState"], "Creating");
        let response = &properties["response"];
        assert_eq!(
            (&response["status"], &response["progress"]["percentage"]),
            (&"Running".into(), &"0".into())
        );
        assert_eq!(response["startTime"], "2023-11-14T22:13:20.000+00:00");
        assert_eq!(response["target"]["type"], "AzureStorageBlob");
        assert_eq!(response["target"]["uri"], "https://a.blob.core.windows.net/c/blob");
        assert_eq!(response["target"]["keyVaultUri"], "https://kv.vault.azure.net/secrets/sas");
        assert_eq!(response["correlationId"], "0123456789abcdef0123456789abcdef");
        assert_eq!(response["artifacts"][0]["result"], "Pending");
        assert!(response.get("importedArtifacts").is_none() && response.get("finishTime").is_none());
    }

    #[test]
    fn a_failure_says_the_same_in_the_run_and_in_its_operation() {
        let state = RunState::Failed { code: Code::BlobExists, message: "it is there (overwrite it)".into() };
        let run = RunRecord { state, finished_ms: Some(1_700_000_001_000), ..run_record("nightly") };
        let (view, status) = (run_view(&run, None), operation_status(&run));
        let response = view.properties.response.unwrap();
        let error = status.error.unwrap();
        assert_eq!((status.status.as_str(), error.code.as_str()), ("Failed", "BlobExists"));
        assert_eq!(response.pipeline_run_error_message, Some(error.message));
        assert_eq!(view.properties.provisioning_state.as_deref(), Some("Failed"));
        assert_eq!(response.artifacts[0].code.as_deref(), Some("BlobExists"));
    }

    #[test]
    fn a_run_of_the_trigger_says_when_its_bundle_was_found_and_one_that_waits_says_for_what() {
        let found = RunRecord { origin: Origin::SourceTrigger { found_ms: 0 }, ..run_record("nightly") };
        let trigger = run_view(&found, None).properties.response.unwrap().trigger.unwrap();
        assert_eq!(
            trigger.source_trigger.unwrap().timestamp.as_deref(),
            Some("1970-01-01T00:00:00.000+00:00")
        );
        let waiting =
            RunRecord { state: RunState::Waiting { on: "the blob".into() }, ..run_record("nightly") };
        let response = run_view(&waiting, None).properties.response.unwrap();
        assert_eq!(
            (response.status.as_str(), response.waiting_for.as_deref()),
            ("Running", Some("the blob"))
        );
        assert_eq!(operation_status(&waiting).status, "InProgress");
    }
}
