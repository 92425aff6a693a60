//! Decisions about an upload that goes in pieces: pure.

use std::time::Duration;

use transship_registry::RegistryError;

/// The largest piece in bytes. One that was begun is sent to its end: where the line becomes slow meanwhile, at
/// 512 KiB/s this one still ends within the half hour that RabbitMQ waits for an ack by default.
const LARGEST: u64 = 512 << 20;

/// How much longer a piece may be than the one before it: a line is believed step by step.
const GROWTH: u64 = 4;

/// How often an upload is begun in one slice.
const SESSIONS: u32 = 3;

/// How often in a row a registry may lose an upload between two slices.
const MOST_LOST: u32 = 2;

/// How many bytes the next piece of an upload has, where `left` are left (at least 1).
///
/// The first piece of a slice has one `unit`; then as many units as the rest of the slice holds at the speed of
/// `last` (its bytes, and how long it took), within bounds, and never fewer than the registry's `minimum`.
pub(crate) fn plan_piece(
    left: u64,
    (unit, minimum): (u64, u64),
    last: Option<(u64, Duration)>,
    time_left: Duration,
) -> u64 {
    let fitting = last.map_or(unit, |(bytes, took)| {
        let fitting = u128::from(bytes) * time_left.as_millis() / took.as_millis().max(1);
        let bound = bytes.saturating_mul(GROWTH).min(LARGEST);
        u64::try_from(fitting).unwrap_or(u64::MAX).min(bound)
    });
    (fitting / unit * unit).max(unit).max(minimum.next_multiple_of(unit)).min(left)
}

/// Whether a slice may end inside an upload. A registry whose sessions do not outlive a slice would begin it anew
/// for ever: where it has lost the upload twice in a row, the upload goes to its end.
pub(crate) fn may_pause(resumed: bool, lost: u32) -> bool {
    resumed || lost < MOST_LOST
}

/// What to do after an upload in pieces broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterBreak {
    /// Begin it anew, in pieces.
    Anew,
    /// Upload it without pieces, and where that works, send this registry none for a while: it refused the first one.
    NoPieces,
    /// Upload it without pieces this time.
    Whole,
    /// It fails.
    Fail,
}

/// How far an upload was when it broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broke {
    /// Whether an earlier slice had begun the session.
    pub(crate) resumed: bool,
    /// The bytes that the registry had acknowledged.
    pub(crate) offset: u64,
    /// How often the upload was begun, this time included.
    pub(crate) begun: u32,
}

/// Decides what to do after `error`. A session that is gone, stands elsewhere, or leads astray since the
/// configuration changed is no failure of the blob: it starts anew.
pub(crate) fn decide_break(error: &RegistryError, broke: Broke) -> AfterBreak {
    use RegistryError as E;
    match error {
        E::Content { .. } | E::Forbidden { .. } => AfterBreak::Fail,
        E::Refused { code, .. } if !broke.resumed && broke.offset == 0 && refuses_form(code) => {
            AfterBreak::NoPieces
        }
        _ if broke.begun < SESSIONS => AfterBreak::Anew,
        E::Unavailable { .. } => AfterBreak::Fail,
        _ => AfterBreak::Whole,
    }
}

/// Whether an answer, its status first, may be about the form of a body. Others say that the session is gone, or that
/// something else is wrong.
fn refuses_form(code: &str) -> bool {
    let status = code.split_whitespace().next().unwrap_or_default();
    matches!(status, "400" | "405" | "411" | "413" | "415" | "416" | "501")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_piece_is_as_long_as_the_rest_of_the_slice_holds_within_bounds() {
        let (unit, second) = (8 * MIB, Duration::from_secs(1));
        for (name, left, minimum, last, time_left, expected) in [
            ("the first one", 100 * MIB, 0, None, 600, 8 * MIB),
            ("the first one of a registry with a minimum", 100 * MIB, 9 * MIB, None, 600, 16 * MIB),
            ("a short rest", 5, 9 * MIB, None, 600, 5),
            ("a fast line is believed step by step", 1 << 40, 0, Some((8 * MIB, second)), 600, 32 * MIB),
            ("up to the largest", 1 << 40, 0, Some((400 * MIB, second)), 600, LARGEST),
            ("what the slice still holds", 1 << 40, 0, Some((32 * MIB, second * 8)), 7, 24 * MIB),
            ("a slice that is over", 1 << 40, 0, Some((32 * MIB, second)), 0, 8 * MIB),
            ("no time at all", 1 << 40, 0, Some((32 * MIB, Duration::ZERO)), 600, 128 * MIB),
        ] {
            let time_left = Duration::from_secs(time_left);
            assert_eq!(plan_piece(left, (unit, minimum), last, time_left), expected, "{name}");
        }
    }

    #[test]
    fn an_upload_that_is_lost_again_and_again_goes_to_its_end() {
        for (resumed, lost, expected) in
            [(false, 0, true), (true, 0, true), (false, 1, true), (true, 1, true), (false, 2, false)]
        {
            assert_eq!(may_pause(resumed, lost), expected, "{resumed} {lost}");
        }
    }

    fn refused(code: &str) -> RegistryError {
        let (host, operation) = ("r".to_owned(), "upload: continue".to_owned());
        RegistryError::Refused { host, operation, code: code.to_owned() }
    }

    #[test]
    fn a_lost_session_starts_anew_and_a_registry_that_refuses_pieces_is_not_asked_for_any() {
        let unavailable = || RegistryError::Unavailable {
            host: "r".to_owned(),
            operation: "upload: continue".to_owned(),
            reason: "it is away".to_owned(),
            retry_after: None,
        };
        let astray = RegistryError::EgressDenied { host: "r".to_owned(), to: "e".to_owned(), reason: "no" };
        let content = RegistryError::Content {
            host: "r".to_owned(),
            operation: "upload: continue".to_owned(),
            reason: "gone".to_owned(),
        };
        for (error, resumed, offset, begun, expected) in [
            (refused("404 BLOB_UPLOAD_UNKNOWN"), true, 64, 1, AfterBreak::Anew),
            (refused("416 RANGE_INVALID"), true, 64, 1, AfterBreak::Anew),
            (refused("400 DIGEST_INVALID"), true, 640, 1, AfterBreak::Anew),
            (astray, true, 64, 1, AfterBreak::Anew),
            (refused("416 RANGE_INVALID"), false, 64, 2, AfterBreak::Anew),
            (refused("416 RANGE_INVALID"), false, 64, 3, AfterBreak::Whole),
            (refused("413"), false, 0, 1, AfterBreak::NoPieces),
            (refused("416"), false, 0, 2, AfterBreak::NoPieces),
            (refused("404 BLOB_UPLOAD_UNKNOWN"), false, 0, 1, AfterBreak::Anew),
            (refused("404 BLOB_UPLOAD_UNKNOWN"), false, 0, 3, AfterBreak::Whole),
            (refused("409"), false, 0, 1, AfterBreak::Anew),
            (unavailable(), false, 0, 1, AfterBreak::Anew),
            (unavailable(), true, 64, 3, AfterBreak::Fail),
            (content, true, 64, 1, AfterBreak::Fail),
        ] {
            let decided = decide_break(&error, Broke { resumed, offset, begun });
            assert_eq!(decided, expected, "{error} {resumed} {offset} {begun}");
        }
    }
}
