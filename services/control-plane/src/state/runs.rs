//! Reading runs, and deleting them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection};
use transship_api::{ResourceId, RunRequest};
use transship_model::{BlobName, Execution, ExecutionId};

use super::error::StoreError;
use super::parts::states_of;
use super::records::{Origin, PipelineSnapshot, RunKind, RunRecord, RunState};
use super::store::Store;
use super::values::{corrupt, from_json, get, parsed, signed, unsigned};
use crate::fold::undelivered;

/// The statement that reads runs as [`records`] takes them; what follows says which.
macro_rules! select_runs {
    ($which:literal) => {
        concat!("SELECT runs.*, request FROM runs JOIN run_requests ON run_requests.run = runs.seq ", $which)
    };
}
pub(super) use select_runs;

/// What was asked for, as it is stored: written once, read with the run.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredRequest {
    pub(super) location: Option<String>,
    pub(super) request: RunRequest,
    pub(super) force_update_tag: Option<String>,
    pub(super) origin: Origin,
    pub(super) pipeline: PipelineSnapshot,
    pub(super) blob: BlobName,
    pub(super) traceparent: String,
}

fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    StoreError::during(operation)
}

/// The execution that a row names.
pub(super) fn execution(row: &AnyRow) -> Result<Execution, StoreError> {
    Ok(Execution { id: parsed(row, "execution")?, generation: unsigned(row, "generation")? })
}

fn record(row: &AnyRow) -> Result<RunRecord, StoreError> {
    let kind: String = get(row, "kind")?;
    let stored: StoredRequest = from_json(row, "request")?;
    Ok(RunRecord {
        seq: get(row, "seq")?,
        id: parsed(row, "id")?,
        kind: match &*kind {
            "export" => RunKind::Export,
            "import" => RunKind::Import,
            _ => return Err(corrupt("kind", kind)),
        },
        location: stored.location,
        execution: execution(row)?,
        operation: get(row, "operation")?,
        request: stored.request,
        force_update_tag: stored.force_update_tag,
        origin: stored.origin,
        pipeline: stored.pipeline,
        blob: stored.blob,
        parts: unsigned(row, "parts")?,
        view: from_json(row, "view")?,
        state: from_json(row, "state")?,
        summary: get(row, "summary")?,
        traceparent: stored.traceparent,
        created_by: get(row, "created_by")?,
        created_ms: get(row, "created_ms")?,
        started_ms: get(row, "started_ms")?,
        finished_ms: get(row, "finished_ms")?,
        heard_ms: get(row, "heard_ms")?,
    })
}

pub(super) fn records(rows: &[AnyRow]) -> Result<Vec<RunRecord>, StoreError> {
    rows.iter().map(record).collect()
}

/// A run, inside of a transaction.
pub(super) async fn run_of(
    transaction: &mut AnyConnection,
    key: &str,
) -> Result<Option<RunRecord>, StoreError> {
    let query = sqlx::query(select_runs!("WHERE key = $1"));
    let row = query.bind(key).fetch_optional(transaction).await.map_err(failed("read a run"))?;
    row.as_ref().map(record).transpose()
}

impl Store {
    /// A run.
    ///
    /// # Errors
    /// Where it could not be read.
    pub async fn run(&self, id: &ResourceId) -> Result<Option<RunRecord>, StoreError> {
        let mut connection = self.readers().acquire().await.map_err(failed("read a run"))?;
        run_of(&mut connection, &id.key()).await
    }

    /// The artifacts of an export that are not where they were to go: see `fold::undelivered`.
    ///
    /// # Errors
    /// Where they could not be read.
    pub async fn undelivered(&self, execution: &Execution) -> Result<BTreeSet<String>, StoreError> {
        let mut connection = self.readers().acquire().await.map_err(failed("read parts"))?;
        Ok(undelivered(&states_of(&mut connection, execution).await?))
    }

    /// The run whose current long-running operation this is.
    ///
    /// # Errors
    /// Where it could not be read.
    pub async fn run_by_operation(&self, operation: &str) -> Result<Option<RunRecord>, StoreError> {
        let query = sqlx::query(select_runs!("WHERE operation = $1"));
        let query = query.bind(operation);
        let row = query.fetch_optional(self.readers()).await.map_err(failed("read a run"))?;
        row.as_ref().map(record).transpose()
    }

    /// The runs of an execution, of whatever generation: a run that started it, and imports that were adopted.
    ///
    /// # Errors
    /// Where they could not be read.
    pub async fn runs_of_execution(&self, execution: &ExecutionId) -> Result<Vec<RunRecord>, StoreError> {
        let query = sqlx::query(select_runs!("WHERE execution = $1 ORDER BY seq"));
        let query = query.bind(execution.as_str());
        records(&query.fetch_all(self.readers()).await.map_err(failed("list runs"))?)
    }

    /// A page of runs: the place that it is behind and its length are the last parameters of the statement.
    async fn page(
        &self,
        query: Query<'static, Any, AnyArguments>,
        place: i64,
        limit: u32,
    ) -> Result<Vec<RunRecord>, StoreError> {
        let query = query.bind(place).bind(i64::from(limit));
        records(&query.fetch_all(self.readers()).await.map_err(failed("list runs"))?)
    }

