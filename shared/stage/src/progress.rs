//! How far a piece of work is. The verb writes, the harness reads once a second.

use std::collections::BTreeSet;
use std::sync::Mutex;

use transship_messages::FactBody;
use transship_model::Counters;

/// The most names that a progress fact carries.
const SHOWN: usize = 16;

/// Progress of one piece of work.
#[derive(Debug, Default)]
pub struct Progress {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counters: Counters,
    in_flight: BTreeSet<String>,
    announced: Vec<FactBody>,
    changed: bool,
}

impl Progress {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic elsewhere leaves counters that are still counters.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Changes the counters.
    pub fn count(&self, change: impl FnOnce(&mut Counters)) {
        let mut state = self.lock();
        change(&mut state.counters);
        state.changed = true;
    }

    /// The counters now.
    pub fn counters(&self) -> Counters {
        self.lock().counters
    }

    /// Names something that is being moved, until [`Progress::end`].
    pub fn begin(&self, name: &str) {
        let mut state = self.lock();
        state.in_flight.insert(name.to_owned());
        state.changed = true;
    }

    /// Names something that is no longer being moved.
    pub fn end(&self, name: &str) {
        let mut state = self.lock();
        state.in_flight.remove(name);
        state.changed = true;
    }

    /// Has a fact published with the next report, where there is one before the work ends. It is sent once, and may be
    /// lost.
    pub fn announce(&self, fact: FactBody) {
        self.lock().announced.push(fact);
    }

    /// The facts that were announced since the last call.
    pub(crate) fn take_announced(&self) -> Vec<FactBody> {
        std::mem::take(&mut self.lock().announced)
    }

    /// What to report, where something changed since the last call.
    pub(crate) fn take_change(&self) -> Option<(Counters, Vec<String>)> {
        let mut state = self.lock();
        if !std::mem::take(&mut state.changed) {
            return None;
        }
        Some((state.counters, state.in_flight.iter().take(SHOWN).cloned().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_is_reported_and_names_are_bounded() {
        let progress = Progress::default();
        assert!(progress.take_change().is_none());
        for i in 0..100 {
            progress.begin(&format!("blob {i}"));
        }
        progress.count(|c| c.bytes_moved += 5);
        let (counters, names) = progress.take_change().unwrap();
        assert_eq!((counters.bytes_moved, names.len()), (5, SHOWN));
        assert!(progress.take_change().is_none());
    }
}
