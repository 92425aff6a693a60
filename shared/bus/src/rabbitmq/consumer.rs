//! Consuming: a task per consumer that opens a channel, declares, sets the prefetch and consumes, and begins
//! again whenever any of that ends: the connection, the channel, the consumer (cancelled by the broker), or
//! the deliveries (a consumer that is connected and gets none although the queue has some).

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt;
use lapin::Channel;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::FieldTable;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::backoff::Backoff;
use super::health::Part;
use super::link::{LOOK, Live};
use super::settle::Received;
use super::{Shared, declare, look, wire};
use crate::{BusState, Deliveries, Delivery, Inbox};

/// How long a consumer that has nothing to do waits before it looks whether the queue has nothing either.
const IDLE: Duration = Duration::from_secs(30);

/// The deliveries of one consumer. When it is dropped the consumer is cancelled, and what was not taken goes
/// back; what was taken can still be settled.
pub(super) struct RabbitDeliveries {
    deliveries: mpsc::Receiver<Received>,
    closed: CancellationToken,
    _stop: DropGuard,
}

#[async_trait]
impl Deliveries for RabbitDeliveries {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            let received = self.closed.run_until_cancelled(self.deliveries.recv()).await??;
            // What a lost channel had delivered is delivered again: doing it twice at once would be waste.
            if received.is_current() {
                return Some(received.into_delivery());
            }
        }
    }
}

/// Begins to consume. Returns at once, also where the broker is away.
pub(super) fn start(shared: &Arc<Shared>, inbox: Inbox, slots: u16) -> RabbitDeliveries {
    // A prefetch of zero would be unlimited.
    let slots = slots.max(1);
    let stop = shared.stop.child_token();
    let (sender, deliveries) = mpsc::channel(slots.into());
    let part = shared.health.part();
    let queue = inbox.queue();
    let consumer =
        Consumer { shared: Arc::clone(shared), inbox, queue, slots, sender, part, stop: stop.clone() };
    shared.tasks.spawn(consumer.run());
    RabbitDeliveries { deliveries, closed: shared.stop.clone(), _stop: stop.drop_guard() }
}

struct Consumer {
    shared: Arc<Shared>,
    inbox: Inbox,
    /// The queue's name.
    queue: String,
    slots: u16,
    sender: mpsc::Sender<Received>,
    part: Part,
    stop: CancellationToken,
}

/// One channel with one consumer. Each unsettled delivery holds the channel as well, so that it can still be
/// settled when the session is over, and so that they can be counted.
struct Session {
    live: Arc<Live>,
    channel: Arc<Channel>,
    consumer: lapin::Consumer,
    /// Cancelled when nothing can be settled on the channel any more.
    lost: CancellationToken,
}

impl Consumer {
    async fn run(self) {
        let mut backoff = Backoff::up_to(self.shared.settings.longest_backoff);
        loop {
            let Some(opened) = self.stop.run_until_cancelled(self.open()).await else { return };
            let (reason, built) = match opened {
                Ok(session) => {
                    self.part.set(BusState::Ready);
                    let built = Instant::now();
                    let (channel, lost) = (Arc::downgrade(&session.channel), session.lost.clone());
                    let ended = self.serve(session).await;
                    self.shared.runtime.spawn(tell_when_lost(channel, lost));
                    match ended {
                        Some(reason) => (reason, Some(built)),
                        None => return,
                    }
                }
                Err(reason) => (reason, None),
            };
            let wait = backoff.next(built);
            tracing::warn!(queue = self.queue, reason, ?wait, "not consuming");
            self.part.down(&format!("{}: {reason}", self.queue));
            if timeout(wait, self.stop.cancelled()).await.is_ok() {
                return;
            }
        }
    }

    async fn open(&self) -> Result<Session, String> {
        let live = self.shared.consuming.live().await.map_err(|error| error.to_string())?;
        let channel = live.channel().await?;
        let limit = self.shared.settings.connect_timeout;
        match timeout(limit, self.prepare(&channel)).await {
            Ok(Ok(consumer)) => {
                let (channel, lost) = (Arc::new(channel), CancellationToken::new());
                Ok(Session { live, channel, consumer, lost })
            }
            Ok(Err(error)) => Err(live.describe(&error)),
            Err(_) => {
                live.doubt();
                Err(format!("the broker did not answer within {limit:?}"))
            }
        }
    }

