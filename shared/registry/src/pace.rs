//! How fast a registry is asked: pauses between tries, the pause that a registry demands, and the number of
//! requests in flight.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::Limits;

/// The longest pause that a backoff makes by itself.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The longest `Retry-After` that is believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// The pauses between the tries of one request: exponential, with jitter. Ends when no try is left.
pub(crate) fn pauses(limits: &Limits) -> impl Iterator<Item = Duration> + Send + use<> {
    ExponentialBuilder::new()
        .with_min_delay(limits.first_pause)
        .with_factor(2.0)
        .with_max_delay(MAX_PAUSE)
        .with_max_times(limits.tries.max(1) - 1)
        .with_jitter()
        .build()
}

/// Parses `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date, at most a day.
pub(crate) fn retry_after(header: &str, now: Timestamp) -> Option<Duration> {
    static DATES: DateTimeParser = DateTimeParser::new();
    let header = header.trim();
    if header.len() > 64 {
        return None;
    }
    let pause = if header.bytes().all(|b| b.is_ascii_digit()) {
        Duration::from_secs(header.parse().ok()?)
    } else {
        let until = DATES.parse_timestamp(header).ok()?;
        Duration::try_from(until.duration_since(now)).unwrap_or_default()
    };
    Some(pause.min(MAX_RETRY_AFTER))
}

/// Holds all requests of a client back while the registry says that they are too many: its limits are of the
/// client, not of one request.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    closed_until: Mutex<Option<Instant>>,
}

impl Gate {
    /// Closes the gate for `pause` from now, or leaves it closed where it is closed longer.
    pub(crate) fn close(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut closed = self.closed_until.lock().unwrap_or_else(PoisonError::into_inner);
        *closed = Some(closed.map_or(until, |before| before.max(until)));
    }

    /// Waits until the gate is open. `Err` with the time that is left where that is more than `longest`.
    pub(crate) async fn pass(&self, longest: Duration) -> Result<(), Duration> {
        loop {
            let closed = *self.closed_until.lock().unwrap_or_else(PoisonError::into_inner);
            let left =
                closed.map(|until| until.saturating_duration_since(Instant::now())).unwrap_or_default();
            if left.is_zero() {
                return Ok(());
            }
            if left > longest {
                return Err(left);
            }
            tokio::time::sleep(left).await;
        }
    }
}

/// Whether a request moves the bytes of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// A manifest, a question, a session.
    Small,
    /// A blob.
    Bulk,
}

/// The right to have a request in flight. Held until its answer is read.
#[derive(Debug)]
pub(crate) struct Permit {
    _any: OwnedSemaphorePermit,
    _bulk: Option<OwnedSemaphorePermit>,
}

/// Bounds the requests in flight. Bulk cannot take the last place, so that questions are not stuck behind layers.
#[derive(Debug)]
pub(crate) struct Lanes {
    any: Arc<Semaphore>,
    bulk: Arc<Semaphore>,
}

impl Lanes {
    pub(crate) fn new(connections: usize) -> Self {
        let any = connections.clamp(1, 1024);
        let bulk = (any - 1).max(1);
        Self { any: Arc::new(Semaphore::new(any)), bulk: Arc::new(Semaphore::new(bulk)) }
    }

    pub(crate) async fn enter(&self, lane: Lane) -> Permit {
        const NEVER_CLOSED: &str = "the semaphores are never closed";
        let bulk = match lane {
            Lane::Small => None,
            Lane::Bulk => Some(self.bulk.clone().acquire_owned().await.expect(NEVER_CLOSED)),
        };
        Permit { _any: self.any.clone().acquire_owned().await.expect(NEVER_CLOSED), _bulk: bulk }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_absurd() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        for (header, expected) in [
            ("7", Some(7)),
            (" 120 ", Some(120)),
            ("0", Some(0)),
            ("Sun, 22 Nov 2026 10:01:30 GMT", Some(90)),
            ("Sun, 22 Nov 2026 09:00:00 GMT", Some(0)),
            ("99999999999", Some(86_400)),
            ("Thu, 30 Dec 9999 10:00:00 GMT", Some(86_400)),
            ("-1", None),
            ("soon", None),
            ("99999999999999999999999", None),
        ] {
            assert_eq!(retry_after(header, now), expected.map(Duration::from_secs), "{header}");
        }
    }

    #[test]
    fn pauses_double_with_jitter_and_end() {
        let pauses: Vec<Duration> = pauses(&Limits::default()).collect();
        assert_eq!(pauses.len(), 4, "five tries have four pauses");
        for (pause, least) in pauses.iter().zip([250, 500, 1000, 2000]) {
            assert!((least..=2 * least).contains(&(pause.as_millis() as u64)), "{pauses:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_gate_holds_everybody_back_until_the_longest_pause() {
        let gate = Gate::default();
        gate.pass(Duration::ZERO).await.unwrap();
        gate.close(Duration::from_secs(7));
        gate.close(Duration::from_secs(1));
        let began = Instant::now();
        assert_eq!(gate.pass(Duration::from_secs(5)).await, Err(Duration::from_secs(7)));
        gate.pass(Duration::from_secs(60)).await.unwrap();
        assert!(began.elapsed() >= Duration::from_secs(7));
    }

    #[tokio::test(start_paused = true)]
    async fn bulk_leaves_one_place_for_questions() {
        let lanes = Lanes::new(3);
        let _bulk = [lanes.enter(Lane::Bulk).await, lanes.enter(Lane::Bulk).await];
        let wait = Duration::from_secs(1);
        assert!(tokio::time::timeout(wait, lanes.enter(Lane::Bulk)).await.is_err());
        let question = tokio::time::timeout(wait, lanes.enter(Lane::Small)).await;
        assert!(question.is_ok());
        assert!(tokio::time::timeout(wait, lanes.enter(Lane::Small)).await.is_err(), "three are in flight");
    }
}
