//! A letter is put back into its queue.

use fail::fail_point;

use crate::clock::now_ms;
use crate::runtime::Core;
use crate::state::{DeadLetter, RunRecord, StoreError, Work};

/// What became of a letter that was to be put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requeued {
    /// It is published again, and its run runs again.
    Done,
    /// There is no such letter.
    Unknown,
    /// It stays where it is, and why.
    Refused(String),
}

/// Whether a letter may be put back: `Err` says why not. `runs` are those of its execution, `work` is what it says.
///
/// # Errors
/// The reason, for a person.
pub fn decide_requeue(letter: &DeadLetter, work: Option<&Work>, runs: &[RunRecord]) -> Result<(), String> {
    if letter.requeued_ms.is_some() {
        return Err("it was put back already".to_owned());
    }
    if letter.body.is_empty() {
        return Err("its body was not kept: start the run again".to_owned());
    }
    // What cannot be read here may be read by a newer stage.
    let Some(work) = work else { return Ok(()) };
    if runs.is_empty() {
        return Err("its run is not there any more: start a new one".to_owned());
    }
    if runs.iter().all(|run| run.execution.generation != work.execution.generation) {
        return Err("its run was started again since, and would drop it".to_owned());
    }
    Ok(())
}

/// Puts a letter back into its queue.
///
/// # Errors
/// Where the store fails; nothing was put back then.
pub async fn requeue(core: &Core, id: i64) -> Result<Requeued, StoreError> {
    let Some(letter) = core.store.dead_letter(id).await? else { return Ok(Requeued::Unknown) };
    let work = Work::of(letter.queue, &letter.body);
    let runs = match &work {
        Some(work) => core.store.runs_of_execution(&work.execution.id).await?,
        None => Vec::new(),
    };
    if let Err(reason) = decide_requeue(&letter, work.as_ref(), &runs) {
        return Ok(Requeued::Refused(reason));
    }
    if !core.store.dead_letter_requeued(id, now_ms()).await? {
        return Ok(Requeued::Refused("it was put back already".to_owned()));
    }
    fail_point!("control.requeued");
    core.wake.wake();
    Ok(Requeued::Done)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use transship_messages::WorkItem;

    use super::*;
    use crate::dispatch::plan_export;
    use crate::state::Queue;
    use crate::testing::run_record;

    fn letter(body: Vec<u8>) -> DeadLetter {
        DeadLetter {
            id: 1,
            queue: Queue::ExporterParts,
            message_id: "m".to_owned(),
            kind: "export.part".to_owned(),
            execution: None,
            headers: BTreeMap::new(),
            body,
            reason: "poison".to_owned(),
            at_ms: 0,
            requeued_ms: None,
        }
    }

    fn body() -> Vec<u8> {
        plan_export(&run_record("nightly"), 1).unwrap()[0].encode()
    }

    #[test]
    fn a_letter_may_be_put_back_while_its_run_is_the_one_that_it_is_of() {
        let run = run_record("nightly");
        let mut newer = run.clone();
        newer.execution.generation += 1;
        let again = DeadLetter { requeued_ms: Some(1), ..letter(body()) };
        for (letter, runs, expected) in [
            (letter(body()), vec![run.clone()], None),
            (letter(body()), vec![newer.clone(), run.clone()], None),
            (letter(body()), vec![newer], Some("started again")),
            (letter(body()), vec![], Some("not there any more")),
            (again, vec![run], Some("already")),
            (letter(Vec::new()), vec![], Some("not kept")),
            (letter(b"what a newer stage may read".to_vec()), vec![], None),
        ] {
            let work = Work::of(letter.queue, &letter.body);
            let reason = decide_requeue(&letter, work.as_ref(), &runs).err();
            let fits = match (&reason, expected) {
                (None, None) => true,
                (Some(reason), Some(expected)) => reason.contains(expected),
                _ => false,
            };
            assert!(fits, "{reason:?} for {expected:?}");
        }
    }
}
