//! Lists, in pages, oldest first.

use serde_json::Value;
use transship_api::{Kind, ResourceId};

use super::{Api, unavailable};
use crate::refusal::Refusal;

/// A page of resources.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listed {
    /// The resources.
    pub(crate) values: Vec<Value>,
    /// The place of the last one, where there are more behind it.
    pub(crate) more_after: Option<i64>,
}

impl Api {
    /// The resources of one kind below a registry, behind the place `after`.
    ///
    /// A place is given once and never again, and a page ends at one, so following the pages misses none and repeats
    /// none, whatever is made or deleted meanwhile.
    pub(crate) async fn list(
        &self,
        registry: &ResourceId,
        kind: Kind,
        after: i64,
        top: u32,
    ) -> Result<Listed, Refusal> {
        // One more than is shown says whether there are more.
        let mut values = Vec::new();
        let (mut last, mut count) = (after, 0);
        if kind == Kind::PipelineRun {
            for run in self.store.runs(registry, after, top + 1).await.map_err(unavailable)? {
                count += 1;
                if count <= top {
                    last = run.seq;
                    values.push(self.listed_run(&run).await?);
                }
            }
        } else {
            for record in self.store.resources(registry, kind, after, top + 1).await.map_err(unavailable)? {
                count += 1;
                if count <= top {
                    last = record.seq;
                    values.push(self.resource_view(&record)?);
                }
            }
        }
        Ok(Listed { values, more_after: (count > top).then_some(last) })
    }
}
