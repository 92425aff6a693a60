//! The source trigger.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use transship_bundle::{announce, bundle_metadata};
use transship_control_plane::facts::Adopt as _;
use transship_control_plane::notify::BlobHint;
use transship_control_plane::state::{
    Claim, NewExecution, Origin, PipelineSnapshot, PutOutcome, RunDecision, RunKind, RunRecord, RunState,
    SeenVerdict,
};
use transship_control_plane::trigger::{SourceTrigger, TriggerSettings, claim_for_run};
use transship_messages::{Fact, FactBody};
use transship_model::{Counters, Digest, Execution, Part, Stage};
use transship_storage::Metadata;

use crate::bundles::{archive, bundle, other_tar};
use crate::scene::{Inbox, Running, Scene, until};

pub(crate) const NOWHERE: &str = "http://127.0.0.1:9";

pub(crate) fn trigger(scene: &Scene, settings: TriggerSettings) -> Arc<SourceTrigger> {
    let (registries, containers) = (Arc::clone(&scene.registries), Arc::clone(&scene.containers));
    Arc::new(SourceTrigger::new(scene.store.clone(), registries, containers, settings))
}

/// A trigger that lists so seldom that it does not.
pub(crate) fn by_hand() -> TriggerSettings {
    TriggerSettings { interval: Duration::from_secs(3600), ..TriggerSettings::default() }
}

pub(crate) fn run_in_background(trigger: &Arc<SourceTrigger>) -> Running {
    let trigger = Arc::clone(trigger);
    Running::start(|stop| async move { trigger.run(stop).await })
}

pub(crate) fn hint(inbox: &Inbox, blob: &str) -> Result<Vec<BlobHint>> {
    Ok(vec![BlobHint::new(&inbox.rig.url.parse()?, &blob.parse()?)])
}

#[tokio::test]
async fn a_bundle_that_arrives_is_imported_once_by_two_replicas() -> Result<()> {
    let (scene, inbox) = (Scene::new(NOWHERE).await?, Inbox::new().await?);
    let id = scene.import_pipeline("inbox", &inbox, "Enabled").await?;
    let often = TriggerSettings { interval: Duration::from_millis(100), ..TriggerSettings::default() };
    let (one, other) = (trigger(&scene, often), trigger(&scene, often));
    let _running = (run_in_background(&one), run_in_background(&other));
    let mut expected = Vec::new();
    for number in 0..8 {
        let name = format!("dir/bundle-{number}");
        let metadata = bundle_metadata(&execution("run-x"), Part::ONLY, &Digest::sha256(b""));
        inbox.put(&name, bundle(&format!("run-{number}")), &metadata).await?;
        one.blobs_created(hint(&inbox, &name)?);
        other.blobs_created(hint(&inbox, &name)?);
        expected.push(name);
    }
    until("eight imports", async || Ok(scene.imports().await?.len() >= 8)).await?;
    // Everybody looks once more.
    let third = trigger(&scene, by_hand());
    tokio::join!(one.pass(), other.pass(), third.pass());
    assert_eq!(scene.imports().await?, expected);
    let runs = scene.runs().await?;
    for run in &runs {
        let name = run.id.name();
        let (pipeline, rest) = name.split_once('_').context("a name with _")?;
        let (time, suffix) = rest.split_once('_').context("a name with two _")?;
        assert_eq!((pipeline, time.len(), suffix.len()), ("inbox", 14, 4), "{name}");
        ensure!(
            matches!(run.origin, Origin::SourceTrigger { .. })
                && matches!(run.state, RunState::Waiting { .. })
        );
        assert_eq!(run.request.pipeline_resource_id, Some(id.to_string()));
    }
    for (blob, verdict) in scene.seen(&id).await? {
        let SeenVerdict::Imported { run, note: None } = &verdict else {
            anyhow::bail!("{blob}: {verdict:?}")
        };
        ensure!(runs.iter().any(|known| known.id.to_string() == *run && known.blob.as_str() == blob));
    }
    // The same name with other content is another bundle.
    inbox.put("dir/bundle-3", bundle("run-again"), &Metadata::new()).await?;
    let noted = |verdict: &SeenVerdict| matches!(verdict, SeenVerdict::Imported { note: Some(note), .. } if note.contains("metadata"));
    until("a note", async || Ok(noted(&scene.seen(&id).await?["dir/bundle-3"]))).await?;
    assert_eq!(scene.imports().await?.len(), 9);
    Ok(())
}

