//! The port: what the stages see of a broker. The RabbitMQ adapter and the in-process twin both run the
//! contract in `tests/contract.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::{HoldDelay, Inbox, WorkQueue};

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// To exactly one work queue, through the default exchange, mandatory.
    Work(WorkQueue),
    /// To the topic exchange of facts.
    Facts {
        /// The routing key: the execution, a dot, and the kind of fact.
        key: String,
        /// Whether a fact that reaches no queue is an error. True only where a control plane is configured.
        mandatory: bool,
    },
}

/// A message to publish. Always persistent.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Where it goes.
    pub destination: Destination,
    /// Unique to the message; the same when it is published again, so that a returned message can be told
    /// from others and a consumer can see a repetition.
    pub message_id: String,
    /// What kind of message it is (the AMQP `type`).
    pub kind: String,
    /// Correlates messages of one execution (the AMQP `correlation-id`).
    pub correlation_id: String,
    /// Text headers, such as the trace context. Keys that begin with `x-` are the bus's own.
    pub headers: BTreeMap<String, String>,
    /// The body, opaque to the bus.
    pub body: Bytes,
}

/// A message that was received.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// See [`Outgoing::message_id`]; empty where the sender set none.
    pub message_id: String,
    /// See [`Outgoing::kind`]; empty where the sender set none.
    pub kind: String,
    /// See [`Outgoing::correlation_id`].
    pub correlation_id: String,
    /// Text headers that the sender set.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Bytes,
    /// Which attempt this is, from 1. Counted by transship itself in a header, never by `x-death`.
    pub attempt: u32,
    /// Whether the broker says that it delivered the message before, or the sender that it may have sent it before
    /// ([`crate::DELIVERED_BEFORE`]). A hint only.
    pub redelivered: bool,
    /// The routing key that it was published with.
    pub routing_key: String,
    /// Why it is a dead letter; only where it came from [`Inbox::DeadLetters`].
    pub death: Option<Death>,
}

/// Why a message is a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// Who gave it up.
    pub by: GivenUpBy,
    /// Why: one line of at most 1 KiB.
    pub reason: String,
}

/// Who gave a message up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenUpBy {
    /// Whoever took it, by [`Settle::dead_letter`].
    Consumer,
    /// The broker, which knows no reason but its own: too many deliveries, or it expired.
    Broker,
}

/// A look at a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLook {
    /// Messages that wait; those that were delivered and not settled are not among them.
    pub ready: u64,
    /// Consumers.
    pub consumers: u32,
}

/// What became of a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The broker was told.
    Done,
    /// The channel was gone; the broker delivers the message again.
    Lost,
}

/// One delivery. It must be settled in exactly one way; one that is dropped unsettled is released.
#[async_trait]
pub trait Settle: Send {
    /// The effect is done and everything that follows is confirmed.
    async fn ack(self: Box<Self>) -> Result<Settled, BusError>;

    /// Gives the message back at once, for another worker; burns no attempt.
    async fn release(self: Box<Self>) -> Result<Settled, BusError>;

    /// Publishes the message with the next attempt to the hold queue of `delay`, awaits the confirm, then acks.
    /// A dead letter is held for its work queue.
    async fn retry(self: Box<Self>, delay: HoldDelay, reason: &str) -> Result<Settled, BusError>;

    /// Publishes the message to the dead-letter queue with the reason (at most 1 KiB of it), awaits the
    /// confirm, then acks. A dead letter goes behind the others.
    async fn dead_letter(self: Box<Self>, reason: &str) -> Result<Settled, BusError>;
}

/// A message and the handle to settle it with.
pub struct Delivery {
    /// The message.
    pub message: Incoming,
    /// The handle.
    pub settle: Box<dyn Settle>,
    /// Cancelled, within about a second, when the delivery can be settled no more because its channel is gone. The
    /// broker then delivers the message again, so whoever works on it stops.
    pub lost: CancellationToken,
}

