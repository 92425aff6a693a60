//! What nobody asks for any more goes, a few rows at a time.

use std::time::Duration;

use sqlx::AnyConnection;

use super::error::StoreError;
use super::runs::delete;
use super::store::Store;
use super::values::get;

/// How long an execution is known that no run looks at any more: facts of it are long gone by then.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long a lease is kept that nobody took again: what it was for is gone.
const LEASES: Duration = Duration::from_secs(24 * 3600);

fn ago(now_ms: i64, time: Duration) -> i64 {
    now_ms.saturating_sub(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

impl Store {
    /// Deletes runs that ended before `before_ms` as [`Store::delete_run`] does, the oldest first and at most `most`;
    /// how many.
    ///
    /// # Errors
    /// Where nothing was deleted.
    pub async fn sweep_runs(&self, before_ms: i64, most: u32) -> Result<usize, StoreError> {
        self.write(move |transaction| {
            Box::pin(async move {
                let query = sqlx::query(
                    "SELECT key FROM runs WHERE ended = 1 AND finished_ms < $1 ORDER BY finished_ms LIMIT $2",
                );
                let query = query.bind(before_ms).bind(i64::from(most));
                let failed = StoreError::during("look for runs that ended long ago");
                let rows = query.fetch_all(&mut *transaction).await.map_err(failed)?;
                for row in &rows {
                    delete(transaction, get(row, "key")?).await?;
                }
                Ok(rows.len())
            })
        })
        .await
    }

    /// Forgets executions that no run looks at any more, and leases that nobody holds, both once they are old.
    ///
    /// # Errors
    /// Where nothing was forgotten.
    pub async fn sweep_traces(&self, now_ms: i64) -> Result<(), StoreError> {
        self.write(move |transaction| {
            Box::pin(async move {
                forget_executions(transaction, now_ms).await?;
                let query = sqlx::query("DELETE FROM leases WHERE until_ms < $1").bind(ago(now_ms, LEASES));
                query.execute(transaction).await.map_err(StoreError::during("forget leases")).map(drop)
            })
        })
        .await
    }
}

/// Generations are times, in milliseconds since the Unix epoch.
pub(super) async fn forget_executions(
    transaction: &mut AnyConnection,
    now_ms: i64,
) -> Result<(), StoreError> {
    let query = sqlx::query(
        "DELETE FROM executions WHERE generation < $1 AND id NOT IN (SELECT execution FROM runs)",
    );
    let query = query.bind(ago(now_ms, REMEMBERED));
    query.execute(transaction).await.map_err(StoreError::during("forget executions")).map(drop)
}
