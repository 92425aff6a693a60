//! A work queue with its holds and its dead letters, and how its deliveries are settled.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use fail::fail_point;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::{Shared, received};
use crate::envelope::{Envelope, clean_reason};
use crate::{BusError, Deliveries, Delivery, HoldDelay, Incoming, Settle, Settled, WorkQueue};

/// How many dead letters are kept: they are for looking at, not for working on.
const DEAD_LETTERS: usize = 1_000;

/// How long a delivery that could not be held keeps its slot before it is released.
const PAUSE: Duration = Duration::from_secs(5);

/// The messages of one work queue.
pub(super) struct Queue {
    name: WorkQueue,
    depth: usize,
    entries: Mutex<Entries>,
    arrived: Notify,
}

#[derive(Default)]
struct Entries {
    ready: VecDeque<Incoming>,
    held: usize,
    dead: VecDeque<(Incoming, String)>,
}

impl Queue {
    pub(super) fn new(name: WorkQueue, depth: usize) -> Self {
        Self { name, depth, entries: Mutex::default(), arrived: Notify::new() }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, envelope: Envelope) -> Result<(), BusError> {
        let mut entries = self.entries();
        if entries.ready.len() >= self.depth {
            return Err(BusError::Refused { message_id: envelope.message_id });
        }
        entries.ready.push_back(received(envelope));
        self.arrived.notify_one();
        Ok(())
    }

    async fn take(&self) -> Incoming {
        loop {
            {
                let mut entries = self.entries();
                if let Some(message) = entries.ready.pop_front() {
                    // Several arrivals that nobody waited for have left one notification: pass it on.
                    if !entries.ready.is_empty() {
                        self.arrived.notify_one();
                    }
                    return message;
                }
            }
            self.arrived.notified().await;
        }
    }

    /// A message that was given back is the next to be taken.
    fn put_back(&self, message: Incoming) {
        self.entries().ready.push_front(Incoming { redelivered: true, ..message });
        self.arrived.notify_one();
    }

    fn hold(&self, message_id: &str) -> Result<(), BusError> {
        let mut entries = self.entries();
        if entries.held >= self.depth {
            return Err(BusError::Refused { message_id: message_id.to_owned() });
        }
        entries.held += 1;
        Ok(())
    }

    /// A hold is over. The queue may be full by now: what was accepted once is not refused.
    fn unhold(&self, message: Incoming) {
        let mut entries = self.entries();
        entries.held -= 1;
        entries.ready.push_back(message);
        self.arrived.notify_one();
    }

    fn bury(&self, message: Incoming, reason: String) {
        let mut entries = self.entries();
        if entries.dead.len() == DEAD_LETTERS {
            entries.dead.pop_front();
        }
        entries.dead.push_back((message, reason));
    }

    pub(super) fn dead_letters(&self) -> Vec<(Incoming, String)> {
        self.entries().dead.iter().cloned().collect()
    }
}

/// The deliveries of one consumer.
pub(super) struct InProcessDeliveries {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: WorkQueue,
    pub(super) slots: Arc<Semaphore>,
}

#[async_trait]
impl Deliveries for InProcessDeliveries {
    async fn next(&mut self) -> Option<Delivery> {
        let taking = async {
            let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
            let message = self.shared.queue(self.queue).take().await;
            let taken = Taken {
                message: message.clone(),
                shared: Arc::clone(&self.shared),
                queue: self.queue,
                _slot: slot,
            };
            Some(Delivery { message, settle: Box::new(Unsettled(Some(taken))) })
        };
        self.shared.stop.run_until_cancelled(taking).await?
    }
}

/// A delivery that is not settled. Dropping it releases it.
struct Unsettled(Option<Taken>);

struct Taken {
    message: Incoming,
    shared: Arc<Shared>,
    queue: WorkQueue,
    _slot: OwnedSemaphorePermit,
}

impl Taken {
    fn queue(&self) -> &Queue {
        self.shared.queue(self.queue)
    }

    fn settled(self) -> Settled {
        if self.shared.stop.is_cancelled() { Settled::Lost } else { Settled::Done }
    }

    fn release(self) -> Settled {
        self.queue().put_back(self.message.clone());
        self.settled()
    }

    /// Holds the next attempt for `delay`.
    fn hold(&self, delay: HoldDelay, reason: &str) -> Result<(), BusError> {
        self.queue().hold(&self.message.message_id)?;
        let envelope = Envelope::retry(&self.message, self.queue, delay, reason);
        let message = Incoming { routing_key: self.queue().name.name().to_owned(), ..received(envelope) };
        let (shared, queue) = (Arc::clone(&self.shared), self.queue);
        self.shared.tasks.spawn(async move {
            let held = shared.stop.run_until_cancelled(tokio::time::sleep(delay.duration())).await;
            if held.is_some() {
                shared.queue(queue).unhold(message);
            }
        });
        Ok(())
    }

    fn release_after_a_pause(self) {
        let shared = Arc::clone(&self.shared);
        shared.tasks.spawn(async move {
            self.shared.stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
            self.release();
        });
    }
}

#[async_trait]
impl Settle for Unsettled {
    async fn ack(mut self: Box<Self>) -> Result<Settled, BusError> {
        Ok(self.0.take().map_or(Settled::Lost, Taken::settled))
    }

    async fn release(mut self: Box<Self>) -> Result<Settled, BusError> {
        Ok(self.0.take().map_or(Settled::Lost, Taken::release))
    }

    async fn retry(mut self: Box<Self>, delay: HoldDelay, reason: &str) -> Result<Settled, BusError> {
        if let Some(Err(error)) = self.0.as_ref().map(|taken| taken.hold(delay, reason)) {
            if let Some(taken) = self.0.take() {
                taken.release_after_a_pause();
            }
            return Err(error);
        }
        fail_point!("bus.retry.published");
        self.ack().await
    }

    async fn dead_letter(mut self: Box<Self>, reason: &str) -> Result<Settled, BusError> {
        if let Some(taken) = &self.0 {
            let dead = received(Envelope::dead_letter(&taken.message, taken.queue, reason));
            taken.queue().bury(dead, clean_reason(reason));
        }
        fail_point!("bus.dead_letter.published");
        self.ack().await
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        if let Some(taken) = self.0.take() {
            taken.release();
        }
    }
}
