//! The settings of a bus that finds out soon what is wrong.

use std::time::Duration;

use transship_bus::BusSettings;
use transship_model::Secret;

pub(crate) fn settings(url: &str) -> BusSettings {
    BusSettings {
        publish_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        longest_backoff: Duration::from_secs(2),
        ..BusSettings::new(Secret::new(url), "tests")
    }
}
