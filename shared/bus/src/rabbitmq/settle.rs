//! Settling: first what follows is confirmed, then the delivery is acknowledged. A crash between the two
//! makes a duplicate, never a loss.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fail::fail_point;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use lapin::{Acker, Channel};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::envelope::{self, Envelope};
use crate::topology::Family;
use crate::{BusError, Delivery, HoldDelay, Incoming, Settle, Settled};

/// How long a delivery that could not be held or buried keeps its slot before it is released: a hold queue
/// that is full must not become a loop without a pause.
const PAUSE: Duration = Duration::from_secs(5);

/// A delivery, on its way to whoever settles it.
pub(super) struct Received {
    message: Incoming,
    unsettled: Unsettled,
    lost: CancellationToken,
}

/// A delivery that is not settled. Dropping it releases it.
struct Unsettled(Option<Handles>);

struct Handles {
    acker: Acker,
    /// Keeps the channel open as long as there is something to settle on it.
    _channel: Arc<Channel>,
    shared: Arc<Shared>,
    family: Family,
    message: Incoming,
}

impl Received {
    pub(super) fn new(
        shared: &Arc<Shared>,
        family: Family,
        channel: &Arc<Channel>,
        acker: Acker,
        message: Incoming,
        lost: CancellationToken,
    ) -> Self {
        let (shared, channel) = (Arc::clone(shared), Arc::clone(channel));
        let handles = Handles { acker, _channel: channel, shared, family, message: message.clone() };
        Self { message, unsettled: Unsettled(Some(handles)), lost }
    }

    /// Whether its channel is still there.
    pub(super) fn is_current(&self) -> bool {
        self.unsettled.0.as_ref().is_some_and(|handles| handles.acker.usable())
    }

    pub(super) fn oversized(&self) -> Option<String> {
        envelope::oversized(&self.message)
    }

    /// Makes a dead letter of a message that cannot be handed over.
    pub(super) async fn bury(self, reason: String) {
        let id = self.message.message_id;
        match Box::new(self.unsettled).dead_letter(&reason).await {
            Ok(_) => tracing::warn!(id, reason, "made a dead letter"),
            Err(error) => tracing::warn!(id, %error, "could not make a dead letter"),
        }
    }

    pub(super) fn into_delivery(self) -> Delivery {
        Delivery { message: self.message, settle: Box::new(self.unsettled), lost: self.lost }
    }
}

impl Unsettled {
    /// Publishes what takes the place of the delivery. Where that fails, it is released after a pause.
    async fn publish(&mut self, envelope: impl FnOnce(&Handles) -> Envelope) -> Result<(), BusError> {
        let Some(handles) = &self.0 else { return Ok(()) };
        let published = handles.shared.publisher.publish(&envelope(handles)).await;
        if published.is_err()
            && let Some(handles) = self.0.take()
        {
            release_after(PAUSE, handles);
        }
        published
    }

    async fn ack(mut self: Box<Self>) -> Settled {
        match self.0.take() {
            Some(handles) => handles.ack().await,
            None => Settled::Lost,
        }
    }
}

impl Handles {
    async fn ack(self) -> Settled {
        self.told(self.acker.ack(BasicAckOptions::default())).await
    }

    async fn nack(self) -> Settled {
        self.told(self.acker.nack(BasicNackOptions { requeue: true, multiple: false })).await
    }

    /// `Ok(false)`, an error and silence all mean the same: the channel is gone, and the broker, which never
    /// heard of it, delivers the message again.
    async fn told(&self, telling: impl Future<Output = lapin::Result<bool>>) -> Settled {
        match timeout(self.shared.settings.connect_timeout, telling).await {
            Ok(Ok(true)) => Settled::Done,
            _ => Settled::Lost,
        }
    }
}

#[async_trait]
impl Settle for Unsettled {
    async fn ack(self: Box<Self>) -> Result<Settled, BusError> {
        Ok(Unsettled::ack(self).await)
    }

    async fn release(mut self: Box<Self>) -> Result<Settled, BusError> {
        match self.0.take() {
            Some(handles) => Ok(handles.nack().await),
            None => Ok(Settled::Lost),
        }
    }

    async fn retry(mut self: Box<Self>, delay: HoldDelay, reason: &str) -> Result<Settled, BusError> {
        self.publish(|of| Envelope::retry(&of.message, of.family, delay, reason)).await?;
        fail_point!("bus.retry.published");
        Ok(Unsettled::ack(self).await)
    }

    async fn dead_letter(mut self: Box<Self>, reason: &str) -> Result<Settled, BusError> {
        self.publish(|of| Envelope::dead_letter(&of.message, of.family, reason)).await?;
        fail_point!("bus.dead_letter.published");
        Ok(Unsettled::ack(self).await)
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        if let Some(handles) = self.0.take() {
            release_after(Duration::ZERO, handles);
        }
    }
}

/// On the runtime of the bus, since a delivery may be dropped anywhere. Where that has ended, so has the
/// connection, which releases everything.
fn release_after(pause: Duration, handles: Handles) {
    let runtime = handles.shared.runtime.clone();
    runtime.spawn(async move {
        let stopped = handles.shared.stop.clone();
        let _ = timeout(pause, stopped.cancelled()).await;
        handles.nack().await;
    });
}
