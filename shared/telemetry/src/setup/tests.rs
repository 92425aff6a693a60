//! Logs, trace contexts and what becomes of a collector that does not answer.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::TcpListener;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tracing::Span;
use transship_model::Code;

use super::*;
use crate::{
    MessageSpan, Relation, TraceContext, current_trace_id, inject, process_span, record_failure, send_span,
};

/// What was logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn settings(format: LogFormat, filter: &str) -> TracingSettings {
    TracingSettings {
        service_name: "test".into(),
        format,
        otlp_endpoint: None,
        filter: Some(filter.to_owned()),
    }
}

/// Runs `work` with tracing set up as `init` does, and returns what was logged.
fn logged(settings: &TracingSettings, work: impl FnOnce()) -> String {
    let lines = Lines::default();
    let to = lines.clone();
    let (subscriber, _provider) = subscriber(settings, move || to.clone()).unwrap();
    tracing::subscriber::with_default(subscriber, work);
    lines.text()
}

const MESSAGE: MessageSpan<'_> = MessageSpan {
    exchange: "",
    routing_key: "exporter.parts",
    message_id: "m-1",
    correlation_id: "run-1",
    body_bytes: 12,
};

#[test]
fn a_trace_follows_a_message_without_any_collector() {
    for filter in ["info", "off"] {
        logged(&settings(LogFormat::Text, filter), || {
            let sending = send_span(&MESSAGE);
            let headers = inject(&sending);
            assert_eq!(
                headers.keys().collect::<Vec<_>>(),
                ["traceparent"],
                "an empty tracestate is not sent"
            );

            let processing = process_span("exporter.parts", &MESSAGE, &headers, Relation::ChildAndLink);
            let next = processing.in_scope(|| inject(&send_span(&MESSAGE)));
            let trace = |headers| TraceContext::from_headers(headers).unwrap().trace_id();
            assert_eq!(trace(&next), trace(&headers), "one trace follows the part");
            assert_ne!(next["traceparent"], headers["traceparent"]);
            assert_eq!(processing.in_scope(current_trace_id), Some(trace(&headers)));

            let apart = process_span("exporter.parts", &MESSAGE, &headers, Relation::Link);
            assert_ne!(TraceContext::of(&apart).unwrap().trace_id(), trace(&headers));
        });
    }
}

#[test]
fn a_context_that_is_not_valid_begins_a_new_trace() {
    let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = |parent: &str, state: &str| {
        BTreeMap::from([
            ("traceparent".to_owned(), parent.to_owned()),
            ("tracestate".to_owned(), state.to_owned()),
        ])
    };
    for bad in [
        "",
        "00-0-0-00",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "x".repeat(1 << 20).as_str(),
    ] {
        assert_eq!(TraceContext::from_headers(&headers(bad, "")), None);
    }
    assert_eq!(TraceContext::from_headers(&BTreeMap::new()), None);

    let kept = TraceContext::from_headers(&headers(valid, "a=b")).unwrap();
    assert_eq!(kept.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(kept.to_headers(), headers(valid, "a=b"));
    let long = TraceContext::from_headers(&headers(valid, &format!("a={}", "b".repeat(600)))).unwrap();
    assert_eq!(long.to_headers().keys().collect::<Vec<_>>(), ["traceparent"], "a tracestate is bounded");
}

#[test]
fn without_tracing_there_is_no_context_and_nothing_breaks() {
    tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::new(), || {
        assert_eq!(inject(&Span::current()), BTreeMap::new());
        assert_eq!(current_trace_id(), None);
        record_failure(
            &process_span("q", &MESSAGE, &BTreeMap::new(), Relation::default()),
            Code::Internal,
            "x",
        );
    });
}

#[test]
fn a_log_line_tells_message_and_trace_but_not_the_names_of_the_conventions() {
    let mut trace = None;
    let text = logged(&settings(LogFormat::Text, "info"), || {
        let span = process_span("exporter.parts", &MESSAGE, &BTreeMap::new(), Relation::default());
        span.in_scope(|| {
            trace = current_trace_id();
            tracing::info!(blobs = 3, "staged");
        });
    });
    let expected = format!(
        "process{{queue=\"exporter.parts\" message_id=\"m-1\" execution=\"run-1\" trace_id=\"{}\"}}",
        trace.unwrap()
    );
    assert!(text.contains(&expected), "{text}");
    assert!(text.ends_with(": staged blobs=3\n"), "{text}");
    assert!(!text.contains("otel.") && !text.contains("messaging."), "{text}");
}

#[test]
fn a_json_line_is_one_object_with_its_spans() {
    let text = logged(&settings(LogFormat::Json, ""), || {
        let span = process_span("exporter.parts", &MESSAGE, &BTreeMap::new(), Relation::default());
        span.in_scope(|| tracing::warn!(url = "https://h/b?sig=CANARY", token = 5, "a\nb\u{7f}"));
    });
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["fields"]["message"], "a\nb\u{7f}");
    assert_eq!(line["fields"]["url"], "https://h/b?sig=[hidden]");
    assert_eq!(line["fields"]["token"], "[hidden]");
    assert_eq!(line["spans"][0]["execution"], "run-1");
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn no_canary_reaches_a_log_line_in_either_format() {
    for format in [LogFormat::Text, LogFormat::Json] {
        let text = logged(&settings(format, "trace"), || {
            let error = io::Error::other("PUT https://a.example/c/b?sp=rw&sig=CANARY answered 403");
            let span = tracing::info_span!("copy", from = "amqp://user:CANARY@broker/v", password = "CANARY");
            let _entered = span.enter();
            tracing::error!(%error, ?error, headers = ?[("authorization", "Bearer CANARY0CANARY")], "Authorization: Basic CANARY0CANARY=");
            tracing::trace!(target: "reqwest::connect", "starting https://h/?CANARY");
        });
        assert!(text.contains("answered 403"), "{text}");
        assert!(!text.contains("CANARY"), "{text}");
    }
}

