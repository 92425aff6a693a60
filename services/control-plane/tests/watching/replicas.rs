//! Several replicas on one PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use transship_control_plane::notify::{BlobHint, registry_push};
use transship_control_plane::state::Store;
use transship_model::Secret;
use transship_rig::Postgres;
use transship_storage::Metadata;

use crate::bundles::bundle;
use crate::scene::{Inbox, Scene, until};
use crate::schedules::{Source, carried, schedules};
use crate::triggers::{run_in_background, trigger};
use transship_control_plane::trigger::TriggerSettings;

/// Two replicas: scenes with connections of their own to one database.
async fn replicas(server: &Postgres, registry: &str) -> Result<(Scene, Scene)> {
    let url = Secret::new(&server.database().await?);
    let one = Scene::on(Store::open(&url).await?, registry)?;
    let mut other = Scene::on(Store::open(&url).await?, registry)?;
    (other.vault, other.containers) = (Arc::clone(&one.vault), Arc::clone(&one.containers));
    Ok((one, other))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_number_of_replicas_each_bundle_is_imported_once_and_each_tag_carried_once() -> Result<()>
{
    let (server, source) = (Postgres::start().await?, Source::new().await?);
    let (one, other) = replicas(&server, &source.registry.url()).await?;
    let inbox = Inbox::new().await?;
    let id = one.import_pipeline("inbox", &inbox, "Enabled").await?;
    let often = TriggerSettings { interval: Duration::from_millis(100), ..TriggerSettings::default() };
    let triggers = [trigger(&one, often), trigger(&other, often)];
    let _triggers = [run_in_background(&triggers[0]), run_in_background(&triggers[1])];
    let schedule = json!({ "repositories": [source.repository], "intervalSeconds": 1, "batchSeconds": 1 });
    let nightly = one.schedule("nightly", schedule).await?;
    let (first, _first) = schedules(&one);
    let (second, _second) = schedules(&other);
    for number in 0..5 {
        let (name, tag) = (format!("bundle-{number}"), format!("v{number}"));
        inbox.put(&name, bundle(&format!("run-{number}")), &Metadata::new()).await?;
        source.push(&tag, &tag).await?;
        for trigger in &triggers {
            trigger.blobs_created(vec![BlobHint::new(&inbox.rig.url.parse()?, &name.parse()?)]);
        }
        for schedules in [&first, &second] {
            schedules.pushed(registry_push(source.notification(&tag).as_bytes())?);
        }
    }
    until("five imports", async || Ok(one.imports().await?.len() >= 5)).await?;
    let tags =
        async || Ok::<_, anyhow::Error>(carried(&one).await?.into_iter().flatten().collect::<Vec<_>>());
    until("five tags", async || Ok(tags().await?.len() >= 5)).await?;
    // Both look at everything once more.
    let looked = || [&triggers[0], &triggers[1]].map(|trigger| trigger.status(&id));
    tokio::join!(triggers[0].pass(), triggers[1].pass());
    ensure!(looked().iter().flatten().any(|status| status.elsewhere), "one of them leads: {:?}", looked());
    let checked =
        || [&first, &second].iter().filter_map(|schedules| schedules.status(&nightly)?.checked_ms).max();
    let before = checked();
    until("another look at all tags", async || Ok(checked() > before)).await?;
    assert_eq!(one.imports().await?, ["bundle-0", "bundle-1", "bundle-2", "bundle-3", "bundle-4"]);
    let mut tags = tags().await?;
    tags.sort();
    assert_eq!(tags, ["v0", "v1", "v2", "v3", "v4"]);
    Ok(())
}
