//! The turns of a run: begun, waiting, dispatched again, ended.

use sqlx::AnyConnection;
use transship_model::Execution;

use super::error::StoreError;
use super::outbox;
use super::parts::{RunRow, insert_part, refresh, reopen, runs_of, summaries};
use super::records::{OutboxItem, RunKind, RunState, StartObstacle};
use super::store::Store;
use super::values::{signed, to_json};
use crate::fold::{PartState, is_copying};

fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    StoreError::during(operation)
}

/// A time that no run was heard of before.
const NEVER: i64 = 0;

impl Store {
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

    /// The run cannot start yet: it says what it waits for, and its `Start` is due again at `due_ms` and remembers the
    /// obstacle.
    ///
    /// # Errors
    /// Where nothing was written.
    pub async fn run_waits(
        &self,
        execution: &Execution,
        on: String,
        obstacle: StartObstacle,
        due_ms: i64,
    ) -> Result<(), StoreError> {
        let execution = execution.clone();
        self.write(move |transaction| Box::pin(wait(transaction, execution, on, obstacle, due_ms))).await
    }

    /// Ends a run that cannot start, as [`Store::end_run`] does. False where its `Start` is done already.
    ///
    /// # Errors
    /// Where nothing was written.
    pub async fn start_failed(
        &self,
        execution: &Execution,
        view: RunKind,
        state: RunState,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let execution = execution.clone();
        self.write(move |transaction| {
            Box::pin(async move {
                if !take_start(transaction, &execution).await? {
                    return Ok(false);
                }
                end(transaction, execution, view, state, now_ms).await
            })
        })
        .await
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

    /// Has work published again for a run that is not over, or whose bundles are still copied. What was heard of the failures of that work is
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
    if !take_start(transaction, &execution).await? || runs.iter().all(|run| run.state.is_terminal()) {
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

/// A `Start` is done: once, whoever tried it.
async fn take_start(transaction: &mut AnyConnection, execution: &Execution) -> Result<bool, StoreError> {
    let query = sqlx::query("DELETE FROM outbox WHERE execution = $1 AND generation = $2 AND item = 'start'");
    let query = query.bind(execution.id.to_string()).bind(signed(execution.generation));
    let done = query.execute(transaction).await.map_err(failed("take a start out of the outbox"))?;
    Ok(done.rows_affected() > 0)
}

async fn wait(
    transaction: &mut AnyConnection,
    execution: Execution,
    on: String,
    obstacle: StartObstacle,
    due_ms: i64,
) -> Result<(), StoreError> {
    let failed = failed("have a run wait");
    let later = sqlx::query(
        "UPDATE outbox SET due_ms = $3, headers = $4, attempts = attempts + 1 \
         WHERE execution = $1 AND generation = $2 AND item = 'start'",
    );
    let later = later.bind(execution.id.to_string()).bind(signed(execution.generation)).bind(due_ms);
    let later = later.bind(to_json("obstacle", &obstacle)?);
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
    let runs = runs_of(transaction, &execution).await?;
    let known = summaries(transaction, &execution).await?;
    let is_over = |run: &RunRow| run.state.is_terminal() && !is_copying(&run.view, &known);
    if runs.iter().all(is_over) {
        return Ok(());
    }
    for item in &publish {
        outbox::insert(transaction, &execution, item, now_ms).await?;
        if let OutboxItem::Publish { queue, body, .. } = item {
            reopen(transaction, *queue, body).await?;
        }
    }
    let known = summaries(transaction, &execution).await?;
    for run in runs {
        // Nothing was heard of it, nor of the others of its execution.
        refresh(transaction, run, &known, NEVER).await?;
    }
    Ok(())
}
