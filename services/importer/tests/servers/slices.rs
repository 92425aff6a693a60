//! A layer that takes longer than a slice, against a real registry: each slice is an importer of its own, and all
//! that one knows of the other is the message.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use transship_bus::{Bus as _, BusSettings, RabbitMq};
use transship_importer::Importer;
use transship_messages::{ImportRequested, WorkItem};
use transship_model::Secret;
use transship_registry::{RegistryClient, RegistrySettings, Target};
use transship_rig::Registry;
use transship_stage::{Outcome, Verb};
use transship_storage::Containers;

use crate::narrow::NarrowLine;
use crate::scene::bundle::{BundleBuilder, Item};
use crate::scene::{Scene, done, execution};
use crate::service::{KEY, LONGEST, imported, start_with};
use crate::{has_everything, image, points_to};

const MIB: u64 = 1 << 20;

/// What the line carries in a second: the layer takes about three.
const RATE: u64 = 16 * MIB;
const LAYER: u64 = 48 * MIB + 5;

/// More than requests and answers around the layer take, in bytes.
const AROUND: u64 = 2 * MIB;

/// A registry, a narrow line to it, and a bundle that is larger than a slice.
struct Slow {
    registry: Registry,
    line: NarrowLine,
    scene: Scene,
    bundle: BundleBuilder,
    item: Item,
    work: ImportRequested,
}

impl Slow {
    async fn start() -> Result<Self> {
        let registry = Registry::start().await?;
        let line = NarrowLine::to(&registry.url(), RATE).await?;
        let mut scene = Scene::new().with_seal_key(KEY);
        scene.slice = Duration::from_secs(1);
        let mut bundle = BundleBuilder::default();
        let bytes: Vec<u8> = (0..LAYER).map(|i| (i.wrapping_mul(31) >> 3) as u8).collect();
        let layer = bundle.layer(&bytes);
        let item = image(&mut bundle, "image", &[layer]);
        bundle.artifact("team/app:1", &item);
        let work = scene.put("bundle", &bundle.encode(), &execution(1)).await;
        Ok(Self { registry, line, scene, bundle, item, work })
    }

    /// One slice, by an importer that has never seen the registry before.
    async fn slice(&self, work: &ImportRequested) -> Result<Outcome<ImportRequested>> {
        let client: Arc<dyn Target> = Arc::new(RegistryClient::new(RegistrySettings::new(&self.line.url))?);
        let secrets = Arc::new(self.scene.secrets.clone());
        let importer = Importer::new(
            BTreeMap::from([("target".parse()?, client)]),
            Arc::new(Containers::new(Arc::<transship_secrets::FixedSecrets>::clone(&secrets))),
            [("default".parse()?, self.scene.pipeline.clone())].into(),
            self.scene.settings.clone(),
        );
        Ok(importer.with_secrets(secrets).handle(work, &self.scene.context()).await?)
    }

    /// The next slice as the broker hands it on.
    async fn next(&self, work: &ImportRequested) -> Result<ImportRequested> {
        match self.slice(work).await? {
            Outcome::Continue { rest } => Ok(ImportRequested::decode(&rest.encode())?),
            other => anyhow::bail!("the slice did not end inside the upload: {other:?}"),
        }
    }

