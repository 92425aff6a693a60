//! Each server starts, answers, keeps its data over a restart, and leaves no process behind.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use reqwest::{Client, StatusCode};
use transship_rig::{Azurite, Endpoints, RabbitMq, RabbitMqOptions, Registry, RegistryOptions};

fn client() -> Client {
    Client::builder().no_proxy().build().expect("a client without special settings")
}

fn runs(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Processes end in their own time: asks until it is so, for 15 seconds at most.
fn ends(pid: u32) -> bool {
    let deadline = Instant::now() + Duration::from_secs(15);
    while runs(pid) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    !runs(pid)
}

/// The process ids of everything whose command line or environment names this text.
fn processes_that_name(text: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("Linux").flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
            let told = [read("cmdline"), read("environ")].concat();
            String::from_utf8_lossy(&told).contains(text).then_some(pid)
        })
        .collect()
}

#[tokio::test]
async fn rabbitmq_keeps_a_durable_queue_over_a_stop_and_over_a_kill() -> Result<()> {
    let options = RabbitMqOptions { consumer_timeout: Some(Duration::from_secs(90)), ..Default::default() };
    let broker = RabbitMq::start_with(options).await?;
    let url = broker.vhost().await?;
    let vhost = url.rsplit('/').next().context("a virtual host")?.to_owned();
    let queue = format!("{}/api/queues/{vhost}/kept", broker.management_url());
    let body = r#"{"durable":true,"arguments":{"x-queue-type":"quorum"}}"#;
    let made = client().put(&queue).header("content-type", "application/json").body(body).send().await?;
    assert_eq!(made.status(), StatusCode::CREATED);

    broker.stop().await?;
    assert!(broker.pid().is_none());
    broker.start_again().await?;
    assert_eq!(client().get(&queue).send().await?.status(), StatusCode::OK);

    broker.kill().await?;
    broker.start_again().await?;
    assert_eq!(client().get(&queue).send().await?.status(), StatusCode::OK);

    let timeout = broker.ctl(&["eval", "application:get_env(rabbit, consumer_timeout)."]).await?;
    assert!(timeout.contains("90000"), "{timeout}");
    let users = broker.ctl(&["list_users", "--quiet"]).await?;
    assert!(!users.contains("guest"), "{users}");
    Ok(())
}

#[tokio::test]
async fn a_dropped_rabbitmq_leaves_no_process_not_even_epmd() -> Result<()> {
    let broker = RabbitMq::start().await?;
    let pid = broker.pid().context("a private broker")?;
    let folder = broker.folder().context("a private broker")?.to_owned();
    let name = folder.file_name().and_then(|name| name.to_str()).context("a folder")?.to_owned();
    // The broker, its helpers, epmd, and the guards of both.
    assert!(processes_that_name(&name).len() >= 4);
    drop(broker);
    assert!(ends(pid));
    assert_eq!(processes_that_name(&name), Vec::<u32>::new());
    assert!(!folder.exists());
    Ok(())
}

#[tokio::test]
async fn azurite_keeps_a_blob_over_a_restart() -> Result<()> {
    let azurite = Azurite::start().await?;
    let container = azurite.container("kept").await?;
    let blob = |sas: String| format!("{}/a.txt?{sas}", container.url);
    let put = client().put(blob(container.full_sas())).header("x-ms-blob-type", "BlockBlob").body("bytes");
    assert_eq!(put.send().await?.status(), StatusCode::CREATED);

    azurite.stop().await?;
    azurite.start_again().await?;
    let text = client().get(blob(container.full_sas())).send().await?.text().await?;
    assert_eq!(text, "bytes");

    let pid = azurite.pid().context("a private instance")?;
    drop(azurite);
    assert!(ends(pid));
    Ok(())
}

