//! The twin: the same port and the same semantics in one process. The command line runs on it, and so do
//! tests, where paused time makes a hold of two hours instant.

mod facts;
mod queue;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::facts::Facts;
use self::queue::{InProcessDeliveries, Queue};
use crate::envelope::{DELIVERED_BEFORE, Envelope, Route};
use crate::port::closed;
use crate::topology::Family;
use crate::{
    Bus, BusError, BusState, Deliveries, Inbox, Incoming, Outgoing, QueueLook, Subscription, WorkQueue,
};

/// How many messages a queue holds unless told otherwise.
const DEPTH: usize = 8_192;

/// A broker inside this process. Nothing survives it: what repeats a killed command is what the stages find
/// in the storage. Every queue is bounded: a full one refuses, as the broker's would.
pub struct InProcess {
    shared: Arc<Shared>,
    state: watch::Sender<BusState>,
}

/// What consumers and settlements share.
struct Shared {
    queues: [Queue; WorkQueue::ALL.len()],
    facts: Facts,
    /// The facts that wait for the control plane, once it has consumed them for the first time.
    waiting_facts: Queue,
    facts_are_bound: AtomicBool,
    /// Cancelled when the bus is closed.
    stop: CancellationToken,
    /// Held messages, and subscriptions.
    tasks: TaskTracker,
}

impl InProcess {
    /// A bus whose queues hold 8,192 messages each.
    pub fn new() -> Self {
        Self::with_depth(DEPTH)
    }

    /// A bus whose queues hold `depth` messages each, and as many held ones; at least one.
    pub fn with_depth(depth: usize) -> Self {
        let shared = Shared {
            queues: WorkQueue::ALL.map(|queue| Queue::new(Family::Work(queue), depth.max(1))),
            facts: Facts::default(),
            waiting_facts: Queue::new(Family::Facts, depth.max(1)),
            facts_are_bound: AtomicBool::new(false),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        Self { shared: Arc::new(shared), state: watch::channel(BusState::Ready).0 }
    }

    /// The newest dead letters of a queue with their reasons, oldest first; at most 1,000.
    pub fn dead_letters(&self, queue: WorkQueue) -> Vec<(Incoming, String)> {
        self.shared.queue(Family::Work(queue)).dead_letters()
    }
}

impl Default for InProcess {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    fn queue(&self, family: Family) -> &Queue {
        match family {
            Family::Work(WorkQueue::ExporterParts) => &self.queues[0],
            Family::Work(WorkQueue::BlobCopierCopies) => &self.queues[1],
            Family::Work(WorkQueue::ImporterImports) => &self.queues[2],
            Family::Facts => &self.waiting_facts,
        }
    }

    fn accept(&self, envelope: Envelope) -> Result<(), BusError> {
        match &envelope.route {
            Route::Queue { family, .. } => self.queue(*family).push(envelope),
            Route::Facts { .. } if self.facts_are_bound.load(Ordering::Acquire) => {
                self.facts.push(Envelope { mandatory: false, ..envelope.clone() })?;
                self.waiting_facts.push(envelope)
            }
            Route::Facts { .. } => self.facts.push(envelope),
        }
    }
}

/// The message that an envelope becomes at the other side.
fn received(envelope: Envelope) -> Incoming {
    Incoming {
        routing_key: envelope.route.key().to_owned(),
        redelivered: envelope.headers.contains_key(DELIVERED_BEFORE),
        message_id: envelope.message_id,
        kind: envelope.kind,
        correlation_id: envelope.correlation_id,
        headers: envelope.headers,
        body: envelope.body,
        attempt: envelope.attempt,
        death: None,
    }
}

#[async_trait]
impl Bus for InProcess {
    async fn publish(&self, messages: Vec<Outgoing>) -> Result<(), BusError> {
        let envelopes: Vec<_> = messages.into_iter().map(Envelope::first).collect::<Result<_, _>>()?;
        if self.shared.stop.is_cancelled() {
            return Err(closed());
        }
        envelopes.into_iter().try_for_each(|envelope| self.shared.accept(envelope))
    }

    async fn consume(&self, inbox: Inbox, slots: u16) -> Result<Box<dyn Deliveries>, BusError> {
        if inbox == Inbox::Facts {
            self.shared.facts_are_bound.store(true, Ordering::Release);
        }
        let slots = Arc::new(Semaphore::new(slots.max(1).into()));
        Ok(Box::new(InProcessDeliveries::new(Arc::clone(&self.shared), inbox, slots)))
    }

    async fn look(&self, inbox: Inbox) -> Result<QueueLook, BusError> {
        if self.shared.stop.is_cancelled() {
            return Err(closed());
        }
        Ok(self.shared.queue(inbox.family()).look(inbox))
    }

    async fn subscribe(&self, pattern: &str) -> Result<Subscription, BusError> {
        if self.shared.stop.is_cancelled() {
            return Err(closed());
        }
        facts::subscribe(&self.shared, pattern)
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.state.subscribe()
    }

    async fn close(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        self.state.send_replace(BusState::Connecting { reason: "closed".to_owned() });
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}
