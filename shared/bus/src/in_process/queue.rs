//! A queue with its holds and its dead letters, and how its deliveries are settled.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use fail::fail_point;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::{Shared, received};
use crate::envelope::{Envelope, clean_reason};
use crate::topology::Family;
use crate::{
    BusError, Death, Deliveries, Delivery, GivenUpBy, HoldDelay, Inbox, Incoming, QueueLook, Settle, Settled,
};

/// How many dead letters are kept: nobody may ever take them.
const DEAD_LETTERS: usize = 1_000;

/// How long a delivery that could not be held keeps its slot before it is released.
const PAUSE: Duration = Duration::from_secs(5);

/// The messages of one queue and of its dead-letter queue.
pub(super) struct Queue {
    family: Family,
    depth: usize,
    entries: Mutex<Entries>,
    ready: Lane,
    dead: Lane,
}

/// What takes from one of the two.
#[derive(Default)]
struct Lane {
    arrived: Notify,
    consumers: AtomicU32,
}

#[derive(Default)]
struct Entries {
    ready: VecDeque<Incoming>,
    held: usize,
    dead: VecDeque<Incoming>,
}

impl Entries {
    fn of(&mut self, inbox: Inbox) -> &mut VecDeque<Incoming> {
        match inbox {
            Inbox::Work(_) | Inbox::Facts => &mut self.ready,
            Inbox::DeadLetters(_) => &mut self.dead,
        }
    }
}

impl Queue {
    pub(super) fn new(family: Family, depth: usize) -> Self {
        let (ready, dead) = Default::default();
        Self { family, depth, entries: Mutex::default(), ready, dead }
    }

    fn lane(&self, inbox: Inbox) -> &Lane {
        match inbox {
            Inbox::Work(_) | Inbox::Facts => &self.ready,
            Inbox::DeadLetters(_) => &self.dead,
        }
    }

    pub(super) fn look(&self, inbox: Inbox) -> QueueLook {
        let ready = self.entries().of(inbox).len().try_into().unwrap_or(u64::MAX);
        QueueLook { ready, consumers: self.lane(inbox).consumers.load(Ordering::Relaxed) }
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
        self.ready.arrived.notify_one();
        Ok(())
    }

    async fn take(&self, inbox: Inbox) -> Incoming {
        let arrived = &self.lane(inbox).arrived;
        loop {
            {
                let mut entries = self.entries();
                let messages = entries.of(inbox);
                if let Some(message) = messages.pop_front() {
                    // Several arrivals that nobody waited for have left one notification: pass it on.
                    if !messages.is_empty() {
                        arrived.notify_one();
                    }
                    return message;
                }
            }
            arrived.notified().await;
        }
    }

    /// A message that was given back is the next to be taken.
    fn put_back(&self, inbox: Inbox, message: Incoming) {
        self.entries().of(inbox).push_front(Incoming { redelivered: true, ..message });
        self.lane(inbox).arrived.notify_one();
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
        self.ready.arrived.notify_one();
    }

    fn bury(&self, message: Incoming, reason: String) {
        let mut entries = self.entries();
        if entries.dead.len() == DEAD_LETTERS {
            entries.dead.pop_front();
        }
        let death = Some(Death { by: GivenUpBy::Consumer, reason });
        entries.dead.push_back(Incoming { death, ..message });
        self.dead.arrived.notify_one();
    }

    pub(super) fn dead_letters(&self) -> Vec<(Incoming, String)> {
        let reason = |message: &Incoming| message.death.as_ref().map(|death| death.reason.clone());
        let letter = |message: &Incoming| (message.clone(), reason(message).unwrap_or_default());
        self.entries().dead.iter().map(letter).collect()
    }
}

/// The deliveries of one consumer.
pub(super) struct InProcessDeliveries {
    shared: Arc<Shared>,
    inbox: Inbox,
    slots: Arc<Semaphore>,
}

impl InProcessDeliveries {
    pub(super) fn new(shared: Arc<Shared>, inbox: Inbox, slots: Arc<Semaphore>) -> Self {
        shared.queue(inbox.family()).lane(inbox).consumers.fetch_add(1, Ordering::Relaxed);
        Self { shared, inbox, slots }
    }
}

impl Drop for InProcessDeliveries {
    fn drop(&mut self) {
        let queue = self.shared.queue(self.inbox.family());
        queue.lane(self.inbox).consumers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Deliveries for InProcessDeliveries {
    async fn next(&mut self) -> Option<Delivery> {
        let taking = async {
            let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
            let message = self.shared.queue(self.inbox.family()).take(self.inbox).await;
            let taken = Taken {
                message: message.clone(),
                shared: Arc::clone(&self.shared),
                inbox: self.inbox,
                _slot: slot,
            };
            let lost = self.shared.stop.child_token();
            Some(Delivery { message, settle: Box::new(Unsettled(Some(taken))), lost })
        };
        self.shared.stop.run_until_cancelled(taking).await?
    }
}

/// A delivery that is not settled. Dropping it releases it.
struct Unsettled(Option<Taken>);

struct Taken {
    message: Incoming,
    shared: Arc<Shared>,
    inbox: Inbox,
    _slot: OwnedSemaphorePermit,
}

impl Taken {
    fn queue(&self) -> &Queue {
        self.shared.queue(self.inbox.family())
    }

    fn settled(self) -> Settled {
        if self.shared.stop.is_cancelled() { Settled::Lost } else { Settled::Done }
    }

    fn release(self) -> Settled {
        self.queue().put_back(self.inbox, self.message.clone());
        self.settled()
    }

    /// Holds the next attempt for `delay`.
    fn hold(&self, delay: HoldDelay, reason: &str) -> Result<(), BusError> {
        self.queue().hold(&self.message.message_id)?;
        let family = self.queue().family;
        let envelope = Envelope::retry(&self.message, family, delay, reason);
        let message = Incoming { routing_key: family.name().to_owned(), ..received(envelope) };
        let shared = Arc::clone(&self.shared);
        self.shared.tasks.spawn(async move {
            let held = shared.stop.run_until_cancelled(tokio::time::sleep(delay.duration())).await;
            if held.is_some() {
                shared.queue(family).unhold(message);
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
            let dead = received(Envelope::dead_letter(&taken.message, taken.queue().family, reason));
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
