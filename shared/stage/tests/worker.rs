//! The harness over the in-process bus: what is published, how deliveries are settled, in every case.

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use transship_bus::{Bus, Destination, InProcess, Incoming, Outgoing, WorkQueue};
use transship_messages::{Fact, FactBody, ImportRequested, WorkItem, decode_fact};
use transship_model::{Class, Code, Counters, Failure, Stage};
use transship_stage::*;
use transship_telemetry::Metrics;

use self::support::work;

type Handle = dyn Fn(&ImportRequested, &Context) -> Result<Outcome<ImportRequested>, Failure> + Send + Sync;

/// A verb that does what the test says, and notes which slices and attempts it saw.
struct Scripted {
    handle: Box<Handle>,
    wait_for_cancel: bool,
    seen: Arc<Mutex<Vec<(u32, u32)>>>,
}

#[async_trait]
impl Verb for Scripted {
    type Work = ImportRequested;
    const STAGE: Stage = Stage::Importer;
    const QUEUE: WorkQueue = WorkQueue::ImporterImports;

    async fn handle(
        &self,
        work: &ImportRequested,
        context: &Context,
    ) -> Result<Outcome<ImportRequested>, Failure> {
        self.seen.lock().unwrap().push((work.slice, context.attempt));
        if self.wait_for_cancel {
            context.cancel.cancelled().await;
            return Err(Failure::interrupted());
        }
        (self.handle)(work, context)
    }
}

struct Bench {
    bus: Arc<InProcess>,
    seen: Arc<Mutex<Vec<(u32, u32)>>>,
    cancel: CancellationToken,
    worker: JoinHandle<()>,
    facts: tokio::sync::mpsc::Receiver<Incoming>,
    metrics: Metrics,
}

impl Bench {
    async fn start(
        retry: RetryPolicy,
        wait_for_cancel: bool,
        handle: impl Fn(&ImportRequested, &Context) -> Result<Outcome<ImportRequested>, Failure>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self::start_before(None, retry, wait_for_cancel, handle).await
    }

    /// The same, with the broker of the next stage.
    async fn start_before(
        next: Option<Arc<dyn Bus>>,
        retry: RetryPolicy,
        wait_for_cancel: bool,
        handle: impl Fn(&ImportRequested, &Context) -> Result<Outcome<ImportRequested>, Failure>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let bus = Arc::new(InProcess::new());
        let facts = bus.subscribe("#").await.unwrap().facts;
        let (seen, cancel) = (Arc::default(), CancellationToken::new());
        let verb = Scripted { handle: Box::new(handle), wait_for_cancel, seen: Arc::clone(&seen) };
        let settings =
            WorkerSettings { slots: 2, slice: WorkerSettings::SLICE, retry, facts_mandatory: false };
        let metrics = Metrics::new(Stage::Importer);
        let shared: Arc<dyn Bus> = Arc::<InProcess>::clone(&bus);
        let mut worker = Worker::new(shared, verb, settings, ByteBudget::new(1 << 20), metrics.clone());
        if let Some(next) = next {
            worker = worker.with_next_bus(next);
        }
        let run = worker.run(cancel.clone());
        let worker = tokio::spawn(async move { run.await.unwrap() });
        Self { bus, seen, cancel, worker, facts, metrics }
    }

    async fn publish(&self, body: Vec<u8>) {
        let message = Outgoing {
            destination: Destination::Work(WorkQueue::ImporterImports),
            message_id: "m".into(),
            kind: ImportRequested::KIND.into(),
            correlation_id: "run-1".into(),
            headers: BTreeMap::new(),
            body: Bytes::from(body),
        };
        self.bus.publish(vec![message]).await.unwrap();
    }

    async fn fact(&mut self) -> FactBody {
        self.whole_fact().await.body
    }

    async fn whole_fact(&mut self) -> Fact {
        let message =
            tokio::time::timeout(Duration::from_secs(36_000), self.facts.recv()).await.unwrap().unwrap();
        assert!(message.routing_key.starts_with("run-1."), "{}", message.routing_key);
        decode_fact(&message.body).unwrap()
    }

