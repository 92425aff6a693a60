//! The loop of a stage: take → decode → handle → publish → confirm → settle.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use transship_bus::{Bus, BusError, DELIVERED_BEFORE, Delivery, Incoming, Outgoing, Settled, WorkQueue};
use transship_messages::{DecodeError, FactBody, WorkItem};
use transship_model::{Class, Code, Execution, Failure, Part};
use transship_telemetry::{
    MessageOutcome, MessageSpan, Metrics, PartOutcome, Relation, inject, process_span, record_failure,
};

use crate::attempts::{attempt_at_part, go_on};
use crate::publish::work_message;
use crate::reporter::Reporter;
use crate::{ByteBudget, Context, FollowUp, Outcome, Progress, RetryPolicy, Verb, Verdict, verdict};

/// Settings of a worker.
#[derive(Debug, Clone, Copy)]
pub struct WorkerSettings {
    /// How many pieces of work at once; also the prefetch.
    pub slots: u16,
    /// How long one slice of work lasts at most.
    pub slice: Duration,
    /// How often and how long failures are tried again.
    pub retry: RetryPolicy,
    /// Whether somebody must hear the facts: true where a control plane is configured.
    pub facts_mandatory: bool,
}

impl WorkerSettings {
    /// Ten minutes: well below RabbitMQ's consumer timeout of thirty.
    pub const SLICE: Duration = Duration::from_secs(600);
}

/// A worker of one stage.
pub struct Worker<V> {
    bus: Arc<dyn Bus>,
    next_bus: Option<Arc<dyn Bus>>,
    verb: Arc<V>,
    settings: WorkerSettings,
    budget: ByteBudget,
    metrics: Metrics,
}

impl<V> Clone for Worker<V> {
    fn clone(&self) -> Self {
        Self {
            bus: Arc::clone(&self.bus),
            next_bus: self.next_bus.clone(),
            verb: Arc::clone(&self.verb),
            settings: self.settings,
            budget: self.budget.clone(),
            metrics: self.metrics.clone(),
        }
    }
}

impl<V: Verb> Worker<V> {
    /// A worker that takes from `bus` and does `verb`.
    pub fn new(
        bus: Arc<dyn Bus>,
        verb: V,
        settings: WorkerSettings,
        budget: ByteBudget,
        metrics: Metrics,
    ) -> Self {
        Self { bus, next_bus: None, verb: Arc::new(verb), settings, budget, metrics }
    }

    /// Publishes the work for the next stage to `bus`, where that stage listens at another broker. Everything
    /// else, facts and the rest of a slice included, stays at the worker's own.
    #[must_use]
    pub fn with_next_bus(mut self, bus: Arc<dyn Bus>) -> Self {
        self.next_bus = Some(bus);
        self
    }

