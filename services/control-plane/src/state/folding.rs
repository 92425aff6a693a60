//! Facts become state: those that wait together are folded together, part by part, and each run that they concern
//! is written once.

use std::collections::BTreeMap;

use sqlx::{AnyConnection, Row};
use tokio::sync::oneshot;
use transship_messages::Fact;
use transship_model::Execution;

use super::error::StoreError;
use super::parts::{part_of, refresh, runs_of, summaries, update_part};
use super::records::Folded;
use super::values::signed;
use crate::fold::Changed;

/// A fact that waits to be folded.
pub(super) struct Heard {
    pub(super) fact: Fact,
    pub(super) now_ms: i64,
    pub(super) reply: oneshot::Sender<Result<Folded, StoreError>>,
}

impl Heard {
    pub(super) fn answer(self, result: Result<Folded, StoreError>) {
        // Whoever asked may have gone; what was folded stays folded.
        let _ = self.reply.send(result);
    }
}

/// Facts by their execution, each in the order in which they came.
pub(super) fn by_execution(heard: Vec<Heard>) -> Vec<Vec<Heard>> {
    let mut groups: BTreeMap<(String, u64), Vec<Heard>> = BTreeMap::new();
    for heard in heard {
        let Execution { id, generation } = &heard.fact.execution;
        groups.entry((id.to_string(), *generation)).or_default().push(heard);
    }
    groups.into_values().collect()
}

/// Folds facts of one execution; what became of each. The runs that ended are told with the last one that counted.
pub(super) async fn fold(
    transaction: &mut AnyConnection,
    facts: &[&Fact],
    now_ms: i64,
) -> Result<Vec<Folded>, StoreError> {
    let Some(first) = facts.first() else { return Ok(Vec::new()) };
    let execution = match current(transaction, &first.execution).await? {
        Current::Execution(execution) => execution,
        Current::Unknown => return Ok(vec![Folded::Unknown; facts.len()]),
    };
    let mut by_part: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (place, fact) in facts.iter().enumerate() {
        by_part.entry(fact.part.number).or_default().push(place);
    }
    let mut folded = vec![Folded::Ignored; facts.len()];
    for (number, places) in by_part {
        let Some(mut part) = part_of(transaction, &execution, number).await? else { continue };
        let mut changed = Changed::default();
        for place in places {
            changed = changed.and(part.apply(facts[place]));
            folded[place] = Folded::Applied { ended: Vec::new() };
        }
        if changed.any() {
            update_part(transaction, &execution, number, &part, changed.artifacts).await?;
        }
    }
    let counted = folded.iter_mut().rev().find_map(|folded| match folded {
        Folded::Applied { ended } => Some(ended),
        _ => None,
    });
    let Some(ended) = counted else { return Ok(folded) };
    let known = summaries(transaction, &execution).await?;
    for run in runs_of(transaction, &execution).await? {
        let id = run.id.clone();
        if refresh(transaction, run, &known, now_ms).await? {
            ended.push(id);
        }
    }
    Ok(folded)
}

enum Current {
    Execution(Execution),
    Unknown,
}

/// The execution that a fact is about. A message that could not be understood is reported with generation 0.
async fn current(transaction: &mut AnyConnection, execution: &Execution) -> Result<Current, StoreError> {
    let failed = StoreError::during("look for an execution");
    let query = sqlx::query("SELECT generation FROM executions WHERE id = $1").bind(execution.id.to_string());
    let row = query.fetch_optional(transaction).await.map_err(&failed)?;
    let Some(row) = row else { return Ok(Current::Unknown) };
    let newest: i64 = row.try_get(0).map_err(&failed)?;
    Ok(match execution.generation {
        0 => {
            let generation = newest.unsigned_abs();
            Current::Execution(Execution { id: execution.id.clone(), generation })
        }
        generation if signed(generation) > newest => Current::Unknown,
        _ => Current::Execution(execution.clone()),
    })
}
