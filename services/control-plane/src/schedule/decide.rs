//! What becomes of a tag that a schedule selects. Pure.

use transship_model::Digest;

use crate::state::TagState;

/// How the run that last carried a tag stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is not over.
    OnItsWay,
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
        Standing::Done if moved => TagDecision::Carry,
        Standing::Done => TagDecision::Leave,
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
}
