//! How long to wait before building up again.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(500);

/// What lasted this long was sound: the next failure starts from the shortest wait.
const SOUND: Duration = Duration::from_secs(10);

/// Exponential back-off with jitter, from half a second up to a bound, for ever.
#[derive(Debug)]
pub(super) struct Backoff {
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) fn up_to(longest: Duration) -> Self {
        Self { longest, failures: 0 }
    }

    /// The wait after something ended that was built up at `built`, or never was.
    pub(super) fn next(&mut self, built: Option<Instant>) -> Duration {
        if built.is_some_and(|built| built.elapsed() >= SOUND) {
            self.failures = 0;
        }
        let wait = wait(self.failures, self.longest, random());
        self.failures = self.failures.saturating_add(1);
        wait
    }
}

/// Between half and all of `FIRST` times two to the power of `failures`, at most `longest`.
fn wait(failures: u32, longest: Duration, random: u64) -> Duration {
    let full = FIRST.saturating_mul(1 << failures.min(16)).min(longest);
    let share = 0.5 + 0.5 * (random as f64 / u64::MAX as f64);
    full.mul_f64(share)
}

/// Random enough to spread the processes that lost the same broker: each state of the hasher is seeded.
fn random() -> u64 {
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute_and_vary_by_half() {
        let longest = Duration::from_secs(30);
        for (failures, full) in
            [(0, 500), (1, 1_000), (4, 8_000), (5, 16_000), (6, 30_000), (u32::MAX, 30_000)]
        {
            let full = Duration::from_millis(full);
            let range = (wait(failures, longest, 0), wait(failures, longest, u64::MAX));
            assert_eq!(range, (full / 2, full), "{failures}");
        }
    }

    #[test]
    fn what_lasted_starts_again_from_the_shortest_wait() {
        let mut backoff = Backoff { failures: 9, longest: Duration::from_secs(30) };
        assert!(backoff.next(Some(Instant::now())) > FIRST);
        assert!(backoff.next(Instant::now().checked_sub(SOUND)) <= FIRST);
    }
}