#[tokio::test]
async fn a_hint_is_followed_within_a_second() -> Result<()> {
    let (scene, inbox) = (Scene::new(NOWHERE).await?, Inbox::new().await?);
    let id = scene.import_pipeline("inbox", &inbox, "Enabled").await?;
    let trigger = trigger(&scene, by_hand());
    let _running = run_in_background(&trigger);
    until("the first look", async || Ok(trigger.status(&id).is_some())).await?;
    for (number, by_event) in [(1, true), (2, false)] {
        let name = format!("bundle-{number}");
        inbox.put(&name, archive(), &Metadata::new()).await?;
        match by_event {
            true => trigger.blobs_created(hint(&inbox, &name)?),
            false => trigger.look(&id, Some(name.parse()?)),
        }
        let took = until("an import", async || Ok(scene.imports().await?.len() == number)).await?;
        ensure!(took < Duration::from_secs(1), "{took:?}");
    }
    inbox.put("bundle-3", archive(), &Metadata::new()).await?;
    trigger.look(&id, None);
    until("an import", async || Ok(scene.imports().await?.len() == 3)).await?;
    Ok(())
}

#[tokio::test]
async fn a_blob_that_is_not_imported_is_on_the_list_with_its_reason_until_it_goes() -> Result<()> {
    let (scene, inbox) = (Scene::new(NOWHERE).await?, Inbox::new().await?);
    let id = scene.import_pipeline("inbox", &inbox, "Enabled").await?;
    let off = scene.import_pipeline("closed", &inbox, "Disabled").await?;
    let trigger = trigger(&scene, by_hand());
    let cut = bundle("run-cut").slice(..9_000);
    for (name, bytes) in [
        ("text", "hello".into()),
        ("empty", bytes::Bytes::new()),
        ("tar", other_tar()),
        ("cut", cut),
        ("good", archive()),
    ] {
        inbox.put(name, bytes, &Metadata::new()).await?;
    }
    trigger.pass().await;
    assert_eq!(scene.imports().await?, ["good"]);
    let seen = scene.seen(&id).await?;
    for (name, expected) in [
        ("text", "shorter than any archive"),
        ("empty", "empty"),
        ("tar", "does not have: \"etc/passwd\""),
        ("cut", "head of the bundle is damaged"),
    ] {
        let SeenVerdict::Ignored { reason } = &seen[name] else { anyhow::bail!("{name}: {:?}", seen[name]) };
        ensure!(reason.contains(expected), "{name}: {reason}");
    }
    assert_eq!(seen.len(), 5);
    assert_eq!((scene.seen(&off).await?.len(), trigger.status(&off)), (0, None), "it is switched off");
    // What changes is looked at again, what goes is forgotten.
    inbox.put("text", bundle("run-late"), &Metadata::new()).await?;
    inbox.delete("tar").await?;
    inbox.delete("good").await?;
    trigger.pass().await;
    assert_eq!(scene.imports().await?, ["good", "text"]);
    let names: Vec<String> = scene.seen(&id).await?.into_keys().collect();
    assert_eq!(names, ["cut", "empty", "text"]);
    assert_eq!(trigger.status(&id).context("a status")?.seen, 3);
    Ok(())
}

#[tokio::test]
async fn a_token_without_the_right_to_list_is_told_and_hints_work_all_the_same() -> Result<()> {
    let (scene, inbox) = (Scene::new(NOWHERE).await?, Inbox::new().await?);
    let id = scene.import_pipeline("inbox", &inbox, "Enabled").await?;
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    scene.vault.put("inbox", &inbox.rig.sas("r", tomorrow));
    let trigger = trigger(&scene, by_hand());
    let _running = run_in_background(&trigger);
    let problem = || trigger.status(&id).and_then(|status| status.problem);
    until("a problem", async || Ok(problem().is_some())).await?;
    let told = problem().context("a problem")?;
    ensure!(told.contains("\"l\"") && !told.contains("sig="), "{told}");
    inbox.put("bundle", archive(), &Metadata::new()).await?;
    trigger.blobs_created(hint(&inbox, "bundle")?);
    until("an import", async || Ok(scene.imports().await? == ["bundle"])).await?;
    // A token that was exchanged works at the next look.
    scene.vault.put("inbox", &inbox.rig.sas("rl", tomorrow));
    trigger.pass().await;
    assert_eq!(problem(), None);
    Ok(())
}

