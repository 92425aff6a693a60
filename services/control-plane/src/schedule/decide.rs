//! What becomes of a tag that a schedule selects. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use transship_model::Digest;

use crate::state::TagState;

/// How the run that last carried a tag stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is not over.
    OnItsWay,
    /// It is over, and copies of what it carried are under way.
    Copying,
    /// It carried the tag, or nobody knows any more: a run that was deleted is over.
    Done,
    /// It did not carry the tag. It is tried again, but not before this time (milliseconds since the Unix epoch).
    Failed {
        /// Not before this time.
        retry_ms: i64,
    },
}

/// What is to be done about a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TagDecision {
    /// A run carries it.
    Carry,
    /// A run carries it once more: the last one failed.
    CarryAgain,
    /// The far side has what the tag points to, or is about to.
    Leave,
    /// It is looked at again at this time, in milliseconds since the Unix epoch.
    Later(i64),
}

/// How soon a tag is looked at again whose run is under way, in milliseconds.
const SOON_MS: i64 = 5_000;

/// Decides on a tag that points to `current`. `known` is what was last done about it.
pub(crate) fn decide_tag(current: &Digest, known: Option<(&TagState, Standing)>, now_ms: i64) -> TagDecision {
    let Some((state, standing)) = known else { return TagDecision::Carry };
    let moved = state.digest != current.to_string();
    match standing {
        // Of two bundles with the same tag the older one might be imported last.
        Standing::OnItsWay if moved => TagDecision::Later(now_ms + SOON_MS),
        Standing::OnItsWay => TagDecision::Leave,
        Standing::Copying | Standing::Done if moved => TagDecision::Carry,
        Standing::Copying | Standing::Done => TagDecision::Leave,
        Standing::Failed { .. } if moved => TagDecision::Carry,
        Standing::Failed { retry_ms } if retry_ms <= now_ms => TagDecision::CarryAgain,
        Standing::Failed { retry_ms } => TagDecision::Later(retry_ms),
    }
}

/// The first pause after a failure, in milliseconds; it doubles with each further one.
const FIRST_PAUSE_MS: i64 = 60_000;
/// How often it doubles: the longest pause is about an hour.
const DOUBLINGS: u32 = 6;

/// When a tag is tried again whose run ended at `ended_ms`, after `failures` that this process knows of, the last
/// one included.
pub(crate) fn retry_at(ended_ms: i64, failures: u32) -> i64 {
    ended_ms + (FIRST_PAUSE_MS << failures.saturating_sub(1).min(DOUBLINGS))
}

/// The first pause after a look that came to nothing; it doubles with each further one.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// How often it doubles: the longest pause is about a quarter of an hour.
const LOOK_DOUBLINGS: u32 = 9;

/// How long a look waits that is made again, after `failures` in a row.
pub(crate) fn pause_before_look(failures: u32) -> Duration {
    FIRST_LOOK * (1 << failures.saturating_sub(1).min(LOOK_DOUBLINGS))
}

/// Divides what is carried once more into runs of at most `limit`, by the runs that failed to carry it: each is
/// halved, so that what keeps a run from its end is alone in one soon.
pub(crate) fn halves<T>(failed: BTreeMap<String, Vec<T>>, limit: usize) -> Vec<Vec<T>> {
    let mut runs = Vec::new();
    for batch in failed.into_values() {
        let half = batch.len().div_ceil(2).clamp(1, limit);
        let mut rest = batch.into_iter().peekable();
        while rest.peek().is_some() {
            runs.push(rest.by_ref().take(half).collect());
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_carried_once_again_when_it_moves_and_again_when_its_run_failed() {
        const NOW: i64 = 1_000_000;
        let (here, there) = (Digest::sha256(b"here"), Digest::sha256(b"there"));
        let failed = |retry_ms| Standing::Failed { retry_ms };
        for (known, standing, expected) in [
            (None, Standing::Done, TagDecision::Carry),
            (Some(&here), Standing::Done, TagDecision::Leave),
            (Some(&there), Standing::Done, TagDecision::Carry),
            (Some(&here), Standing::OnItsWay, TagDecision::Leave),
            (Some(&there), Standing::OnItsWay, TagDecision::Later(NOW + SOON_MS)),
            (Some(&here), Standing::Copying, TagDecision::Leave),
            (Some(&there), Standing::Copying, TagDecision::Carry),
            (Some(&here), failed(NOW), TagDecision::CarryAgain),
            (Some(&here), failed(NOW + 1), TagDecision::Later(NOW + 1)),
            (Some(&there), failed(NOW + 1), TagDecision::Carry),
        ] {
            let state = known.map(|digest| TagState { digest: digest.to_string(), run: "r".to_owned() });
            let known = state.as_ref().map(|state| (state, standing));
            assert_eq!(decide_tag(&here, known, NOW), expected, "{known:?}");
        }
    }

    #[test]
    fn pauses_grow_to_an_hour() {
        let pauses: Vec<i64> = [0, 1, 2, 3, 7, 8, 100].map(|failures| retry_at(0, failures) / 60_000).into();
        assert_eq!(pauses, [1, 1, 2, 4, 64, 64, 64]);
    }

    #[test]
    fn looks_that_fail_are_made_again_with_pauses_that_have_an_end() {
        let pauses: Vec<u64> =
            [0, 1, 2, 3, 10, 11, u32::MAX].map(|failures| pause_before_look(failures).as_secs()).into();
        assert_eq!(pauses, [2, 2, 4, 8, 1024, 1024, 1024]);
    }

    #[test]
    fn what_failed_together_is_halved_until_it_is_alone() {
        for (sizes, limit, expected) in [
            (&[][..], 10, &[][..]),
            (&[1], 10, &[1]),
            (&[2], 10, &[1, 1]),
            (&[5], 10, &[3, 2]),
            (&[1, 4], 10, &[1, 2, 2]),
            (&[9], 2, &[2, 2, 2, 2, 1]),
        ] {
            let failed = sizes.iter().enumerate();
            let failed = failed.map(|(run, size)| (run.to_string(), vec![(); *size])).collect();
            let found: Vec<usize> = halves(failed, limit).iter().map(Vec::len).collect();
            assert_eq!(found, expected, "{sizes:?} {limit}");
        }
    }
}
