//! The parts of an execution, and the turns of its runs: started, waiting, dispatched again, ended.

use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use transship_api::ResourceId;
use transship_model::Execution;

use super::error::StoreError;
use super::outbox;
use super::records::{OutboxItem, PartRecord, Queue, RunKind, RunState};
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
    let summary = summarise(&run.view, run.parts, known, &run.state);
    let query = sqlx::query(
        "UPDATE runs SET state = $2, ended = $3, summary = $4, finished_ms = $5, parts = $6, \
         heard_ms = CASE WHEN heard_ms < $7 THEN $7 ELSE heard_ms END WHERE seq = $1",
    );
    let query = query.bind(run.seq).bind(to_json("state", &run.state)?);
    let query = query.bind(i64::from(run.state.is_terminal())).bind(to_json("summary", &summary)?);
    let query = query.bind(run.finished_ms).bind(i64::from(run.parts)).bind(now_ms);
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
    let Some(row) = row else { return Ok(None) };
    Ok(Some(PartState { stages: from_json(&row, "stages")?, artifacts: from_json(&row, "artifacts")? }))
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
            let state =
                PartState { stages: from_json(row, "stages")?, artifacts: from_json(row, "artifacts")? };
            Ok(PartRecord { number: unsigned(row, "number")?, state, summary: from_json(row, "summary")? })
        };
        rows.iter().map(record).collect()
    }

    /// What a `Start` came to: the parts as they are before anything was heard of them, and what is to be published.
    /// The `Start` is done by it. False where the execution is not current any more, or was begun already.
    ///
    /// # Errors
    /// Where nothing was written.
    pub async fn begin_run(
        &self,
        execution: &Execution,
        parts: Vec<(u32, PartState)>,
        publish: Vec<OutboxItem>,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let execution = execution.clone();
        self.write(move |transaction| Box::pin(begin(transaction, execution, parts, publish, now_ms))).await
    }

    /// The run cannot start yet: it says what it waits for, and its `Start` is due again at `due_ms`.
    ///
    /// # Errors
    /// Where nothing was written.
    pub async fn run_waits(&self, execution: &Execution, on: String, due_ms: i64) -> Result<(), StoreError> {
        let execution = execution.clone();
        self.write(move |transaction| Box::pin(wait(transaction, execution, on, due_ms))).await
    }

    /// Ends the runs of this kind that an execution has, where they are not over: with the state that is given, and
    /// without what was still to be done for them. False where none was ended.
    ///
    /// # Errors
    /// Where nothing was written.
    pub async fn end_run(
        &self,
        execution: &Execution,
        view: RunKind,
        state: RunState,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let execution = execution.clone();
        self.write(move |transaction| Box::pin(end(transaction, execution, view, state, now_ms))).await
    }

    /// Has work published again for a run that is not over. What was heard of the failures of that work is
    /// forgotten, since its attempts are counted anew.
    ///
    /// # Errors
    /// Where nothing was written.
    pub async fn dispatch_again(
        &self,
        execution: &Execution,
        publish: Vec<OutboxItem>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let execution = execution.clone();
        self.write(move |transaction| Box::pin(again(transaction, execution, publish, now_ms))).await
    }
}

async fn begin(
    transaction: &mut AnyConnection,
    execution: Execution,
    parts: Vec<(u32, PartState)>,
    publish: Vec<OutboxItem>,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let runs: Vec<RunRow> = runs_of(transaction, &execution).await?;
    let started =
        sqlx::query("DELETE FROM outbox WHERE execution = $1 AND generation = $2 AND item = 'start'");
    let started = started.bind(execution.id.to_string()).bind(signed(execution.generation));
    let started = started.execute(&mut *transaction).await.map_err(failed("begin a run"))?;
    if started.rows_affected() == 0 || runs.iter().all(|run| run.state.is_terminal()) {
        return Ok(false);
    }
    for (number, state) in &parts {
        insert_part(transaction, &execution, *number, state).await?;
    }
    for item in &publish {
        outbox::insert(transaction, &execution, item, now_ms).await?;
    }
    let known = summaries(transaction, &execution).await?;
    for mut run in runs {
        if !run.state.is_terminal() {
            run.parts = u32::try_from(parts.len()).unwrap_or(u32::MAX);
            run.state = RunState::Running;
            refresh(transaction, run, &known, now_ms).await?;
        }
    }
    Ok(true)
}

async fn wait(
    transaction: &mut AnyConnection,
    execution: Execution,
    on: String,
    due_ms: i64,
) -> Result<(), StoreError> {
    let failed = failed("have a run wait");
    let later = sqlx::query(
        "UPDATE outbox SET due_ms = $3, attempts = attempts + 1 \
         WHERE execution = $1 AND generation = $2 AND item = 'start'",
    );
    let later = later.bind(execution.id.to_string()).bind(signed(execution.generation)).bind(due_ms);
    if later.execute(&mut *transaction).await.map_err(&failed)?.rows_affected() == 0 {
        return Ok(());
    }
    let state = to_json("state", &RunState::Waiting { on })?;
    let query =
        sqlx::query("UPDATE runs SET state = $3 WHERE execution = $1 AND generation = $2 AND ended = 0");
    let query = query.bind(execution.id.to_string()).bind(signed(execution.generation)).bind(state);
    query.execute(transaction).await.map_err(&failed).map(drop)
}

async fn end(
    transaction: &mut AnyConnection,
    execution: Execution,
    view: RunKind,
    state: RunState,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let runs = runs_of(transaction, &execution).await?;
    let is_exported = runs.iter().any(|run| run.kind == RunKind::Export.name());
    let known = summaries(transaction, &execution).await?;
    let mut ended = false;
    for mut run in runs {
        if run.kind == view.name() && !run.state.is_terminal() {
            (run.state, run.finished_ms, ended) = (state.clone(), Some(now_ms), true);
            refresh(transaction, run, &known, now_ms).await?;
        }
    }
    // Where an import was adopted, what is to be done is the export's.
    if ended && (view == RunKind::Export || !is_exported) {
        let query = sqlx::query("DELETE FROM outbox WHERE execution = $1 AND generation = $2");
        let query = query.bind(execution.id.to_string()).bind(signed(execution.generation));
        query.execute(transaction).await.map_err(failed("end a run"))?;
    }
    Ok(ended)
}

async fn again(
    transaction: &mut AnyConnection,
    execution: Execution,
    publish: Vec<OutboxItem>,
    now_ms: i64,
) -> Result<(), StoreError> {
    if runs_of(transaction, &execution).await?.iter().all(|run| run.state.is_terminal()) {
        return Ok(());
    }
    for item in &publish {
        outbox::insert(transaction, &execution, item, now_ms).await?;
        if let OutboxItem::Publish { queue, body, .. } = item {
            reopen(transaction, *queue, body).await?;
        }
    }
    let known = summaries(transaction, &execution).await?;
    for run in runs_of(transaction, &execution).await? {
        refresh(transaction, run, &known, now_ms).await?;
    }
    Ok(())
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
