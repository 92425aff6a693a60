//! Messages that were given up, by a stage or by the broker: each is stored, and fails the part that it is about
//! where its stage has not said so. From the store it can be put back into its queue.

mod requeue;

use std::time::Duration;

use fail::fail_point;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use transship_bus::{Delivery, GivenUpBy, Inbox, Incoming, WorkQueue};
use transship_messages::{Fact, FactBody};
use transship_model::{Code, Execution, ExecutionId, Part, Stage};
use transship_stage::attempt_at_part;

pub use self::requeue::{Requeued, decide_requeue, requeue};
use crate::clock::now_ms;
use crate::runtime::Core;
use crate::state::{NewDeadLetter, Queue, StoreError, Work};

/// How many letters of one queue are taken at once; also the prefetch. A letter may have 256 KiB.
const SLOTS: u16 = 16;

/// How long the fact of a stage that gave a message up is waited for. It was confirmed before the letter was, so it
/// is on its way already, and says more than the letter does.
const GRACE: Duration = Duration::from_secs(5);

/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// Consumes the dead letters of every work queue.
pub struct DeadLetters {
    core: Core,
}

impl DeadLetters {
    /// A consumer of the dead letters that `core`'s broker has.
    pub fn new(core: Core) -> Self {
        Self { core }
    }

    /// Stores letters until `cancel`. What was not acknowledged then is delivered again.
    pub async fn run(self, cancel: CancellationToken) {
        let of = |queue| consume(self.core.clone(), queue, cancel.clone());
        let [parts, copies, imports] =
            [Queue::ExporterParts, Queue::BlobCopierCopies, Queue::ImporterImports];
        tokio::join!(of(parts), of(copies), of(imports));
    }
}

async fn consume(core: Core, queue: Queue, cancel: CancellationToken) {
    let inbox = Inbox::DeadLetters(WorkQueue::from(queue));
    let mut deliveries = match core.bus.consume(inbox, SLOTS).await {
        Ok(deliveries) => deliveries,
        // The bus builds itself up again by itself: it says this only when it is closed.
        Err(error) => {
            return tracing::error!(%error, queue = inbox.queue(), "the dead letters cannot be consumed");
        }
    };
    let mut storing = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            Some(ended) = storing.join_next(), if !storing.is_empty() => if let Err(error) = ended {
                tracing::error!(%error, "storing a dead letter ended unexpectedly; it is delivered again");
            },
            delivery = deliveries.next() => {
                let Some(delivery) = delivery else { break };
                storing.spawn(take(core.clone(), queue, delivery));
            }
        }
    }
}

/// One letter, from the queue into the store.
async fn take(core: Core, queue: Queue, delivery: Delivery) {
    let Delivery { message, settle, .. } = delivery;
    let id = message.message_id.clone();
    let settled = match keep(&core, queue, message).await {
        Ok(()) => settle.ack().await,
        Err(error) => {
            tracing::error!(%error, hint = error.hint(), id, "a dead letter was not stored");
            // Held for the time that it takes a store to come back; released, it would come again at once.
            tokio::time::sleep(GRACE).await;
            settle.release().await
        }
    };
    if let Err(error) = settled {
        tracing::warn!(%error, id, "a dead letter could not be settled; it is delivered again");
    }
}

async fn keep(core: &Core, queue: Queue, message: Incoming) -> Result<(), StoreError> {
    let (by, reason) = match &message.death {
        Some(death) => (death.by, death.reason.clone()),
        None => (GivenUpBy::Consumer, String::new()),
    };
    let work = Work::of(queue, &message.body);
    let told = told(queue, &message, work.as_ref(), by, &reason);
    let execution = told.as_ref().map(|fact| fact.execution.id.to_string());
    tracing::warn!(queue = queue.name(), id = message.message_id, reason, "a message was given up");
    let letter = NewDeadLetter {
        queue,
        message_id: message.message_id,
        kind: message.kind,
        execution,
        headers: message.headers,
        body: message.body.to_vec(),
        reason,
        at_ms: now_ms(),
    };
    core.store.add_dead_letter(letter).await?;
    fail_point!("control.letter_stored");
    let Some(fact) = told else { return Ok(()) };
    if work.is_some() && by == GivenUpBy::Consumer && is_told(core, &fact).await? {
        return Ok(());
    }
    core.fold(fact).await?;
    fail_point!("control.letter_folded");
    Ok(())
}

