//! The parts of an execution, and what its runs make of them.

use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use transship_api::ResourceId;
use transship_model::Execution;

use super::error::StoreError;
use super::records::{PartRecord, Queue, RunKind, RunState};
use super::store::Store;
use super::values::{from_json, get, parsed, signed, to_json, unsigned};
use super::work::Work;
use crate::fold::{PartState, PartSummary, RunView, run_state, summarise};

fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    StoreError::during(operation)
}

/// What changes of a run while it runs.
pub(super) struct RunRow {
    pub(super) seq: i64,
    pub(super) id: ResourceId,
    pub(super) kind: String,
    pub(super) view: RunView,
    pub(super) parts: u32,
    pub(super) state: RunState,
    pub(super) finished_ms: Option<i64>,
}

fn state(row: &AnyRow) -> Result<PartState, StoreError> {
    Ok(PartState { stages: from_json(row, "stages")?, artifacts: from_json(row, "artifacts")? })
}

/// The runs of an execution.
pub(super) async fn runs_of(
    transaction: &mut AnyConnection,
    execution: &Execution,
) -> Result<Vec<RunRow>, StoreError> {
    let query = sqlx::query(
        "SELECT seq, id, kind, view, parts, state, finished_ms FROM runs \
         WHERE execution = $1 AND generation = $2 ORDER BY seq",
    );
    let query = query.bind(execution.id.to_string()).bind(signed(execution.generation));
    let rows = query.fetch_all(transaction).await.map_err(failed("read the runs of an execution"))?;
    let row = |row: &AnyRow| {
        Ok(RunRow {
            seq: get(row, "seq")?,
            id: parsed(row, "id")?,
            kind: get(row, "kind")?,
            view: from_json(row, "view")?,
            parts: unsigned(row, "parts")?,
            state: from_json(row, "state")?,
            finished_ms: get(row, "finished_ms")?,
        })
    };
    rows.iter().map(row).collect()
}

/// The summaries of an execution's parts, in their order.
pub(super) async fn summaries(
    transaction: &mut AnyConnection,
    execution: &Execution,
) -> Result<Vec<(u32, PartSummary)>, StoreError> {
    let query = sqlx::query(
        "SELECT number, summary FROM parts WHERE execution = $1 AND generation = $2 ORDER BY number",
    );
    let query = query.bind(execution.id.to_string()).bind(signed(execution.generation));
    let rows = query.fetch_all(transaction).await.map_err(failed("read the parts of an execution"))?;
    rows.iter().map(|row| Ok((unsigned(row, "number")?, from_json(row, "summary")?))).collect()
}

/// Writes what a run comes to now. True where it ended by it.
pub(super) async fn refresh(
    transaction: &mut AnyConnection,
    mut run: RunRow,
    known: &[(u32, PartSummary)],
    now_ms: i64,
) -> Result<bool, StoreError> {
    let mut ended = false;
    if run.parts > 0 && matches!(run.state, RunState::Waiting { .. }) {
        // What is heard of does not wait.
        run.state = RunState::Running;
    }
    if !run.state.is_terminal()
        && let Some(state) = run_state(&run.view, run.parts, known)
    {
        (run.state, run.finished_ms, ended) = (state, Some(now_ms), true);
    }
    if matches!(run.state, RunState::Succeeded { .. })
        && run.kind == RunKind::Export.name()
        && let Some(state @ RunState::Succeeded { .. }) = run_state(&run.view, run.parts, known)
    {
        // An export is over before its copies are: what became of those is told as it is heard.
        run.state = state;
    }
    let summary = summarise(&run.view, run.parts, known, &run.state);
    let query = sqlx::query(
        "UPDATE runs SET state = $2, ended = $3, summary = $4, finished_ms = $5, parts = $6, copying = $8, \
         heard_ms = CASE WHEN heard_ms < $7 THEN $7 ELSE heard_ms END WHERE seq = $1",
    );
    let copying = summary.is_copying && run.state.is_terminal();
    let query = query.bind(run.seq).bind(to_json("state", &run.state)?);
    let query = query.bind(i64::from(run.state.is_terminal())).bind(to_json("summary", &summary)?);
    let query = query.bind(run.finished_ms).bind(i64::from(run.parts)).bind(now_ms).bind(i64::from(copying));
    query.execute(transaction).await.map_err(failed("update a run"))?;
    Ok(ended)
}

