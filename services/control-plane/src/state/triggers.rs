//! What the triggers of pipelines saw, and whose import a bundle is.

use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use transship_api::ResourceId;
use transship_model::BlobName;

use super::error::StoreError;
use super::records::{Claim, SeenBlob};
use super::store::Store;
use super::values::{from_json, get, parsed, signed, to_json, unsigned};

fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    StoreError::during(operation)
}

fn record(row: &AnyRow) -> Result<SeenBlob, StoreError> {
    Ok(SeenBlob {
        pipeline: get(row, "pipeline")?,
        blob: parsed(row, "blob")?,
        etag: get(row, "etag")?,
        length: unsigned(row, "length")?,
        verdict: from_json(row, "verdict")?,
        first_ms: get(row, "first_ms")?,
        changed_ms: get(row, "changed_ms")?,
    })
}

impl Store {
    /// What a pipeline's trigger did about this version of a blob.
    ///
    /// # Errors
    /// Where it could not be read.
    pub async fn seen_blob(
        &self,
        pipeline: &str,
        blob: &BlobName,
        etag: &str,
    ) -> Result<Option<SeenBlob>, StoreError> {
        let query = sqlx::query("SELECT * FROM seen_blobs WHERE pipeline = $1 AND blob = $2 AND etag = $3");
        let query = query.bind(pipeline).bind(blob.as_str()).bind(etag);
        let row = query.fetch_optional(self.readers()).await.map_err(failed("read a seen blob"))?;
        row.as_ref().map(record).transpose()
    }

    /// Remembers a blob. An earlier version of it is forgotten.
    ///
    /// # Errors
    /// Where it was not written.
    pub async fn put_seen_blob(&self, seen: SeenBlob) -> Result<(), StoreError> {
        self.write(move |transaction| {
            Box::pin(async move {
                let query = sqlx::query(
                    "INSERT INTO seen_blobs (pipeline, blob, etag, length, verdict, first_ms, changed_ms) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (pipeline, blob) DO UPDATE SET \
                     etag = excluded.etag, length = excluded.length, verdict = excluded.verdict, \
                     first_ms = excluded.first_ms, changed_ms = excluded.changed_ms",
                );
                let query = query.bind(seen.pipeline).bind(seen.blob.as_str().to_owned()).bind(seen.etag);
                let query = query.bind(signed(seen.length)).bind(to_json("verdict", &seen.verdict)?);
                let query = query.bind(seen.first_ms).bind(seen.changed_ms);
                query.execute(transaction).await.map_err(failed("remember a blob")).map(drop)
            })
        })
        .await
    }

    /// The blobs that a pipeline's trigger saw, by name, those after `after`.
    ///
    /// # Errors
    /// Where they could not be read.
    pub async fn seen_blobs(
        &self,
        pipeline: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<SeenBlob>, StoreError> {
        let query =
            sqlx::query("SELECT * FROM seen_blobs WHERE pipeline = $1 AND blob > $2 ORDER BY blob LIMIT $3");
        let query = query.bind(pipeline).bind(after.unwrap_or_default()).bind(i64::from(limit));
        let rows = query.fetch_all(self.readers()).await.map_err(failed("list seen blobs"))?;
        rows.iter().map(record).collect()
    }

    /// Forgets blobs that are gone from the container.
    ///
    /// # Errors
    /// Where nothing was written.
    pub async fn forget_seen_blobs(&self, pipeline: &str, blobs: Vec<BlobName>) -> Result<(), StoreError> {
        let pipeline = pipeline.to_owned();
        self.write(move |transaction| {
            Box::pin(async move {
                for blob in blobs {
                    let query = sqlx::query("DELETE FROM seen_blobs WHERE pipeline = $1 AND blob = $2");
                    let query = query.bind(pipeline.clone()).bind(blob.as_str().to_owned());
                    query.execute(&mut *transaction).await.map_err(failed("forget a blob"))?;
                }
                Ok(())
            })
        })
        .await
    }

    /// The version of a blob whose import by a pipeline `run` claimed.
    ///
    /// # Errors
    /// Where it could not be read.
    pub async fn claimed_etag(
        &self,
        pipeline: &str,
        blob_url: &str,
        run: &ResourceId,
    ) -> Result<Option<String>, StoreError> {
        let query = sqlx::query(
            "SELECT etag FROM import_claims WHERE pipeline = $1 AND blob_url = $2 AND run = $3 ORDER BY etag LIMIT 1",
        );
        let query = query.bind(pipeline).bind(blob_url).bind(run.to_string());
        let row =
            query.fetch_optional(self.readers()).await.map_err(failed("read the claim of an import"))?;
        row.as_ref().map(|row| get(row, "etag")).transpose()
    }

    /// Claims the import of one version of a blob by a pipeline. There is one: whoever asks first has it, and the
    /// same run has it whenever it asks again.
    ///
    /// # Errors
    /// Where it was not written.
    pub async fn claim_import(
        &self,
        pipeline: &str,
        blob_url: &str,
        etag: &str,
        run: &ResourceId,
    ) -> Result<Claim, StoreError> {
        let (pipeline, blob_url, etag) = (pipeline.to_owned(), blob_url.to_owned(), etag.to_owned());
        let run = run.to_string();
        self.write(move |transaction| Box::pin(claim(transaction, pipeline, blob_url, etag, run))).await
    }
}

async fn claim(
    transaction: &mut AnyConnection,
    pipeline: String,
    blob_url: String,
    etag: String,
    run: String,
) -> Result<Claim, StoreError> {
    // An update that changes nothing, so that the row is returned either way.
    let query = sqlx::query(
        "INSERT INTO import_claims (pipeline, blob_url, etag, run) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (pipeline, blob_url, etag) DO UPDATE SET run = import_claims.run RETURNING run",
    );
    let query = query.bind(pipeline).bind(blob_url).bind(etag).bind(run.clone());
    let row = query.fetch_one(transaction).await.map_err(failed("claim an import"))?;
    let owner: String = get(&row, "run")?;
    Ok(if owner.eq_ignore_ascii_case(&run) { Claim::Mine } else { Claim::Taken { run: owner } })
}
