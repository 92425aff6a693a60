//! Says what happens to one piece of work: facts, and the spans that messages travel under.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use transship_bus::{Bus, Destination, FACTS_EXCHANGE, Outgoing};
use transship_messages::{Fact, FactBody};
use transship_model::{Class, ContainerUrl, Digest, Execution, Failure, Part, Stage};
use transship_telemetry::{MessageSpan, Metrics, inject, send_span};

use crate::Progress;
use crate::publish::{fact_message, publish};

/// Says what happens to one piece of work.
pub(crate) struct Reporter {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) execution: Execution,
    pub(crate) part: Part,
    /// See [`attempt_at_part`](crate::attempt_at_part).
    pub(crate) attempt: u32,
    pub(crate) mandatory: bool,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) metrics: Metrics,
    pub(crate) stage: Stage,
    pub(crate) target: Option<ContainerUrl>,
}

impl Reporter {
    pub(crate) fn fact(&self, body: FactBody, number: u64) -> Outgoing {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let fact = Fact {
            execution: self.execution.clone(),
            part: self.part,
            stage: self.stage,
            attempt: self.attempt,
            target: self.target.clone(),
            at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            body,
        };
        let mut message = fact_message(&fact, number, self.mandatory, self.headers.clone());
        if let Some(target) = &self.target {
            // Two routes of one part report the same kinds of facts.
            message.message_id.push('.');
            message.message_id.push_str(&Digest::sha256(target.as_url().as_str().as_bytes()).hex()[..16]);
        }
        message
    }

    /// Publishes a batch until it is confirmed, each message under a span of its own whose context it carries. Where
    /// the worker's own broker takes nothing, it holds nothing either, so the delivery is given back.
    pub(crate) async fn send(
        &self,
        messages: Vec<Outgoing>,
        cancel: &CancellationToken,
    ) -> Result<(), Failure> {
        self.send_to(&*self.bus, messages, Class::Interrupted, cancel).await
    }

    /// The same, to another broker; `away` is what it means where that takes nothing.
    pub(crate) async fn send_to(
        &self,
        bus: &dyn Bus,
        mut messages: Vec<Outgoing>,
        away: Class,
        cancel: &CancellationToken,
    ) -> Result<(), Failure> {
        let started = Instant::now();
        let spans: Vec<_> = messages.iter_mut().map(send_under_span).collect();
        let sent = publish(bus, messages, away, cancel).await;
        self.metrics.publish_duration(started.elapsed());
        drop(spans);
        sent
    }

    /// Reports progress once a second, for ever. A report that cannot be sent is not sent again: the next one
    /// carries absolute values too.
    pub(crate) async fn report(&self, progress: &Progress) -> std::convert::Infallible {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        second.tick().await;
        for number in 2_000_000.. {
            second.tick().await;
            let changed = progress.take_change();
            let changed = changed.map(|(counters, in_flight)| FactBody::Progress { counters, in_flight });
            let bodies = progress.take_announced().into_iter().chain(changed);
            let messages: Vec<_> = bodies.map(|body| self.fact(body, number)).collect();
            if messages.is_empty() {
                continue;
            }
            if let Err(error) = self.bus.publish(messages).await {
                tracing::debug!(%error, "a progress report was not sent");
            }
        }
        std::future::pending().await
    }
}

/// The PRODUCER span of a message, which travels with it.
fn send_under_span(message: &mut Outgoing) -> tracing::Span {
    let (exchange, routing_key) = match &message.destination {
        Destination::Work(queue) => ("", queue.name()),
        Destination::Facts { key, .. } => (FACTS_EXCHANGE, key.as_str()),
    };
    let span = send_span(&MessageSpan {
        exchange,
        routing_key,
        message_id: &message.message_id,
        correlation_id: &message.correlation_id,
        body_bytes: message.body.len(),
    });
    message.headers.extend(inject(&span));
    span
}