    /// Runs below a registry, oldest first, those after `after`.
    ///
    /// # Errors
    /// Where they could not be read.
    pub async fn runs(
        &self,
        registry: &ResourceId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<RunRecord>, StoreError> {
        let query = sqlx::query(select_runs!("WHERE registry = $1 AND seq > $2 ORDER BY seq LIMIT $3"));
        self.page(query.bind(registry.parent().key()), after, limit).await
    }

    /// Runs below a registry, newest first, those before `before`.
    ///
    /// # Errors
    /// Where they could not be read.
    pub async fn runs_before(
        &self,
        registry: &ResourceId,
        before: i64,
        limit: u32,
    ) -> Result<Vec<RunRecord>, StoreError> {
        let query = sqlx::query(select_runs!("WHERE registry = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3"));
        self.page(query.bind(registry.parent().key()), before, limit).await
    }

    /// Exports of all registries that are over and whose bundles are still copied, oldest first, those after `after`.
    ///
    /// # Errors
    /// Where they could not be read.
    pub async fn copying_runs(&self, after: i64, limit: u32) -> Result<Vec<RunRecord>, StoreError> {
        self.page(
            sqlx::query(select_runs!("WHERE copying = 1 AND seq > $1 ORDER BY seq LIMIT $2")),
            after,
            limit,
        )
        .await
    }

    /// Runs of all registries that are not over, oldest first, those after `after`.
    ///
    /// # Errors
    /// Where they could not be read.
    pub async fn unfinished_runs(&self, after: i64, limit: u32) -> Result<Vec<RunRecord>, StoreError> {
        self.page(
            sqlx::query(select_runs!("WHERE ended = 0 AND seq > $1 ORDER BY seq LIMIT $2")),
            after,
            limit,
        )
        .await
    }

    /// Deletes a run with its parts and what was still to be done for it; false where there is none. Parts that
    /// another run looks at stay with it. A schedule forgets the tags that the run did not deliver, and carries them
    /// again.
    ///
    /// # Errors
    /// Where it was not written.
    pub async fn delete_run(&self, id: &ResourceId) -> Result<bool, StoreError> {
        let key = id.key();
        self.write(move |transaction| Box::pin(delete(transaction, key))).await
    }
}

pub(super) async fn delete(transaction: &mut AnyConnection, key: String) -> Result<bool, StoreError> {
    let query =
        sqlx::query("DELETE FROM runs WHERE key = $1 RETURNING id, kind, execution, generation, state");
    let query = query.bind(key);
    let row = query.fetch_optional(&mut *transaction).await.map_err(failed("delete a run"))?;
    let Some(row) = row else { return Ok(false) };
    let (execution, kind): (_, String) = (execution(&row)?, get(&row, "kind")?);
    if kind == RunKind::Export.name() {
        forget_tags(transaction, &get::<String>(&row, "id")?, &execution, &from_json(&row, "state")?).await?;
    }
    leave(transaction, &execution, &kind).await?;
    Ok(true)
}

/// A schedule takes a tag whose run is gone for delivered: it forgets those that this run did not deliver.
async fn forget_tags(
    transaction: &mut AnyConnection,
    run: &str,
    execution: &Execution,
    state: &RunState,
) -> Result<(), StoreError> {
    let failed = failed("forget the tags of a run");
    match state {
        RunState::Succeeded { message: None } => {}
        RunState::Succeeded { message: Some(_) } => {
            for name in undelivered(&states_of(transaction, execution).await?) {
                let query =
                    sqlx::query("DELETE FROM tag_states WHERE run = $1 AND repository || ':' || tag = $2");
                let query = query.bind(run.to_owned()).bind(name);
                query.execute(&mut *transaction).await.map_err(&failed)?;
            }
        }
        RunState::Waiting { .. } | RunState::Running | RunState::Failed { .. } => {
            let query = sqlx::query("DELETE FROM tag_states WHERE run = $1").bind(run.to_owned());
            query.execute(transaction).await.map_err(&failed)?;
        }
    }
    Ok(())
}

/// A run of this kind does not look at this execution any more.
pub(super) async fn leave(
    transaction: &mut AnyConnection,
    execution: &Execution,
    kind: &str,
) -> Result<(), StoreError> {
    let failed = failed("leave an execution");
    let query = sqlx::query("SELECT kind FROM runs WHERE execution = $1 AND generation = $2");
    let query = query.bind(execution.id.as_str()).bind(signed(execution.generation));
    let others = query.fetch_all(&mut *transaction).await.map_err(&failed)?;
    let mut statements = Vec::new();
    let export_stays = others.iter().any(|row| get::<String>(row, "kind").is_ok_and(|kind| kind == "export"));
    if kind == RunKind::Export.name() || !export_stays {
        statements.push("DELETE FROM outbox WHERE execution = $1 AND generation = $2");
    }
    if others.is_empty() {
        statements.push("DELETE FROM parts WHERE execution = $1 AND generation = $2");
        statements.push("DELETE FROM part_artifacts WHERE execution = $1 AND generation = $2");
    }
    for statement in statements {
        let query = sqlx::query(statement).bind(execution.id.as_str()).bind(signed(execution.generation));
        query.execute(&mut *transaction).await.map_err(&failed)?;
    }
    Ok(())
}