pub(crate) fn execution(id: &str) -> Execution {
    Execution { id: id.parse().expect("an identity"), generation: 7 }
}

/// The metadata of a bundle that a copier will announce to the pipeline `inbox`.
pub(crate) fn announced(execution: &Execution) -> Result<Metadata> {
    let mut metadata = bundle_metadata(execution, Part::ONLY, &Digest::sha256(b""));
    announce(&mut metadata, Some(&"source.inbox".parse()?));
    Ok(metadata)
}

/// What the importer says.
pub(crate) fn fact(inbox: &Inbox, execution: &Execution, body: FactBody) -> Result<Fact> {
    let (execution, part, stage) = (execution.clone(), Part::ONLY, Stage::Importer);
    Ok(Fact { execution, part, stage, attempt: 1, target: Some(inbox.rig.url.parse()?), at_ms: 1, body })
}

pub(crate) fn imported(inbox: &Inbox, blob: &str) -> Result<FactBody> {
    Ok(FactBody::BundleImported {
        pipeline: "source.inbox".parse()?,
        container: inbox.rig.url.parse()?,
        blob: blob.parse()?,
        catalog_digest: Some(Digest::sha256(b"index")),
        counters: Counters::default(),
        message: None,
    })
}

#[tokio::test]
async fn an_announced_bundle_is_left_alone_and_its_import_is_shown_once_it_is_heard_of() -> Result<()> {
    let (scene, inbox) = (Scene::new(NOWHERE).await?, Inbox::new().await?);
    let id = scene.import_pipeline("inbox", &inbox, "Enabled").await?;
    let other = scene.import_pipeline("another", &inbox, "Enabled").await?;
    let trigger = trigger(&scene, by_hand());
    let theirs = execution("run-elsewhere");
    inbox.put("bundle", bundle("run-elsewhere"), &announced(&theirs)?).await?;
    trigger.pass().await;
    trigger.pass().await;
    let seen = scene.seen(&id).await?;
    ensure!(
        matches!(&seen["bundle"], SeenVerdict::Waiting { reason, .. } if reason.contains("announce")),
        "{seen:?}"
    );
    ensure!(
        matches!(&scene.seen(&other).await?["bundle"], SeenVerdict::Imported { .. }),
        "that one was not promised"
    );
    let started = scene.runs().await?.len();
    assert_eq!(started, 1);
    // Facts of an execution that was never here: the import becomes a run, and takes them.
    let progress = FactBody::Progress { counters: Counters::default(), in_flight: Vec::new() };
    ensure!(trigger.adopt(&fact(&inbox, &theirs, progress.clone())?).await?);
    scene.store.fold(fact(&inbox, &theirs, progress)?, 5).await?;
    let adopted = scene.runs().await?.pop().context("a run")?;
    assert_eq!(
        (adopted.kind, &adopted.execution, &adopted.state),
        (RunKind::Import, &theirs, &RunState::Running)
    );
    scene.store.fold(fact(&inbox, &theirs, imported(&inbox, "bundle")?)?, 6).await?;
    let adopted = scene.store.run(&adopted.id).await?.context("a run")?;
    ensure!(matches!(adopted.state, RunState::Succeeded { .. }), "{:?}", adopted.state);
    trigger.pass().await;
    assert_eq!(scene.runs().await?.len(), 2);
    // Nothing is made of what nobody here was promised.
    let unknown = fact(&inbox, &execution("run-unknown"), imported(&inbox, "bundle")?)?;
    ensure!(!trigger.adopt(&unknown).await?);
    Ok(())
}

