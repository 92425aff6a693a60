//! The trace context in messages: W3C Trace Context in text headers, and the spans around sending and
//! processing a message as the OpenTelemetry semantic conventions for messaging (version 1.42) name them.

use std::collections::BTreeMap;

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{SpanContext, Status, TraceContextExt};
use opentelemetry::{Context, Value};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::field::Empty;
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use transship_model::Code;

/// The longest `tracestate` that is taken over, in bytes: what W3C Trace Context, section 3.3.1.5, asks
/// everybody to carry.
const MAX_TRACESTATE_BYTES: usize = 512;

/// The identity of a span, as it travels. It is made, and it travels, also where no collector is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext(SpanContext);

impl TraceContext {
    /// The context of `span`; `None` where tracing is not set up or the span is disabled. A parent can no
    /// longer be set after this.
    pub fn of(span: &Span) -> Option<Self> {
        let context = span.context().span().span_context().clone();
        context.is_valid().then_some(Self(context))
    }

    /// What the headers of a message carry: `traceparent` and, where it is valid, `tracestate`. `None` where
    /// there is no valid `traceparent`: then a trace begins.
    pub fn from_headers(headers: &BTreeMap<String, String>) -> Option<Self> {
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
        let context = context.span().span_context().clone();
        context.is_valid().then_some(Self(context))
    }

    /// `traceparent`, and `tracestate` where it is not empty.
    pub fn to_headers(&self) -> BTreeMap<String, String> {
        let mut headers = NonEmpty(BTreeMap::new());
        let context = Context::new().with_remote_span_context(self.0.clone());
        TraceContextPropagator::new().inject_context(&context, &mut headers);
        headers.0
    }

    /// The trace's identity: 32 lower-case hexadecimal digits.
    pub fn trace_id(&self) -> String {
        self.0.trace_id().to_string()
    }
}

/// The headers that carry the context of `span`; none where tracing is not set up.
pub fn inject(span: &Span) -> BTreeMap<String, String> {
    TraceContext::of(span).map(|context| context.to_headers()).unwrap_or_default()
}

/// The identity of the trace that the current span belongs to.
pub fn current_trace_id() -> Option<String> {
    TraceContext::of(&Span::current()).map(|context| context.trace_id())
}

/// What a span says about its message.
#[derive(Debug, Clone, Copy, Default)]
pub struct MessageSpan<'a> {
    /// The exchange; empty for the default exchange.
    pub exchange: &'a str,
    /// The routing key: on the default exchange the name of the queue.
    pub routing_key: &'a str,
    /// The message's identity.
    pub message_id: &'a str,
    /// The execution, which is the AMQP `correlation-id`.
    pub correlation_id: &'a str,
    /// The size of the body, in bytes.
    pub body_bytes: usize,
}

/// How the span of processing relates to the span of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Relation {
    /// A child that also links to it: one trace follows a part through all stages.
    #[default]
    ChildAndLink,
    /// A trace of its own that links to it: across a border that traces do not cross.
    Link,
}

/// The CONSUMER span `process {queue}` of a message that was delivered from `queue`. Enter it, or instrument
/// the future that processes the message.
pub fn process_span(
    queue: &str,
    message: &MessageSpan<'_>,
    headers: &BTreeMap<String, String>,
    relation: Relation,
) -> Span {
    let span = info_span!(
        "process",
        otel.name = format!("process {queue}"),
        otel.kind = "consumer",
        queue,
        message_id = message.message_id,
        execution = message.correlation_id,
        trace_id = Empty,
    );
    if let Some(TraceContext(sender)) = TraceContext::from_headers(headers) {
        if relation == Relation::ChildAndLink {
            let parent = Context::new().with_remote_span_context(sender.clone());
            // It fails only where no trace layer is set up, and then there is nothing to relate.
            let _ = span.set_parent(parent);
        }
        span.add_link(sender);
    }
    describe(&span, message, "process");
    finish(span)
}

/// The PRODUCER span `send {exchange or queue}` of one message. [`inject`] its context into the headers.
pub fn send_span(message: &MessageSpan<'_>) -> Span {
    // The routing key of a fact holds an execution, which must not be part of a span's name.
    let destination = if message.exchange.is_empty() { message.routing_key } else { message.exchange };
    let span = info_span!(
        "send",
        otel.name = format!("send {destination}"),
        otel.kind = "producer",
        message_id = message.message_id,
        trace_id = Empty,
    );
    describe(&span, message, "send");
    finish(span)
}

/// Marks the span as failed, with the stable code as `error.type`.
pub fn record_failure(span: &Span, code: Code, message: &str) {
    span.set_attribute("error.type", code.as_str());
    span.set_status(Status::error(message.to_owned()));
}

/// The attributes of the conventions. They are not fields of the span, so they do not stand in every log line.
fn describe(span: &Span, message: &MessageSpan<'_>, operation: &'static str) {
    let set = |key: &'static str, value: Value| span.set_attribute(key, value);
    set("messaging.system", "rabbitmq".into());
    set("messaging.operation.name", operation.into());
    set("messaging.operation.type", operation.into());
    set("messaging.destination.name", destination_name(message).into());
    set("messaging.rabbitmq.destination.routing_key", message.routing_key.to_owned().into());
    set("messaging.message.id", message.message_id.to_owned().into());
    set("messaging.message.conversation_id", message.correlation_id.to_owned().into());
    set("messaging.message.body.size", i64::try_from(message.body_bytes).unwrap_or(i64::MAX).into());
}

fn destination_name(message: &MessageSpan<'_>) -> String {
    match (message.exchange, message.routing_key) {
        ("", "") => "amq.default".to_owned(),
        ("", key) => key.to_owned(),
        (exchange, "") => exchange.to_owned(),
        (exchange, key) => format!("{exchange}:{key}"),
    }
}

/// Puts the trace's identity into the span, where log lines show it.
fn finish(span: Span) -> Span {
    if let Some(context) = TraceContext::of(&span) {
        span.record("trace_id", context.trace_id());
    }
    span
}

struct Headers<'a>(&'a BTreeMap<String, String>);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let value = self.0.get(key).map(String::as_str);
        value.filter(|value| key != "tracestate" || value.len() <= MAX_TRACESTATE_BYTES)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

/// The propagator writes an empty `tracestate` where there is none; W3C Trace Context says not to send it.
struct NonEmpty(BTreeMap<String, String>);

impl Injector for NonEmpty {
    fn set(&mut self, key: &str, value: String) {
        if !value.is_empty() {
            self.0.insert(key.to_owned(), value);
        }
    }
}
