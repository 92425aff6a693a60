//! The verb in its worker, over the in-process bus and two directories, with paused time.

mod fixture;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use fixture::*;
use tokio_util::sync::CancellationToken;
use transship_blob_copier::{Copier, CopySettings};
use transship_bus::{Bus, InProcess, WorkQueue};
use transship_messages::{CopyMode, FactBody, ImportRequested, WorkItem as _, decode_fact};
use transship_model::{Code, ContainerUrl, Stage};
use transship_secrets::SecretDirectory;
use transship_stage::{ByteBudget, RetryPolicy, Worker, WorkerSettings, work_message};
use transship_storage::{Condition, Containers, open};
use transship_telemetry::Metrics;

const BLOCKS: [(u8, usize); 3] = [(1, MIB), (2, 5000), (3, 1024)];

/// The next fact that is not progress.
async fn next_end(facts: &mut transship_bus::Subscription) -> Result<FactBody> {
    loop {
        let fact = decode_fact(&facts.facts.recv().await.context("the bus is closed")?.body)?;
        if !matches!(fact.body, FactBody::Progress { .. }) {
            return Ok(fact.body);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_lacks_a_secret_waits_for_it_and_goes_on_by_itself() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let url = |name: &str| ContainerUrl::of_directory(&folder.path().join(name));
    let (source_url, target_url) = (url("source")?, url("target")?);
    for name in ["source", "target", "secrets"] {
        std::fs::create_dir(folder.path().join(name))?;
    }
    let (source, target) = (open(&source_url, None)?, open(&target_url, None)?);
    let (etag, length) = write_bundle(&*source, &execution("run", 5), &BLOCKS, Condition::Absent).await;
    let mut work = work(&source_url, &target_url, &etag, length);
    work.route.target_secret = Some("target-sas".parse()?);

    let bus: Arc<dyn Bus> = Arc::new(InProcess::new());
    let mut facts = bus.subscribe("run.#").await?;
    let secrets = SecretDirectory::new(folder.path().join("secrets"));
    let copier = Copier::new(Arc::new(Containers::new(Arc::new(secrets))), CopySettings::default());
    let settings = WorkerSettings {
        slots: 2,
        slice: WorkerSettings::SLICE,
        retry: RetryPolicy::BROKER,
        facts_mandatory: false,
    };
    let budget = ByteBudget::new(ByteBudget::DEFAULT_BYTES);
    let worker = Worker::new(Arc::clone(&bus), copier, settings, budget, Metrics::new(Stage::BlobCopier));
    let cancel = CancellationToken::new();
    let worker = tokio::spawn(worker.run(cancel.clone()));
    bus.publish(vec![work_message(&work, WorkQueue::BlobCopierCopies, BTreeMap::new())]).await?;

    let FactBody::Failed { code, message, terminal, .. } = next_end(&mut facts).await? else {
        panic!("not a failure")
    };
    assert_eq!((code, terminal), (Code::ConfigurationInvalid, false));
    assert!(message.contains("target container") && message.contains("target-sas"), "{message}");
    let held = tokio::time::Instant::now();
    std::fs::write(folder.path().join("secrets/target-sas"), "sr=c&sp=rw&sig=x")?;

    let FactBody::BundleCopied { etag, mode, counters, .. } = next_end(&mut facts).await? else {
        panic!("not a copy")
    };
    assert!(held.elapsed() >= Duration::from_secs(60), "it was held meanwhile");
    assert_eq!((mode, counters.bytes_moved, counters.bytes_skipped), (CopyMode::Streamed, length, 0));
    let properties = target.properties(&name()).await?.context("no blob")?;
    assert_eq!(
        (&properties.etag.0, properties.metadata),
        (&etag, announced(source.properties(&name()).await?.context("no blob")?.metadata))
    );
    assert_eq!(target.read(&name(), 0..length, None).await?, source.read(&name(), 0..length, None).await?);
    assert_eq!(target.committed_blocks(&name()).await?, source.committed_blocks(&name()).await?);
    let delivery =
        bus.consume(WorkQueue::ImporterImports.into(), 1).await?.next().await.context("the bus is closed")?;
    assert_eq!(ImportRequested::decode(&delivery.message.body)?.etag, Some(etag));
    cancel.cancel();
    worker.await??;
    Ok(())
}
