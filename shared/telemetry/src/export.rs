//! The exporter of spans, with two things around OpenTelemetry's own: what leaves the process is redacted, and
//! a collector that cannot be reached is told once, not for every batch.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::Status;
use opentelemetry::{Array, KeyValue, StringValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

use crate::redact::{HIDDEN, redact};

#[derive(Debug)]
pub(crate) struct SafeExporter<E> {
    pub(crate) to: E,
    failing: AtomicBool,
}

impl<E: SpanExporter> SafeExporter<E> {
    pub(crate) fn new(to: E) -> Self {
        Self { to, failing: AtomicBool::new(false) }
    }
}

impl<E: SpanExporter> SpanExporter for SafeExporter<E> {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        batch.iter_mut().for_each(redact_span);
        let result = self.to.export(batch).await;
        let failed_before = self.failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !failed_before => {
                tracing::warn!(%error, "the collector does not take spans; they are dropped until it does");
            }
            Ok(()) if failed_before => tracing::info!("the collector takes spans again"),
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.to.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.to.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.to.set_resource(resource);
    }
}

fn redact_span(span: &mut SpanData) {
    redact_text(&mut span.name);
    span.attributes.iter_mut().for_each(redact_attribute);
    for event in &mut span.events.events {
        redact_text(&mut event.name);
        event.attributes.iter_mut().for_each(redact_attribute);
    }
    for link in &mut span.links.links {
        link.attributes.iter_mut().for_each(redact_attribute);
    }
    if let Status::Error { description } = &mut span.status {
        redact_text(description);
    }
}

fn redact_text(text: &mut Cow<'static, str>) {
    if let Cow::Owned(changed) = redact(text) {
        *text = Cow::Owned(changed);
    }
}

fn redact_attribute(attribute: &mut KeyValue) {
    match &mut attribute.value {
        Value::String(value) => redact_value(attribute.key.as_str(), value),
        Value::Array(Array::String(values)) => {
            values.iter_mut().for_each(|value| redact_value(attribute.key.as_str(), value));
        }
        _ => {}
    }
}

fn redact_value(key: &str, value: &mut StringValue) {
    // The name is part of what tells a credential: in `password` the whole value is one.
    if matches!(redact(&format!("{key}=x")), Cow::Owned(_)) {
        *value = HIDDEN.into();
    } else if let Cow::Owned(changed) = redact(value.as_str()) {
        *value = changed.into();
    }
}
