//! Work that must let go: deliveries that are lost with their channel, and shutdowns.

mod support;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use transship_bus::{
    Bus, BusError, BusState, Deliveries, Delivery, HoldDelay, InProcess, Inbox, Incoming, Outgoing,
    QueueLook, Settle, Settled, Subscription, WorkQueue,
};
use transship_messages::{FactBody, ImportRequested, WorkItem};
use transship_model::{Counters, Failure, Stage};
use transship_stage::*;
use transship_telemetry::Metrics;

use self::support::work;

/// The handle of a delivery whose channel is gone.
struct Gone;

#[async_trait]
impl Settle for Gone {
    async fn ack(self: Box<Self>) -> Result<Settled, BusError> {
        Ok(Settled::Lost)
    }

    async fn release(self: Box<Self>) -> Result<Settled, BusError> {
        Ok(Settled::Lost)
    }

    async fn retry(self: Box<Self>, _: HoldDelay, _: &str) -> Result<Settled, BusError> {
        Ok(Settled::Lost)
    }

    async fn dead_letter(self: Box<Self>, _: &str) -> Result<Settled, BusError> {
        Ok(Settled::Lost)
    }
}

/// A broker that delivers the same message once for each of its channels, however many are worked on, as RabbitMQ
/// does when channels die; and that answers no publish.
struct Redelivering {
    twin: InProcess,
    channels: Vec<CancellationToken>,
}

struct Redeliveries(std::vec::IntoIter<CancellationToken>);

#[async_trait]
impl Deliveries for Redeliveries {
    async fn next(&mut self) -> Option<Delivery> {
        let Some(lost) = self.0.next() else { return std::future::pending().await };
        let message = Incoming {
            message_id: "m".into(),
            kind: ImportRequested::KIND.into(),
            correlation_id: "run-1".into(),
            headers: [].into(),
            body: work().encode().into(),
            attempt: 1,
            redelivered: true,
            routing_key: WorkQueue::ImporterImports.name().into(),
            death: None,
        };
        Some(Delivery { message, settle: Box::new(Gone), lost })
    }
}

#[async_trait]
impl Bus for Redelivering {
    /// Blocked, as by a memory alarm.
    async fn publish(&self, _: Vec<Outgoing>) -> Result<(), BusError> {
        std::future::pending().await
    }

    async fn consume(&self, _: Inbox, _: u16) -> Result<Box<dyn Deliveries>, BusError> {
        Ok(Box::new(Redeliveries(self.channels.clone().into_iter())))
    }

    async fn look(&self, inbox: Inbox) -> Result<QueueLook, BusError> {
        self.twin.look(inbox).await
    }

    async fn subscribe(&self, pattern: &str) -> Result<Subscription, BusError> {
        self.twin.subscribe(pattern).await
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.twin.state()
    }

    async fn close(&self) {
        self.twin.close().await;
    }
}

/// What a test sees of a verb.
#[derive(Default)]
struct Seen {
    began: Notify,
    ended: Notify,
    now: AtomicUsize,
    most: Mutex<usize>,
}

/// A verb that works until it is cancelled, and then takes a while to let go.
struct Slow(Arc<Seen>);

#[async_trait]
impl Verb for Slow {
    type Work = ImportRequested;
    const STAGE: Stage = Stage::Importer;
    const QUEUE: WorkQueue = WorkQueue::ImporterImports;

    async fn handle(
        &self,
        _: &ImportRequested,
        context: &Context,
    ) -> Result<Outcome<ImportRequested>, Failure> {
        let now = self.0.now.fetch_add(1, Ordering::SeqCst) + 1;
        {
            let mut most = self.0.most.lock().unwrap();
            *most = now.max(*most);
        }
        self.0.began.notify_one();
        context.cancel.cancelled().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        self.0.now.fetch_sub(1, Ordering::SeqCst);
        self.0.ended.notify_one();
        Err(Failure::interrupted())
    }
}

