//! What the trigger of each pipeline is doing, for people: a trigger that cannot work says so in one place, not in a
//! log that nobody reads.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use transship_model::Failure;

use crate::fold::with_hint;

/// What a trigger or schedule is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchStatus {
    /// Whether another replica watches; then that one knows the rest.
    pub elsewhere: bool,
    /// When it last looked at everything, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked_ms: Option<i64>,
    /// How many blobs or tags it saw then.
    pub seen: u64,
    /// What keeps it from its work, and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The states of all, by the key of their pipeline.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<BTreeMap<String, WatchStatus>>);

impl Board {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, WatchStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of one.
    pub(crate) fn of(&self, pipeline: &str) -> Option<WatchStatus> {
        self.all().get(pipeline).cloned()
    }

    /// It looked at everything and saw `seen`. A problem that is gone is told once in the log.
    pub(crate) fn checked(&self, pipeline: &str, now_ms: i64, seen: u64, problem: Option<String>) {
        let status = WatchStatus { elsewhere: false, checked_ms: Some(now_ms), seen, problem };
        self.change(pipeline, status);
    }

    /// It could not work. Told once in the log, until it is another problem.
    pub(crate) fn failed(&self, pipeline: &str, failure: &Failure) {
        let status = self.of(pipeline).unwrap_or_default();
        let problem = Some(with_hint(&failure.message, failure.hint.as_deref()));
        self.change(pipeline, WatchStatus { elsewhere: false, problem, ..status });
    }

    /// Another replica watches.
    pub(crate) fn elsewhere(&self, pipeline: &str) {
        self.change(pipeline, WatchStatus { elsewhere: true, ..WatchStatus::default() });
    }

    /// Forgets every pipeline but those of `keep`.
    pub(crate) fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.all().retain(|pipeline, _| keep(pipeline));
    }

    fn change(&self, pipeline: &str, status: WatchStatus) {
        let before = self.all().insert(pipeline.to_owned(), status.clone());
        let before = before.and_then(|before| before.problem);
        match &status.problem {
            Some(problem) if before.as_ref() != Some(problem) => {
                tracing::warn!(pipeline, problem, "a pipeline cannot be watched");
            }
            None if before.is_some() => tracing::info!(pipeline, "the pipeline is watched again"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use transship_model::Code;

    use super::*;

    #[test]
    fn a_problem_stands_until_the_next_look_that_works() {
        let board = Board::default();
        assert_eq!(board.of("p"), None);
        board.checked("p", 5, 3, None);
        let failure =
            Failure::permanent(Code::SasPermission, "it lacks \"l\"").with_hint("issue another one");
        board.failed("p", &failure);
        let status = board.of("p").unwrap();
        assert_eq!(status.problem.as_deref(), Some("it lacks \"l\" (issue another one)"));
        assert_eq!((status.checked_ms, status.seen), (Some(5), 3), "what was seen before stays");
        board.checked("p", 6, 4, None);
        assert_eq!(board.of("p").unwrap().problem, None);
        board.retain(|pipeline| pipeline != "p");
        assert_eq!(board.of("p"), None);
    }
}
