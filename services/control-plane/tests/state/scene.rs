//! A store, and what the tests put into it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use tempfile::TempDir;
use transship_api::{Kind, ResourceId, RunRequest};
use transship_control_plane::fold::PartState;
use transship_control_plane::state::{
    Action, NewExecution, NewRun, Origin, OutboxItem, PipelineSnapshot, PutOutcome, Queue, RunDecision,
    RunKind, RunRecord, RunState, Store,
};
use transship_messages::{ExportPart, Fact, FactBody, ImportRequested, RouteTaken, WorkItem};
use transship_model::{
    Code, ContainerUrl, Counters, Digest, Execution, ExportOptions, ImportDestination, ImportOptions, Part,
    Secret, Stage,
};

/// A store of its own.
pub(crate) struct Scene {
    pub(crate) store: Store,
    pub(crate) url: String,
    _folder: Option<TempDir>,
}

impl Scene {
    /// In a file.
    pub(crate) async fn sqlite() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let url = format!("sqlite://{}", folder.path().join("state.db").display());
        let store = Store::open(&Secret::new(&url)).await?;
        Ok(Self { store, url, _folder: Some(folder) })
    }

    /// In a fresh database.
    pub(crate) async fn postgres(server: &transship_rig::Postgres) -> Result<Self> {
        let url = server.database().await?;
        let store = Store::open(&Secret::new(&url)).await?;
        Ok(Self { store, url, _folder: None })
    }

    /// Makes a run, or makes it again.
    pub(crate) async fn start(&self, new: NewRun) -> Result<RunRecord> {
        start(&self.store, new).await
    }

    /// Makes an export run, and begins it with as many parts.
    pub(crate) async fn running(&self, name: &str, parts: u32) -> Result<RunRecord> {
        let run = self.start(export(name, 1_000)).await?;
        let begun = self.store.begin_run(&run.execution, part_states(parts)?, vec![], 1_000).await?;
        anyhow::ensure!(begun, "the run was not begun");
        self.run(name).await
    }

    /// The run as it is.
    pub(crate) async fn run(&self, name: &str) -> Result<RunRecord> {
        self.store.run(&run_id(name)).await?.context("there is no such run")
    }
}

pub(crate) async fn start(store: &Store, new: NewRun) -> Result<RunRecord> {
    match store.put_run(&new.id.clone(), |_| RunDecision::Start(Box::new(new))).await? {
        PutOutcome::Started(run) => Ok(run),
        other => anyhow::bail!("the run was not started: {other:?}"),
    }
}

pub(crate) fn part_states(count: u32) -> Result<Vec<(u32, PartState)>> {
    (1..=count).map(|number| Ok((number, PartState::new([format!("a:{number}").parse()?])))).collect()
}

pub(crate) fn registry() -> ResourceId {
    ResourceId::registry("s", "g", "contoso")
}

pub(crate) fn run_id(name: &str) -> ResourceId {
    registry().child(Kind::PipelineRun, name)
}

pub(crate) fn container(name: &str) -> ContainerUrl {
    format!("https://a.example/{name}").parse().expect("a container")
}

fn snapshot(container_name: &str, action: Action) -> PipelineSnapshot {
    PipelineSnapshot {
        id: registry().child(Kind::ExportPipeline, "outgoing").to_string(),
        registry: "contoso".parse().expect("a name"),
        container: container(container_name),
        credential: None,
        action,
    }
}

/// An export run.
pub(crate) fn export(name: &str, now_ms: i64) -> NewRun {
    let action = Action::Export { options: ExportOptions::default(), routes: None };
    NewRun {
        id: run_id(name),
        kind: RunKind::Export,
        location: None,
        execution: NewExecution::Own(format!("run-{}", name.to_lowercase()).parse().expect("an identity")),
        operation: format!("pipelineruns-{name}-{now_ms}"),
        request: RunRequest::default(),
        force_update_tag: None,
        origin: Origin::Request,
        pipeline: snapshot("outbox", action),
        blob: "bundle".parse().expect("a blob's name"),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        by: "somebody".to_owned(),
        now_ms,
    }
}

/// An import run from the container `inbox`.
pub(crate) fn import(name: &str, execution: NewExecution, now_ms: i64) -> NewRun {
    let options = ImportOptions::default();
    let registry = "contoso".parse().expect("a name");
    let action = Action::Import {
        pipeline: "contoso.incoming".parse().expect("a name"),
        destination: ImportDestination { registry, credential: None, options },
    };
    let pipeline = snapshot("inbox", action);
    NewRun { kind: RunKind::Import, execution, pipeline, ..export(name, now_ms) }
}

