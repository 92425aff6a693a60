//! Leadership where several replicas share the database.

use super::error::StoreError;
use super::store::Store;

impl Store {
    /// Takes or renews a lease for `seconds`: true where `holder` has it now. The only process of a database that is
    /// not shared has every lease.
    ///
    /// # Errors
    /// Where it was not written; the lease may be lost.
    pub async fn lease(
        &self,
        name: &str,
        holder: &str,
        now_ms: i64,
        seconds: u32,
    ) -> Result<bool, StoreError> {
        if !self.is_shared() {
            return Ok(true);
        }
        let (name, holder) = (name.to_owned(), holder.to_owned());
        let until_ms = now_ms + i64::from(seconds) * 1000;
        self.write(move |transaction| {
            Box::pin(async move {
                let query = sqlx::query(
                    "INSERT INTO leases (name, holder, until_ms) VALUES ($1, $2, $3) \
                     ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until_ms = excluded.until_ms \
                     WHERE leases.holder = excluded.holder OR leases.until_ms <= $4",
                );
                let query = query.bind(name).bind(holder).bind(until_ms).bind(now_ms);
                let done = query.execute(transaction).await.map_err(StoreError::during("take a lease"))?;
                Ok(done.rows_affected() > 0)
            })
        })
        .await
    }
}
