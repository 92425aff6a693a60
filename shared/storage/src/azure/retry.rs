//! Short retries of one request, as a policy around the SDK's pipeline. The SDK's own policy waits as long as
//! `Retry-After` says, without a bound; this one gives up, and the wait travels on in the error.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::error::ErrorKind;
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{Context, Request};
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::answer::retry_after;

/// The first pause. Each further one is three times as long: 0.4, 1.2, 3.6 and 10.8 seconds.
const FIRST_PAUSE: Duration = Duration::from_millis(400);

/// Statuses after which the same request may succeed.
const PASSING: [u16; 6] = [408, 429, 500, 502, 503, 504];

/// Sends a request again a few times. All requests of this crate may be repeated: their bodies are in memory,
/// and writing twice ends in the same state or in a failed condition.
#[derive(Debug)]
pub(super) struct ShortRetries {
    /// How often a request is sent at most.
    pub(super) tries: u32,
    /// No further try begins later than this after the first one ended.
    pub(super) budget: Duration,
}

/// What the last try ended with, as far as it decides about another one.
struct Ending {
    passes: bool,
    retry_after: Option<Duration>,
}

impl ShortRetries {
    /// The pause before the next try; `None` where there is none.
    fn pause(&self, tries: u32, elapsed: Duration, ending: &Ending, jitter: f64) -> Option<Duration> {
        if !ending.passes || tries >= self.tries {
            return None;
        }
        let pause = FIRST_PAUSE * 3_u32.saturating_pow(tries.saturating_sub(1));
        let pause = pause.mul_f64(jitter).max(ending.retry_after.unwrap_or_default());
        (elapsed.saturating_add(pause) <= self.budget).then_some(pause)
    }
}

fn ending(result: &PolicyResult) -> Ending {
    match result {
        Ok(answer) => {
            let passes = PASSING.contains(&u16::from(answer.status()));
            Ending { passes, retry_after: retry_after(answer.headers()) }
        }
        Err(error) => Ending {
            passes: matches!(error.kind(), ErrorKind::Io | ErrorKind::Connection),
            retry_after: None,
        },
    }
}

/// A factor between 0.75 and 1.25, so that many transfers do not come back at once.
fn jitter() -> f64 {
    // The keys of a `RandomState` are random: enough for spreading, without a generator of its own.
    let random = RandomState::new().hash_one(0_u8);
    0.75 + 0.5 * (random % 1024) as f64 / 1024.0
}

#[async_trait]
impl Policy for ShortRetries {
    async fn send(&self, context: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        let mut tries = 0;
        let mut first_end = None;
        loop {
            let result = next[0].send(context, request, &next[1..]).await;
            tries += 1;
            let elapsed = first_end.get_or_insert_with(Instant::now).elapsed();
            match self.pause(tries, elapsed, &ending(&result), jitter()) {
                Some(pause) => {
                    debug!(
                        tries,
                        pause_ms = pause.as_millis() as u64,
                        "a request to the storage service is repeated"
                    );
                    sleep(pause).await;
                }
                None => return result,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_end_by_number_and_by_time_and_never_wait_longer_than_the_budget() {
        let policy = ShortRetries { tries: 5, budget: Duration::from_secs(30) };
        let seconds = Duration::from_secs;
        let passing = |retry_after| Ending { passes: true, retry_after };
        for (tries, elapsed, ending, expected) in [
            (1, 0, passing(None), Some(Duration::from_millis(400))),
            (2, 1, passing(None), Some(Duration::from_millis(1200))),
            (4, 6, passing(None), Some(Duration::from_millis(10_800))),
            (4, 20, passing(None), None),
            (5, 0, passing(None), None),
            (1, 0, passing(Some(seconds(7))), Some(seconds(7))),
            (1, 0, passing(Some(seconds(3600))), None),
            (1, 0, passing(Some(Duration::MAX)), None),
            (1, 0, Ending { passes: false, retry_after: None }, None),
        ] {
            assert_eq!(policy.pause(tries, seconds(elapsed), &ending, 1.0), expected, "{tries} {elapsed}");
        }
    }

    #[test]
    fn the_jitter_stays_in_its_bounds() {
        assert!((0..1000).all(|_| (0.75..=1.25).contains(&jitter())));
    }
}
