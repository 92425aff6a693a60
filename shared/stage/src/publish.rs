//! Turns work and facts into messages, and publishes them for as long as it takes.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use transship_bus::{Bus, BusError, Destination, Outgoing, WorkQueue};
use transship_messages::{Fact, WorkItem, encode_fact};
use transship_model::{Class, Code, Failure};

/// The message of a work item for `queue`.
pub fn work_message<W: WorkItem>(work: &W, queue: WorkQueue, headers: BTreeMap<String, String>) -> Outgoing {
    Outgoing {
        destination: Destination::Work(queue),
        message_id: work.message_id(),
        kind: W::KIND.to_owned(),
        correlation_id: work.execution().id.to_string(),
        headers,
        body: Bytes::from(work.encode()),
    }
}

/// The message of a fact. `number` tells the facts of one attempt apart.
pub fn fact_message(
    fact: &Fact,
    number: u64,
    mandatory: bool,
    headers: BTreeMap<String, String>,
) -> Outgoing {
    let (execution, kind) = (&fact.execution, fact.body.kind());
    let (part, stage, attempt) = (fact.part.number, fact.stage, fact.attempt);
    Outgoing {
        destination: Destination::Facts { key: format!("{}.{kind}", execution.id), mandatory },
        message_id: format!(
            "{}.{}.{part}.{stage}.{kind}.{attempt}.{number}",
            execution.id, execution.generation
        ),
        kind: kind.to_owned(),
        correlation_id: execution.id.to_string(),
        headers,
        body: Bytes::from(encode_fact(fact)),
    }
}

/// How long a publish is tried before the delivery is given up for now: the consumer's connection has had its
/// share of time by then too.
const PATIENCE: Duration = Duration::from_secs(300);

/// How long a broker may take to answer once the work is cancelled: what is done should be told, and a broker that
/// blocks must not hold up a shutdown.
const GRACE: Duration = Duration::from_secs(5);

/// Publishes `messages`, again with the same ids after a failure, until all are confirmed.
///
/// # Errors
/// [`Class::Interrupted`] once cancelled, where no try is answered soon; `away` after five minutes; and permanent where a message is too large to
/// be carried.
pub(crate) async fn publish(
    bus: &dyn Bus,
    messages: Vec<Outgoing>,
    away: Class,
    cancel: &CancellationToken,
) -> Result<(), Failure> {
    if messages.is_empty() {
        return Ok(());
    }
    let started = tokio::time::Instant::now();
    let mut pause = Duration::from_millis(250);
    loop {
        let published = tokio::select! {
            biased;
            published = bus.publish(messages.clone()) => published,
            () = async { cancel.cancelled().await; tokio::time::sleep(GRACE).await } => {
                return Err(Failure::interrupted());
            }
        };
        let Err(error) = published else { return Ok(()) };
        tracing::warn!(%error, "publishing failed; trying again");
        if matches!(error, BusError::TooLarge { .. }) {
            return Err(Failure::permanent(Code::LimitExceeded, error.to_string()));
        }
        if started.elapsed() > PATIENCE {
            return Err(Failure::new(away, Code::BrokerUnavailable, error.to_string()));
        }
        tokio::select! {
            () = cancel.cancelled() => return Err(Failure::interrupted()),
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(10)),
        }
    }
}
