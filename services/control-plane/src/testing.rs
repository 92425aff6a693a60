//! Values for the tests of this room.

use std::collections::BTreeMap;

use serde_json::json;
use transship_api::{Kind, ResourceId, RunEnd, RunRequest};
use transship_messages::{CopyMode, Fact, FactBody, RouteTaken};
use transship_model::{BlobName, ContainerUrl, Counters, Digest, Execution, ExportOptions, Part, Stage};

use crate::fold::{PartState, RunView};
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

/// What `stage` says of a part of `run`, at its first attempt.
pub(crate) fn fact(
    run: &RunRecord,
    number: u32,
    stage: Stage,
    target: Option<&ContainerUrl>,
    body: FactBody,
) -> Fact {
    let (execution, part) = (run.execution.clone(), Part { number, count: run.parts });
    Fact { execution, part, stage, attempt: 1, target: target.cloned(), at_ms: 1, body }
}

/// A part of `run` that was exported with 3 of 5 artifacts, whose bundle goes to `targets` next.
pub(crate) fn exported(run: &RunRecord, number: u32, targets: &[ContainerUrl]) -> PartState {
    let taken = |target: &ContainerUrl| RouteTaken { target: target.clone(), import_pipeline: None };
    let body = FactBody::BundleExported {
        container: run.pipeline.container.clone(),
        blob: part_name(run, number),
        etag: "0x1".to_owned(),
        length: 77,
        catalog_digest: Digest::sha256(b"index"),
        counters: Counters {
            artifacts_discovered: 5,
            artifacts_moved: 3,
            artifacts_failed: 2,
            ..Counters::default()
        },
        failed: Vec::new(),
        routes: targets.iter().map(taken).collect(),
    };
    let mut state = PartState::default();
    state.apply(&fact(run, number, Stage::Exporter, None, body));
    state
}

/// That the bundle of a part of `run` is at `target`.
pub(crate) fn copied(run: &RunRecord, number: u32, target: &ContainerUrl) -> FactBody {
    FactBody::BundleCopied {
        container: target.clone(),
        blob: part_name(run, number),
        etag: "0x2".to_owned(),
        length: 77,
        mode: CopyMode::Streamed,
        counters: Counters::default(),
    }
}

fn part_name(run: &RunRecord, number: u32) -> BlobName {
    run.blob.of_part(Part { number, count: run.parts }).expect("a name")
}
