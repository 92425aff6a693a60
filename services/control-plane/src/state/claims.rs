//! Imports that start by themselves: the run and the claim that keeps every other one from the bundle are written
//! together, so a claim never names a run that was not there.

use sqlx::AnyConnection;
use transship_api::ResourceId;

use super::error::StoreError;
use super::put::put;
use super::records::{PutOutcome, RunDecision, RunRecord};
use super::store::Store;
use super::values::get;

/// What an import is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportClaim {
    /// The pipeline's key (its resource id in lower case).
    pub pipeline: String,
    /// The container and the blob.
    pub blob_url: String,
    /// The blob's entity tag.
    pub etag: String,
    /// The run whose claim is taken over, where it has it.
    pub instead_of: Option<String>,
}

/// What became of a run that claims an import.
#[derive(Debug, Clone, PartialEq)]
pub enum ClaimedPut {
    /// It has the claim, unless it was refused.
    Put(Box<PutOutcome>),
    /// Another run has the import: its resource id.
    Taken {
        /// The run, which may be deleted since.
        run: String,
    },
}

fn failed(error: sqlx::Error) -> StoreError {
    StoreError::during("claim an import")(error)
}

impl Store {
    /// Puts a run as [`Store::put_run`] does, and claims its import for it: both or none. Where another run has the
    /// import, nothing is written.
    ///
    /// # Errors
    /// Where nothing was written.
    pub async fn put_claimed_run<F>(
        &self,
        id: &ResourceId,
        claim: ImportClaim,
        decide: F,
    ) -> Result<ClaimedPut, StoreError>
    where
        F: FnOnce(Option<&RunRecord>) -> RunDecision + Send + 'static,
    {
        let (key, run) = (id.key(), id.to_string());
        self.write(move |transaction| {
            Box::pin(async move {
                if let Some(owner) = owner(transaction, &claim).await?
                    && claim.instead_of.as_ref().is_none_or(|run| !run.eq_ignore_ascii_case(&owner))
                {
                    return Ok(ClaimedPut::Taken { run: owner });
                }
                let outcome = put(transaction, key, decide).await?;
                if !matches!(outcome, PutOutcome::Refused { .. }) {
                    take(transaction, claim, run).await?;
                }
                Ok(ClaimedPut::Put(Box::new(outcome)))
            })
        })
        .await
    }
}

async fn owner(transaction: &mut AnyConnection, claim: &ImportClaim) -> Result<Option<String>, StoreError> {
    let query =
        sqlx::query("SELECT run FROM import_claims WHERE pipeline = $1 AND blob_url = $2 AND etag = $3");
    let query = query.bind(&*claim.pipeline).bind(&*claim.blob_url).bind(&*claim.etag);
    let row = query.fetch_optional(transaction).await.map_err(failed)?;
    row.map(|row| get(&row, "run")).transpose()
}

async fn take(transaction: &mut AnyConnection, claim: ImportClaim, run: String) -> Result<(), StoreError> {
    let query = sqlx::query(
        "INSERT INTO import_claims (pipeline, blob_url, etag, run) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (pipeline, blob_url, etag) DO UPDATE SET run = excluded.run",
    );
    let query = query.bind(claim.pipeline).bind(claim.blob_url).bind(claim.etag).bind(run);
    query.execute(transaction).await.map_err(failed).map(drop)
}
