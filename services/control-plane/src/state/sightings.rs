//! Where an artifact was seen.

use std::collections::BTreeSet;

use transship_model::ArtifactReference;

use super::error::StoreError;
use super::records::RunRecord;
use super::runs::{self, select_runs};
use super::store::Store;

fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    StoreError::during(operation)
}

/// How many runs are looked through: each look reads what was asked for and what was told, by the letter.
const LOOKED_THROUGH: i64 = 10_000;

impl Store {
    /// The newest runs that name an artifact in their request, or whose parts say something of it: the newest first, of
    /// the newest 10,000 runs.
    ///
    /// # Errors
    /// Where they could not be read.
    pub async fn runs_that_carried(
        &self,
        artifact: &ArtifactReference,
        limit: u32,
    ) -> Result<Vec<RunRecord>, StoreError> {
        // A reference holds nothing that JSON escapes; of what LIKE does not take by the letter it may hold `_`.
        let pattern = format!("%\"{}\"%", artifact.to_string().replace('_', "\\_"));
        let requested = sqlx::query(select_runs!(
            "WHERE seq > (SELECT COALESCE(MAX(seq), 0) - $3 FROM runs) AND request LIKE $1 ESCAPE '\\' \
             ORDER BY seq DESC LIMIT $2"
        ));
        let requested = requested.bind(&pattern).bind(i64::from(limit)).bind(LOOKED_THROUGH);
        let requested = requested.fetch_all(self.readers()).await.map_err(failed("look for an artifact"))?;
        let told = sqlx::query(select_runs!(
            "WHERE seq > (SELECT COALESCE(MAX(seq), 0) - $3 FROM runs) AND EXISTS (SELECT 1 FROM part_artifacts \
             WHERE part_artifacts.execution = runs.execution AND part_artifacts.generation = runs.generation \
             AND artifacts LIKE $1 ESCAPE '\\') ORDER BY seq DESC LIMIT $2"
        ));
        let told = told.bind(&pattern).bind(i64::from(limit)).bind(LOOKED_THROUGH);
        let told = told.fetch_all(self.readers()).await.map_err(failed("look for an artifact"))?;
        let mut found = runs::records(&requested)?;
        let known: BTreeSet<i64> = found.iter().map(|run| run.seq).collect();
        found.extend(runs::records(&told)?.into_iter().filter(|run| !known.contains(&run.seq)));
        found.sort_by_key(|run| std::cmp::Reverse(run.seq));
        found.truncate(limit as usize);
        Ok(found)
    }
}
