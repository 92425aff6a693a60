//! What schedules did about tags.

use std::collections::BTreeMap;

use super::error::StoreError;
use super::records::TagState;
use super::store::Store;
use super::values::get;

fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    StoreError::during(operation)
}

impl Store {
    /// The tags of a repository that a pipeline carried, by their names.
    ///
    /// # Errors
    /// Where they could not be read.
    pub async fn tag_state(
        &self,
        pipeline: &str,
        repository: &str,
    ) -> Result<BTreeMap<String, TagState>, StoreError> {
        let query = sqlx::query(
            "SELECT tag, digest, run FROM tag_states WHERE pipeline = $1 AND repository = $2 ORDER BY tag",
        );
        let query = query.bind(pipeline).bind(repository);
        let rows = query.fetch_all(self.readers()).await.map_err(failed("read the state of tags"))?;
        let state = |row| {
            let state = TagState { digest: get(row, "digest")?, run: get(row, "run")? };
            Ok((get(row, "tag")?, state))
        };
        rows.iter().map(state).collect()
    }

    /// Remembers what was done about tags. Tags that are not named stay as they are.
    ///
    /// # Errors
    /// Where nothing was written.
    pub async fn put_tag_states(
        &self,
        pipeline: &str,
        repository: &str,
        tags: Vec<(String, TagState)>,
    ) -> Result<(), StoreError> {
        let (pipeline, repository) = (pipeline.to_owned(), repository.to_owned());
        self.write(move |transaction| {
            Box::pin(async move {
                for (tag, TagState { digest, run }) in tags {
                    let query = sqlx::query(
                        "INSERT INTO tag_states (pipeline, repository, tag, digest, run) \
                         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (pipeline, repository, tag) \
                         DO UPDATE SET digest = excluded.digest, run = excluded.run",
                    );
                    let query = query.bind(pipeline.clone()).bind(repository.clone());
                    let query = query.bind(tag).bind(digest).bind(run);
                    query.execute(&mut *transaction).await.map_err(failed("remember tags"))?;
                }
                Ok(())
            })
        })
        .await
    }
}
