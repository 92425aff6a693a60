//! Runs that wait: what they say, and what may bring what they wait for.

use transship_model::{BlobName, Execution};

use super::error::StoreError;
use super::records::{RunKind, RunRecord, RunState};
use super::runs::{records, select_runs};
use super::store::Store;
use super::values::{signed, to_json};

fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    StoreError::during(operation)
}

impl Store {
    /// Runs of an execution that were begun and are not over say that they wait, and for what, or that they run.
    ///
    /// # Errors
    /// Where it was not written.
    pub async fn run_says(
        &self,
        execution: &Execution,
        view: RunKind,
        state: RunState,
    ) -> Result<(), StoreError> {
        let (execution, state) = (execution.clone(), to_json("state", &state)?);
        self.write(move |transaction| {
            Box::pin(async move {
                let query = sqlx::query(
                    "UPDATE runs SET state = $4 \
                     WHERE execution = $1 AND generation = $2 AND kind = $3 AND ended = 0 AND parts > 0",
                );
                let query = query.bind(execution.id.to_string()).bind(signed(execution.generation));
                let query = query.bind(view.name()).bind(state);
                query.execute(transaction).await.map_err(failed("have a run say what it waits for")).map(drop)
            })
        })
        .await
    }

    /// The newest exports of a bundle: those that were asked for this blob, or for one whose part it may be.
    ///
    /// # Errors
    /// Where they could not be read.
    pub async fn exports_of(&self, blob: &BlobName, limit: u32) -> Result<Vec<RunRecord>, StoreError> {
        // `NAME-0002-of-0040` is asked for as `NAME`.
        let whole = blob.as_str().rsplit_once("-of-").and_then(|(start, _)| start.rsplit_once('-'));
        let whole = whole.map_or(blob.as_str(), |(whole, _)| whole);
        let query = sqlx::query(select_runs!(
            "WHERE kind = 'export' AND blob IN ($1, $2) ORDER BY seq DESC LIMIT $3"
        ));
        let query = query.bind(blob.as_str()).bind(whole).bind(i64::from(limit));
        records(&query.fetch_all(self.readers()).await.map_err(failed("look for exports"))?)
    }
}