    fn dead_letters(&self) -> usize {
        self.bus.dead_letters(WorkQueue::ImporterImports).len()
    }

    async fn stop(self) -> Vec<(u32, u32)> {
        self.cancel.cancel();
        tokio::time::timeout(Duration::from_secs(60), self.worker).await.expect("the worker drains").unwrap();
        Arc::into_inner(self.seen).map(|seen| seen.into_inner().unwrap()).unwrap_or_default()
    }
}

fn planned() -> FactBody {
    FactBody::PartPlanned { counters: Counters::default() }
}

fn is_terminal(fact: &FactBody) -> Option<bool> {
    match fact {
        FactBody::Failed { terminal, .. } => Some(*terminal),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_verb_says_is_published_and_its_delivery_acknowledged() {
    let mut bench = Bench::start(RetryPolicy::BROKER, false, |_, _| {
        Ok(Outcome::Done {
            facts: vec![planned()],
            next: vec![FollowUp::Import(ImportRequested { slice: 7, ..work() })],
        })
    })
    .await;
    bench.publish(work().encode()).await;
    assert_eq!(bench.fact().await, planned());
    let rendered = bench.metrics.render();
    // The follow-up of this scripted verb is work for itself, so it is seen too.
    assert_eq!(bench.fact().await, planned());
    assert!(rendered.contains("transship_parts_total"));
    assert_eq!(bench.dead_letters(), 0);
    let seen = bench.stop().await;
    assert_eq!(seen[..2], [(0, 1), (7, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_is_told_held_and_tried_again_with_the_next_attempt() {
    let mut bench = Bench::start(RetryPolicy::BROKER, false, |_, context| {
        if context.attempt < 3 {
            return Err(Failure::transient(Code::StorageUnavailable, "away"));
        }
        Ok(Outcome::Done { facts: vec![planned()], next: Vec::new() })
    })
    .await;
    bench.publish(work().encode()).await;
    assert_eq!(is_terminal(&bench.fact().await), Some(false));
    assert_eq!(is_terminal(&bench.fact().await), Some(false));
    assert_eq!(bench.fact().await, planned());
    assert_eq!(bench.stop().await, [(0, 1), (0, 2), (0, 3)]);
}

#[tokio::test(start_paused = true)]
async fn attempts_run_out_into_a_dead_letter_and_a_terminal_fact() {
    let policy = RetryPolicy { transient_attempts: 2, parked_attempts: 1 };
    let mut bench =
        Bench::start(policy, false, |_, _| Err(Failure::transient(Code::StorageUnavailable, "away"))).await;
    bench.publish(work().encode()).await;
    assert_eq!(is_terminal(&bench.fact().await), Some(false));
    assert_eq!(is_terminal(&bench.fact().await), Some(true));
    while bench.dead_letters() == 0 {
        tokio::task::yield_now().await;
    }
    let (_, reason) = bench.bus.dead_letters(WorkQueue::ImporterImports).remove(0);
    assert_eq!(reason, "away");
}

#[tokio::test(start_paused = true)]
async fn a_permanent_failure_is_told_with_its_hint_and_is_no_dead_letter() {
    let mut bench = Bench::start(RetryPolicy::BROKER, false, |_, _| {
        Err(Failure::permanent(Code::TagExists, "the tag exists").with_hint("set OverwriteTags"))
    })
    .await;
    bench.publish(work().encode()).await;
    let FactBody::Failed { code, message, hint, terminal, container } = bench.fact().await else { panic!() };
    assert_eq!(
        (code, message.as_str(), hint.as_deref()),
        (Code::TagExists, "the tag exists", Some("set OverwriteTags"))
    );
    assert!(terminal);
    assert_eq!(container, Some(work().container));
    let metrics = bench.metrics.clone();
    let dead = bench.dead_letters();
    assert_eq!((bench.stop().await.len(), dead), (1, 0));
    assert!(
        metrics.render().contains(r#"outcome="acked",queue="importer.imports"} 1"#),
        "{}",
        metrics.render()
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_understood_is_a_dead_letter_and_a_failed_run() {
    let mut bench = Bench::start(RetryPolicy::BROKER, false, |_, _| panic!("never handled")).await;
    bench.publish(b"not a message".to_vec()).await;
    assert_eq!(is_terminal(&bench.fact().await), Some(true));
    while bench.dead_letters() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(bench.stop().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_like_others() {
    let mut bench = Bench::start(RetryPolicy::BROKER, false, |_, context| {
        assert!(context.attempt > 1, "the first attempt panics");
        Ok(Outcome::Done { facts: vec![planned()], next: Vec::new() })
    })
    .await;
    bench.publish(work().encode()).await;
    let FactBody::Failed { code, terminal: false, .. } = bench.fact().await else { panic!() };
    assert_eq!(code, Code::Internal);
    assert_eq!(bench.fact().await, planned());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_gives_the_delivery_back_without_burning_an_attempt() {
    let bench = Bench::start(RetryPolicy::BROKER, true, |_, _| unreachable!()).await;
    bench.publish(work().encode()).await;
    while bench.seen.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let bus = Arc::clone(&bench.bus);
    bench.stop().await;
    let mut again = bus.consume(WorkQueue::ImporterImports.into(), 1).await.unwrap();
    let delivery = tokio::time::timeout(Duration::from_secs(60), again.next()).await.unwrap().unwrap();
    assert_eq!(delivery.message.attempt, 1);
    assert_eq!(ImportRequested::decode(&delivery.message.body).unwrap(), work());
}

#[tokio::test(start_paused = true)]
async fn a_verb_is_told_that_its_work_was_delivered_before() {
    let mut bench = Bench::start(RetryPolicy::BROKER, false, |_, context| {
        if !context.redelivered {
            return Err(Failure::interrupted());
        }
        Ok(Outcome::Done { facts: vec![planned()], next: Vec::new() })
    })
    .await;
    bench.publish(work().encode()).await;
    assert_eq!(bench.fact().await, planned());
    assert_eq!(bench.stop().await, [(0, 1), (0, 1)]);
}

#[tokio::test(start_paused = true)]
async fn that_work_was_delivered_before_outlives_a_hold_and_the_end_of_a_slice() {
    let mut bench = Bench::start(RetryPolicy::BROKER, false, |work, context| {
        match (work.slice, context.attempt, context.redelivered) {
            (0, 1, false) => Err(Failure::interrupted()),
            (0, 1, true) => Err(Failure::transient(Code::StorageUnavailable, "away")),
            (0, 2, true) => Ok(Outcome::Continue { rest: ImportRequested { slice: 1, ..work.clone() } }),
            (1, _, true) => Ok(Outcome::Done { facts: vec![planned()], next: Vec::new() }),
            other => panic!("it is not known any more: {other:?}"),
        }
    })
    .await;
    bench.publish(work().encode()).await;
    assert_eq!(is_terminal(&bench.fact().await), Some(false));
    assert_eq!(bench.fact().await, planned());
}

#[tokio::test(start_paused = true)]
async fn the_facts_of_a_slice_stand_above_those_of_the_slices_before_it() {
    let mut bench =
        Bench::start(RetryPolicy::BROKER, false, |work, context| match (work.slice, context.attempt) {
            (0, 1) => Err(Failure::transient(Code::StorageUnavailable, "away")),
            (0, _) => Ok(Outcome::Continue { rest: ImportRequested { slice: 1, ..work.clone() } }),
            (1, 1) => Err(Failure::transient(Code::StorageUnavailable, "away again")),
            (1, _) => {
                let next = vec![FollowUp::Import(ImportRequested { slice: 2, ..work.clone() })];
                Ok(Outcome::Done { facts: vec![planned()], next })
            }
            _ => Err(Failure::permanent(Code::TagExists, "work of the next stage")),
        })
        .await;
    bench.publish(work().encode()).await;
    let mut told = Vec::new();
    for _ in 0..4 {
        let fact = bench.whole_fact().await;
        told.push((fact.attempt, is_terminal(&fact.body)));
    }
    // The next stage begins at its own first attempt, whichever of the two is heard first.
    told.sort_by_key(|(attempt, terminal)| (*terminal == Some(true), *attempt));
    assert_eq!(told, [(1, Some(false)), (2, Some(false)), (3, None), (1, Some(true))]);
    assert_eq!(bench.stop().await, [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1)]);
}

#[tokio::test(start_paused = true)]
async fn while_the_broker_of_the_next_stage_is_away_the_work_is_held_and_not_given_back_at_once() {
    let away = InProcess::new();
    away.close().await;
    let mut bench = Bench::start_before(Some(Arc::new(away)), RetryPolicy::BROKER, false, |_, context| {
        let next = if context.attempt < 3 { vec![FollowUp::Import(work())] } else { Vec::new() };
        Ok(Outcome::Done { facts: vec![planned()], next })
    })
    .await;
    let began = tokio::time::Instant::now();
    bench.publish(work().encode()).await;
    for _ in 1..3 {
        let FactBody::Failed { code, message, hint, terminal, .. } = bench.fact().await else { panic!() };
        assert_eq!((code, terminal), (Code::BrokerUnavailable, false), "{message}");
        assert!(hint.unwrap().contains("target_broker"));
    }
    assert_eq!(bench.fact().await, planned());
    // Each attempt is patient for five minutes, and held for longer than the one before.
    assert!(began.elapsed() >= Duration::from_secs(2 * 300 + 10 + 60), "{:?}", began.elapsed());
    assert_eq!(bench.stop().await, [(0, 1), (0, 2), (0, 3)]);
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_slice_goes_back_to_the_same_queue() {
    let mut bench = Bench::start(RetryPolicy::BROKER, false, |work, _| {
        if work.slice == 0 {
            return Ok(Outcome::Continue { rest: ImportRequested { slice: 1, ..work.clone() } });
        }
        Ok(Outcome::Done { facts: vec![planned()], next: Vec::new() })
    })
    .await;
    bench.publish(work().encode()).await;
    assert_eq!(bench.fact().await, planned());
    assert_eq!(bench.stop().await, [(0, 1), (1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_run_that_was_overtaken_is_told_so() {
    let mut bench = Bench::start(RetryPolicy::BROKER, false, |_, _| Ok(Outcome::Superseded)).await;
    bench.publish(work().encode()).await;
    let FactBody::Failed { code, terminal: true, .. } = bench.fact().await else { panic!() };
    assert_eq!(code, Code::Superseded);
    assert_eq!(bench.dead_letters(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_a_person_must_mend_is_waited_for() {
    let mut bench = Bench::start(RetryPolicy::BROKER, false, |_, context| {
        if context.attempt < 3 {
            return Err(Failure::new(Class::Parked, Code::SasExpired, "expired"));
        }
        Ok(Outcome::Done { facts: vec![planned()], next: Vec::new() })
    })
    .await;
    let began = tokio::time::Instant::now();
    bench.publish(work().encode()).await;
    assert_eq!(is_terminal(&bench.fact().await), Some(false));
    assert_eq!(is_terminal(&bench.fact().await), Some(false));
    assert_eq!(bench.fact().await, planned());
    assert!(began.elapsed() >= Duration::from_secs(60 + 1800));
}

#[test]
fn the_metrics_name_the_queue_that_the_work_comes_from() {
    for (stage, queue) in [
        (Stage::Exporter, WorkQueue::ExporterParts),
        (Stage::BlobCopier, WorkQueue::BlobCopierCopies),
        (Stage::Importer, WorkQueue::ImporterImports),
    ] {
        assert_eq!(Metrics::new(stage).queue(), queue.name());
    }
}
