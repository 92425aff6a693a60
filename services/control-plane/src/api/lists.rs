//! Lists, in pages: oldest first, runs also newest first.

use serde_json::Value;
use transship_api::{Kind, ResourceId};

use super::{Api, json_of, run_view, unavailable};
use crate::refusal::Refusal;
use crate::state::RunRecord;

/// A page of resources.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listed {
    /// The resources.
    pub(crate) values: Vec<Value>,
    /// The place of the last one, where there are more behind it.
    pub(crate) more_after: Option<i64>,
}

/// The order of a list: by when a resource was first put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// What there is by default.
    OldestFirst,
    /// Of runs alone, of which there may be very many.
    NewestFirst,
}

impl Order {
    /// The place that the first page is behind.
    pub(crate) fn start(self) -> i64 {
        match self {
            Self::OldestFirst => 0,
            Self::NewestFirst => i64::MAX,
        }
    }
}

impl Api {
    /// The resources of one kind below a registry, behind the place `after` in this order.
    ///
    /// A place is given once and never again, and a page ends at one, so following the pages misses none and repeats
    /// none, whatever is made or deleted meanwhile.
    pub(crate) async fn list(
        &self,
        registry: &ResourceId,
        kind: Kind,
        order: Order,
        after: i64,
        top: u32,
    ) -> Result<Listed, Refusal> {
        if kind != Kind::PipelineRun && order == Order::NewestFirst {
            let message =
                "$orderby is served for pipelineRuns alone: leave it out, the list is oldest first.";
            return Err(Refusal::new(400, "InvalidQueryParameter", message).at("$orderby"));
        }
        // One more than is shown says whether there are more.
        let mut values = Vec::new();
        let (mut last, mut count) = (after, 0);
        if kind == Kind::PipelineRun {
            let runs = match order {
                Order::OldestFirst => self.store.runs(registry, after, top + 1).await,
                Order::NewestFirst => self.store.runs_before(registry, after, top + 1).await,
            };
            let runs = runs.map_err(unavailable)?;
            count = u32::try_from(runs.len()).unwrap_or(u32::MAX);
            let shown = &runs[..runs.len().min(top as usize)];
            last = shown.last().map_or(after, |run| run.seq);
            // What an import brought is part of ACR's schema, so lists have it too.
            let places = || shown.iter().map(|run| run.seq);
            let (first, last) = (places().min().unwrap_or_default(), places().max().unwrap_or_default());
            let imported = self.store.imported_artifacts(registry, first - 1, last).await;
            let imported = imported.map_err(unavailable)?;
            let of = |run: &RunRecord| imported.get(&run.seq).cloned().unwrap_or_default();
            values.extend(shown.iter().map(|run| listed_run(run, of(run))));
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

/// A run as lists show it: with what it imported, and without the result of each artifact.
fn listed_run(run: &RunRecord, imported: Vec<String>) -> Value {
    let mut view = run_view(run, None);
    if let Some(response) = &mut view.properties.response {
        response.artifacts.clear();
        response.imported_artifacts = imported;
    }
    json_of(&view)
}