#[tokio::test]
async fn an_import_of_an_export_of_this_control_plane_is_shown_too_and_ends_with_it() -> Result<()> {
    let (scene, inbox) = (Scene::new(NOWHERE).await?, Inbox::new().await?);
    scene.import_pipeline("inbox", &inbox, "Enabled").await?;
    let trigger = trigger(&scene, by_hand());
    let export = export(&scene).await?;
    scene.store.begin_run(&export.execution, vec![(1, Default::default())], Vec::new(), 2).await?;
    inbox.put("bundle", bundle("run-mine"), &announced(&export.execution)?).await?;
    trigger.pass().await;
    assert!(scene.imports().await?.is_empty());
    scene.store.fold(fact(&inbox, &export.execution, imported(&inbox, "bundle")?)?, 6).await?;
    trigger.pass().await;
    let runs = scene.runs().await?;
    let import = runs.iter().find(|run| run.kind == RunKind::Import).context("an import")?;
    assert_eq!(import.execution, export.execution);
    ensure!(matches!(import.state, RunState::Succeeded { .. }), "{:?}", import.state);
    Ok(())
}

pub(crate) async fn export(scene: &Scene) -> Result<RunRecord> {
    use transship_api::Kind;
    use transship_control_plane::state::{Action, NewRun};
    let id = crate::scene::registry().child(Kind::PipelineRun, "export");
    let new = NewRun {
        id: id.clone(),
        kind: RunKind::Export,
        location: None,
        execution: NewExecution::Own("run-mine".parse()?),
        operation: "pipelineruns-1".to_owned(),
        request: Default::default(),
        force_update_tag: None,
        origin: Origin::Request,
        pipeline: PipelineSnapshot {
            id: "p".to_owned(),
            registry: "source".parse()?,
            container: "file:///nowhere/outbox".parse()?,
            credential: None,
            action: Action::Export { options: Default::default(), routes: None },
        },
        blob: "bundle".parse()?,
        traceparent: String::new(),
        by: "me".to_owned(),
        now_ms: 1,
    };
    match scene.store.put_run(&id, |_| RunDecision::Start(Box::new(new))).await? {
        PutOutcome::Started(run) => Ok(run),
        other => anyhow::bail!("{other:?}"),
    }
}

#[tokio::test]
async fn a_promise_that_is_not_kept_does_not_keep_a_bundle_from_being_imported() -> Result<()> {
    let (scene, inbox) = (Scene::new(NOWHERE).await?, Inbox::new().await?);
    let id = scene.import_pipeline("inbox", &inbox, "Enabled").await?;
    inbox.put("bundle", bundle("run-lost"), &announced(&execution("run-lost"))?).await?;
    trigger(&scene, TriggerSettings { announce_grace: Duration::ZERO, ..by_hand() }).pass().await;
    let runs = scene.runs().await?;
    let [run] = runs.as_slice() else { anyhow::bail!("{runs:?}") };
    ensure!(run.execution.id.as_str() != "run-lost", "it is a run of its own");
    let seen = scene.seen(&id).await?;
    ensure!(
        matches!(&seen["bundle"], SeenVerdict::Imported { note: Some(note), .. } if note.contains("in time"))
    );
    Ok(())
}

/// A run that somebody put for a bundle in `inbox`, and that has claimed it for this pipeline.
pub(crate) async fn claimed_by_hand(scene: &Scene, inbox: &Inbox, pipeline: String) -> Result<RunRecord> {
    let etag = inbox.put("bundle", archive(), &Metadata::new()).await?;
    let export = export(scene).await?;
    let container = inbox.rig.url.parse()?;
    let pipeline = PipelineSnapshot { id: pipeline, container, ..export.pipeline.clone() };
    let run = RunRecord { pipeline, ..export };
    let claim = claim_for_run(&scene.store, &run, &"bundle".parse()?, &etag.0).await?;
    assert_eq!(claim, Claim::Mine);
    Ok(run)
}

#[tokio::test]
async fn a_bundle_that_somebody_imports_by_hand_is_left_to_that_run() -> Result<()> {
    let (scene, inbox) = (Scene::new(NOWHERE).await?, Inbox::new().await?);
    let id = scene.import_pipeline("inbox", &inbox, "Enabled").await?;
    let by_hand_run = claimed_by_hand(&scene, &inbox, id.to_string().to_uppercase()).await?;
    trigger(&scene, by_hand()).pass().await;
    assert!(scene.imports().await?.is_empty());
    let seen = scene.seen(&id).await?;
    ensure!(
        matches!(&seen["bundle"], SeenVerdict::Imported { run, .. } if *run == by_hand_run.id.to_string())
    );
    Ok(())
}
