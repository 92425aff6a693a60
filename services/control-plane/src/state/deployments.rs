//! Deployments of templates, as they ended.

use super::error::StoreError;
use super::store::Store;
use super::values::get;

fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    StoreError::during(operation)
}

impl Store {
    /// Keeps a deployment, by its identifier in lower case. True where there was none of this name.
    ///
    /// # Errors
    /// Where it was not written.
    pub async fn put_deployment(&self, key: &str, body: String) -> Result<bool, StoreError> {
        let key = key.to_owned();
        self.write(move |transaction| {
            Box::pin(async move {
                let known = sqlx::query("SELECT 1 FROM deployments WHERE key = $1").bind(key.clone());
                let known =
                    known.fetch_optional(&mut *transaction).await.map_err(failed("read a deployment"))?;
                let query = sqlx::query(
                    "INSERT INTO deployments (key, body) VALUES ($1, $2) \
                     ON CONFLICT (key) DO UPDATE SET body = excluded.body",
                );
                query.bind(key).bind(body).execute(transaction).await.map_err(failed("keep a deployment"))?;
                Ok(known.is_none())
            })
        })
        .await
    }

    /// A deployment.
    ///
    /// # Errors
    /// Where it could not be read.
    pub async fn deployment(&self, key: &str) -> Result<Option<String>, StoreError> {
        let query = sqlx::query("SELECT body FROM deployments WHERE key = $1").bind(key);
        let row = query.fetch_optional(self.readers()).await.map_err(failed("read a deployment"))?;
        row.as_ref().map(|row| get(row, "body")).transpose()
    }
}
