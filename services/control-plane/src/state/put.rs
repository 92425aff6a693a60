//! Making runs, and making them again.

use sqlx::{AnyConnection, Row};
use transship_api::ResourceId;
use transship_model::Execution;

use super::error::StoreError;
use super::outbox;
use super::parts::{insert_part, refresh, runs_of, summaries};
use super::records::{NewExecution, NewRun, OutboxItem, PutOutcome, RunDecision, RunRecord, RunState};
use super::runs::{StoredRequest, leave, run_of};
use super::store::Store;
use super::values::{get, signed, to_json};
use crate::fold::{PartState, RunSummary};

fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    StoreError::during(operation)
}

impl Store {
    /// Makes a run, makes it again, or leaves it, as `decide` says. It decides inside of the transaction and sees
    /// the run as it is; of two that are asked for at once the second one sees the first.
    ///
    /// # Errors
    /// Where nothing was written.
    pub async fn put_run<F>(&self, id: &ResourceId, decide: F) -> Result<PutOutcome, StoreError>
    where
        F: FnOnce(Option<&RunRecord>) -> RunDecision + Send + 'static,
    {
        let key = id.key();
        self.write(move |transaction| Box::pin(put(transaction, key, decide))).await
    }

    /// A generation that was never given before: the time, or one more than the last.
    ///
    /// # Errors
    /// Where it was not written.
    pub async fn next_generation(&self, now_ms: i64) -> Result<u64, StoreError> {
        self.write(move |transaction| Box::pin(next_generation(transaction, now_ms))).await
    }
}

/// Puts a run, inside of a transaction.
pub(super) async fn put<F>(
    transaction: &mut AnyConnection,
    key: String,
    decide: F,
) -> Result<PutOutcome, StoreError>
where
    F: FnOnce(Option<&RunRecord>) -> RunDecision + Send,
{
    let known = run_of(transaction, &key).await?;
    // What was decided may not be held over what follows: it need not be `Sync`.
    let decision = decide(known.as_ref());
    match (decision, known) {
        (RunDecision::Refuse(status, error), _) => Ok(PutOutcome::Refused { status, error }),
        (RunDecision::Same, Some(known)) => Ok(PutOutcome::Unchanged(known)),
        (RunDecision::Same, None) => {
            let problem = "a run that is not there cannot stay as it is".to_owned();
            Err(StoreError::Corrupt { what: "run", problem })
        }
        (RunDecision::Start(new), known) => {
            start(transaction, &key, *new, known.as_ref()).await?;
            let run = run_of(transaction, &key).await?;
            let gone = || StoreError::Corrupt { what: "run", problem: "it was not written".to_owned() };
            Ok(PutOutcome::Started(run.ok_or_else(gone)?))
        }
    }
}

async fn start(
    transaction: &mut AnyConnection,
    key: &str,
    new: NewRun,
    known: Option<&RunRecord>,
) -> Result<(), StoreError> {
    let (execution, parts, only, own) = match &new.execution {
        NewExecution::Own(id) => {
            let id = known.map_or(id, |known| &known.execution.id).clone();
            let generation = next_generation(transaction, new.now_ms).await?;
            (Execution { id, generation }, 0, None, true)
        }
        NewExecution::Adopted { execution, parts, only } => (execution.clone(), *parts, *only, false),
    };
    remember(transaction, &execution).await?;
    let seq = write_run(transaction, key, &new, &execution, parts, only).await?;
    if let Some(known) = known.filter(|known| known.execution != execution) {
        leave(transaction, &known.execution, known.kind.name()).await?;
    }
    write_request(transaction, seq, &new).await?;
    if own {
        outbox::insert(transaction, &execution, &OutboxItem::Start, new.now_ms).await?;
    } else {
        for number in 1..=parts {
            insert_part(transaction, &execution, number, &PartState::default()).await?;
        }
        // What was heard of the adopted work before it had this run counts.
        let heard = summaries(transaction, &execution).await?;
        let adopted = runs_of(transaction, &execution).await?.into_iter().find(|run| run.seq == seq);
        if let Some(run) = adopted {
            refresh(transaction, run, &heard, new.now_ms).await?;
        }
    }
    Ok(())
}