/// Adds a part, where it is not there.
pub(super) async fn insert_part(
    transaction: &mut AnyConnection,
    execution: &Execution,
    number: u32,
    state: &PartState,
) -> Result<(), StoreError> {
    let failed = failed("add a part");
    let part = sqlx::query(
        "INSERT INTO parts (execution, generation, number, stages, summary) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (execution, generation, number) DO NOTHING",
    );
    let part = part.bind(execution.id.to_string()).bind(signed(execution.generation)).bind(i64::from(number));
    let part = part.bind(to_json("stages", &state.stages)?).bind(to_json("summary", &state.summary())?);
    part.execute(&mut *transaction).await.map_err(&failed)?;
    let artifacts = sqlx::query(
        "INSERT INTO part_artifacts (execution, generation, number, artifacts) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (execution, generation, number) DO NOTHING",
    );
    let artifacts =
        artifacts.bind(execution.id.to_string()).bind(signed(execution.generation)).bind(i64::from(number));
    let artifacts = artifacts.bind(to_json("artifacts", &state.artifacts)?);
    artifacts.execute(transaction).await.map_err(&failed).map(drop)
}

/// One part.
pub(super) async fn part_of(
    transaction: &mut AnyConnection,
    execution: &Execution,
    number: u32,
) -> Result<Option<PartState>, StoreError> {
    let query = sqlx::query(
        "SELECT stages, artifacts FROM parts JOIN part_artifacts USING (execution, generation, number) \
         WHERE execution = $1 AND generation = $2 AND number = $3",
    );
    let query = query.bind(execution.id.to_string()).bind(signed(execution.generation));
    let query = query.bind(i64::from(number));
    let row = query.fetch_optional(transaction).await.map_err(failed("read a part"))?;
    row.as_ref().map(state).transpose()
}

/// Every part of an execution, in their order.
pub(super) async fn states_of(
    connection: &mut AnyConnection,
    execution: &Execution,
) -> Result<Vec<PartState>, StoreError> {
    let query = sqlx::query(
        "SELECT stages, artifacts FROM parts JOIN part_artifacts USING (execution, generation, number) \
         WHERE execution = $1 AND generation = $2 ORDER BY number",
    );
    let query = query.bind(execution.id.to_string()).bind(signed(execution.generation));
    let rows = query.fetch_all(connection).await.map_err(failed("read parts"))?;
    rows.iter().map(state).collect()
}

/// Writes what changed of a part.
pub(super) async fn update_part(
    transaction: &mut AnyConnection,
    execution: &Execution,
    number: u32,
    state: &PartState,
    artifacts_changed: bool,
) -> Result<(), StoreError> {
    let failed = failed("update a part");
    let query = sqlx::query(
        "UPDATE parts SET stages = $4, summary = $5 WHERE execution = $1 AND generation = $2 AND number = $3",
    );
    let query =
        query.bind(execution.id.to_string()).bind(signed(execution.generation)).bind(i64::from(number));
    let query = query.bind(to_json("stages", &state.stages)?).bind(to_json("summary", &state.summary())?);
    query.execute(&mut *transaction).await.map_err(&failed)?;
    if !artifacts_changed {
        return Ok(());
    }
    let query = sqlx::query(
        "UPDATE part_artifacts SET artifacts = $4 WHERE execution = $1 AND generation = $2 AND number = $3",
    );
    let query =
        query.bind(execution.id.to_string()).bind(signed(execution.generation)).bind(i64::from(number));
    let query = query.bind(to_json("artifacts", &state.artifacts)?);
    query.execute(transaction).await.map_err(&failed).map(drop)
}

impl Store {
    /// The summaries of an execution's parts by their numbers, without their artifacts.
    ///
    /// # Errors
    /// Where they could not be read.
    pub async fn part_summaries(&self, execution: &Execution) -> Result<Vec<(u32, PartSummary)>, StoreError> {
        let mut connection =
            self.readers().acquire().await.map_err(failed("read the parts of an execution"))?;
        summaries(&mut connection, execution).await
    }

    /// The parts of an execution, in their order.
    ///
    /// # Errors
    /// Where they could not be read.
    pub async fn parts(&self, execution: &Execution) -> Result<Vec<PartRecord>, StoreError> {
        let query = sqlx::query(
            "SELECT number, stages, summary, artifacts \
             FROM parts JOIN part_artifacts USING (execution, generation, number) \
             WHERE execution = $1 AND generation = $2 ORDER BY number",
        );
        let query = query.bind(execution.id.to_string()).bind(signed(execution.generation));
        let rows = query.fetch_all(self.readers()).await.map_err(failed("read parts"))?;
        let record = |row: &AnyRow| {
            Ok(PartRecord {
                number: unsigned(row, "number")?,
                state: state(row)?,
                summary: from_json(row, "summary")?,
            })
        };
        rows.iter().map(record).collect()
    }
}

/// Forgets how the stage failed that a message is for.
pub(super) async fn reopen(
    transaction: &mut AnyConnection,
    queue: Queue,
    body: &[u8],
) -> Result<Option<Work>, StoreError> {
    let Some(work) = Work::of(queue, body) else { return Ok(None) };
    let number = work.part.number;
    if let Some(mut part) = part_of(transaction, &work.execution, number).await? {
        part.reopen(work.stage, work.target.as_ref());
        update_part(transaction, &work.execution, number, &part, false).await?;
    }
    Ok(Some(work))
}
