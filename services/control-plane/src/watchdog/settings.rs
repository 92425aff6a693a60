//! When a run counts as lost sight of, and how often that is answered.

use std::time::Duration;

use transship_model::Stage;

/// A stage that works says so every second, unless it waits: a slice takes ten minutes, and the broker gives work
/// that was not settled for half an hour to somebody else.
pub(super) const LOST_AFTER: Duration = Duration::from_secs(45 * 60);

/// When a run counts as lost sight of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchSettings {
    /// How often runs are looked at. Default 15 s.
    pub interval: Duration,
    /// How long a run may be silent while its queue is empty. Default 45 min: longer than a slice and the broker's
    /// consumer timeout together. Holds between two attempts come on top. Where other work waits in its queue it is
    /// four times as long.
    pub lost_after: Duration,
    /// How often its work is dispatched again before it fails. Default 3; a copy behind other copies goes once more at
    /// most.
    pub again: u32,
    /// How long runs are kept that are over; zero (the default) keeps them.
    pub retention: Duration,
}

/// How much longer than at an empty queue a run may be silent at one in which other work waits.
const BUSY: u32 = 4;

impl WatchSettings {
    /// How often work of a stage is dispatched again. Behind other work a copy is not sent more than once more: it is
    /// large, and most likely only waits for its turn.
    pub(crate) fn most(&self, stage: Stage, is_busy: bool) -> u32 {
        if is_busy && stage == Stage::BlobCopier { self.again.min(1) } else { self.again }
    }

    /// Whether there is nothing to do about work behind other work but to wait, however long it is silent.
    pub(crate) fn waits_on(&self, stage: Stage, is_busy: bool, times: u32) -> bool {
        is_busy && times >= self.most(stage, is_busy)
    }

    /// How long a run may be silent.
    pub(crate) fn patience(&self, is_busy: bool) -> Duration {
        if is_busy { self.lost_after.saturating_mul(BUSY) } else { self.lost_after }
    }
}

impl Default for WatchSettings {
    fn default() -> Self {
        let (interval, retention) = (Duration::from_secs(15), Duration::ZERO);
        Self { interval, lost_after: LOST_AFTER, again: 3, retention }
    }
}
