//! How runs stand, without what they were asked for: a request may have thousands of artifacts.

use transship_api::ResourceId;
use transship_model::Execution;

use super::error::StoreError;
use super::records::RunState;
use super::runs::execution;
use super::store::Store;
use super::values::{from_json, get};
use crate::fold::RunSummary;

/// How a run stands.
#[derive(Debug, Clone, PartialEq)]
pub struct RunStands {
    /// Its current execution.
    pub execution: Execution,
    /// Where it is.
    pub state: RunState,
    /// Whether copies of its bundles are under way.
    pub is_copying: bool,
    /// When it ended, in milliseconds since the Unix epoch.
    pub finished_ms: Option<i64>,
    /// When something was last heard of it.
    pub heard_ms: i64,
}

impl Store {
    /// How a run stands; `None` where there is none.
    ///
    /// # Errors
    /// Where it could not be read.
    pub async fn run_stands(&self, id: &ResourceId) -> Result<Option<RunStands>, StoreError> {
        let query = sqlx::query(
            "SELECT execution, generation, state, summary, finished_ms, heard_ms FROM runs WHERE key = $1",
        );
        let row = query.bind(id.key()).fetch_optional(self.readers()).await;
        let row = row.map_err(StoreError::during("read how a run stands"))?;
        let stands = |row| {
            Ok(RunStands {
                execution: execution(row)?,
                state: from_json(row, "state")?,
                is_copying: from_json::<RunSummary>(row, "summary")?.is_copying,
                finished_ms: get(row, "finished_ms")?,
                heard_ms: get(row, "heard_ms")?,
            })
        };
        row.as_ref().map(stands).transpose()
    }
}
