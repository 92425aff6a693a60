//! Facts come in, are folded into the store, and only then acknowledged. Several are folded at once, so that they
//! share a commit; the fold does not mind their order.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use fail::fail_point;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use transship_bus::{Delivery, HoldDelay, Inbox, Incoming, Settled};
use transship_messages::{DecodeError, Fact, decode_fact};
use transship_model::{Class, Failure};
use transship_stage::{RetryPolicy, Verdict, verdict};
use transship_telemetry::MessageOutcome;

use crate::clock::now_ms;
use crate::runtime::Core;
use crate::state::{Folded, StoreError};

/// How many facts are folded at once, at most; also the prefetch.
const SLOTS: u16 = 512;

/// How long a fact waits for a store that does not take it, well below the broker's consumer timeout. Then it goes
/// back to its queue.
const PATIENCE: Duration = Duration::from_secs(600);

/// The pauses between two attempts at the store.
const SOONEST: Duration = Duration::from_millis(200);
const LATEST: Duration = Duration::from_secs(10);

/// Consumes the facts.
pub struct Facts {
    core: Core,
}

/// Makes runs of imports that nobody here asked for.
#[async_trait]
pub trait Adopt: Send + Sync {
    /// Makes a run for the import that `fact` tells of, where a pipeline of ours was promised it: true where there is
    /// one now, and the fact is to be folded again.
    ///
    /// # Errors
    /// Where that cannot be found out now.
    async fn adopt(&self, fact: &Fact) -> Result<bool, Failure>;
}

/// How a delivery is settled.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Ack,
    Release,
    Retry(HoldDelay, String),
    DeadLetter(String),
}

impl Facts {
    /// A consumer of the facts that `core`'s broker has.
    pub fn new(core: Core) -> Self {
        Self { core }
    }

    /// Folds until `cancel`. What was not acknowledged then is delivered again.
    pub async fn run(self, cancel: CancellationToken) {
        let mut deliveries = match self.core.bus.consume(Inbox::Facts, SLOTS).await {
            Ok(deliveries) => deliveries,
            // The bus builds itself up again by itself: it says this only when it is closed.
            Err(error) => return tracing::error!(%error, "the facts cannot be consumed"),
        };
        let mut folding = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(ended) = folding.join_next(), if !folding.is_empty() => log_panic(ended),
                delivery = deliveries.next() => {
                    let Some(delivery) = delivery else { break };
                    folding.spawn(take(self.core.clone(), delivery));
                }
            }
        }
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "folding a fact ended unexpectedly; it is delivered again");
    }
}

/// One delivery, from decoding to settling.
async fn take(core: Core, delivery: Delivery) {
    let Delivery { message, settle, .. } = delivery;
    let end = match decode_fact(&message.body) {
        Ok(fact) => fold(&core, fact, message.attempt).await,
        Err(error) => refuse(&message, &error),
    };
    fail_point!("control.folded");
    let outcome = end.outcome();
    let settled = match end {
        End::Ack => settle.ack().await,
        End::Release => settle.release().await,
        End::Retry(delay, reason) => settle.retry(delay, &reason).await,
        End::DeadLetter(reason) => settle.dead_letter(&reason).await,
    };
    match settled {
        Ok(Settled::Done) => core.metrics.message(outcome),
        // The broker delivers again, and folding again changes nothing.
        Ok(Settled::Lost) => core.metrics.message(MessageOutcome::Lost),
        Err(error) => {
            core.metrics.message(MessageOutcome::Lost);
            tracing::warn!(id = message.message_id, %error, "a fact could not be settled; it is delivered again");
        }
    }
}

impl End {
    fn outcome(&self) -> MessageOutcome {
        match self {
            Self::Ack => MessageOutcome::Acked,
            Self::Release => MessageOutcome::Released,
            Self::Retry(..) => MessageOutcome::Retried,
            Self::DeadLetter(_) => MessageOutcome::DeadLettered,
        }
    }
}

