//! Imports whose runs failed or went, and those that several facts tell of at once.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use transship_control_plane::facts::Adopt as _;
use transship_control_plane::state::{RunKind, RunState, SeenVerdict};
use transship_messages::FactBody;
use transship_model::{Code, Counters};
use transship_storage::Metadata;

use crate::bundles::{archive, bundle};
use crate::scene::{Inbox, Scene, until};
use crate::triggers::{
    NOWHERE, announced, by_hand, claimed_by_hand, execution, fact, hint, imported, run_in_background, trigger,
};

#[tokio::test]
async fn imports_that_are_heard_of_within_seconds_of_each_other_all_become_runs() -> Result<()> {
    let (scene, inbox) = (Scene::new(NOWHERE).await?, Inbox::new().await?);
    scene.import_pipeline("inbox", &inbox, "Enabled").await?;
    let trigger = trigger(&scene, by_hand());
    let progress = || FactBody::Progress { counters: Counters::default(), in_flight: Vec::new() };
    let ids: Vec<_> = (1..=4).map(|number| execution(&format!("run-elsewhere{number}"))).collect();
    let arrive = async |number: usize| {
        let id = &ids[number];
        inbox.put(&format!("bundle-{number}"), bundle(id.id.as_str()), &announced(id)?).await
    };
    arrive(0).await?;
    ensure!(trigger.adopt(&fact(&inbox, &ids[0], progress())?).await?);
    // The container was listed a moment ago. A fact that names its blob need not wait for the next time.
    arrive(1).await?;
    let began = Instant::now();
    ensure!(trigger.adopt(&fact(&inbox, &ids[1], imported(&inbox, "bundle-1")?)?).await?);
    ensure!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // Those that do not name it wait together.
    arrive(2).await?;
    arrive(3).await?;
    let (two, three) = (fact(&inbox, &ids[2], progress())?, fact(&inbox, &ids[3], progress())?);
    let unknown = fact(&inbox, &execution("run-unknown"), progress())?;
    let (two, three, unknown) =
        tokio::join!(trigger.adopt(&two), trigger.adopt(&three), trigger.adopt(&unknown));
    ensure!(two? && three? && !unknown?, "each is looked for");
    ensure!(began.elapsed() < Duration::from_secs(9), "in one listing: {:?}", began.elapsed());
    assert_eq!(scene.imports().await?, ["bundle-0", "bundle-1", "bundle-2", "bundle-3"]);
    let runs = scene.runs().await?;
    ensure!(runs.iter().all(|run| ids.contains(&run.execution)), "they are the announced imports themselves");
    Ok(())
}

#[tokio::test]
async fn the_trigger_revives_no_run_that_somebody_deleted() -> Result<()> {
    let (scene, inbox) = (Scene::new(NOWHERE).await?, Inbox::new().await?);
    let id = scene.import_pipeline("inbox", &inbox, "Enabled").await?;
    let by_hand_run = claimed_by_hand(&scene, &inbox, id.to_string()).await?;
    ensure!(scene.store.delete_run(&by_hand_run.id).await?);
    let trigger = trigger(&scene, by_hand());
    trigger.pass().await;
    assert!(scene.runs().await?.is_empty());
    // Whoever asks for the bundle gets it, by a run with a name of its own.
    let _running = run_in_background(&trigger);
    trigger.look(&id, Some("bundle".parse()?));
    until("an import", async || Ok(scene.imports().await? == ["bundle"])).await?;
    let run = scene.runs().await?.pop().context("a run")?;
    ensure!(run.id.name().starts_with("inbox_") && run.id != by_hand_run.id, "{}", run.id);
    Ok(())
}

#[tokio::test]
async fn a_bundle_whose_import_failed_is_imported_again_by_whoever_asks_for_it_and_by_nobody_else()
-> Result<()> {
    let (scene, inbox) = (Scene::new(NOWHERE).await?, Inbox::new().await?);
    let id = scene.import_pipeline("inbox", &inbox, "Enabled").await?;
    let trigger = trigger(&scene, by_hand());
    inbox.put("bundle", archive(), &Metadata::new()).await?;
    trigger.pass().await;
    let first = scene.runs().await?.pop().context("a run")?;
    let _running = run_in_background(&trigger);
    let asks = || trigger.look(&id, Some("bundle".parse().expect("a name")));
    // Looked at while its run is under way: nothing more starts. A later hint is served after it.
    asks();
    inbox.put("other", archive(), &Metadata::new()).await?;
    trigger.blobs_created(hint(&inbox, "other")?);
    until("the other one", async || Ok(scene.runs().await?.len() == 2)).await?;
    let failed = RunState::Failed { code: Code::RegistryForbidden, message: "no".to_owned() };
    ensure!(scene.store.end_run(&first.execution, RunKind::Import, failed, 5).await?);
    trigger.blobs_created(hint(&inbox, "bundle")?);
    trigger.pass().await;
    assert_eq!(scene.runs().await?.len(), 2, "neither a listing nor Event Grid tries again");
    asks();
    until("another import", async || Ok(scene.runs().await?.len() == 3)).await?;
    let again = scene.runs().await?.pop().context("a run")?;
    ensure!(again.blob.as_str() == "bundle" && again.execution.id != first.execution.id);
    until("the new run in the list", async || {
        let seen = scene.seen(&id).await?;
        Ok(matches!(&seen["bundle"], SeenVerdict::Imported { run, note: Some(note) }
            if *run == again.id.to_string() && note.contains(first.id.name())))
    })
    .await?;
    Ok(())
}
