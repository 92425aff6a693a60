//! What is still to be done: written with what it follows from, gone when it is done.

use std::collections::BTreeMap;

use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use transship_model::Execution;

use super::error::StoreError;
use super::records::{OutboxItem, OutboxRow, Queue};
use super::runs::execution;
use super::store::Store;
use super::values::{corrupt, from_json, get, signed, to_json};

/// How long a row is left to the replica that took it, in milliseconds.
const LEASE_MS: i64 = 60_000;

fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    StoreError::during(operation)
}

fn record(row: &AnyRow) -> Result<OutboxRow, StoreError> {
    let item: String = get(row, "item")?;
    let item = match &*item {
        "start" => OutboxItem::Start,
        "publish" => OutboxItem::Publish {
            queue: queue(row)?,
            message_id: get(row, "message_id")?,
            kind: get(row, "kind")?,
            headers: from_json(row, "headers")?,
            body: get(row, "body")?,
        },
        _ => return Err(corrupt("item", item)),
    };
    let (id, due_ms, attempts) = (get(row, "id")?, get(row, "due_ms")?, get(row, "attempts")?);
    // A `Start` has no headers: it keeps there what it waits for.
    let obstacle = match &item {
        OutboxItem::Start => serde_json::from_str(&get::<String>(row, "headers")?).ok(),
        OutboxItem::Publish { .. } => None,
    };
    Ok(OutboxRow { id, execution: execution(row)?, item, due_ms, attempts, obstacle })
}

/// The queue that a row names.
pub(super) fn queue(row: &AnyRow) -> Result<Queue, StoreError> {
    let name: String = get(row, "queue")?;
    Queue::of_name(&name).ok_or_else(|| corrupt("queue", name))
}

/// Adds something that is to be done.
pub(super) async fn insert(
    transaction: &mut AnyConnection,
    execution: &Execution,
    item: &OutboxItem,
    due_ms: i64,
) -> Result<(), StoreError> {
    let query = sqlx::query(
        "INSERT INTO outbox (execution, generation, item, queue, message_id, kind, headers, body, due_ms, attempts) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0)",
    );
    let query = query.bind(execution.id.to_string()).bind(signed(execution.generation));
    let none = BTreeMap::new();
    let (word, queue, message_id, kind, headers, body) = match item {
        OutboxItem::Start => ("start", "", "", "", &none, &[][..]),
        OutboxItem::Publish { queue, message_id, kind, headers, body } => {
            ("publish", queue.name(), &**message_id, &**kind, headers, &**body)
        }
    };
    let query = query.bind(word).bind(queue).bind(message_id.to_owned()).bind(kind.to_owned());
    let query = query.bind(to_json("headers", headers)?).bind(body.to_vec()).bind(due_ms);
    query.execute(transaction).await.map_err(failed("write to the outbox")).map(drop)
}

impl Store {
    /// What is due: what is to be published first, since a `Start` may take its time; then the oldest first. Where
    /// replicas share the database, each row is left to the caller for a minute.
    ///
    /// # Errors
    /// Where it could not be read, or the lease not be written.
    pub async fn outbox_due(&self, now_ms: i64, limit: u32) -> Result<Vec<OutboxRow>, StoreError> {
        let limit = i64::from(limit);
        if self.is_shared() {
            return self.write(move |transaction| Box::pin(lease(transaction, now_ms, limit))).await;
        }
        let query = sqlx::query("SELECT * FROM outbox WHERE due_ms <= $1 ORDER BY item, due_ms, id LIMIT $2");
        let query = query.bind(now_ms).bind(limit);
        let rows = query.fetch_all(self.readers()).await.map_err(failed("read the outbox"))?;
        rows.iter().map(record).collect()
    }

    /// These are done.
    ///
    /// # Errors
    /// Where it was not written; doing them again is harmless.
    pub async fn outbox_done(&self, ids: &[i64]) -> Result<(), StoreError> {
        let ids = ids.to_vec();
        self.write(move |transaction| {
            Box::pin(async move {
                for id in ids {
                    let query = sqlx::query("DELETE FROM outbox WHERE id = $1").bind(id);
                    query.execute(&mut *transaction).await.map_err(failed("clear the outbox"))?;
                }
                Ok(())
            })
        })
        .await
    }

    /// This one could not be done, and is tried again at `due_ms`.
    ///
    /// # Errors
    /// Where it was not written.
    pub async fn outbox_retry(&self, id: i64, due_ms: i64) -> Result<(), StoreError> {
        self.write(move |transaction| {
            Box::pin(async move {
                let query =
                    sqlx::query("UPDATE outbox SET due_ms = $2, attempts = attempts + 1 WHERE id = $1");
                let query = query.bind(id).bind(due_ms);
                query.execute(transaction).await.map_err(failed("put off what is in the outbox")).map(drop)
            })
        })
        .await
    }
}

async fn lease(
    transaction: &mut AnyConnection,
    now_ms: i64,
    limit: i64,
) -> Result<Vec<OutboxRow>, StoreError> {
    let query = sqlx::query(
        "UPDATE outbox SET due_ms = $1 WHERE id IN \
         (SELECT id FROM outbox WHERE due_ms <= $2 ORDER BY item, due_ms, id LIMIT $3) RETURNING *",
    );
    let query = query.bind(now_ms + LEASE_MS).bind(now_ms).bind(limit);
    let rows = query.fetch_all(transaction).await.map_err(failed("lease what is in the outbox"))?;
    let mut leased: Vec<OutboxRow> = rows.iter().map(record).collect::<Result<_, _>>()?;
    leased.sort_by_key(|row| row.id);
    Ok(leased)
}
