//! Values for the tests of this room.

use std::collections::BTreeMap;

use serde_json::json;
use transship_api::{Kind, ResourceId, RunEnd, RunRequest};
use transship_model::{Execution, ExportOptions};

use crate::fold::RunView;
use crate::registries::Registries;
use crate::state::{Action, Origin, PipelineSnapshot, RunKind, RunRecord, RunState};

/// Registries: `source`, and `closed`, which nothing may leave.
pub(crate) fn registries() -> Registries {
    let entries = [
        ("source", json!({ "url": "http://127.0.0.1:5000", "location": "here" })),
        ("closed", json!({ "url": "https://closed.example", "export_policy": "disabled" })),
    ];
    let read = |(name, value): (&str, serde_json::Value)| {
        (name.parse().expect("a name"), serde_json::from_value(value).expect("an entry"))
    };
    Registries::new(BTreeMap::from(entries.map(read)))
}

/// An export run that is running.
pub(crate) fn run_record(name: &str) -> RunRecord {
    let registry = ResourceId::registry("s", "g", "source");
    let pipeline = registry.child(Kind::ExportPipeline, "pipe").to_string();
    let end = RunEnd { storage_type: Some("AzureStorageBlob".into()), name: Some("blob".into()) };
    RunRecord {
        seq: 1,
        id: registry.child(Kind::PipelineRun, name),
        kind: RunKind::Export,
        location: None,
        execution: Execution { id: "run-0123".parse().expect("an identity"), generation: 7 },
        operation: "pipelineruns-0".into(),
        request: RunRequest {
            pipeline_resource_id: Some(pipeline.clone()),
            artifacts: vec!["hello:1".into()],
            source: None,
            target: Some(end),
            catalog_digest: None,
        },
        force_update_tag: None,
        origin: Origin::Request,
        pipeline: PipelineSnapshot {
            id: pipeline,
            registry: "source".parse().expect("a name"),
            container: "https://a.blob.core.windows.net/c".parse().expect("a container"),
            credential: Some("https://kv.vault.azure.net/secrets/sas".parse().expect("a secret")),
            action: Action::Export { options: ExportOptions::default(), routes: None },
        },
        blob: "blob".parse().expect("a name"),
        parts: 1,
        view: RunView { kind: RunKind::Export, target: None, part: None, continues: false },
        state: RunState::Running,
        summary: String::new(),
        traceparent: "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01".into(),
        created_by: "somebody".into(),
        created_ms: 1_700_000_000_000,
        started_ms: 1_700_000_000_000,
        finished_ms: None,
        heard_ms: 1_700_000_000_000,
    }
}
