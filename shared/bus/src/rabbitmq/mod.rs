//! RabbitMQ through lapin. Two connections: a broker that is short of memory blocks those that publish, and
//! lapin then writes nothing at all to them, acknowledgements included.

mod backoff;
mod consumer;
mod death;
mod declare;
mod health;
mod link;
mod look;
mod publisher;
mod settings;
mod settle;
mod socket;
mod subscription;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::health::Health;
use self::link::{Link, Supervisor};
use self::publisher::Publisher;
pub use self::settings::{BusSettings, BusSettingsError};
use crate::envelope::Envelope;
use crate::{Bus, BusError, BusState, Deliveries, Inbox, Outgoing, QueueLook, Subscription};

/// How long [`Bus::close`] waits for consumers, and then for connections.
const CLOSING: Duration = Duration::from_secs(10);

/// A RabbitMQ broker, 3.10 to 4.x. It builds itself up in the background and again after any loss; dropping
/// it closes it without waiting.
pub struct RabbitMq {
    shared: Arc<Shared>,
    /// The supervisors, which outlive the consumers.
    links: TaskTracker,
    stop_links: CancellationToken,
    _stop: [DropGuard; 2],
}

/// What consumers, subscriptions and settlements share.
struct Shared {
    settings: Arc<BusSettings>,
    publisher: Publisher,
    consuming: Link,
    health: Arc<Health>,
    /// Cancelled when the bus is closed.
    stop: CancellationToken,
    tasks: TaskTracker,
    runtime: Handle,
}

impl RabbitMq {
    /// Begins to connect, and returns at once: a broker that is away shows in [`Bus::state`]. Needs a tokio
    /// runtime, on which it spawns.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn connect(settings: BusSettings) -> Self {
        let settings = Arc::new(settings);
        let health = Health::new();
        let links = TaskTracker::new();
        let stop_links = CancellationToken::new();
        let start = |role, declares| {
            let (settings, stop) = (Arc::clone(&settings), stop_links.clone());
            let supervisor = Supervisor { settings, role, declares, part: health.part(), stop };
            let (link, task) = supervisor.start();
            links.spawn(task);
            link
        };
        let publishing = start("publishing", settings.declare);
        let consuming = start("consuming", false);
        let stop = CancellationToken::new();
        let publisher = Publisher::new(Arc::clone(&settings), publishing);
        let (tasks, runtime) = (TaskTracker::new(), Handle::current());
        let shared = Shared { settings, publisher, consuming, health, stop: stop.clone(), tasks, runtime };
        let guards = [stop.drop_guard(), stop_links.clone().drop_guard()];
        Self { shared: Arc::new(shared), links, stop_links, _stop: guards }
    }
}

#[async_trait]
impl Bus for RabbitMq {
    async fn publish(&self, messages: Vec<Outgoing>) -> Result<(), BusError> {
        let envelopes = messages.into_iter().map(Envelope::first).collect::<Result<_, _>>()?;
        self.shared.publisher.publish_all(envelopes).await
    }

    async fn consume(&self, inbox: Inbox, slots: u16) -> Result<Box<dyn Deliveries>, BusError> {
        Ok(Box::new(consumer::start(&self.shared, inbox, slots)))
    }

    async fn look(&self, inbox: Inbox) -> Result<QueueLook, BusError> {
        look::look(&self.shared, inbox).await
    }

    async fn subscribe(&self, pattern: &str) -> Result<Subscription, BusError> {
        subscription::start(&self.shared, pattern).await
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.shared.health.watch()
    }

    async fn close(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        // Whatever does not end in time ends with the process.
        let _ = timeout(CLOSING, self.shared.tasks.wait()).await;
        self.stop_links.cancel();
        self.links.close();
        let _ = timeout(CLOSING, self.links.wait()).await;
    }
}
