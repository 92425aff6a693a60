//! One state out of many parts: two connections, and every consumer and subscription.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::BusState;

/// The parts and what they add up to.
pub(super) struct Health {
    parts: Mutex<Parts>,
    state: watch::Sender<BusState>,
}

#[derive(Default)]
struct Parts {
    next: u64,
    states: BTreeMap<u64, BusState>,
}

/// One part's share in the state. It leaves when it is dropped.
pub(super) struct Part {
    number: u64,
    health: Arc<Health>,
}

impl Health {
    pub(super) fn new() -> Arc<Self> {
        let (state, _) = watch::channel(BusState::Connecting { reason: String::new() });
        Arc::new(Self { parts: Mutex::default(), state })
    }

    /// Adds a part that is not up yet.
    pub(super) fn part(self: &Arc<Self>) -> Part {
        let number = self.change(|parts| {
            parts.next += 1;
            parts.states.insert(parts.next, BusState::Connecting { reason: String::new() });
            parts.next
        });
        Part { number, health: Arc::clone(self) }
    }

    pub(super) fn watch(&self) -> watch::Receiver<BusState> {
        self.state.subscribe()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Parts) -> T) -> T {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut parts);
        let sum = sum(parts.states.values());
        self.state.send_if_modified(|state| {
            let differs = *state != sum;
            if differs {
                *state = sum;
            }
            differs
        });
        result
    }
}

impl Part {
    pub(super) fn set(&self, state: BusState) {
        self.health.change(|parts| parts.states.insert(self.number, state));
    }

    /// Down, and why.
    pub(super) fn down(&self, reason: &str) {
        self.set(BusState::Connecting { reason: reason.to_owned() });
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.health.change(|parts| parts.states.remove(&self.number));
    }
}

/// The first part that is down says why; else the first that is blocked; else all is well.
fn sum<'a>(states: impl Iterator<Item = &'a BusState>) -> BusState {
    let rank = |state: &BusState| match state {
        BusState::Connecting { reason } if !reason.is_empty() => 0,
        BusState::Connecting { .. } => 1,
        BusState::Blocked { .. } => 2,
        BusState::Ready => 3,
    };
    // A bus without a part is one that was closed.
    states
        .min_by_key(|state| rank(state))
        .cloned()
        .unwrap_or(BusState::Connecting { reason: "closed".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_part_decides_and_leaves_when_it_is_dropped() {
        let health = Health::new();
        let (first, second) = (health.part(), health.part());
        let connecting = |reason: &str| BusState::Connecting { reason: reason.to_owned() };
        let blocked = BusState::Blocked { reason: "low on memory".to_owned() };
        assert_eq!(*health.watch().borrow(), connecting(""));
        first.set(BusState::Ready);
        assert_eq!(*health.watch().borrow(), connecting(""));
        second.set(blocked.clone());
        assert_eq!(*health.watch().borrow(), blocked);
        first.down("refused");
        assert_eq!(*health.watch().borrow(), connecting("refused"));
        drop(first);
        assert_eq!(*health.watch().borrow(), blocked);
        second.set(BusState::Ready);
        assert_eq!(*health.watch().borrow(), BusState::Ready);
        drop(second);
        assert_eq!(*health.watch().borrow(), connecting("closed"));
    }
}
