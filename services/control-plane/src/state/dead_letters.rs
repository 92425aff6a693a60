//! Messages that were given up: kept to be looked at, and put back into their queue.

use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use transship_model::{Digest, Execution, Stage};

use super::error::StoreError;
use super::outbox::{self, queue};
use super::parts::{refresh, reopen, runs_of, summaries};
use super::records::{DeadLetter, NewDeadLetter, OutboxItem, RunState};
use super::store::Store;
use super::values::{from_json, get, to_json};
use super::work::Work;

/// The most letters that are kept; the oldest go first.
const KEPT: i64 = 10_000;

fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    StoreError::during(operation)
}

fn record(row: &AnyRow) -> Result<DeadLetter, StoreError> {
    Ok(DeadLetter {
        id: get(row, "id")?,
        queue: queue(row)?,
        message_id: get(row, "message_id")?,
        kind: get(row, "kind")?,
        execution: get(row, "execution")?,
        headers: from_json(row, "headers")?,
        body: get(row, "body")?,
        reason: get(row, "reason")?,
        at_ms: get(row, "at_ms")?,
        requeued_ms: get(row, "requeued_ms")?,
    })
}

/// What makes two letters the same.
fn fingerprint(letter: &NewDeadLetter) -> String {
    let NewDeadLetter { queue, message_id, reason, body, .. } = letter;
    let body = Digest::sha256(body);
    Digest::sha256(format!("{}\n{message_id}\n{reason}\n{body}", queue.name()).as_bytes()).hex().to_owned()
}

impl Store {
    /// Stores a letter; its number. The same letter is stored once, unless it was put back since.
    ///
    /// # Errors
    /// Where it was not written.
    pub async fn add_dead_letter(&self, letter: NewDeadLetter) -> Result<i64, StoreError> {
        self.write(move |transaction| Box::pin(add(transaction, letter))).await
    }

    /// A letter.
    ///
    /// # Errors
    /// Where it could not be read.
    pub async fn dead_letter(&self, id: i64) -> Result<Option<DeadLetter>, StoreError> {
        let query = sqlx::query("SELECT * FROM dead_letters WHERE id = $1").bind(id);
        let row = query.fetch_optional(self.readers()).await.map_err(failed("read a dead letter"))?;
        row.as_ref().map(record).transpose()
    }

    /// Puts a letter back into its queue: what is to be published is written with it, and a run that failed by it
    /// runs again. False where there is no such letter, or it was put back already.
    ///
    /// # Errors
    /// Where nothing was written.
    pub async fn dead_letter_requeued(&self, id: i64, now_ms: i64) -> Result<bool, StoreError> {
        self.write(move |transaction| Box::pin(requeue(transaction, id, now_ms))).await
    }
}

async fn add(transaction: &mut AnyConnection, letter: NewDeadLetter) -> Result<i64, StoreError> {
    let query = sqlx::query(
        "INSERT INTO dead_letters \
         (fingerprint, queue, message_id, kind, execution, headers, body, reason, at_ms, requeued_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, NULL) \
         ON CONFLICT (fingerprint) DO UPDATE SET requeued_ms = NULL, \
         at_ms = CASE WHEN dead_letters.requeued_ms IS NULL THEN dead_letters.at_ms ELSE excluded.at_ms END \
         RETURNING id",
    );
    let query = query.bind(fingerprint(&letter)).bind(letter.queue.name()).bind(letter.message_id);
    let query = query.bind(letter.kind).bind(letter.execution).bind(to_json("headers", &letter.headers)?);
    let query = query.bind(letter.body).bind(letter.reason).bind(letter.at_ms);
    let row = query.fetch_one(&mut *transaction).await.map_err(failed("store a dead letter"))?;
    let bound = sqlx::query(
        "DELETE FROM dead_letters WHERE id <= (SELECT id FROM dead_letters ORDER BY id DESC LIMIT 1 OFFSET $1)",
    );
    bound.bind(KEPT).execute(transaction).await.map_err(failed("bound the dead letters"))?;
    get(&row, "id")
}

async fn requeue(transaction: &mut AnyConnection, id: i64, now_ms: i64) -> Result<bool, StoreError> {
    let query = sqlx::query(
        "UPDATE dead_letters SET requeued_ms = $2 WHERE id = $1 AND requeued_ms IS NULL RETURNING *",
    );
    let query = query.bind(id).bind(now_ms);
    let row = query.fetch_optional(&mut *transaction).await.map_err(failed("put back a dead letter"))?;
    let Some(letter) = row.as_ref().map(record).transpose()? else { return Ok(false) };
    let DeadLetter { queue, message_id, kind, headers, body, .. } = letter;
    let about = reopen(transaction, queue, &body).await?;
    let execution = about.as_ref().map_or_else(nobody, |about| about.execution.clone());
    let item = OutboxItem::Publish { queue, message_id, kind, headers, body };
    outbox::insert(transaction, &execution, &item, now_ms).await?;
    if let Some(about) = about {
        run_again(transaction, &about, now_ms).await?;
    }
    Ok(true)
}

/// The execution of a message that cannot be understood.
fn nobody() -> Execution {
    const NAME: &str = "unknown";
    Execution { id: NAME.parse().expect("the name is made of lower-case letters"), generation: 0 }
}

/// A run that failed runs again, where the stage that the letter is for is the one that it ends with.
async fn run_again(transaction: &mut AnyConnection, about: &Work, now_ms: i64) -> Result<(), StoreError> {
    let known = summaries(transaction, &about.execution).await?;
    for mut run in runs_of(transaction, &about.execution).await? {
        let concerned = run.view.stage() == about.stage
            && run.view.covers(about.part.number)
            && (about.stage == Stage::Exporter || run.view.target == about.target);
        if concerned && matches!(run.state, RunState::Failed { .. }) {
            (run.state, run.finished_ms) = (RunState::Running, None);
        }
        refresh(transaction, run, &known, now_ms).await?;
    }
    Ok(())
}
