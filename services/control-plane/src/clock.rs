//! Times, as they are kept and as they are shown.

use jiff::Timestamp;

/// Now, in milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// RFC 3339 with an offset, as clients of Azure Resource Manager expect it.
pub(crate) fn shown(ms: i64) -> String {
    let time = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{}+00:00", time.strftime("%Y-%m-%dT%H:%M:%S%.3f"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_have_an_offset() {
        assert_eq!(super::shown(1_700_000_000_123), "2023-11-14T22:13:20.123+00:00");
        assert_eq!(super::shown(0), "1970-01-01T00:00:00.000+00:00");
    }
}
