//! Publishing what stands in the outbox: each message until it is confirmed, whatever becomes of the others.

use std::time::Duration;

use bytes::Bytes;
use fail::fail_point;
use futures::future::join_all;
use transship_bus::{BusError, Destination, Outgoing};
use transship_model::{Code, Failure};

use super::Dispatcher;
use crate::clock::now_ms;
use crate::state::{OutboxItem, OutboxRow, RunState, StoreError};

/// The longest wait until a message is published again. The broker says when it is back; this is for a queue that
/// is full.
const LATEST: Duration = Duration::from_secs(30);

impl Dispatcher {
    /// Publishes the rows side by side. A failure puts its row off, and no other.
    pub(super) async fn publish(&self, rows: Vec<OutboxRow>) -> Result<(), StoreError> {
        let published = join_all(rows.iter().map(|row| self.publish_one(row))).await;
        fail_point!("control.published");
        let mut done = Vec::new();
        let mut refused = Vec::new();
        for (row, published) in rows.iter().zip(published) {
            match published {
                Ok(()) => done.push(row.id),
                Err(error) if matches!(error, BusError::TooLarge { .. }) => refused.push((row, error)),
                Err(error) => {
                    let wait = back_off(row.attempts);
                    tracing::warn!(%error, ?wait, execution = %row.execution.id, "not published; trying again");
                    self.core.store.outbox_retry(row.id, later(wait)).await?;
                }
            }
        }
        self.core.store.outbox_done(&done).await?;
        for (row, error) in refused {
            self.give_up(row, &error).await?;
        }
        fail_point!("control.outbox_done");
        Ok(())
    }

    async fn publish_one(&self, row: &OutboxRow) -> Result<(), BusError> {
        match message(row) {
            Some(message) => self.core.bus.publish(vec![message]).await,
            None => Ok(()),
        }
    }

    /// A message that no broker will ever take fails its run.
    async fn give_up(&self, row: &OutboxRow, error: &BusError) -> Result<(), StoreError> {
        let failure = Failure::permanent(Code::LimitExceeded, error.to_string());
        for run in self.core.store.runs_of_execution(&row.execution.id).await? {
            if run.execution == row.execution && !run.state.is_terminal() {
                self.core.end(&run, RunState::failed(&failure)).await?;
            }
        }
        self.core.store.outbox_done(&[row.id]).await
    }
}

/// The message of a row; `None` where the row is of another kind.
fn message(row: &OutboxRow) -> Option<Outgoing> {
    let OutboxItem::Publish { queue, message_id, kind, headers, body } = &row.item else { return None };
    Some(Outgoing {
        destination: Destination::Work((*queue).into()),
        message_id: message_id.clone(),
        kind: kind.clone(),
        correlation_id: row.execution.id.to_string(),
        headers: headers.clone(),
        body: Bytes::copy_from_slice(body),
    })
}

/// `wait` from now, in milliseconds since the Unix epoch.
pub(super) fn later(wait: Duration) -> i64 {
    now_ms().saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}

/// How long until a message is published again that could not be published `attempts` times before.
fn back_off(attempts: i64) -> Duration {
    let doublings = u32::try_from(attempts.clamp(0, 10)).unwrap_or_default();
    Duration::from_secs(1 << doublings).min(LATEST)
}

#[cfg(test)]
mod tests {
    use transship_bus::WorkQueue;

    use super::*;
    use crate::state::Queue;
    use crate::testing::run_record;

    #[test]
    fn a_message_that_cannot_be_published_waits_longer_each_time_and_never_for_long() {
        let waits: Vec<u64> = [-1, 0, 1, 2, 3, 4, 5, 6, i64::MAX].map(|n| back_off(n).as_secs()).into();
        assert_eq!(waits, [1, 1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn a_row_becomes_the_message_that_it_says() {
        let item = OutboxItem::Publish {
            queue: Queue::ImporterImports,
            message_id: "m".to_owned(),
            kind: "import.requested".to_owned(),
            headers: [("traceparent".to_owned(), "00-1".to_owned())].into(),
            body: b"body".to_vec(),
        };
        let execution = run_record("nightly").execution;
        let row = OutboxRow { id: 1, execution, item, due_ms: 0, attempts: 0, obstacle: None };
        let message = message(&row).unwrap();
        assert_eq!(message.destination, Destination::Work(WorkQueue::ImporterImports));
        assert_eq!((message.message_id.as_str(), message.kind.as_str()), ("m", "import.requested"));
        assert_eq!(
            (message.correlation_id.as_str(), message.body.as_ref()),
            ("run-0123", b"body".as_slice())
        );
        assert_eq!(message.headers["traceparent"], "00-1");
        assert!(super::message(&OutboxRow { item: OutboxItem::Start, ..row }).is_none());
    }
}
