//! What lists show, without what they do not show: bodies, requests, stages.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use sqlx::any::AnyRow;
use transship_api::ResourceId;

use super::error::StoreError;
use super::outbox::queue;
use super::records::DeadLetterLine;
use super::store::Store;
use super::values::{from_json, get, unsigned};
use crate::fold::{PartState, imported_artifacts};

/// The most runs that are named for a letter.
const RUNS: usize = 100;

fn line(row: &AnyRow) -> Result<DeadLetterLine, StoreError> {
    Ok(DeadLetterLine {
        id: get(row, "id")?,
        queue: queue(row)?,
        message_id: get(row, "message_id")?,
        kind: get(row, "kind")?,
        execution: get(row, "execution")?,
        runs: Vec::new(),
        reason: get(row, "reason")?,
        body_bytes: unsigned(row, "body_bytes")?,
        at_ms: get(row, "at_ms")?,
        requeued_ms: get(row, "requeued_ms")?,
    })
}

impl Store {
    /// The names at the target of what imports brought, by the place of the run: of the runs below a registry behind
    /// `after`, up to the place `until`. See `fold::imported_artifacts`.
    ///
    /// # Errors
    /// Where they could not be read.
    pub async fn imported_artifacts(
        &self,
        registry: &ResourceId,
        after: i64,
        until: i64,
    ) -> Result<BTreeMap<i64, Vec<String>>, StoreError> {
        let query = sqlx::query(
            "SELECT seq, view, number, artifacts FROM runs JOIN part_artifacts USING (execution, generation) \
             WHERE registry = $1 AND seq > $2 AND seq <= $3 AND kind = 'import' ORDER BY seq, number",
        );
        let query = query.bind(registry.parent().key()).bind(after).bind(until);
        let (mut found, mut rows) = (BTreeMap::<i64, Vec<String>>::new(), query.fetch(self.readers()));
        let failed = StoreError::during("list what was imported");
        // One part at a time: they are large.
        while let Some(row) = rows.try_next().await.map_err(&failed)? {
            let state = PartState { stages: Vec::new(), artifacts: from_json(&row, "artifacts")? };
            let names = imported_artifacts(&from_json(&row, "view")?, &[(unsigned(&row, "number")?, state)]);
            found.entry(get(&row, "seq")?).or_default().extend(names);
        }
        Ok(found)
    }

    /// Letters with the runs of their executions, oldest first, those after `after`.
    ///
    /// # Errors
    /// Where they could not be read.
    pub async fn dead_letter_lines(&self, after: i64, limit: u32) -> Result<Vec<DeadLetterLine>, StoreError> {
        let failed = StoreError::during("list dead letters");
        let query = sqlx::query(
            "SELECT id, queue, message_id, kind, execution, reason, CAST(LENGTH(body) AS BIGINT) AS body_bytes, \
             at_ms, requeued_ms FROM dead_letters WHERE id > $1 ORDER BY id LIMIT $2",
        );
        let query = query.bind(after).bind(i64::from(limit));
        let rows = query.fetch_all(self.readers()).await.map_err(&failed)?;
        let mut lines = rows.iter().map(line).collect::<Result<Vec<_>, _>>()?;
        let Some(last) = lines.last().map(|line| line.id) else { return Ok(lines) };
        let query = sqlx::query(
            "SELECT execution, id FROM runs WHERE execution IN \
             (SELECT execution FROM dead_letters WHERE id > $1 AND id <= $2) ORDER BY seq",
        );
        let query = query.bind(after).bind(last);
        let rows = query.fetch_all(self.readers()).await.map_err(&failed)?;
        let mut runs: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in &rows {
            let of_execution = runs.entry(get(row, "execution")?).or_default();
            if of_execution.len() < RUNS {
                of_execution.push(get(row, "id")?);
            }
        }
        for line in &mut lines {
            let known = line.execution.as_ref().and_then(|execution| runs.get(execution));
            line.runs = known.cloned().unwrap_or_default();
        }
        Ok(lines)
    }
}
