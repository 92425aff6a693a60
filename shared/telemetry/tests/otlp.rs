//! Spans reach a collector over OTLP/HTTP, the last ones too, and nothing secret goes with them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use transship_model::Code;
use transship_telemetry::{
    LogFormat, MessageSpan, Relation, TraceContext, Tracing, TracingSettings, inject, process_span,
    record_failure, send_span,
};

/// Takes requests until the test ends, and sends on path and body of each.
fn collector() -> (String, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        while let Ok((connection, _)) = listener.accept() {
            while let Some(request) = take(&connection) {
                if sender.send(request).is_err() {
                    return;
                }
            }
        }
    });
    (address, requests)
}

fn take(connection: &TcpStream) -> Option<(String, Vec<u8>)> {
    let mut reader = BufReader::new(connection);
    let (mut path, mut length, mut line) = (String::new(), 0, String::new());
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let lower = line.trim().to_ascii_lowercase();
        if let Some(rest) = line.strip_prefix("POST ") {
            path = rest.split(' ').next()?.to_owned();
        } else if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        } else if lower.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut to = connection;
    to.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n")
        .ok()?;
    Some((path, body))
}

fn contains(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn spans_reach_the_collector_and_the_last_ones_are_flushed() {
    let (address, requests) = collector();
    let settings = TracingSettings::from_variables("exporter-test", LogFormat::Json, |name| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(address.clone()),
        "RUST_LOG" => Some("off".to_owned()),
        _ => None,
    });
    let tracing = Tracing::init(settings.unwrap()).unwrap();

    let message = MessageSpan {
        exchange: "",
        routing_key: "exporter.parts",
        message_id: "message-77",
        correlation_id: "run-1",
        body_bytes: 3,
    };
    let sending = send_span(&message);
    let headers = inject(&sending);
    let trace = TraceContext::of(&sending).unwrap().trace_id();
    drop(sending);
    let processing = process_span("exporter.parts", &message, &headers, Relation::ChildAndLink);
    processing
        .in_scope(|| tracing::info!(target: "transship_test", from = "https://h/b?sig=CANARY", "an event"));
    record_failure(&processing, Code::SasExpired, "GET https://h/b?sig=CANARY: expired");
    drop(processing);
    // What the exporter's own HTTP client does must not be traced.
    tracing::info_span!(target: "hyper::client", "FOREIGN").in_scope(|| ());
    tracing.shutdown();

    let mut all = Vec::new();
    while let Ok((path, body)) = requests.recv_timeout(Duration::from_millis(200)) {
        assert_eq!(path, "/v1/traces");
        all.extend(body);
    }
    for expected in [
        "exporter-test",
        "send exporter.parts",
        "process exporter.parts",
        "messaging.system",
        "rabbitmq",
        "messaging.destination.name",
        "message-77",
        "an event",
        "SasExpired",
        "https://opentelemetry.io/schemas/1.42.0",
    ] {
        assert!(contains(&all, expected), "{expected} is not in what the collector got");
    }
    for unexpected in ["CANARY", "FOREIGN"] {
        assert!(!contains(&all, unexpected), "{unexpected} was sent");
    }
    let id: Vec<u8> = (0..16).map(|i| u8::from_str_radix(&trace[2 * i..2 * i + 2], 16).unwrap()).collect();
    let spans = all.windows(16).filter(|window| *window == id).count();
    assert!(spans >= 3, "both spans and the link carry the trace's identity, found {spans}");
    assert!(Tracing::init(TracingSettings::from_env("again", LogFormat::Text).unwrap()).is_err());
}
