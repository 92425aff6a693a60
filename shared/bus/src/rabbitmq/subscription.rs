//! Following facts: a queue of one's own, bound to the exchange of facts, and bound again whenever it is lost.

use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, message};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::backoff::Backoff;
use super::health::Part;
use super::link::Live;
use super::{Shared, declare, wire};
use crate::envelope::{check_pattern, oversized};
use crate::port::closed;
use crate::topology::{FACTS_BACKLOG_BYTES, FACTS_CHANNEL};
use crate::{BusError, BusState, FACTS_EXCHANGE, Incoming, Subscription};

/// How many facts are on their way to this process at once. Automatic acknowledgement would have no such
/// bound: lapin buffers without one, whoever reads slowly.
const PREFETCH: u16 = 256;

/// Subscribes, and returns once the queue is bound.
pub(super) async fn start(shared: &Arc<Shared>, pattern: &str) -> Result<Subscription, BusError> {
    check_pattern(pattern)?;
    if shared.stop.is_cancelled() {
        return Err(closed());
    }
    let (sender, facts) = mpsc::channel(FACTS_CHANNEL);
    let (bound, mut rebound) = watch::channel(0);
    let follower = Follower {
        shared: Arc::clone(shared),
        pattern: pattern.to_owned(),
        sender,
        bound,
        part: shared.health.part(),
    };
    shared.tasks.spawn(follower.run());
    let limit = shared.settings.publish_timeout;
    match timeout(limit, rebound.wait_for(|bound| *bound > 0)).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) => return Err(closed()),
        Err(_) => {
            return Err(match shared.consuming.down() {
                Some(reason) => BusError::Unavailable(reason),
                None => BusError::TimedOut(limit),
            });
        }
    }
    Ok(Subscription { facts, rebound })
}

struct Follower {
    shared: Arc<Shared>,
    pattern: String,
    sender: mpsc::Sender<Incoming>,
    bound: watch::Sender<u64>,
    part: Part,
}

impl Follower {
    /// Until the bus is closed, or nobody receives any more.
    async fn run(self) {
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => {}
            () = self.sender.closed() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&self) {
        let mut backoff = Backoff::up_to(self.shared.settings.longest_backoff);
        loop {
            let (reason, built) = match self.open().await {
                Ok((live, consumer)) => {
                    self.part.set(BusState::Ready);
                    self.bound.send_modify(|bound| *bound += 1);
                    let built = Instant::now();
                    let reason = match self.serve(consumer).await {
                        Err(error) => live.describe(&error),
                        Ok(()) => "the broker cancelled the subscription".to_owned(),
                    };
                    (reason, Some(built))
                }
                Err(reason) => (reason, None),
            };
            let wait = backoff.next(built);
            tracing::warn!(reason, ?wait, "not following facts");
            self.part.down(&format!("facts: {reason}"));
            tokio::time::sleep(wait).await;
        }
    }

    /// A consumer, which keeps its channel open, and the connection that it is on.
    async fn open(&self) -> Result<(Arc<Live>, lapin::Consumer), String> {
        let live = self.shared.consuming.live().await.map_err(|error| error.to_string())?;
        let channel = live.channel().await?;
        let limit = self.shared.settings.connect_timeout;
        match timeout(limit, self.prepare(&channel)).await {
            Ok(Ok(consumer)) => Ok((live, consumer)),
            Ok(Err(error)) => Err(live.describe(&error)),
            Err(_) => {
                live.doubt();
                Err(format!("the broker did not answer within {limit:?}"))
            }
        }
    }

    async fn prepare(&self, channel: &Channel) -> lapin::Result<lapin::Consumer> {
        if self.shared.settings.declare {
            declare::facts(channel).await?;
        }
        // A reader that is slow, or away, must not fill the broker: the oldest facts make room.
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(FACTS_BACKLOG_BYTES.into()));
        let options =
            QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), options, arguments).await?.name().clone();
        let (exchange, key) = (FACTS_EXCHANGE.into(), wire::short(&self.pattern));
        let options = QueueBindOptions::default();
        channel.queue_bind(queue.clone(), exchange, key, options, FieldTable::default()).await?;
        channel.basic_qos(PREFETCH, BasicQosOptions { global: false }).await?;
        channel.basic_consume(queue, "".into(), BasicConsumeOptions::default(), FieldTable::default()).await
    }

    /// Forwards facts until the consumer ends. A full channel stops the reading.
    async fn serve(&self, mut consumer: lapin::Consumer) -> lapin::Result<()> {
        while let Some(delivery) = consumer.next().await {
            self.forward(delivery?).await?;
        }
        Ok(())
    }

    async fn forward(&self, mut delivery: message::Delivery) -> lapin::Result<()> {
        let fact = wire::incoming(&mut delivery);
        match oversized(&fact) {
            Some(reason) => tracing::warn!(reason, "dropped a fact"),
            // Nobody receives any more: `run` ends.
            None => drop(self.sender.send(fact).await),
        }
        delivery.ack(BasicAckOptions::default()).await.map(drop)
    }
}