pub(crate) fn fact(execution: &Execution, part: u32, stage: Stage, attempt: u32, body: FactBody) -> Fact {
    let part = Part { number: part, count: part };
    Fact { execution: execution.clone(), part, stage, attempt, target: None, at_ms: 0, body }
}

pub(crate) fn counters(bytes: u64) -> Counters {
    Counters { bytes_discovered: bytes, bytes_moved: bytes, ..Counters::default() }
}

pub(crate) fn progress(execution: &Execution, part: u32, moved: u64) -> Fact {
    let counters = Counters { bytes_discovered: 100, bytes_moved: moved, ..Counters::default() };
    fact(execution, part, Stage::Exporter, 1, FactBody::Progress { counters, in_flight: vec![] })
}

pub(crate) fn exported(execution: &Execution, part: u32) -> Fact {
    let body = FactBody::BundleExported {
        container: container("outbox"),
        blob: "bundle".parse().expect("a blob's name"),
        etag: "e".into(),
        length: 10,
        catalog_digest: Digest::sha256(b"index"),
        counters: counters(10),
        failed: vec![],
        routes: vec![],
    };
    fact(execution, part, Stage::Exporter, 1, body)
}

/// An export whose bundle is copied to a container next.
pub(crate) fn exported_to(execution: &Execution, part: u32, target: &str) -> Fact {
    let mut fact = exported(execution, part);
    if let FactBody::BundleExported { routes, .. } = &mut fact.body {
        routes.push(RouteTaken { target: container(target), import_pipeline: None });
    }
    fact
}

pub(crate) fn imported(execution: &Execution, part: u32, from: &str) -> Fact {
    let body = FactBody::BundleImported {
        pipeline: "contoso.incoming".parse().expect("a name"),
        container: container(from),
        blob: "bundle".parse().expect("a blob's name"),
        catalog_digest: Some(Digest::sha256(b"index")),
        counters: counters(10),
        message: None,
    };
    Fact { target: Some(container(from)), ..fact(execution, part, Stage::Importer, 1, body) }
}

pub(crate) fn failed(execution: &Execution, part: u32, stage: Stage, attempt: u32, terminal: bool) -> Fact {
    let (message, hint) = ("the token expired".to_owned(), Some("renew it".to_owned()));
    let body = FactBody::Failed { code: Code::SasExpired, message, hint, terminal, container: None };
    fact(execution, part, stage, attempt, body)
}

pub(crate) fn failed_state() -> RunState {
    RunState::Failed { code: Code::SasExpired, message: "the token expired (renew it)".to_owned() }
}

pub(crate) fn succeeded() -> RunState {
    RunState::Succeeded { message: None }
}

/// The work of a part, as it is published.
pub(crate) fn export_work(execution: &Execution, part: u32) -> OutboxItem {
    let work = ExportPart {
        execution: execution.clone(),
        part: Part { number: part, count: part },
        registry: "contoso".parse().expect("a name"),
        container: container("outbox"),
        container_secret: None,
        blob: "bundle".parse().expect("a blob's name"),
        artifacts: vec!["a:1".parse().expect("a reference")],
        options: ExportOptions::default(),
        routes: None,
        slice: 0,
        carried: Counters::default(),
    };
    publish(Queue::ExporterParts, &work)
}

/// The work of an import, as it is published.
pub(crate) fn import_work(execution: &Execution) -> OutboxItem {
    let work = ImportRequested {
        execution: execution.clone(),
        part: Part::ONLY,
        pipeline: "contoso.incoming".parse().expect("a name"),
        destination: None,
        container: container("inbox"),
        blob: "bundle".parse().expect("a blob's name"),
        etag: None,
        catalog_digest: None,
        slice: 0,
        carried: Counters::default(),
        sealed_upload: None,
    };
    publish(Queue::ImporterImports, &work)
}

fn publish<W: WorkItem>(queue: Queue, work: &W) -> OutboxItem {
    OutboxItem::Publish {
        queue,
        message_id: work.message_id(),
        kind: W::KIND.to_owned(),
        headers: BTreeMap::from([("traceparent".to_owned(), "00-ab".to_owned())]),
        body: work.encode(),
    }
}
