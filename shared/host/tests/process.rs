//! A whole process: this test binary starts itself again as a service and sends it real signals.

use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;
use transship_host::{HostSettings, Process, ServiceSettings, healthcheck, launch};
use transship_model::Stage;

/// What the service does once it is asked to stop.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Manner {
    Drains,
    Hangs,
    Blocks,
}

#[derive(Deserialize)]
struct Settings {
    #[serde(default)]
    host: HostSettings,
    manner: Manner,
}

impl ServiceSettings for Settings {
    fn host(&self) -> &HostSettings {
        &self.host
    }
}

async fn work(settings: Settings, process: Process) -> Result<(), io::Error> {
    if matches!(settings.manner, Manner::Blocks) {
        tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_secs(600)));
    }
    process.shutdown.cancelled().await;
    if matches!(settings.manner, Manner::Hangs) {
        std::future::pending::<()>().await;
    }
    Ok(())
}

/// Not a test: the service that the tests start.
#[test]
#[ignore = "started by the other tests"]
fn service() {
    let arguments = std::env::var("SERVICE_ARGUMENTS").unwrap_or_default();
    let arguments = arguments.split_whitespace().map(str::to_owned);
    let exit = launch(Stage::Importer, arguments, work);
    std::process::exit(exit.code().into());
}

/// Ends the process that it holds, whatever becomes of the test.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(manner: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "service", "--ignored", "--nocapture"]);
    command.env("TRANSSHIP_MANNER", manner).env("TRANSSHIP_HOST__LISTEN", "127.0.0.1:0");
    command
}

fn start(manner: &str, folder: &Path) -> (Service, HostSettings) {
    let address_file = folder.join("address");
    let child = command(manner).env("TRANSSHIP_HOST__ADDRESS_FILE", &address_file).spawn().unwrap();
    let service = Service(child);
    let listen = ([127, 0, 0, 1], 0).into();
    let settings = HostSettings { listen, address_file: Some(address_file), ..HostSettings::default() };
    let deadline = Instant::now() + Duration::from_secs(30);
    while healthcheck(&settings).is_err() {
        assert!(Instant::now() < deadline, "the service does not become ready");
        std::thread::sleep(Duration::from_millis(20));
    }
    (service, settings)
}

fn signal(service: &Service, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), service.0.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

fn wait(mut service: Service, at_most: Duration) -> ExitStatus {
    let deadline = Instant::now() + at_most;
    loop {
        if let Some(status) = service.0.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the service does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Starts a service that ends by itself.
fn finish(command: &mut Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.code().is_some(), "ended by a signal");
    output
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_request_to_stop_ends_with_success() {
    for name in ["TERM", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        let (service, _) = start("drains", folder.path());
        signal(&service, name);
        assert_eq!(wait(service, Duration::from_secs(10)).code(), Some(0), "{name}");
    }
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (service, settings) = start("hangs", folder.path());
    signal(&service, "TERM");
    let deadline = Instant::now() + Duration::from_secs(10);
    while healthcheck(&settings).is_ok() {
        assert!(Instant::now() < deadline, "readiness does not tell of the drain");
    }
    signal(&service, "INT");
    assert_eq!(wait(service, Duration::from_secs(5)).code(), Some(130));
}

#[test]
fn a_thread_that_blocks_does_not_hold_up_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (service, _) = start("blocks", folder.path());
    signal(&service, "TERM");
    assert_eq!(wait(service, Duration::from_secs(10)).code(), Some(0));
}

#[test]
fn faults_of_settings_and_arguments_exit_with_two_and_say_what_is_expected() {
    let output = finish(command("dances").env("TRANSSHIP_HOST__DRAIN_SECONDS", "CANARY"));
    assert_eq!(output.status.code(), Some(2));
    let said = said(&output);
    assert!(said.contains("error: the settings have 2 faults:"), "{said}");
    assert!(said.contains("TRANSSHIP_MANNER: manner: expected one of `drains`, `hangs`, `blocks`"), "{said}");
    assert!(!said.contains("CANARY"), "{said}");

    let output = finish(command("drains").env("SERVICE_ARGUMENTS", "--frobnicate"));
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(finish(command("drains").env("RUST_LOG", "a=b=c")).status.code(), Some(2));
}

#[test]
fn the_commands_of_a_service_end_by_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("transship.toml");
    std::fs::write(&file, "manner = \"hangs\"\n").unwrap();
    let check = format!("--config {} check-config", file.display());
    assert_eq!(finish(command("drains").env("SERVICE_ARGUMENTS", check)).status.code(), Some(0));
    let lonely = finish(command("drains").env("SERVICE_ARGUMENTS", "healthcheck"));
    assert_eq!(lonely.status.code(), Some(1));
    assert!(said(&lonely).contains("the address of the process is not known"));
    let version = finish(command("drains").env("SERVICE_ARGUMENTS", "--version"));
    assert!(String::from_utf8_lossy(&version.stdout).contains("importer 0."));

    let (service, settings) = start("drains", folder.path());
    let mut asked = command("drains");
    asked.env("SERVICE_ARGUMENTS", "healthcheck");
    asked.env("TRANSSHIP_HOST__ADDRESS_FILE", settings.address_file.as_ref().unwrap());
    assert_eq!(finish(&mut asked).status.code(), Some(0));
    signal(&service, "TERM");
    assert_eq!(wait(service, Duration::from_secs(10)).code(), Some(0));
}