/// The deliveries of one subscription.
#[async_trait]
pub trait Deliveries: Send {
    /// The next delivery. Waits through lost connections, cancelled consumers and closed channels: the
    /// adapter builds itself anew. `None` only after [`Bus::close`].
    async fn next(&mut self) -> Option<Delivery>;
}

/// What the broker's connection is like, for readiness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusState {
    /// Connecting for the first time, or again, and why.
    Connecting {
        /// The last error, without secrets; empty before the first attempt ended.
        reason: String,
    },
    /// Publishing and consuming.
    Ready,
    /// Connected, but the broker blocks publishers (memory or disk alarm).
    Blocked {
        /// The broker's reason.
        reason: String,
    },
}

/// A broker.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Publishes all of `messages`, side by side and so in no certain order, and returns once each is confirmed
    /// and none was returned. On an error any of them may have arrived: publish all of them again with the
    /// same ids.
    ///
    /// # Errors
    /// [`BusError::Unroutable`], [`BusError::Refused`], [`BusError::TimedOut`] (30 s), [`BusError::Unavailable`],
    /// and [`BusError::TooLarge`], in which case none was published.
    async fn publish(&self, messages: Vec<Outgoing>) -> Result<(), BusError>;

    /// Consumes a queue with `slots` deliveries outstanding at most (prefetch = worker slots).
    async fn consume(&self, inbox: Inbox, slots: u16) -> Result<Box<dyn Deliveries>, BusError>;

    /// Looks at a queue, and changes nothing.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] where the broker is away, the queue is not there, or this user may not look.
    async fn look(&self, inbox: Inbox) -> Result<QueueLook, BusError>;

    /// Binds a temporary queue of one's own to the facts that match `pattern` (`*` one word, `#` any words),
    /// and returns once it is bound. After a lost connection it is bound again: facts published meanwhile are
    /// missed, which [`Subscription::rebound`] tells.
    async fn subscribe(&self, pattern: &str) -> Result<Subscription, BusError>;

    /// The state of the connection; changes wake the receiver.
    fn state(&self) -> tokio::sync::watch::Receiver<BusState>;

    /// Stops every consumer and closes the connections. Unsettled deliveries return to their queues.
    async fn close(&self);
}

/// A temporary subscription to facts. Deliveries are acknowledged by the bus itself.
pub struct Subscription {
    /// The facts, in order of arrival; the channel holds at most 1,024.
    pub facts: tokio::sync::mpsc::Receiver<Incoming>,
    /// How often the queue was bound. A change means that facts may have been missed.
    pub rebound: tokio::sync::watch::Receiver<u64>,
}

/// Why the broker did not do what was asked. Messages never hold credentials.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BusError {
    /// A mandatory message reached no queue.
    #[error("the broker has no queue for message {message_id} ({destination})")]
    Unroutable {
        /// The message that was returned.
        message_id: String,
        /// Queue or routing key.
        destination: String,
    },
    /// The broker refused the message (`basic.nack`), as a full queue does.
    #[error("the broker refused message {message_id}: the queue is full or its leader is away")]
    Refused {
        /// The message that was refused.
        message_id: String,
    },
    /// No confirm came in time. The message may have arrived.
    #[error("the broker did not confirm within {0:?}")]
    TimedOut(Duration),
    /// There is no connection, or it was lost.
    #[error("the broker is not available: {0}")]
    Unavailable(String),
    /// The body is larger than the bus carries.
    #[error("message {message_id} has {size} bytes, more than the {limit} that the bus carries")]
    TooLarge {
        /// The message.
        message_id: String,
        /// Its size in bytes.
        size: usize,
        /// The bound in bytes.
        limit: usize,
    },
}

/// The error of everything that is asked of a bus after [`Bus::close`].
pub(crate) fn closed() -> BusError {
    BusError::Unavailable("the bus is closed".to_owned())
}
