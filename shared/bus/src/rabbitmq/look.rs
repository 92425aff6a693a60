//! A passive look at a queue: what waits in it, and who consumes it.

use lapin::Channel;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use tokio::time::timeout;

use super::Shared;
use crate::port::closed;
use crate::{BusError, Inbox, QueueLook};

/// Looks, on a channel of its own: an answer that is an error closes it.
pub(super) async fn look(shared: &Shared, inbox: Inbox) -> Result<QueueLook, BusError> {
    if shared.stop.is_cancelled() {
        return Err(closed());
    }
    let limit = shared.settings.connect_timeout;
    let looking = async {
        let live = shared.consuming.live().await?;
        let channel = live.channel().await.map_err(BusError::Unavailable)?;
        let looked = passive(&channel, &inbox.queue()).await;
        // Left open, it would cost the connection one channel for every look.
        let _closed = channel.close(200, "looked".into()).await;
        looked.map_err(|error| BusError::Unavailable(live.describe(&error)))
    };
    match timeout(limit, looking).await {
        Ok(looked) => looked,
        Err(_) => Err(match shared.consuming.down() {
            Some(reason) => BusError::Unavailable(reason),
            None => BusError::TimedOut(limit),
        }),
    }
}

/// Declares a queue passively, which tells its counts.
pub(super) async fn passive(channel: &Channel, queue: &str) -> lapin::Result<QueueLook> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(queue.into(), options, FieldTable::default()).await?;
    Ok(QueueLook { ready: queue.message_count().into(), consumers: queue.consumer_count() })
}