#[test]
fn libraries_that_could_log_credentials_stay_at_info_whatever_the_filter_says() {
    let text = logged(&settings(LogFormat::Text, "trace,azure_core::http=trace,lapin=debug"), || {
        tracing::trace!(target: "transship_stage", "KEPT");
        tracing::info!(target: "azure_core::http", "KEPT");
        tracing::trace!(target: "azure_core::http", "LOST");
        tracing::warn!(target: "lapin::channel", "LOST");
        tracing::debug!(target: "hyper::proto", "LOST");
    });
    assert_eq!((text.matches("KEPT").count(), text.matches("LOST").count()), (2, 0), "{text}");
    let text = logged(&settings(LogFormat::Text, "warn"), || tracing::info!("LOST"));
    assert_eq!(text, "");
}

#[test]
fn the_variables_of_opentelemetry_are_read() {
    let read = |variables: &[(&str, &str)]| {
        TracingSettings::from_variables("exporter", LogFormat::Text, |name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    };
    let endpoint = |variables: &[(&str, &str)]| read(variables).unwrap().otlp_endpoint.map(String::from);
    const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    assert_eq!(endpoint(&[]), None);
    assert_eq!(endpoint(&[(BASE, "")]), None);
    assert_eq!(endpoint(&[(BASE, "http://c:4318")]).unwrap(), "http://c:4318/v1/traces");
    assert_eq!(endpoint(&[(BASE, "http://c:4318/otlp/")]).unwrap(), "http://c:4318/otlp/v1/traces");
    let both = [(BASE, "http://c:4318"), ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://t/x")];
    assert_eq!(endpoint(&both).unwrap(), "https://t/x");
    assert_eq!(endpoint(&[(BASE, "http://c:4318"), ("OTEL_SDK_DISABLED", "true")]), None);
    for bad in ["collector:4318", "grpc://c:4317", "nonsense"] {
        assert!(matches!(read(&[(BASE, bad)]), Err(TracingError::Endpoint { variable: BASE })), "{bad}");
    }
    let grpc = read(&[(BASE, "http://c:4317"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
    assert!(matches!(grpc, Err(TracingError::Protocol { .. })));
    let named = read(&[("OTEL_SERVICE_NAME", "mine"), ("RUST_LOG", "debug")]).unwrap();
    assert_eq!((named.service_name.as_str(), named.filter.as_deref()), ("mine", Some("debug")));

    let secure = TracingSettings {
        otlp_endpoint: Some("https://collector.invalid/v1/traces".parse().unwrap()),
        ..settings(LogFormat::Text, "info")
    };
    assert!(subscriber(&secure, io::sink).is_ok(), "TLS has its one provider");
    let wrong = settings(LogFormat::Text, "transship=loud");
    assert!(matches!(subscriber(&wrong, io::sink), Err(TracingError::Filter(_))));
}

#[test]
fn a_collector_that_does_not_answer_holds_up_the_end_for_five_seconds_at_most() {
    // It takes the connection and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/v1/traces", silent.local_addr().unwrap());
    let settings = TracingSettings {
        otlp_endpoint: Some(endpoint.parse().unwrap()),
        ..settings(LogFormat::Text, "info")
    };
    let (subscriber, provider) = subscriber(&settings, io::sink).unwrap();
    tracing::subscriber::with_default(subscriber, || drop(send_span(&MESSAGE)));
    let began = Instant::now();
    drop(Tracing { provider });
    let took = began.elapsed();
    assert!(took < FLUSH_TIMEOUT + Duration::from_secs(3), "{took:?}");
}

/// Takes spans, or not.
#[derive(Debug, Default)]
struct Moody {
    takes: AtomicBool,
}

impl SpanExporter for Moody {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        if self.takes.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(OTelSdkError::InternalFailure("POST https://h/v1/traces?key=CANARY".into()))
        }
    }
}

#[test]
fn a_collector_that_is_away_is_told_once_and_once_more_when_it_is_back() {
    let exporter = SafeExporter::new(Moody::default());
    let text = logged(&settings(LogFormat::Text, "info"), || {
        for takes in [false, false, false, true, true] {
            exporter.to.takes.store(takes, Ordering::Relaxed);
            let result = pin!(exporter.export(Vec::new())).poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(result, Poll::Ready(result) if result.is_ok() == takes));
        }
    });
    assert_eq!(text.matches("does not take spans").count(), 1, "{text}");
    assert_eq!(text.matches("takes spans again").count(), 1, "{text}");
    assert!(!text.contains("CANARY"), "{text}");
}