/// A verb that is done at once.
struct Quick(Arc<Seen>);

#[async_trait]
impl Verb for Quick {
    type Work = ImportRequested;
    const STAGE: Stage = Stage::Importer;
    const QUEUE: WorkQueue = WorkQueue::ImporterImports;

    async fn handle(&self, _: &ImportRequested, _: &Context) -> Result<Outcome<ImportRequested>, Failure> {
        self.0.began.notify_one();
        let facts = vec![FactBody::PartPlanned { counters: Counters::default() }];
        Ok(Outcome::Done { facts, next: Vec::new() })
    }
}

const ONE_SLOT: WorkerSettings = WorkerSettings {
    slots: 1,
    slice: WorkerSettings::SLICE,
    retry: RetryPolicy::BROKER,
    facts_mandatory: false,
};

fn budget() -> ByteBudget {
    ByteBudget::new(1 << 20)
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_answers_nothing_does_not_hold_up_a_shutdown() {
    let bus = Arc::new(Redelivering { twin: InProcess::new(), channels: vec![CancellationToken::new()] });
    let (seen, cancel) = (Arc::new(Seen::default()), CancellationToken::new());
    let metrics = Metrics::new(Stage::Importer);
    let worker = Worker::new(bus, Quick(Arc::clone(&seen)), ONE_SLOT, budget(), metrics);
    let worker = tokio::spawn(worker.run(cancel.clone()));
    seen.began.notified().await;
    cancel.cancel();
    tokio::time::timeout(Duration::from_secs(10), worker).await.expect("it ends").unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_drains_consumes_no_more() {
    let bus = Arc::new(InProcess::new());
    let (seen, cancel) = (Arc::new(Seen::default()), CancellationToken::new());
    let shared: Arc<dyn Bus> = Arc::<InProcess>::clone(&bus);
    let metrics = Metrics::new(Stage::Importer);
    let worker = Worker::new(shared, Slow(Arc::clone(&seen)), ONE_SLOT, budget(), metrics);
    let worker = tokio::spawn(worker.run(cancel.clone()));
    bus.publish(vec![work_message(&work(), WorkQueue::ImporterImports, [].into())]).await.unwrap();
    seen.began.notified().await;
    cancel.cancel();
    // Shorter than what is in flight takes to let go.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let look = bus.look(WorkQueue::ImporterImports.into()).await.unwrap();
    assert_eq!((look.consumers, seen.now.load(Ordering::SeqCst)), (0, 1));
    tokio::time::timeout(Duration::from_secs(60), worker).await.unwrap().unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn work_on_a_lost_delivery_stops_and_keeps_its_slot_until_it_has() {
    let channels: Vec<_> = (0..3).map(|_| CancellationToken::new()).collect();
    let bus = Arc::new(Redelivering { twin: InProcess::new(), channels: channels.clone() });
    let (seen, cancel) = (Arc::new(Seen::default()), CancellationToken::new());
    let metrics = Metrics::new(Stage::Importer);
    let worker = Worker::new(bus, Slow(Arc::clone(&seen)), ONE_SLOT, budget(), metrics.clone());
    let worker = tokio::spawn(worker.run(cancel.clone()));
    let soon = async |what: &Notify| tokio::time::timeout(Duration::from_secs(60), what.notified()).await;
    for lost in &channels {
        soon(&seen.began).await.expect("the work begins");
        // Long enough for whatever does not wait for the slot.
        tokio::time::sleep(Duration::from_secs(10)).await;
        lost.cancel();
        soon(&seen.ended).await.expect("the work is interrupted, though the process goes on");
    }
    cancel.cancel();
    tokio::time::timeout(Duration::from_secs(60), worker).await.unwrap().unwrap().unwrap();
    assert_eq!(*seen.most.lock().unwrap(), 1, "one slot");
    let rendered = metrics.render();
    assert!(rendered.contains(r#"outcome="lost",queue="importer.imports"} 3"#), "{rendered}");
}