    /// Works until `cancel`. Then it takes nothing more, gives back what it holds, and returns once every piece
    /// of work has let go.
    ///
    /// # Errors
    /// Where the queue cannot be consumed at all.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), BusError> {
        let mut deliveries = self.bus.consume(V::QUEUE.into(), self.settings.slots).await?;
        let mut work = JoinSet::new();
        // Work on a lost delivery ends in its own time: until then its slot is not free.
        let slots = usize::from(self.settings.slots.max(1));
        self.show_slots(0);
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(ended) = work.join_next(), if !work.is_empty() => log_panic(ended),
                delivery = deliveries.next(), if work.len() < slots => {
                    let Some(delivery) = delivery else { break };
                    work.spawn(self.clone().deliver(delivery, cancel.child_token()));
                }
            }
            self.show_slots(work.len());
        }
        // What waits unstarted goes back at once, to whoever has time for it.
        drop(deliveries);
        // What is in flight sees the same cancellation, and ends with a release.
        while let Some(ended) = work.join_next().await {
            log_panic(ended);
        }
        Ok(())
    }

    fn show_slots(&self, used: usize) {
        self.metrics.worker_slots(used, usize::from(self.settings.slots).saturating_sub(used));
        self.metrics.byte_budget(self.budget.used(), u64::from(self.budget.limit()));
    }

    /// One delivery, from decoding to settling.
    async fn deliver(self, delivery: Delivery, cancel: CancellationToken) {
        let Delivery { message, settle, lost } = delivery;
        let described = MessageSpan {
            exchange: "",
            routing_key: V::QUEUE.name(),
            message_id: &message.message_id,
            correlation_id: &message.correlation_id,
            body_bytes: message.body.len(),
        };
        let span = process_span(V::QUEUE.name(), &described, &message.headers, Relation::ChildAndLink);
        let started = Instant::now();
        let end = self.work_until_lost(&message, &lost, &cancel).instrument(span.clone()).await;
        let settled = match &end {
            End::Ack => settle.ack().await,
            End::Release => settle.release().await,
            End::Retry(delay, reason) => settle.retry(*delay, reason).await,
            End::DeadLetter(reason) => settle.dead_letter(reason).await,
        };
        self.metrics.stage_duration(started.elapsed());
        match settled {
            Ok(Settled::Done) => self.metrics.message(end.outcome()),
            // The broker delivers again, and every effect may run twice.
            Ok(Settled::Lost) => self.metrics.message(MessageOutcome::Lost),
            Err(error) => {
                self.metrics.message(MessageOutcome::Lost);
                span.in_scope(|| tracing::warn!(%error, "the delivery could not be settled; the broker delivers it again"));
            }
        }
    }

    /// Works, and interrupts the work once the delivery is lost: another worker gets the message.
    async fn work_until_lost(
        &self,
        message: &Incoming,
        lost: &CancellationToken,
        cancel: &CancellationToken,
    ) -> End {
        let mut work = pin!(self.work_on(message, cancel));
        tokio::select! {
            biased;
            end = &mut work => end,
            () = lost.cancelled() => {
                tracing::warn!("the delivery is lost with its channel; its work is interrupted");
                cancel.cancel();
                work.await
            }
        }
    }

    async fn work_on(&self, message: &Incoming, cancel: &CancellationToken) -> End {
        let work = match V::Work::decode(&message.body) {
            Ok(work) => work,
            Err(error) => return self.refuse(message, error, cancel).await,
        };
        let mut headers = inject(&tracing::Span::current());
        if message.redelivered {
            // What comes of this work may have been published already, and even done.
            headers.insert(DELIVERED_BEFORE.to_owned(), "true".to_owned());
        }
        let reporter = Reporter {
            bus: Arc::clone(&self.bus),
            execution: work.execution().clone(),
            part: work.part(),
            attempt: attempt_at_part(message),
            mandatory: self.settings.facts_mandatory,
            headers,
            metrics: self.metrics.clone(),
            stage: V::STAGE,
            target: work.target().cloned(),
        };
        let context = Context {
            cancel: cancel.clone(),
            slice_ends: Instant::now() + self.settings.slice,
            attempt: message.attempt,
            redelivered: message.redelivered,
            budget: self.budget.clone(),
            progress: Arc::new(Progress::default()),
            metrics: self.metrics.clone(),
            traceparent: reporter.headers.get("traceparent").cloned(),
        };
        let in_flight = self.metrics.part_in_flight();
        let result = self.handle(&work, &context, &reporter).await;
        drop(in_flight);
        let failure = match result {
            Ok(outcome) => match self.hand_on(&work, outcome, &reporter, cancel).await {
                Ok(()) => return End::Ack,
                Err(failure) => failure,
            },
            Err(failure) => failure,
        };
        self.judge(failure, message.attempt, &reporter, cancel).await
    }

    /// Runs the verb, and reports its progress meanwhile. A panic is a failure like others.
    async fn handle(
        &self,
        work: &V::Work,
        context: &Context,
        reporter: &Reporter,
    ) -> Result<Outcome<V::Work>, Failure> {
        let handled = AssertUnwindSafe(self.verb.handle(work, context)).catch_unwind();
        let result = tokio::select! {
            result = handled => result,
            never = reporter.report(&context.progress) => match never {},
        };
        fail::fail_point!("stage.handled");
        result.unwrap_or_else(|_| Err(Failure::transient(Code::Internal, format!("{} panicked", V::STAGE))))
    }

    /// Publishes facts and work, and returns once everything is confirmed.
    async fn hand_on(
        &self,
        work: &V::Work,
        outcome: Outcome<V::Work>,
        reporter: &Reporter,
        cancel: &CancellationToken,
    ) -> Result<(), Failure> {
        let (mut bus, mut away) = (&self.bus, Class::Interrupted);
        let (facts, messages, ended) = match outcome {
            Outcome::Done { facts, next } => {
                let next = next.iter().map(|next| follow_up(next, reporter.headers.clone()));
                if let Some(next) = &self.next_bus {
                    // The worker's own broker can hold the delivery while the other one is away.
                    (bus, away) = (next, Class::TRANSIENT);
                }
                (facts, next.collect(), PartOutcome::Succeeded)
            }
            Outcome::Continue { rest } => {
                debug_assert_ne!(rest.message_id(), work.message_id(), "a slice has an identity of its own");
                let mut headers = reporter.headers.clone();
                go_on(reporter.attempt, &mut headers);
                let rest = work_message(&rest, V::QUEUE, headers);
                (Vec::new(), vec![rest], PartOutcome::Continued)
            }
            Outcome::Superseded => {
                tracing::info!("a newer execution owns the blob; nothing to do");
                (vec![superseded(reporter)], Vec::new(), PartOutcome::Superseded)
            }
        };
        // The work first: who hears the fact may rely on it.
        let handed_on = reporter.send_to(&**bus, messages, away, cancel).await;
        handed_on.map_err(|failure| match failure.code {
            Code::BrokerUnavailable => failure
                .while_doing("publish the work that follows")
                .with_hint("see that the broker of the next stage (`target_broker`) runs and takes messages"),
            _ => failure,
        })?;
        fail::fail_point!("stage.work_published");
        let facts = facts.into_iter().zip(0..).map(|(body, number)| reporter.fact(body, number));
        let mut facts: Vec<_> = facts.collect();
        // The last fact says that the part is done here: it is heard after what it sums up.
        let last = facts.pop();
        reporter.send(facts, cancel).await?;
        reporter.send(last.into_iter().collect(), cancel).await?;
        fail::fail_point!("stage.published");
        self.metrics.part(ended);
        Ok(())
    }

    async fn judge(
        &self,
        failure: Failure,
        attempt: u32,
        reporter: &Reporter,
        cancel: &CancellationToken,
    ) -> End {
        let verdict = verdict(failure.class, attempt, &self.settings.retry);
        if verdict == Verdict::Release {
            return End::Release;
        }
        let terminal = !matches!(verdict, Verdict::Retry(_));
        let (code, message, hint) =
            (failure.code, &failure.message, failure.hint.as_deref().unwrap_or_default());
        self.metrics.error(code);
        record_failure(&tracing::Span::current(), code, message);
        if terminal {
            self.metrics.part(PartOutcome::Failed);
            tracing::error!(%code, message, hint, attempt, "the work failed");
        } else {
            self.metrics.retry(code);
            tracing::warn!(%code, message, hint, attempt, ?verdict, "the work failed and is tried again");
        }
        let body = FactBody::Failed {
            code,
            message: failure.message.clone(),
            hint: failure.hint.clone(),
            terminal,
            container: reporter.target.clone(),
        };
        // Nobody may lose the reason: where it cannot be told, the delivery is given back.
        if reporter.send(vec![reporter.fact(body, 1_000_000)], cancel).await.is_err() {
            return End::Release;
        }
        match verdict {
            Verdict::Release => End::Release,
            Verdict::Fail => End::Ack,
            Verdict::Retry(delay) => End::Retry(delay, failure.message),
            Verdict::DeadLetter => End::DeadLetter(failure.message),
        }
    }

    /// A message that cannot be decoded: a newer version waits for a newer process, anything else is poison.
    async fn refuse(&self, message: &Incoming, error: DecodeError, cancel: &CancellationToken) -> End {
        let class = if matches!(error, DecodeError::Newer { .. }) { Class::TRANSIENT } else { Class::Poison };
        let failure = Failure::new(class, Code::MessageInvalid, error.to_string());
        let Ok(id) = message.correlation_id.parse() else {
            self.metrics.error(Code::MessageInvalid);
            tracing::error!(%error, queue = V::QUEUE.name(), "a message cannot be understood");
            return match verdict(class, message.attempt, &self.settings.retry) {
                Verdict::Retry(delay) => End::Retry(delay, failure.message),
                _ => End::DeadLetter(failure.message),
            };
        };
        let reporter = Reporter {
            bus: Arc::clone(&self.bus),
            execution: Execution { id, generation: 0 },
            part: Part::ONLY,
            attempt: attempt_at_part(message),
            mandatory: self.settings.facts_mandatory,
            headers: BTreeMap::new(),
            metrics: self.metrics.clone(),
            stage: V::STAGE,
            target: None,
        };
        self.judge(failure, message.attempt, &reporter, cancel).await
    }
}

/// Whoever waits for a run that was overtaken is told so.
fn superseded(reporter: &Reporter) -> FactBody {
    FactBody::Failed {
        code: Code::Superseded,
        message: "a newer run owns the blob; this one was dropped".to_owned(),
        hint: Some("follow the newer run, or choose another blob name".to_owned()),
        terminal: true,
        container: reporter.target.clone(),
    }
}

fn follow_up(next: &FollowUp, headers: BTreeMap<String, String>) -> Outgoing {
    match next {
        FollowUp::Copy(work) => work_message(work, WorkQueue::BlobCopierCopies, headers),
        FollowUp::Import(work) => work_message(work, WorkQueue::ImporterImports, headers),
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a worker task ended unexpectedly; its delivery is released");
    }
}

/// How a delivery is settled.
enum End {
    Ack,
    Release,
    Retry(transship_bus::HoldDelay, String),
    DeadLetter(String),
}

impl End {
    fn outcome(&self) -> MessageOutcome {
        match self {
            Self::Ack => MessageOutcome::Acked,
            Self::Release => MessageOutcome::Released,
            Self::Retry(..) => MessageOutcome::Retried,
            Self::DeadLetter(_) => MessageOutcome::DeadLettered,
        }
    }
}
