//! Attempts at a part, counted over all of its slices. The rest of a slice is a message of its own, whose attempts
//! the retry policy counts from 1 again; but facts of a higher attempt stand above those of a lower one, so what is
//! told of a slice must not begin again below what was told of the slices before it.

use std::collections::BTreeMap;

use transship_bus::Incoming;

/// The header that says how many attempts the slices before this one failed. Holds and dead letters keep it; the work
/// of the next stage begins without it.
const FAILED_BEFORE: &str = "transship-failed-before";

/// Which attempt at its part the message is, from 1: what its facts carry.
pub fn attempt_at_part(message: &Incoming) -> u32 {
    let before = message.headers.get(FAILED_BEFORE).and_then(|count| count.parse().ok());
    message.attempt.saturating_add(before.unwrap_or(0))
}

/// Has the rest of a slice go on at `attempt`, the one that it is the rest of.
pub(crate) fn go_on(attempt: u32, headers: &mut BTreeMap<String, String>) {
    if attempt > 1 {
        headers.insert(FAILED_BEFORE.to_owned(), (attempt - 1).to_string());
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn message(attempt: u32, headers: BTreeMap<String, String>) -> Incoming {
        Incoming {
            message_id: String::new(),
            kind: String::new(),
            correlation_id: String::new(),
            headers,
            body: Bytes::new(),
            attempt,
            redelivered: false,
            routing_key: String::new(),
            death: None,
        }
    }

    #[test]
    fn a_slice_goes_on_at_the_attempt_that_it_is_the_rest_of() {
        let mut headers = BTreeMap::new();
        for (attempts, at_part) in [(1, 1), (3, 3), (1, 3), (2, 4), (1, 4)] {
            let slice = message(attempts, std::mem::take(&mut headers));
            assert_eq!(attempt_at_part(&slice), at_part);
            go_on(at_part, &mut headers);
        }
    }

    #[test]
    fn a_hostile_header_is_no_count() {
        for (said, expected) in [("", 2), ("-1", 2), ("x", 2), ("99999999999", 2), ("4294967295", u32::MAX)] {
            let headers = [(FAILED_BEFORE.to_owned(), said.to_owned())].into();
            assert_eq!(attempt_at_part(&message(2, headers)), expected, "{said}");
        }
    }
}
