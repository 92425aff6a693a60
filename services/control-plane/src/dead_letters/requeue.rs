//! A letter is put back into its queue.

use fail::fail_point;

use crate::clock::now_ms;
use crate::dispatch::Wake;
use crate::state::{DeadLetter, RunRecord, Store, StoreError, Work};

/// What becomes of a letter that is to be put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requeued {
    /// It is published again, and its run runs again.
    Done,
    /// There is no such letter.
    Unknown,
    /// It was put back already. Where it fails again, it comes back anew.
    Already,
    /// It stays where it is, and why.
    Refused(String),
}

/// Whether a letter may be put back. `work` is what it says, `runs` are those of its execution.
pub fn decide_requeue(letter: &DeadLetter, work: Option<&Work>, runs: &[RunRecord]) -> Requeued {
    let refused = |why: &str| Requeued::Refused(why.to_owned());
    if letter.requeued_ms.is_some() {
        return Requeued::Already;
    }
    if letter.body.is_empty() {
        return refused("its body was not kept: start the run again");
    }
    // What cannot be read here may be read by a newer stage.
    let Some(work) = work else { return Requeued::Done };
    if runs.is_empty() {
        return refused("its run is not there any more: start a new one");
    }
    if runs.iter().all(|run| run.execution.generation != work.execution.generation) {
        return refused("its run was started again since, and would drop it");
    }
    Requeued::Done
}

/// Puts a letter back into its queue, and wakes the dispatcher, which publishes it.
///
/// # Errors
/// Where the store fails; nothing was put back then.
pub async fn requeue(store: &Store, wake: &Wake, id: i64) -> Result<Requeued, StoreError> {
    let Some(letter) = store.dead_letter(id).await? else { return Ok(Requeued::Unknown) };
    let work = Work::of(letter.queue, &letter.body);
    let runs = match &work {
        Some(work) => store.runs_of_execution(&work.execution.id).await?,
        None => Vec::new(),
    };
    let decided = decide_requeue(&letter, work.as_ref(), &runs);
    if decided != Requeued::Done {
        return Ok(decided);
    }
    if !store.dead_letter_requeued(id, now_ms()).await? {
        return Ok(Requeued::Already);
    }
    fail_point!("control.requeued");
    wake.wake();
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
        let refused = |why: &str| Requeued::Refused(why.to_owned());
        for (letter, runs, expected) in [
            (letter(body()), vec![run.clone()], Requeued::Done),
            (letter(body()), vec![newer.clone(), run.clone()], Requeued::Done),
            (letter(body()), vec![newer], refused("its run was started again since, and would drop it")),
            (letter(body()), vec![], refused("its run is not there any more: start a new one")),
            (again, vec![run], Requeued::Already),
            (letter(Vec::new()), vec![], refused("its body was not kept: start the run again")),
            (letter(b"what a newer stage may read".to_vec()), vec![], Requeued::Done),
        ] {
            let work = Work::of(letter.queue, &letter.body);
            assert_eq!(decide_requeue(&letter, work.as_ref(), &runs), expected);
        }
    }
}
