//! What becomes of a run that cannot start yet: one pure function.

use std::time::Duration;

use transship_model::{Class, Code, Failure};

use super::DispatchSettings;

/// The shortest and the longest time until a run that waits is looked at again.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(30);

/// Why a run cannot start yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// The credential, the pipeline or a service.
    Failure(Failure),
    /// The bundle is not there.
    Missing {
        /// What is missing, for a person.
        what: String,
        /// The container, for a person.
        container: String,
        /// What is bringing it, where that is known.
        on_its_way: Option<String>,
    },
    /// Another run imports the same bundle.
    Claimed {
        /// The run's resource id.
        by: String,
    },
    /// The broker does not take messages.
    Broker {
        /// What it says.
        reason: String,
    },
}

impl Obstacle {
    /// What kind it is. How long one is waited for begins with it, and not with the run.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Failure(_) => "failure",
            Self::Missing { on_its_way: None, .. } => "missing",
            Self::Missing { on_its_way: Some(_), .. } => "on-its-way",
            Self::Claimed { .. } => "claimed",
            Self::Broker { .. } => "broker",
        }
    }
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartVerdict {
    /// The run fails.
    Fail(Failure),
    /// The run waits, and says for what.
    Wait {
        /// What it waits for.
        on: String,
        /// How long until it is looked at again.
        again_in: Duration,
    },
}

/// Decides by what stands in the way, and how long the run has waited for an obstacle of this kind.
pub fn decide_start(obstacle: Obstacle, waited: Duration, settings: &DispatchSettings) -> StartVerdict {
    // The longer it has waited, the less it matters to be quick.
    let again_in = (waited / 4).clamp(SOONEST, LATEST);
    match obstacle {
        Obstacle::Failure(failure) => match failure.class {
            Class::Interrupted => StartVerdict::Wait { on: failure.message, again_in },
            Class::Transient { retry_after } if waited < settings.patience => {
                let again_in = again_in.max(retry_after.unwrap_or_default());
                let on = format!("{} (tried again in {} s)", failure.message, again_in.as_secs());
                StartVerdict::Wait { on, again_in }
            }
            // What a person must mend is said at once: a new token needs a new run, not a run that hangs.
            Class::Transient { .. } | Class::Permanent | Class::Parked | Class::Poison => {
                StartVerdict::Fail(failure)
            }
        },
        Obstacle::Missing { what, container, on_its_way: Some(bringer) } => {
            StartVerdict::Wait { on: format!("{what} in {container}: {bringer}"), again_in }
        }
        Obstacle::Missing { what, container, on_its_way: None } if waited < settings.blob_wait => {
            let left = settings.blob_wait.saturating_sub(waited);
            StartVerdict::Wait {
                on: format!("{what} in {container}"),
                again_in: again_in.min(left).max(SOONEST),
            }
        }
        Obstacle::Missing { what, container, on_its_way: None } => {
            let message = format!(
                "{container} lacks {what}; waited {} s for it, and no copy to it is known to be on its way",
                settings.blob_wait.as_secs()
            );
            let hint = "check the blob's name and the pipeline's container, and that the copy to it is done; then run \
                        again with another forceUpdateTag";
            StartVerdict::Fail(Failure::permanent(Code::BlobNotFound, message).with_hint(hint))
        }
        // What it brings need not be brought twice at the same time.
        Obstacle::Claimed { by } => {
            StartVerdict::Wait { on: format!("the run {by}, which imports the same bundle"), again_in }
        }
        // However long that takes: the run is safe in the store.
        Obstacle::Broker { reason } => StartVerdict::Wait { on: format!("the broker: {reason}"), again_in },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(obstacle: Obstacle, waited: u64) -> Result<(String, u64), Failure> {
        match decide_start(obstacle, Duration::from_secs(waited), &DispatchSettings::default()) {
            StartVerdict::Fail(failure) => Err(failure),
            StartVerdict::Wait { on, again_in } => Ok((on, again_in.as_secs())),
        }
    }

    #[test]
    fn a_failure_waits_only_where_it_may_pass_by_itself_and_not_for_ever() {
        let of = |class| Failure::new(class, Code::StorageUnavailable, "the vault is away");
        let after = Class::Transient { retry_after: Some(Duration::from_secs(90)) };
        for (class, waited, expected) in [
            (Class::TRANSIENT, 0, Some(1)),
            (Class::TRANSIENT, 40, Some(10)),
            (Class::TRANSIENT, 599, Some(30)),
            (Class::TRANSIENT, 600, None),
            (after, 0, Some(90)),
            (Class::Interrupted, 9_999, Some(30)),
            (Class::Parked, 0, None),
            (Class::Permanent, 0, None),
            (Class::Poison, 0, None),
        ] {
            let decision = decided(Obstacle::Failure(of(class)), waited);
            assert_eq!(decision.as_ref().ok().map(|(_, again)| *again), expected, "{class:?} after {waited}");
            match decision {
                Ok((on, _)) => assert!(on.contains("the vault is away"), "{on}"),
                Err(failure) => assert_eq!(failure, of(class)),
            }
        }
    }

    #[test]
    fn a_missing_blob_is_waited_for_and_longer_where_it_is_known_to_come() {
        let missing = |on_its_way: Option<&str>| Obstacle::Missing {
            what: "blob n".to_owned(),
            container: "https://a.example/c".to_owned(),
            on_its_way: on_its_way.map(str::to_owned),
        };
        assert_eq!(decided(missing(None), 0), Ok(("blob n in https://a.example/c".to_owned(), 1)));
        assert_eq!(decided(missing(None), 27), Ok(("blob n in https://a.example/c".to_owned(), 3)));
        let failure = decided(missing(None), 30).unwrap_err();
        assert_eq!((failure.class, failure.code), (Class::Permanent, Code::BlobNotFound));
        assert!(failure.message.contains("blob n") && failure.hint.is_some(), "{failure}");
        let (on, again) = decided(missing(Some("run r copies it")), 9_999).unwrap();
        assert!(on.ends_with("run r copies it") && again == 30, "{on}");
    }

    #[test]
    fn a_bundle_that_another_run_imports_is_waited_for() {
        let (on, again) = decided(Obstacle::Claimed { by: "/r/pipelineRuns/first".to_owned() }, 8).unwrap();
        assert!(on.contains("pipelineRuns/first") && again == 2, "{on}");
    }

    #[test]
    fn the_broker_is_waited_for_however_long_it_is_away() {
        let away = Obstacle::Broker { reason: "connection refused".to_owned() };
        let (on, again) = decided(away, 100_000).unwrap();
        assert_eq!((on.as_str(), again), ("the broker: connection refused", 30));
    }
}
