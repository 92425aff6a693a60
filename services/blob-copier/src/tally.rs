//! What a copy has done so far, over its slices.

use transship_messages::{CopyMode, CopyRequested};
use transship_model::Counters;

/// Counts of one copy. However it goes, bytes discovered = moved + skipped in the end. What is inside of the
/// bundle is not known here, so blobs are not counted.
#[derive(Debug)]
pub(crate) struct Tally {
    length: u64,
    artifacts: u64,
    /// What earlier slices moved.
    carried: u64,
    /// What this slice moved; a block that had to be staged again counts again.
    moved: u64,
    /// What the target had that neither this slice nor an earlier one moved.
    skipped: u64,
    streamed: bool,
}

impl Tally {
    pub(crate) fn of(work: &CopyRequested) -> Self {
        let carried = work.carried.bytes_moved;
        Self {
            length: work.length,
            artifacts: work.artifacts,
            carried,
            moved: 0,
            skipped: 0,
            streamed: false,
        }
    }

    /// The target has `bytes` of the copy; those that this slice moved may be among them.
    pub(crate) fn found(&mut self, bytes: u64) {
        self.skipped = bytes.saturating_sub(self.carried + self.moved);
    }

    /// A block moved.
    pub(crate) fn add(&mut self, bytes: u64, streamed: bool) {
        self.moved += bytes;
        self.streamed |= streamed;
    }

    fn all_moved(&self) -> u64 {
        (self.carried + self.moved).min(self.length)
    }

    /// The counters on the way.
    pub(crate) fn under_way(&self) -> Counters {
        let bytes_moved = self.all_moved();
        Counters {
            artifacts_discovered: self.artifacts,
            bytes_discovered: self.length,
            bytes_moved,
            bytes_skipped: self.skipped.min(self.length - bytes_moved),
            ..Counters::default()
        }
    }

    /// The counters at the end. Whoever finds the copy there has skipped its artifacts.
    pub(crate) fn at_end(&self, mode: CopyMode) -> Counters {
        let mut counters = self.under_way();
        counters.bytes_skipped = self.length - counters.bytes_moved;
        match mode {
            CopyMode::Present => counters.artifacts_skipped = self.artifacts,
            CopyMode::ServerSide | CopyMode::Streamed => counters.artifacts_moved = self.artifacts,
        }
        counters
    }

    /// How the bytes went, where this slice committed them and would have sent further ones this way.
    pub(crate) fn mode(&self, streams: bool) -> CopyMode {
        if self.streamed || streams { CopyMode::Streamed } else { CopyMode::ServerSide }
    }

    /// How the bytes went, where the copy was found there: by this very slice, if the answer was lost.
    pub(crate) fn mode_when_found(&self, streams: bool) -> CopyMode {
        if self.moved == 0 { CopyMode::Present } else { self.mode(streams) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(carried: u64) -> Tally {
        Tally { length: 100, artifacts: 3, carried, moved: 0, skipped: 0, streamed: false }
    }

    fn bytes(counters: Counters) -> (u64, u64) {
        (counters.bytes_moved, counters.bytes_skipped)
    }

    #[test]
    fn what_earlier_slices_moved_is_not_skipped_in_this_one() {
        let mut tally = tally(40);
        tally.found(60);
        assert_eq!(bytes(tally.under_way()), (40, 20));
        tally.add(30, true);
        assert_eq!(bytes(tally.under_way()), (70, 20));
        tally.found(90);
        assert_eq!(bytes(tally.under_way()), (70, 20), "its own blocks are moved ones when it looks again");
        tally.add(10, false);
        let end = tally.at_end(tally.mode(false));
        assert_eq!((bytes(end), end.artifacts_moved, end.artifacts_skipped), ((80, 20), 3, 0));
        assert_eq!(tally.mode(false), CopyMode::Streamed, "one streamed block is enough");
    }

    #[test]
    fn bytes_that_moved_twice_count_once() {
        let mut tally = tally(0);
        tally.add(100, false);
        tally.add(60, false);
        assert_eq!(bytes(tally.at_end(CopyMode::ServerSide)), (100, 0));
    }

    #[test]
    fn a_copy_that_is_found_was_present_unless_this_slice_made_it() {
        let mut tally = tally(0);
        assert_eq!(tally.mode_when_found(true), CopyMode::Present);
        let end = tally.at_end(CopyMode::Present);
        assert_eq!((bytes(end), end.artifacts_skipped, end.artifacts_moved), ((0, 100), 3, 0));
        tally.add(100, false);
        assert_eq!(tally.mode_when_found(false), CopyMode::ServerSide);
    }
}
