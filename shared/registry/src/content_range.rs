//! `Content-Range` of answers (RFC 9110, section 14.4) and `Range` of upload sessions (distribution
//! specification, "Pushing a blob in chunks"). Pure and strict.

/// What a `Content-Range` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentRange {
    /// `bytes FIRST-LAST/TOTAL`: these bytes follow; the total is `None` where it is `*`.
    Bytes {
        /// The first byte.
        first: u64,
        /// The last byte, included.
        last: u64,
        /// The length of the whole.
        total: Option<u64>,
    },
    /// `bytes */TOTAL`: there is no such range.
    Unsatisfied {
        /// The length of the whole.
        total: u64,
    },
}

impl ContentRange {
    /// Parses the value of a `Content-Range` header.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let (range, total) = header.strip_prefix("bytes ")?.split_once('/')?;
        if range == "*" {
            return Some(Self::Unsatisfied { total: number(total)? });
        }
        let (first, last) = range.split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        let total = if total == "*" { None } else { Some(number(total)?) };
        (first <= last && total.is_none_or(|total| last < total)).then_some(Self::Bytes {
            first,
            last,
            total,
        })
    }
}

/// How many bytes an upload session has, from its `Range: 0-LAST`. A session that has none says `0-0` in some
/// registries and `0--1` in none that is known, so one byte and none cannot be told apart: both are `None`.
pub(crate) fn session_length(header: &str) -> Option<u64> {
    let (first, last) = header.strip_prefix("bytes=").unwrap_or(header).split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    (first == 0 && last > 0).then_some(())?;
    last.checked_add(1)
}

/// Digits only: no sign, no white space, at most `u64`.
fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_grammar_is_a_content_range() {
        for (header, expected) in [
            ("bytes 0-9/10", Some(ContentRange::Bytes { first: 0, last: 9, total: Some(10) })),
            ("bytes 5-9/*", Some(ContentRange::Bytes { first: 5, last: 9, total: None })),
            ("bytes */10", Some(ContentRange::Unsatisfied { total: 10 })),
            ("bytes 0-10/10", None),
            ("bytes 9-5/10", None),
            ("bytes -5/10", None),
            ("bytes 0-/10", None),
            ("bytes +0-9/10", None),
            ("bytes 0-9", None),
            ("0-9/10", None),
            ("bytes 0-18446744073709551616/*", None),
            ("bytes */*", None),
            ("items 0-9/10", None),
        ] {
            assert_eq!(ContentRange::parse(header), expected, "{header}");
        }
    }

    #[test]
    fn a_session_says_how_much_it_has() {
        for (header, expected) in [
            ("0-9", Some(10)),
            ("bytes=0-9", Some(10)),
            ("0-0", None),
            ("5-9", None),
            ("0--1", None),
            ("x", None),
            ("0-18446744073709551615", None),
        ] {
            assert_eq!(session_length(header), expected, "{header}");
        }
    }
}