/// Folds a fact, and tells which runs ended by it. A store that does not take it is asked again, which also keeps
/// further facts at the broker.
async fn fold(core: &Core, fact: Fact, attempt: u32) -> End {
    let until = Instant::now() + PATIENCE;
    let (mut pause, mut adopted) = (SOONEST, false);
    loop {
        match core.store.fold(fact.clone(), now_ms()).await {
            Ok(Folded::Applied { ended }) => {
                core.ended.tell(ended);
                return End::Ack;
            }
            Ok(Folded::Ignored) => return End::Ack,
            Ok(Folded::Unknown) if adopted => return unknown(core, &fact),
            Ok(Folded::Unknown) => match adopts(core, &fact).await {
                Ok(true) => adopted = true,
                Ok(false) => return unknown(core, &fact),
                Err(failure) => return put_off(&fact, &failure, attempt),
            },
            Err(StoreError::Closed) => return End::Release,
            Err(error) if Instant::now() >= until => {
                tracing::error!(%error, hint = error.hint(), "a fact was not stored");
                return End::Release;
            }
            Err(error) => {
                tracing::warn!(%error, hint = error.hint(), ?pause, "a fact was not stored; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LATEST);
            }
        }
    }
}

/// Whether a fact that is of no run here is of one now: an import that a copier of another cloud asked for.
async fn adopts(core: &Core, fact: &Fact) -> Result<bool, Failure> {
    match &core.adopter {
        Some(adopter) => adopter.adopt(fact).await,
        None => Ok(false),
    }
}

fn unknown(core: &Core, fact: &Fact) -> End {
    let (execution, kind) = (&fact.execution, fact.body.kind());
    core.unknown_facts.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(%execution.id, kind, "a fact of a run that is not known here");
    End::Ack
}

/// A fact that may be of an import of ours, which cannot be found out now: it comes again where that may pass by
/// itself. The last fact of an import has none behind it that would ask once more.
fn put_off(fact: &Fact, failure: &Failure, attempt: u32) -> End {
    let execution = &fact.execution.id;
    tracing::warn!(%execution, message = failure.message, "an import cannot be told to be one of ours");
    match (failure.class, verdict(failure.class, attempt, &RetryPolicy::BROKER)) {
        (Class::Transient { .. }, Verdict::Retry(delay)) => End::Retry(delay, failure.message.clone()),
        _ => End::Ack,
    }
}

/// A message that is no fact: one of a newer version waits for a newer process, anything else goes to the dead
/// letters of the facts.
fn refuse(message: &Incoming, error: &DecodeError) -> End {
    let class = if matches!(error, DecodeError::Newer { .. }) { Class::TRANSIENT } else { Class::Poison };
    tracing::error!(id = message.message_id, %error, "a fact cannot be understood");
    match verdict(class, message.attempt, &RetryPolicy::BROKER) {
        Verdict::Retry(delay) => End::Retry(delay, error.to_string()),
        Verdict::Release | Verdict::Fail | Verdict::DeadLetter => End::DeadLetter(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use transship_messages::FactBody;
    use transship_model::{Code, Counters, Part, Stage};

    use super::*;
    use crate::testing::run_record;

    #[test]
    fn a_fact_whose_import_cannot_be_told_to_be_ours_comes_again_where_that_may_pass_by_itself() {
        let fact = Fact {
            execution: run_record("import").execution,
            part: Part::ONLY,
            stage: Stage::Importer,
            attempt: 1,
            target: None,
            at_ms: 1,
            body: FactBody::Progress { counters: Counters::default(), in_flight: Vec::new() },
        };
        for (class, again) in [(Class::TRANSIENT, true), (Class::Permanent, false), (Class::Parked, false)] {
            let failure = Failure::new(class, Code::StorageUnavailable, "the container is away");
            let end = put_off(&fact, &failure, 1);
            assert_eq!(
                matches!(&end, End::Retry(_, why) if why == "the container is away"),
                again,
                "{class:?}"
            );
            assert_eq!(end == End::Ack, !again, "{class:?}");
        }
    }
}
