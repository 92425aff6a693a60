//! When a request is sent again. Every request of the command line may be sent twice.

use std::time::Duration;

/// How often a request is sent at most.
const ATTEMPTS: u32 = 5;
/// The longest time between two of them: a person waits.
const LONGEST: Duration = Duration::from_secs(30);

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// No answer: the connection was refused or lost.
    Nothing,
    /// An answer with this status, and how long it asks to wait.
    Answer(u16, Option<Duration>),
}

/// How long to wait before the request is sent again; `None` where that would not help, or was done often enough.
/// `attempt` counts from 1.
pub(crate) fn decide(attempt: u32, came: Came) -> Option<Duration> {
    let backoff = Duration::from_millis(250) * 2_u32.pow(attempt.min(8));
    let wait = match came {
        Came::Nothing => backoff,
        Came::Answer(429 | 502 | 503 | 504, retry_after) => retry_after.unwrap_or(backoff),
        Came::Answer(..) => return None,
    };
    (attempt < ATTEMPTS).then_some(wait.min(LONGEST))
}

/// `Retry-After`, where it is a number of seconds.
pub(crate) fn seconds(header: Option<&str>) -> Option<Duration> {
    header?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_as_late_as_the_server_asks_and_not_for_ever() {
        let seconds = |n| Some(Duration::from_secs(n));
        for (attempt, came, expected) in [
            (1, Came::Nothing, Some(Duration::from_millis(500))),
            (4, Came::Nothing, seconds(4)),
            (5, Came::Nothing, None),
            (1, Came::Answer(429, seconds(2)), seconds(2)),
            (1, Came::Answer(503, seconds(600)), seconds(30)),
            (2, Came::Answer(502, None), seconds(1)),
            (1, Came::Answer(500, None), None),
            (1, Came::Answer(404, seconds(1)), None),
            (1, Came::Answer(200, None), None),
        ] {
            assert_eq!(decide(attempt, came), expected, "{attempt} {came:?}");
        }
        assert_eq!(super::seconds(Some("7")), seconds(7));
        assert_eq!(super::seconds(Some("Wed, 21 Oct 2026 07:28:00 GMT")), None);
    }
}
