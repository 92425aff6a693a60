//! What facts add up to. Pure: facts in, state out, whatever their order and however often they come.
//!
//! A part remembers each of its stages by (stage, target): the higher attempt wins, within an attempt the maxima
//! stand. Success beats every failure: it says that the content is there, and a piece of work that was dispatched
//! again counts its attempts anew.

mod artifacts;
mod part;
mod run;
mod stage;
mod summary;

pub use artifacts::{artifacts, imported_artifacts, undelivered};
pub use part::{Artifacts, BundleFound, Changed, PartState, TargetResults};
pub use run::{ArtifactTotals, RunSummary, RunView, run_state, summarise};
pub(crate) use run::{copies, is_copying};
pub use stage::{End, EndRank, InFlight, StageState, Trouble};
pub use summary::{PartSummary, StageStatus, StageSummary};

/// A message and the hint behind it, for a person.
pub fn with_hint(message: &str, hint: Option<&str>) -> String {
    hint.map_or_else(|| message.to_owned(), |hint| format!("{message} ({hint})"))
}

/// The first `characters` of a text.
fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
