//! A store, and what the tests put into it.

use anyhow::Result;
use tempfile::TempDir;
use transship_api::{Kind, ResourceId, RunRequest};
use transship_control_plane::state::{
    Action, NewExecution, NewRun, Origin, PipelineSnapshot, PutOutcome, RunDecision, RunKind, RunRecord,
    Store,
};
use transship_model::{ExportOptions, Secret};

/// A store of its own.
pub(crate) struct Scene {
    pub(crate) store: Store,
    pub(crate) url: String,
    pub(crate) _folder: TempDir,
}

impl Scene {
    pub(crate) async fn sqlite() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let url = format!("sqlite://{}", folder.path().join("state.db").display());
        let store = Store::open(&Secret::new(&url)).await?;
        Ok(Self { store, url, _folder: folder })
    }

    /// Makes an export run that was never there.
    pub(crate) async fn export(&self, name: &str, now_ms: i64) -> Result<RunRecord> {
        let new = export(name, now_ms);
        match self.store.put_run(&new.id.clone(), |_| RunDecision::Start(Box::new(new))).await? {
            PutOutcome::Started(run) => Ok(run),
            other => anyhow::bail!("the run was not started: {other:?}"),
        }
    }
}

pub(crate) fn registry() -> ResourceId {
    ResourceId::registry("s", "g", "contoso")
}

pub(crate) fn run_id(name: &str) -> ResourceId {
    registry().child(Kind::PipelineRun, name)
}

/// An export run.
pub(crate) fn export(name: &str, now_ms: i64) -> NewRun {
    NewRun {
        id: run_id(name),
        kind: RunKind::Export,
        location: None,
        execution: NewExecution::Own(format!("run-{}", name.to_lowercase()).parse().expect("an identity")),
        operation: format!("pipelineruns-{name}-{now_ms}"),
        request: RunRequest::default(),
        force_update_tag: None,
        origin: Origin::Request,
        pipeline: PipelineSnapshot {
            id: "p".to_owned(),
            registry: "contoso".parse().expect("a name"),
            container: "https://a.example/outbox".parse().expect("a container"),
            credential: None,
            action: Action::Export { options: ExportOptions::default(), routes: None },
        },
        blob: "bundle".parse().expect("a blob's name"),
        traceparent: String::new(),
        by: "somebody".to_owned(),
        now_ms,
    }
}
