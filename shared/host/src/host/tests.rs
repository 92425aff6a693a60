//! The host with requests to stop that come from a channel. Real signals are in `tests/process.rs`.

use std::io;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use transship_model::{Class, Code, Stage};

use super::*;
use crate::{HealthcheckError, healthcheck};

/// An error with a failure below it.
#[derive(Debug, thiserror::Error)]
#[error("cannot begin")]
struct Wrapped(#[source] Failure);

struct Requests(mpsc::Receiver<&'static str>);

impl StopRequests for Requests {
    async fn next(&mut self) -> &'static str {
        match self.0.recv().await {
            Some(request) => request,
            None => std::future::pending().await,
        }
    }
}

fn settings(drain_seconds: u64) -> HostSettings {
    HostSettings { listen: ([127, 0, 0, 1], 0).into(), drain_seconds, ..HostSettings::default() }
}

async fn host(drain_seconds: u64) -> Host {
    Host::bind("exporter", settings(drain_seconds), Metrics::new(Stage::Exporter)).await.unwrap()
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    // Ends by itself: each connection is closed after its one answer.
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Work that goes on until it is asked to stop.
async fn until_shutdown(process: Process) -> Result<(), io::Error> {
    process.shutdown.cancelled().await;
    Ok(())
}

#[tokio::test]
async fn the_endpoints_answer_and_readiness_gives_its_reasons() {
    let host = host(30).await;
    let (address, process) = (host.address(), host.process().clone());
    process.readiness.source("broker", || Err("connecting".to_owned()));
    let (_requests, requests) = mpsc::channel(1);
    let running = tokio::spawn(host.run_until(until_shutdown, Requests(requests)));

    let metrics = get(address, "/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200 "), "{metrics}");
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    assert!(metrics.contains("\ntransship_build_info{"), "{metrics}");
    let alive = get(address, "/healthz").await;
    assert!(alive.starts_with("HTTP/1.1 200 ") && alive.ends_with("{\"alive\":true}\n"), "{alive}");
    let ready = get(address, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
    assert!(ready.ends_with("{\"ready\":false,\"reasons\":[\"broker: connecting\"]}\n"), "{ready}");
    assert!(get(address, "/").await.starts_with("HTTP/1.1 404 "));

    process.shutdown.cancel();
    assert_eq!(running.await.unwrap(), Exit::Success);
}

#[tokio::test]
async fn a_request_to_stop_drains_while_the_endpoints_still_answer() {
    let host = host(30).await;
    let address = host.address();
    let (finish, finished) = tokio::sync::oneshot::channel::<()>();
    let (request, requests) = mpsc::channel(1);
    let work = |process: Process| async move {
        process.shutdown.cancelled().await;
        finished.await.map_err(io::Error::other)
    };
    let running = tokio::spawn(host.run_until(work, Requests(requests)));
    assert!(get(address, "/readyz").await.ends_with("{\"ready\":true,\"reasons\":[]}\n"));

    request.send("SIGTERM").await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !get(address, "/readyz").await.contains("process: draining") {
        assert!(Instant::now() < deadline, "readiness does not tell of the drain");
    }
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
    finish.send(()).unwrap();
    assert_eq!(running.await.unwrap(), Exit::Success);
    assert!(TcpStream::connect(address).await.is_err(), "the address is free again");
}

#[tokio::test(start_paused = true)]
async fn work_that_does_not_drain_is_dropped_at_the_deadline() {
    let host = host(30).await;
    let (request, requests) = mpsc::channel(1);
    request.send("SIGTERM").await.unwrap();
    let began = tokio::time::Instant::now();
    let exit = host.run_until(|_| std::future::pending::<Result<(), io::Error>>(), Requests(requests)).await;
    assert_eq!(exit, Exit::Failure);
    assert!((30..=32).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_second_request_ends_the_drain_at_once() {
    let host = host(3600).await;
    let (request, requests) = mpsc::channel(2);
    request.send("SIGTERM").await.unwrap();
    request.send("SIGINT").await.unwrap();
    let exit = host.run_until(|_| std::future::pending::<Result<(), io::Error>>(), Requests(requests)).await;
    assert_eq!(exit, Exit::Interrupted);
}

#[tokio::test]
async fn work_that_fails_or_panics_ends_the_process_with_a_failure() {
    let failure = Failure::new(Class::Parked, Code::SasExpired, "expired").with_hint("make a new one");
    assert_eq!(hint(&failure), Some("make a new one"));
    let wrapped = Wrapped(failure.clone());
    assert_eq!((chain(&wrapped).as_str(), hint(&wrapped)), ("cannot begin: expired", Some("make a new one")));

    let (_open, requests) = mpsc::channel(1);
    let exit = host(30).await.run_until(|_| async { Err::<(), _>(failure) }, Requests(requests)).await;
    assert_eq!(exit, Exit::Failure);
    let (_open, requests) = mpsc::channel(1);
    let work = |_| async { if true { panic!("on purpose") } else { Ok::<(), io::Error>(()) } };
    assert_eq!(host(30).await.run_until(work, Requests(requests)).await, Exit::Failure);
    let (_open, requests) = mpsc::channel(1);
    let exit = host(30).await.run_until(|_| async { Ok::<(), io::Error>(()) }, Requests(requests)).await;
    assert_eq!(exit, Exit::Success);
}

#[tokio::test]
async fn clients_that_dawdle_cannot_hold_up_the_end() {
    let host = host(30).await;
    let (address, process) = (host.address(), host.process().clone());
    let (_requests, requests) = mpsc::channel(1);
    let running = tokio::spawn(host.run_until(until_shutdown, Requests(requests)));
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").await.unwrap();
        slow.push(connection);
    }
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "), "others are served meanwhile");
    let began = Instant::now();
    process.shutdown.cancel();
    assert_eq!(running.await.unwrap(), Exit::Success);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn clients_that_take_every_connection_are_cut_off_and_others_are_served() {
    let host = host(30).await;
    let (address, process) = (host.address(), host.process().clone());
    let (_requests, requests) = mpsc::channel(1);
    let running = tokio::spawn(host.run_until(until_shutdown, Requests(requests)));
    let began = tokio::time::Instant::now();
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut connection = TcpStream::connect(address).await.unwrap();
        // Paused time runs whenever nothing else does, so this one may be cut off already.
        let _ = connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").await;
        slow.push(connection);
    }
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
    let waited = began.elapsed().as_secs();
    assert!((30..60).contains(&waited), "a hundred came before it, 32 at a time, 10 s each: {waited} s");
    process.shutdown.cancel();
    assert_eq!(running.await.unwrap(), Exit::Success);
}

#[tokio::test]
async fn the_address_file_tells_which_port_was_taken_and_the_health_check_finds_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("address");
    let settings = HostSettings { address_file: Some(file.clone()), ..settings(30) };
    assert!(matches!(healthcheck(&settings), Err(HealthcheckError::NoAddress)));

    let host = Host::bind("exporter", settings.clone(), Metrics::new(Stage::Exporter)).await.unwrap();
    let process = host.process().clone();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{}\n", host.address()));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
    let taken = HostSettings { listen: host.address(), ..HostSettings::default() };
    let again = Host::bind("exporter", taken, Metrics::new(Stage::Exporter)).await;
    assert!(matches!(again, Err(HostError::Listen { .. })));

    let (broker, state) = tokio::sync::watch::channel(false);
    process.readiness.watch("broker", state, |up: &bool| up.then_some(()).ok_or_else(|| "away".to_owned()));
    let (_requests, requests) = mpsc::channel(1);
    let running = tokio::spawn(host.run_until(until_shutdown, Requests(requests)));
    let check = || {
        tokio::task::spawn_blocking({
            let settings = settings.clone();
            move || healthcheck(&settings)
        })
    };
    let answer = check().await.unwrap();
    assert!(
        matches!(&answer, Err(HealthcheckError::NotReady(why)) if why.contains("broker: away")),
        "{answer:?}"
    );
    broker.send(true).unwrap();
    assert!(check().await.unwrap().is_ok());
    process.shutdown.cancel();
    running.await.unwrap();
    assert!(matches!(check().await.unwrap(), Err(HealthcheckError::NoAnswer { .. })));
}