    /// Slice after slice until the import is done and everything is there; returns how many there were.
    async fn to_the_end(&self, mut work: ImportRequested) -> Result<u32> {
        loop {
            match self.slice(&work).await? {
                Outcome::Continue { rest } if rest.slice < 20 => {
                    work = ImportRequested::decode(&rest.encode())?;
                }
                Outcome::Continue { .. } => anyhow::bail!("it never ends"),
                outcome => {
                    ensure!(done(outcome).counters.bytes_moved == self.bundle.bytes(), "counted once");
                    has_everything(&self.registry.url(), "team/app", &self.bundle).await?;
                    points_to(&self.registry.url(), "team/app", "1", &self.bundle, &self.item).await?;
                    return Ok(work.slice + 1);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_layer_that_takes_longer_than_a_slice_is_sent_once_by_several_importers() -> Result<()> {
    let slow = Slow::start().await?;
    let next = slow.next(&slow.work).await?;
    let sealed = next.sealed_upload.clone().context("where the upload stands")?;
    for readable in [&b"_state="[..], b"uploads/", b"127.0.0.1"] {
        ensure!(!sealed.windows(readable.len()).any(|window| window == readable), "the location is sealed");
    }
    let before = slow.line.sent();
    ensure!(before < LAYER, "the first slice sent only some of it: {before}");
    let slices = slow.to_the_end(next).await?;
    ensure!(slices >= 3, "{slices} slices");
    let sent = slow.line.sent();
    ensure!(sent < LAYER + AROUND, "{sent} bytes went over the line for a layer of {LAYER}");
    Ok(())
}

#[tokio::test]
async fn a_registry_that_was_killed_between_two_slices_goes_on_with_the_upload() -> Result<()> {
    let slow = Slow::start().await?;
    let next = slow.next(&slow.work).await?;
    slow.registry.kill().await?;
    slow.registry.start_again().await?;
    slow.to_the_end(next).await?;
    let sent = slow.line.sent();
    ensure!(sent < LAYER + AROUND, "{sent} bytes went over the line for a layer of {LAYER}");
    Ok(())
}

#[tokio::test]
async fn a_seal_that_was_tampered_with_moves_nothing_but_the_layer_anew() -> Result<()> {
    let slow = Slow::start().await?;
    let mut next = slow.next(&slow.work).await?;
    let before = slow.line.sent();
    let sealed = next.sealed_upload.as_mut().context("where the upload stands")?;
    let middle = sealed.len() / 2;
    sealed[middle] ^= 0x40;
    slow.to_the_end(next).await?;
    let sent = slow.line.sent() - before;
    ensure!(sent >= LAYER, "the layer came from its first byte on, {sent} bytes");
    Ok(())
}

#[tokio::test]
async fn a_slice_that_is_delivered_twice_finds_the_registry_elsewhere_and_starts_anew() -> Result<()> {
    let slow = Slow::start().await?;
    let next = slow.next(&slow.work).await?;
    // The registry gets further than this message says, and the message comes again.
    slow.next(&next).await?;
    slow.to_the_end(next).await?;
    Ok(())
}

#[tokio::test]
async fn two_services_hand_an_upload_to_each_other_through_the_broker() -> Result<()> {
    let slow = Slow::start().await?;
    let broker = transship_rig::RabbitMq::shared().await?;
    let url = broker.vhost().await?;
    let settings = "[worker]\nslice_seconds = 1\n[import]\nseal_key_secret = \"seal\"";
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    let mut services = Vec::new();
    for folder in &folders {
        services.push(start_with(folder.path(), &url, &slow.line.url, &slow.scene, settings)?);
    }
    let bus = RabbitMq::connect(BusSettings::new(Secret::new(&url), "test"));
    let (counters, _) = tokio::time::timeout(LONGEST, imported(&bus, &slow.work)).await??;
    ensure!((counters.artifacts_moved, counters.bytes_moved) == (1, slow.bundle.bytes()), "{counters:?}");
    points_to(&slow.registry.url(), "mirror/app", "1", &slow.bundle, &slow.item).await?;
    let sent = slow.line.sent();
    ensure!(sent < LAYER + AROUND, "{sent} bytes went over the line for a layer of {LAYER}");
    let mut slices = 0;
    for folder in &folders {
        let address = std::fs::read_to_string(folder.path().join("address"))?;
        let metrics = reqwest::get(format!("http://{}/metrics", address.trim())).await?.text().await?;
        let continued = metrics.lines().find(|line| {
            line.starts_with("transship_parts_total") && line.contains(r#"outcome="continued""#)
        });
        slices += continued.and_then(|line| line.rsplit(' ').next()?.parse::<u32>().ok()).unwrap_or(0);
    }
    ensure!(slices >= 2, "{slices} slices ended before the last one");
    bus.close().await;
    Ok(())
}
