//! What becomes of a delivery whose work failed: one pure function.

use std::time::Duration;

use transship_bus::HoldDelay;
use transship_model::Class;

/// How often, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts at work that fails transiently, the first included.
    pub transient_attempts: u32,
    /// Attempts at work that waits for a person, the first included.
    pub parked_attempts: u32,
}

impl RetryPolicy {
    /// Through a broker: 10 s, 1 min, 5 min, 30 min, then every 2 hours, about a day in all. What waits for a
    /// person is tried every half hour for about two days.
    pub const BROKER: Self = Self { transient_attempts: 16, parked_attempts: 100 };

    /// In one process nothing is held back: it fails with its hint, and the same command resumes.
    pub const ONE_PROCESS: Self = Self { transient_attempts: 1, parked_attempts: 1 };
}

/// What becomes of the delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Give it back at once; no attempt is burnt.
    Release,
    /// Hold it, then try again.
    Retry(HoldDelay),
    /// It failed for good, and its requester is told: acknowledge.
    Fail,
    /// It failed for good in a way that an operator should see: to the dead-letter queue.
    DeadLetter,
}

/// Decides from what the failure says of itself and which attempt this was (from 1).
pub fn verdict(class: Class, attempt: u32, policy: &RetryPolicy) -> Verdict {
    match class {
        Class::Interrupted => Verdict::Release,
        Class::Permanent => Verdict::Fail,
        Class::Poison => Verdict::DeadLetter,
        Class::Transient { retry_after } if attempt < policy.transient_attempts => {
            let step = HoldDelay::ALL[(attempt as usize).saturating_sub(1).min(HoldDelay::ALL.len() - 1)];
            Verdict::Retry(step.max(HoldDelay::at_least(retry_after.unwrap_or(Duration::ZERO))))
        }
        Class::Parked if attempt < policy.parked_attempts => {
            // The first time soon: the secret may just be being rotated.
            Verdict::Retry(if attempt == 1 { HoldDelay::OneMinute } else { HoldDelay::HalfHour })
        }
        Class::Transient { .. } | Class::Parked => Verdict::DeadLetter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_failure_has_its_verdict() {
        let after = |s| Class::Transient { retry_after: Some(Duration::from_secs(s)) };
        let policy = RetryPolicy::BROKER;
        for (class, attempt, expected) in [
            (Class::Interrupted, 1, Verdict::Release),
            (Class::Interrupted, 99, Verdict::Release),
            (Class::Permanent, 1, Verdict::Fail),
            (Class::Poison, 1, Verdict::DeadLetter),
            (Class::TRANSIENT, 1, Verdict::Retry(HoldDelay::TenSeconds)),
            (Class::TRANSIENT, 2, Verdict::Retry(HoldDelay::OneMinute)),
            (Class::TRANSIENT, 15, Verdict::Retry(HoldDelay::TwoHours)),
            (Class::TRANSIENT, 16, Verdict::DeadLetter),
            (after(7), 1, Verdict::Retry(HoldDelay::TenSeconds)),
            (after(61), 1, Verdict::Retry(HoldDelay::FiveMinutes)),
            (after(1), 3, Verdict::Retry(HoldDelay::FiveMinutes)),
            (after(999_999), 1, Verdict::Retry(HoldDelay::TwoHours)),
            (Class::Parked, 1, Verdict::Retry(HoldDelay::OneMinute)),
            (Class::Parked, 50, Verdict::Retry(HoldDelay::HalfHour)),
            (Class::Parked, 100, Verdict::DeadLetter),
        ] {
            assert_eq!(verdict(class, attempt, &policy), expected, "{class:?} at {attempt}");
        }
    }

    #[test]
    fn in_one_process_nothing_is_held() {
        for class in [Class::TRANSIENT, Class::Parked] {
            assert_eq!(verdict(class, 1, &RetryPolicy::ONE_PROCESS), Verdict::DeadLetter);
        }
    }
}