/// Whether the stage says within the grace how the part ended.
async fn is_told(core: &Core, fact: &Fact) -> Result<bool, StoreError> {
    let looks = GRACE.as_millis() / LOOK.as_millis();
    for _ in 0..looks {
        let parts = core.store.part_summaries(&fact.execution).await?;
        let Some((_, part)) = parts.into_iter().find(|(number, _)| *number == fact.part.number) else {
            return Ok(false);
        };
        let about = |row: &&crate::fold::StageSummary| row.stage == fact.stage && row.target == fact.target;
        if part.stages.iter().find(about).is_some_and(|row| row.status.is_over()) {
            return Ok(true);
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(false)
}

/// The failure that a letter tells; `None` where nobody knows which execution it is of. Its time is zero, so that
/// what the stage says of the same attempt stands above it, whichever comes first.
fn told(queue: Queue, message: &Incoming, work: Option<&Work>, by: GivenUpBy, reason: &str) -> Option<Fact> {
    let (execution, part, target) = match work {
        Some(work) => (work.execution.clone(), work.part, work.target.clone()),
        // The store takes generation 0 for the newest one, as it does where a stage could not read its message.
        None => {
            let id: ExecutionId = message.correlation_id.parse().ok()?;
            (Execution { id, generation: 0 }, Part::ONLY, None)
        }
    };
    let stage = stage_of(queue);
    let what = work.map_or_else(|| "its message".to_owned(), |work| format!("part {}", work.part));
    let (code, hint) = match (work, by) {
        (None, _) => (Code::MessageInvalid, "update this stage, and then requeue the dead letter".to_owned()),
        (Some(_), GivenUpBy::Broker) => (
            Code::Internal,
            format!(
                "look in the log of the {stage} for what ends it while it works on this; then requeue the dead letter"
            ),
        ),
        (Some(_), GivenUpBy::Consumer) => {
            (Code::Internal, "mend the cause, and then requeue the dead letter".to_owned())
        }
    };
    let message_text = format!("{what} was given up by the {stage}'s queue: {reason}");
    let body = FactBody::Failed {
        code,
        message: message_text,
        hint: Some(hint),
        terminal: true,
        container: target.clone(),
    };
    Some(Fact { execution, part, stage, attempt: attempt_at_part(message), target, at_ms: 0, body })
}

fn stage_of(queue: Queue) -> Stage {
    match queue {
        Queue::ExporterParts => Stage::Exporter,
        Queue::BlobCopierCopies => Stage::BlobCopier,
        Queue::ImporterImports => Stage::Importer,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use transship_bus::Death;
    use transship_messages::WorkItem;

    use super::*;
    use crate::dispatch::plan_export;
    use crate::testing::run_record;

    fn incoming(body: Vec<u8>, correlation_id: &str) -> Incoming {
        Incoming {
            message_id: "m".to_owned(),
            kind: "export.part".to_owned(),
            correlation_id: correlation_id.to_owned(),
            // The slices before this one failed twice.
            headers: BTreeMap::from([("transship-failed-before".to_owned(), "2".to_owned())]),
            body: Bytes::from(body),
            attempt: 3,
            redelivered: false,
            routing_key: String::new(),
            death: Some(Death { by: GivenUpBy::Broker, reason: "too often".to_owned() }),
        }
    }

    fn body() -> Vec<u8> {
        plan_export(&run_record("nightly"), 1).unwrap()[0].encode()
    }

    #[test]
    fn a_letter_tells_a_failure_of_its_part() {
        let run = run_record("nightly");
        for (body, correlation, by, expected) in [
            (body(), "other", GivenUpBy::Broker, Some((7, Code::Internal, "part 1 of 1"))),
            (body(), "other", GivenUpBy::Consumer, Some((7, Code::Internal, "part 1 of 1"))),
            (b"x".to_vec(), "run-0123", GivenUpBy::Broker, Some((0, Code::MessageInvalid, "its message"))),
            (b"x".to_vec(), "Not One", GivenUpBy::Consumer, None),
        ] {
            let work = Work::of(Queue::ExporterParts, &body);
            let message = incoming(body, correlation);
            let fact = told(Queue::ExporterParts, &message, work.as_ref(), by, "too often");
            let Some((generation, code, part)) = expected else {
                assert_eq!(fact, None);
                continue;
            };
            let fact = fact.unwrap();
            assert_eq!((&fact.execution.id, fact.execution.generation), (&run.execution.id, generation));
            assert_eq!((fact.attempt, fact.at_ms, fact.stage), (5, 0, Stage::Exporter));
            let FactBody::Failed { code: told, message, hint, terminal: true, .. } = fact.body else {
                panic!("a terminal failure")
            };
            assert!(told == code && message.contains(part) && message.contains("too often"), "{message}");
            assert!(hint.unwrap().contains("requeue"));
        }
    }
}