#[tokio::test]
async fn a_container_sas_gives_its_letters_until_it_expires() -> Result<()> {
    let azurite = Azurite::start().await?;
    let container = azurite.container("letters").await?;
    let soon = SystemTime::now() + Duration::from_secs(600);
    let past = SystemTime::now() - Duration::from_secs(600);
    let blob = |sas: String| format!("{}/a.txt?{sas}", container.url);
    let put =
        |sas: String| client().put(blob(sas)).header("x-ms-blob-type", "BlockBlob").body("bytes").send();

    assert_eq!(put(container.sas("r", soon)).await?.status(), StatusCode::FORBIDDEN);
    assert_eq!(put(container.sas("wr", past)).await?.status(), StatusCode::FORBIDDEN);
    assert_eq!(put(container.sas("wr", soon)).await?.status(), StatusCode::CREATED);
    assert_eq!(client().get(blob(container.sas("r", soon))).send().await?.status(), StatusCode::OK);
    let list = format!("{}?restype=container&comp=list&{}", container.url, container.sas("l", soon));
    assert_eq!(client().get(list).send().await?.status(), StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn a_registry_keeps_a_blob_over_a_stop_and_over_a_kill() -> Result<()> {
    let registry = Registry::start().await?;
    let digest = "sha256:277089d91c0bdf4f2e6862ba7e4a07605119431f5d13f726dd352b06f1b206a9";
    let start = client().post(format!("{}/v2/team/app/blobs/uploads/", registry.url())).send().await?;
    let location = start.headers()["location"].to_str()?.to_owned();
    assert!(location.starts_with(&registry.url()), "{location}");
    let put = client().put(format!("{location}&digest={digest}")).body("bytes").send().await?;
    assert_eq!(put.status(), StatusCode::CREATED);

    let blob = format!("{}/v2/team/app/blobs/{digest}", registry.url());
    registry.stop().await?;
    registry.start_again().await?;
    assert_eq!(client().get(&blob).send().await?.text().await?, "bytes");
    registry.kill().await?;
    registry.start_again().await?;
    assert_eq!(client().get(&blob).send().await?.text().await?, "bytes");

    let pid = registry.pid().context("a private registry")?;
    drop(registry);
    assert!(ends(pid));
    Ok(())
}

#[tokio::test]
async fn a_registry_asks_for_the_password_that_it_was_given() -> Result<()> {
    let htpasswd = Some(("mover".to_owned(), "s3cret".to_owned()));
    let options = RegistryOptions { htpasswd, relative_urls: true, ..Default::default() };
    let registry = Registry::start_with(options).await?;
    let base = format!("{}/v2/", registry.url());
    assert_eq!(client().get(&base).send().await?.status(), StatusCode::UNAUTHORIZED);
    let wrong = client().get(&base).basic_auth("mover", Some("guess")).send().await?;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    let upload = client().post(format!("{base}a/b/blobs/uploads/")).basic_auth("mover", Some("s3cret"));
    let upload = upload.send().await?;
    assert_eq!(upload.status(), StatusCode::ACCEPTED);
    assert!(upload.headers()["location"].to_str()?.starts_with("/v2/"));
    Ok(())
}

#[tokio::test]
async fn a_server_whose_starter_is_killed_ends_by_itself() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let seen = folder.path().join("endpoints.json");
    // The command shows that the servers are up by a link to the file that describes them, and waits.
    let script = format!("ln -s \"$TRANSSHIP_RIG\" {} && exec sleep 60", seen.display());
    let mut rig = Command::new(env!("CARGO_BIN_EXE_transship-rig"))
        .args(["run", "--", "sh", "-c", &script])
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()?;
    let deadline = Instant::now() + Duration::from_secs(90);
    while !seen.exists() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let endpoints: Endpoints = serde_json::from_slice(&std::fs::read(&seen)?)?;
    let ports = [
        port(&endpoints.rabbitmq.amqp)?,
        port(&endpoints.source_azurite.url)?,
        port(&format!("http://{}", endpoints.target_registry.host))?,
    ];
    assert!(ports.iter().all(|port| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok()));

    // SIGKILL to the group of the rig and its command: neither can clean up.
    let group = rustix::process::Pid::from_child(&rig);
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL)?;
    rig.wait()?;
    let deadline = Instant::now() + Duration::from_secs(15);
    let listens = || ports.iter().any(|port| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok());
    // The link dangles once the broker's folder is gone.
    while (listens() || seen.exists()) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!listens());
    assert!(!seen.exists());
    Ok(())
}

#[test]
fn the_rig_passes_the_commands_code_and_stops_on_sigterm() -> Result<()> {
    let rig = || Command::new(env!("CARGO_BIN_EXE_transship-rig"));
    let status = rig().args(["run", "--", "sh", "-c", "test -s \"$TRANSSHIP_RIG\" && exit 7"]).status()?;
    assert_eq!(status.code(), Some(7));

    let folder = tempfile::tempdir()?;
    let started = folder.path().join("started");
    let script = format!("touch {} && exec sleep 60", started.display());
    let mut child = rig().args(["run", "--", "sh", "-c", &script]).spawn()?;
    let deadline = Instant::now() + Duration::from_secs(90);
    while !started.exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)?;
    assert_eq!(child.wait()?.code(), Some(143));
    assert_eq!(rig().arg("walk").stderr(Stdio::null()).status()?.code(), Some(2));
    Ok(())
}

fn port(url: &str) -> Result<u16> {
    url::Url::parse(url)?.port().context("a port")
}
