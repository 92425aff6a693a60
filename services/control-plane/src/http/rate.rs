//! How many requests one caller may make: a bucket each, which fills as time passes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The most callers that are remembered. When there are more, those whose buckets are full again are forgotten;
/// where none is, new callers share one bucket.
const MAX_CALLERS: usize = 4096;

/// Buckets of requests, one for each caller.
pub(super) struct RateLimit {
    /// Requests a second; 0 is no limit. A bucket holds twice as many.
    per_second: u32,
    buckets: Mutex<HashMap<String, Bucket>>,
}

#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl RateLimit {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, buckets: Mutex::new(HashMap::new()) }
    }

    /// Takes one request of `caller` at `now`; false where there have been too many.
    pub(super) fn takes(&self, caller: &str, now: Instant) -> bool {
        if self.per_second == 0 {
            return true;
        }
        let rate = f64::from(self.per_second);
        let full = rate * 2.0;
        // Nothing that runs under the lock leaves the buckets half changed.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = |bucket: &Bucket| {
            let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
            (bucket.tokens + passed * rate).min(full)
        };
        if buckets.len() >= MAX_CALLERS && !buckets.contains_key(caller) {
            buckets.retain(|_, bucket| filled(bucket) < full);
        }
        let caller = if buckets.len() >= MAX_CALLERS { "" } else { caller };
        let bucket = buckets.entry(caller.to_owned()).or_insert(Bucket { tokens: full, at: now });
        let tokens = filled(bucket);
        let takes = tokens >= 1.0;
        *bucket = Bucket { tokens: if takes { tokens - 1.0 } else { tokens }, at: now };
        takes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_caller_that_asks_too_often_waits_and_others_do_not() {
        let (limit, start) = (RateLimit::new(2), Instant::now());
        let taken = (0..6).filter(|_| limit.takes("a", start)).count();
        assert_eq!(taken, 4);
        assert!(limit.takes("b", start));
        assert!(!limit.takes("a", start + Duration::from_millis(100)));
        assert!(limit.takes("a", start + Duration::from_millis(700)));
        assert!((0..100).all(|_| RateLimit::new(0).takes("a", start)));
    }

    #[test]
    fn callers_without_end_do_not_fill_the_memory() {
        let (limit, start) = (RateLimit::new(1), Instant::now());
        for number in 0..2 * MAX_CALLERS {
            limit.takes(&number.to_string(), start);
        }
        assert!(limit.buckets.lock().unwrap().len() <= MAX_CALLERS + 1);
    }
}