    async fn prepare(&self, channel: &Channel) -> lapin::Result<lapin::Consumer> {
        if self.shared.settings.declare {
            declare::queues(channel, self.inbox.family()).await?;
        }
        // Before consuming, since it is the only bound on what lapin buffers; and per consumer, since quorum
        // queues answer a global one by closing the connection.
        channel.basic_qos(self.slots, BasicQosOptions { global: false }).await?;
        let options = BasicConsumeOptions::default();
        channel.basic_consume(self.queue.as_str().into(), "".into(), options, FieldTable::default()).await
    }

    /// Hands over what is delivered until the session ends, and says why; `None` where it was stopped.
    async fn serve(&self, mut session: Session) -> Option<String> {
        let mut suspicious = false;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => {
                    session.cancel(self.shared.settings.connect_timeout).await;
                    return None;
                }
                item = session.consumer.next() => match item {
                    Some(Ok(delivery)) => {
                        suspicious = false;
                        self.hand_over(&session, delivery).await;
                    }
                    Some(Err(error)) => return Some(session.live.describe(&error)),
                    None => return Some("the broker cancelled the consumer".to_owned()),
                },
                () = tokio::time::sleep(IDLE) => match self.has_ready(&session).await {
                    Ok(true) if suspicious => return Some("the queue has messages and delivers none".to_owned()),
                    Ok(ready) => suspicious = ready,
                    Err(reason) => return Some(reason),
                },
            }
        }
    }

    async fn hand_over(&self, session: &Session, mut delivery: lapin::message::Delivery) {
        let message = match self.inbox {
            Inbox::DeadLetters(queue) => wire::dead_letter(&mut delivery, queue),
            Inbox::Work(_) | Inbox::Facts => wire::incoming(&mut delivery),
        };
        let (family, lost) = (self.inbox.family(), session.lost.clone());
        let received = Received::new(&self.shared, family, &session.channel, delivery.acker, message, lost);
        match received.oversized() {
            Some(reason) => {
                self.shared.tasks.spawn(received.bury(reason));
            }
            // At most `slots` are unsettled, and the channel has room for as many; one that nobody takes any
            // more is released when it is dropped.
            None => {
                let _ = self.stop.run_until_cancelled(self.sender.send(received)).await;
            }
        }
    }

    /// Whether the queue has messages that a consumer without work should have got by now. This also finds a
    /// connection that does not answer.
    async fn has_ready(&self, session: &Session) -> Result<bool, String> {
        if Arc::strong_count(&session.channel) > 1 {
            return Ok(false);
        }
        // On a channel of its own: an answer that is an error closes it.
        let channel = session.live.channel().await?;
        let looking = look::passive(&channel, &self.queue);
        match timeout(self.shared.settings.connect_timeout, looking).await {
            Ok(Ok(queue)) => Ok(queue.ready > 0),
            // A user that may consume may be forbidden to look; then this watch is off.
            Ok(Err(error)) if is_forbidden(&error) => Ok(false),
            Ok(Err(error)) => Err(session.live.describe(&error)),
            Err(_) => Err("the broker does not answer".to_owned()),
        }
    }
}

/// Tells those who work on what a session delivered, once the session is over, as soon as its channel is gone. It
/// may stay for a while: where only the consumer was cancelled, what was delivered can still be settled.
async fn tell_when_lost(channel: Weak<Channel>, lost: CancellationToken) {
    while channel.upgrade().is_some_and(|channel| channel.status().connected()) {
        tokio::time::sleep(LOOK).await;
    }
    lost.cancel();
}

fn is_forbidden(error: &lapin::Error) -> bool {
    let lapin::ErrorKind::ProtocolError(error) = error.kind() else { return false };
    matches!(error.kind(), AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED))
}

impl Session {
    /// Stops the deliveries and gives back those that are on their way.
    async fn cancel(&mut self, limit: Duration) {
        let tag = self.consumer.tag();
        let cancelled = async {
            self.channel.basic_cancel(tag, BasicCancelOptions::default()).await?;
            while let Some(delivery) = self.consumer.next().await {
                delivery?.nack(BasicNackOptions { requeue: true, multiple: false }).await?;
            }
            Ok::<(), lapin::Error>(())
        };
        // Where this fails the channel is gone, and the broker gives them back by itself.
        let _ = timeout(limit, cancelled).await;
    }
}