/// Writes the row; its number.
async fn write_run(
    transaction: &mut AnyConnection,
    key: &str,
    new: &NewRun,
    execution: &Execution,
    parts: u32,
    only: Option<u32>,
) -> Result<i64, StoreError> {
    let state = match new.execution {
        NewExecution::Own(_) => RunState::Waiting { on: "it was accepted, and is about to start".to_owned() },
        NewExecution::Adopted { .. } => RunState::Running,
    };
    let query = sqlx::query(
        "INSERT INTO runs (key, registry, id, kind, execution, generation, operation, blob, view, parts, state, \
         ended, summary, created_by, created_ms, started_ms, finished_ms, heard_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, $12, $13, $14, $14, NULL, $14) \
         ON CONFLICT (key) DO UPDATE SET kind = excluded.kind, execution = excluded.execution, \
         generation = excluded.generation, operation = excluded.operation, blob = excluded.blob, view = excluded.view, \
         parts = excluded.parts, state = excluded.state, ended = 0, copying = 0, summary = excluded.summary, \
         started_ms = excluded.started_ms, finished_ms = NULL, heard_ms = excluded.heard_ms RETURNING seq",
    );
    let query = query.bind(key.to_owned()).bind(new.id.parent().key()).bind(new.id.to_string());
    let query = query.bind(new.kind.name()).bind(execution.id.to_string()).bind(signed(execution.generation));
    let query = query
        .bind(new.operation.clone())
        .bind(new.blob.to_string())
        .bind(to_json("view", &new.pipeline.view(only))?);
    let query = query.bind(i64::from(parts)).bind(to_json("state", &state)?);
    let query = query.bind(to_json("summary", &RunSummary::default())?).bind(new.by.clone()).bind(new.now_ms);
    let row = query.fetch_one(transaction).await.map_err(failed("put a run"))?;
    row.try_get(0).map_err(failed("put a run"))
}

async fn write_request(transaction: &mut AnyConnection, seq: i64, new: &NewRun) -> Result<(), StoreError> {
    let stored = StoredRequest {
        location: new.location.clone(),
        request: new.request.clone(),
        force_update_tag: new.force_update_tag.clone(),
        origin: new.origin.clone(),
        pipeline: new.pipeline.clone(),
        blob: new.blob.clone(),
        traceparent: new.traceparent.clone(),
    };
    let query = sqlx::query(
        "INSERT INTO run_requests (run, request) VALUES ($1, $2) \
         ON CONFLICT (run) DO UPDATE SET request = excluded.request",
    );
    let query = query.bind(seq).bind(to_json("request", &stored)?);
    query.execute(transaction).await.map_err(failed("put a run's request")).map(drop)
}

/// An execution was here, with this generation.
async fn remember(transaction: &mut AnyConnection, execution: &Execution) -> Result<(), StoreError> {
    let query = sqlx::query(
        "INSERT INTO executions (id, generation) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET \
         generation = excluded.generation WHERE executions.generation < excluded.generation",
    );
    let query = query.bind(execution.id.to_string()).bind(signed(execution.generation));
    query.execute(transaction).await.map_err(failed("remember an execution")).map(drop)
}

async fn next_generation(transaction: &mut AnyConnection, now_ms: i64) -> Result<u64, StoreError> {
    let query = sqlx::query(
        "INSERT INTO meta (name, value) VALUES ('generation', $1) ON CONFLICT (name) DO UPDATE SET \
         value = CASE WHEN excluded.value > meta.value THEN excluded.value ELSE meta.value + 1 END \
         RETURNING value",
    );
    let query = query.bind(now_ms.max(1));
    let row = query.fetch_one(transaction).await.map_err(failed("give a generation"))?;
    let generation: i64 = get(&row, "value")?;
    Ok(generation.unsigned_abs())
}
