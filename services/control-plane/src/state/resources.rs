//! Pipelines and routes.

use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use transship_api::{Kind, ResourceId};

use super::error::StoreError;
use super::records::ResourceRecord;
use super::store::Store;
use super::values::{corrupt, get, parsed};

fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    StoreError::during(operation)
}

fn record(row: &AnyRow) -> Result<ResourceRecord, StoreError> {
    let kind: String = get(row, "kind")?;
    Ok(ResourceRecord {
        seq: get(row, "seq")?,
        id: parsed(row, "id")?,
        kind: Kind::of_segment(&kind).ok_or_else(|| corrupt("kind", kind))?,
        body: get(row, "body")?,
        created_by: get(row, "created_by")?,
        created_ms: get(row, "created_ms")?,
        modified_by: get(row, "modified_by")?,
        modified_ms: get(row, "modified_ms")?,
    })
}

impl Store {
    /// Makes or replaces a resource. A replacement keeps its place and who made it.
    ///
    /// # Errors
    /// Where it was not written.
    pub async fn put_resource(
        &self,
        id: &ResourceId,
        kind: Kind,
        body: String,
        by: &str,
        now_ms: i64,
    ) -> Result<ResourceRecord, StoreError> {
        let (id, by) = (id.clone(), by.to_owned());
        self.write(move |transaction| Box::pin(put(transaction, id, kind, body, by, now_ms))).await
    }

    /// A resource.
    ///
    /// # Errors
    /// Where it could not be read.
    pub async fn resource(&self, id: &ResourceId) -> Result<Option<ResourceRecord>, StoreError> {
        let query = sqlx::query("SELECT * FROM resources WHERE key = $1").bind(id.key());
        let row = query.fetch_optional(self.readers()).await.map_err(failed("read a resource"))?;
        row.as_ref().map(record).transpose()
    }

    /// Resources of one kind below a registry, oldest first, those after `after`.
    ///
    /// # Errors
    /// Where they could not be read.
    pub async fn resources(
        &self,
        registry: &ResourceId,
        kind: Kind,
        after: i64,
        limit: u32,
    ) -> Result<Vec<ResourceRecord>, StoreError> {
        let query = sqlx::query(
            "SELECT * FROM resources WHERE registry = $1 AND kind = $2 AND seq > $3 ORDER BY seq LIMIT $4",
        );
        let query =
            query.bind(registry.parent().key()).bind(kind.segment()).bind(after).bind(i64::from(limit));
        let rows = query.fetch_all(self.readers()).await.map_err(failed("list resources"))?;
        rows.iter().map(record).collect()
    }

    /// Resources of one kind of all registries, oldest first, those after `after`.
    ///
    /// # Errors
    /// Where they could not be read.
    pub(super) async fn all_resources(
        &self,
        kind: Kind,
        after: i64,
        limit: u32,
    ) -> Result<Vec<ResourceRecord>, StoreError> {
        let query = sqlx::query("SELECT * FROM resources WHERE kind = $1 AND seq > $2 ORDER BY seq LIMIT $3");
        let query = query.bind(kind.segment()).bind(after).bind(i64::from(limit));
        let rows = query.fetch_all(self.readers()).await.map_err(failed("list resources"))?;
        rows.iter().map(record).collect()
    }

    /// Deletes a resource, with what triggers and schedules remember of it; false where there is none.
    ///
    /// # Errors
    /// Where nothing was written.
    pub async fn delete_resource(&self, id: &ResourceId) -> Result<bool, StoreError> {
        let key = id.key();
        self.write(move |transaction| Box::pin(delete(transaction, key))).await
    }
}

async fn delete(transaction: &mut AnyConnection, key: String) -> Result<bool, StoreError> {
    let failed = failed("delete a resource");
    let query = sqlx::query("DELETE FROM resources WHERE key = $1").bind(key.clone());
    if query.execute(&mut *transaction).await.map_err(&failed)?.rows_affected() == 0 {
        return Ok(false);
    }
    for statement in [
        "DELETE FROM seen_blobs WHERE pipeline = $1",
        "DELETE FROM import_claims WHERE pipeline = $1",
        "DELETE FROM tag_states WHERE pipeline = $1",
    ] {
        let query = sqlx::query(statement).bind(key.clone());
        query.execute(&mut *transaction).await.map_err(&failed)?;
    }
    Ok(true)
}

async fn put(
    transaction: &mut AnyConnection,
    id: ResourceId,
    kind: Kind,
    body: String,
    by: String,
    now_ms: i64,
) -> Result<ResourceRecord, StoreError> {
    let query = sqlx::query(
        "INSERT INTO resources (key, registry, kind, id, body, created_by, created_ms, modified_by, modified_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $6, $7) \
         ON CONFLICT (key) DO UPDATE SET body = excluded.body, modified_by = excluded.modified_by, \
         modified_ms = excluded.modified_ms RETURNING *",
    );
    let query = query.bind(id.key()).bind(id.parent().key()).bind(kind.segment()).bind(id.to_string());
    let query = query.bind(body).bind(by).bind(now_ms);
    let row = query.fetch_one(transaction).await.map_err(failed("put a resource"))?;
    record(&row)
}
