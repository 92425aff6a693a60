//! Runs: made, made again, begun, ended, deleted.

use anyhow::{Context, Result};
use transship_api::{ErrorDetail, RunEnd};
use transship_control_plane::fold::RunSummary;
use transship_control_plane::state::{
    Folded, NewExecution, NewRun, Origin, OutboxItem, PutOutcome, RunDecision, RunKind, RunRecord, RunState,
    StartObstacle,
};
use transship_messages::{ArtifactOutcome, ArtifactResult, CopyMode, FactBody};
use transship_model::{Code, Execution, Stage};

use crate::scene::{
    Scene, container, counters, export, export_work, exported, exported_to, fact, failed, failed_state,
    import, part_states, progress, registry, run_id, succeeded,
};

pub(crate) async fn a_run_goes_from_accepted_to_succeeded(scene: &Scene) -> Result<()> {
    let store = &scene.store;
    let run = scene.start(export("nightly", 5_000)).await?;
    assert!(matches!(run.state, RunState::Waiting { .. }), "{:?}", run.state);
    assert_eq!((run.parts, run.created_ms, run.finished_ms), (0, 5_000, None));
    assert_eq!(store.unfinished_runs(0, 10).await?, vec![run.clone()]);

    assert!(store.begin_run(&run.execution, part_states(2)?, vec![], 6_000).await?);
    let running = scene.run("nightly").await?;
    assert_eq!((&running.state, running.parts), (&RunState::Running, 2));
    assert_eq!(store.fold(progress(&run.execution, 1, 50), 6_500).await?, Folded::Applied { ended: vec![] });
    let summary: RunSummary = serde_json::from_str(&scene.run("nightly").await?.summary)?;
    assert_eq!((summary.percentage, summary.bytes.moved), (25, 50));

    store.fold(exported(&run.execution, 1), 7_000).await?;
    let ended = store.fold(exported(&run.execution, 2), 8_000).await?;
    assert_eq!(ended, Folded::Applied { ended: vec![run.id.clone()] });
    let over = scene.run("nightly").await?;
    assert_eq!((&over.state, over.finished_ms, over.heard_ms), (&succeeded(), Some(8_000), 8_000));
    let summary: RunSummary = serde_json::from_str(&over.summary)?;
    assert_eq!((summary.percentage, summary.stages.len(), summary.stages[0].parts_done), (100, 1, 2));
    assert_eq!(store.unfinished_runs(0, 10).await?, vec![]);

    let parts = store.parts(&run.execution).await?;
    assert_eq!(parts.iter().map(|part| part.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(parts[0].state.summary(), parts[0].summary);
    assert_eq!(parts[1].state.artifacts.requested[0].to_string(), "a:2");
    Ok(())
}

pub(crate) async fn what_was_asked_for_is_read_back_as_it_was(scene: &Scene) -> Result<()> {
    let mut new = NewRun {
        location: Some("westeurope".into()),
        force_update_tag: Some("ünï".into()),
        origin: Origin::SourceTrigger { found_ms: 77 },
        ..export("Nightly", 5_000)
    };
    new.request.artifacts = vec!["a:1".into(), "b@sha256:x".into()];
    new.request.target = Some(RunEnd { storage_type: None, name: Some("bundle".into()) });
    let run = scene.start(new.clone()).await?;
    assert_eq!(run.id.to_string(), new.id.to_string());
    assert_eq!((&run.request, &run.pipeline, &run.blob), (&new.request, &new.pipeline, &new.blob));
    assert_eq!(
        (&run.location, &run.force_update_tag, &run.origin),
        (&new.location, &new.force_update_tag, &new.origin)
    );
    assert_eq!((&run.traceparent, &run.created_by), (&new.traceparent, &new.by));
    assert_eq!(scene.store.run_by_operation(&new.operation).await?, Some(run.clone()));
    assert_eq!(scene.store.run_by_operation("pipelineruns-other").await?, None);
    assert_eq!(scene.store.runs_of_execution(&run.execution.id).await?, vec![run]);
    Ok(())
}

pub(crate) async fn a_decision_sees_the_run_and_two_at_once_make_one(scene: &Scene) -> Result<()> {
    let store = &scene.store;
    let ask = |by: &'static str| async move {
        let id = run_id("nightly");
        let decided = store.put_run(&id, move |known| match known {
            None => RunDecision::Start(Box::new(NewRun {
                by: by.to_owned(),
                operation: format!("pipelineruns-{by}"),
                ..export("nightly", 1)
            })),
            Some(known) if known.created_by == by => RunDecision::Same,
            Some(known) => {
                let message = format!("{} has it", known.created_by);
                RunDecision::Refuse(
                    409,
                    ErrorDetail { code: "Conflict".into(), message, ..Default::default() },
                )
            }
        });
        decided.await
    };
    let (first, second) = tokio::join!(ask("ada"), ask("bob"));
    assert!(matches!(first?, PutOutcome::Started(run) if run.created_by == "ada"));
    let PutOutcome::Refused { status, error } = second? else { anyhow::bail!("the second one is refused") };
    assert_eq!((status, &*error.message), (409, "ada has it"));
    assert!(matches!(ask("ada").await?, PutOutcome::Unchanged(run) if run.created_by == "ada"));
    assert_eq!(store.runs(&registry(), 0, 10).await?.len(), 1);
    assert_eq!(store.outbox_due(10, 10).await?.len(), 1);
    Ok(())
}

pub(crate) async fn a_run_that_is_forced_again_keeps_its_place_and_begins_anew(scene: &Scene) -> Result<()> {
    let store = &scene.store;
    let first = scene.running("nightly", 1).await?;
    let other = scene.start(export("later", 2_000)).await?;
    store.fold(exported(&first.execution, 1), 3_000).await?;
    let again = scene.start(NewRun { by: "bob".into(), ..export("NIGHTLY", 4_000) }).await?;

    assert_eq!((again.seq, &again.execution.id), (first.seq, &first.execution.id));
    assert_eq!(again.id.to_string(), first.id.to_string());
    assert!(again.execution.generation > other.execution.generation);
    assert_eq!((&*again.created_by, again.created_ms, again.started_ms), ("somebody", 1_000, 4_000));
    assert_eq!((again.finished_ms, again.parts), (None, 0));
    assert!(matches!(again.state, RunState::Waiting { .. }));
    assert_ne!(again.operation, first.operation);
    assert_eq!(store.run_by_operation(&first.operation).await?, None);
    assert_eq!(store.parts(&first.execution).await?, vec![]);
    assert_eq!(store.fold(exported(&first.execution, 1), 5_000).await?, Folded::Ignored);

    assert!(store.begin_run(&again.execution, part_states(1)?, vec![], 5_000).await?);
    assert_eq!(scene.run("nightly").await?.state, RunState::Running);
    store.fold(exported(&again.execution, 1), 6_000).await?;
    assert_eq!(scene.run("nightly").await?.state, succeeded());
    Ok(())
}

pub(crate) async fn generations_are_never_given_twice(scene: &Scene) -> Result<()> {
    let store = &scene.store;
    assert_eq!(store.next_generation(1_000).await?, 1_000);
    assert_eq!(store.next_generation(1_000).await?, 1_001);
    assert_eq!(store.next_generation(500).await?, 1_002, "a clock that goes back");
    let run = scene.start(export("nightly", 900)).await?;
    assert_eq!(run.execution.generation, 1_003);
    store.delete_run(&run.id).await?;
    assert_eq!(scene.start(export("nightly", 900)).await?.execution.generation, 1_004);
    assert_eq!(store.next_generation(2_000).await?, 2_000);
    Ok(())
}

pub(crate) async fn a_run_that_waits_says_for_what(scene: &Scene) -> Result<()> {
    let store = &scene.store;
    let run = scene.start(export("nightly", 1_000)).await?;
    let obstacle = || StartObstacle { kind: "missing".to_owned(), since_ms: 8_000 };
    assert_eq!(store.outbox_due(1_000, 10).await?[0].obstacle, None);
    store.run_waits(&run.execution, "the blob bundle".into(), obstacle(), 9_000).await?;
    let waiting = RunState::Waiting { on: "the blob bundle".into() };
    assert_eq!(scene.run("nightly").await?.state, waiting);
    assert_eq!(store.outbox_due(8_999, 10).await?, vec![]);
    let due = store.outbox_due(9_000, 10).await?;
    assert_eq!((due.len(), &due[0].item, due[0].attempts), (1, &OutboxItem::Start, 1));
    assert_eq!(due[0].obstacle, Some(obstacle()));

    store.begin_run(&run.execution, part_states(1)?, vec![], 9_500).await?;
    store.run_waits(&run.execution, "nothing".into(), obstacle(), 9_999).await?;
    assert!(!store.start_failed(&run.execution, RunKind::Export, failed_state(), 9_999).await?);
    assert_eq!(
        scene.run("nightly").await?.state,
        RunState::Running,
        "what has begun waits and fails no more"
    );

    let run = scene.start(export("hopeless", 1_000)).await?;
    assert!(store.start_failed(&run.execution, RunKind::Export, failed_state(), 9_999).await?);
    assert!(!store.start_failed(&run.execution, RunKind::Export, failed_state(), 9_999).await?);
    assert_eq!(
        (scene.run("hopeless").await?.state, store.outbox_due(99_999, 10).await?),
        (failed_state(), vec![])
    );
    Ok(())
}

pub(crate) async fn a_run_begins_once_and_only_while_it_is_current(scene: &Scene) -> Result<()> {
    let store = &scene.store;
    let old = scene.start(export("nightly", 1_000)).await?;
    let run = scene.start(export("nightly", 2_000)).await?;
    let publish = || vec![export_work(&run.execution, 1), export_work(&run.execution, 2)];
    assert!(!store.begin_run(&old.execution, part_states(1)?, publish(), 3_000).await?);
    assert!(store.begin_run(&run.execution, part_states(2)?, publish(), 3_000).await?);
    assert!(!store.begin_run(&run.execution, part_states(2)?, publish(), 3_000).await?);
    let due = store.outbox_due(3_000, 10).await?;
    let items: Vec<_> = due.iter().map(|row| row.item.clone()).collect();
    assert_eq!(items, publish(), "the start is gone, and each part is published once");
    assert!(due.iter().all(|row| row.execution == run.execution && row.due_ms >= 3_000));
    Ok(())
}

pub(crate) async fn a_run_is_ended_once_with_what_was_to_be_done_for_it(scene: &Scene) -> Result<()> {
    let store = &scene.store;
    let run = scene.start(export("nightly", 1_000)).await?;
    let other = scene.start(export("other", 1_000)).await?;
    let why = |message: &str| RunState::Failed { code: Code::BlobNotFound, message: message.into() };
    assert!(!store.end_run(&run.execution, RunKind::Import, why("not an import"), 2_000).await?);
    assert!(store.end_run(&run.execution, RunKind::Export, why("no blob"), 2_000).await?);
    assert!(!store.end_run(&run.execution, RunKind::Export, why("again"), 3_000).await?);
    let ended = scene.run("nightly").await?;
    assert_eq!((ended.state, ended.finished_ms), (why("no blob"), Some(2_000)));
    let due = store.outbox_due(9_000, 10).await?;
    assert_eq!(due.iter().map(|row| &row.execution).collect::<Vec<_>>(), [&other.execution]);
    assert!(!store.begin_run(&run.execution, part_states(1)?, vec![], 4_000).await?);
    Ok(())
}

pub(crate) async fn a_run_that_is_deleted_takes_along_its_parts_and_what_was_to_be_done(
    scene: &Scene,
) -> Result<()> {
    let store = &scene.store;
    let run = scene.start(export("nightly", 1_000)).await?;
    store.begin_run(&run.execution, part_states(1)?, vec![export_work(&run.execution, 1)], 1_000).await?;
    assert!(store.delete_run(&run_id("NIGHTLY")).await?);
    assert!(!store.delete_run(&run.id).await?);
    assert_eq!(store.run(&run.id).await?, None);
    assert_eq!(store.parts(&run.execution).await?, vec![]);
    assert_eq!(store.outbox_due(9_000, 10).await?, vec![]);
    assert_eq!(store.fold(exported(&run.execution, 1), 2_000).await?, Folded::Ignored);

    // A run of the same name is another one.
    let newer = NewRun { execution: NewExecution::Own("run-newer".parse()?), ..export("nightly", 3_000) };
    let newer = scene.start(newer).await?;
    assert_eq!(newer.execution.id.as_str(), "run-newer");
    assert!(newer.seq > run.seq && newer.created_ms == 3_000);
    Ok(())
}

pub(crate) async fn runs_that_ended_long_ago_are_swept_the_oldest_first_and_a_few_at_a_time(
    scene: &Scene,
) -> Result<()> {
    let store = &scene.store;
    for (name, ended_ms) in [("third", 4_000), ("first", 2_000), ("second", 3_000), ("last", 9_000)] {
        let run = scene.running(name, 1).await?;
        store.fold(exported(&run.execution, 1), ended_ms).await?;
    }
    let open = scene.running("open", 1).await?;
    let names = async || {
        let runs = store.runs(&registry(), 0, 10).await?;
        anyhow::Ok(runs.iter().map(|run| run.id.name().to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(store.sweep_runs(5_000, 2).await?, 2);
    assert_eq!(names().await?, ["third", "last", "open"]);
    assert_eq!(store.sweep_runs(5_000, 2).await?, 1);
    assert_eq!(store.sweep_runs(5_000, 2).await?, 0);
    assert_eq!(names().await?, ["last", "open"]);
    // What is gone is told from what was never here, until nobody can ask any more.
    let gone = Execution { id: "run-first".parse()?, generation: 1 };
    assert_eq!(store.fold(exported(&gone, 1), 9_000).await?, Folded::Ignored);
    let month_ms = 31 * 24 * 3_600_000;
    store.sweep_traces(month_ms).await?;
    assert_eq!(store.fold(exported(&gone, 1), 9_000).await?, Folded::Unknown);
    assert_eq!(
        store.fold(exported(&open.execution, 1), 9_000).await?,
        Folded::Applied { ended: vec![open.id] }
    );
    Ok(())
}

pub(crate) async fn work_that_is_dispatched_again_counts_its_attempts_anew(scene: &Scene) -> Result<()> {
    let store = &scene.store;
    let run = scene.running("nightly", 2).await?;
    store.fold(failed(&run.execution, 1, Stage::Exporter, 3, false), 2_000).await?;
    let summary: RunSummary = serde_json::from_str(&scene.run("nightly").await?.summary)?;
    assert_eq!(summary.message.as_deref(), Some("part 1: the token expired (renew it)"));

    let work = export_work(&run.execution, 1);
    store.dispatch_again(&run.execution, vec![work.clone()], 3_000).await?;
    let due = store.outbox_due(3_000, 10).await?;
    assert_eq!((due.len(), &due[0].item), (1, &work));
    let again = scene.run("nightly").await?;
    let summary: RunSummary = serde_json::from_str(&again.summary)?;
    assert_eq!((summary.message, again.heard_ms), (None, 2_000), "nothing was heard by that");
    store.fold(failed(&run.execution, 1, Stage::Exporter, 1, true), 4_000).await?;
    store.fold(exported(&run.execution, 2), 4_000).await?;
    assert!(matches!(scene.run("nightly").await?.state, RunState::Failed { code: Code::SasExpired, .. }));

    store.outbox_done(&[due[0].id]).await?;
    store.dispatch_again(&run.execution, vec![work], 5_000).await?;
    assert_eq!(store.outbox_due(9_000, 10).await?, vec![], "a run that is over is not dispatched again");
    let own = NewExecution::Own("run-import".parse()?);
    let import = scene.start(import("import", own, 6_000)).await?;
    let due = store.outbox_due(9_000, 10).await?;
    assert_eq!(due.first().context("its start")?.execution, import.execution);
    Ok(())
}

pub(crate) async fn an_export_that_is_over_is_watched_and_dispatched_again_until_its_copies_are_over(
    scene: &Scene,
) -> Result<()> {
    let store = &scene.store;
    let run = scene.running("nightly", 1).await?;
    let copying = || async {
        let runs = store.copying_runs(0, 10).await?;
        anyhow::Ok(runs.into_iter().map(|run| run.id).collect::<Vec<_>>())
    };
    assert_eq!(copying().await?, []);
    store.fold(exported_to(&run.execution, 1, "far"), 2_000).await?;
    assert_eq!(scene.run("nightly").await?.state, succeeded());
    assert_eq!(copying().await?, std::slice::from_ref(&run.id));
    assert!(store.copying_runs(scene.run("nightly").await?.seq, 10).await?.is_empty(), "it is before that");

    let work = export_work(&run.execution, 1);
    store.dispatch_again(&run.execution, vec![work.clone()], 3_000).await?;
    let due = store.outbox_due(3_000, 10).await?;
    assert_eq!((due.len(), &due[0].item), (1, &work));
    store.outbox_done(&[due[0].id]).await?;

    let copied = FactBody::BundleCopied {
        container: container("far"),
        blob: "nightly".parse()?,
        etag: "0x2".to_owned(),
        length: 1,
        mode: CopyMode::Streamed,
        counters: counters(1),
    };
    store.fold(fact(&run.execution, 1, Stage::BlobCopier, 1, copied), 4_000).await?;
    assert_eq!(copying().await?, []);
    store.dispatch_again(&run.execution, vec![work], 5_000).await?;
    assert_eq!(store.outbox_due(9_000, 10).await?, vec![]);
    Ok(())
}

pub(crate) async fn a_run_that_was_begun_may_say_that_it_waits(scene: &Scene) -> Result<()> {
    let store = &scene.store;
    let waiting = || RunState::Waiting { on: "no exporter is connected".into() };
    let accepted = scene.start(export("nightly", 1_000)).await?;
    store.run_says(&accepted.execution, RunKind::Export, waiting()).await?;
    assert_eq!(scene.run("nightly").await?.state, accepted.state, "it has not begun");
    let run = scene.running("other", 1).await?;
    store.run_says(&run.execution, RunKind::Import, waiting()).await?;
    assert_eq!(scene.run("other").await?.state, RunState::Running, "it is no import");
    store.run_says(&run.execution, RunKind::Export, waiting()).await?;
    assert_eq!(scene.run("other").await?.state, waiting());
    store.fold(exported(&run.execution, 1), 2_000).await?;
    store.run_says(&run.execution, RunKind::Export, RunState::Running).await?;
    assert_eq!(scene.run("other").await?.state, succeeded(), "it is over");
    Ok(())
}

pub(crate) async fn exports_are_found_by_their_blob_and_by_that_of_a_part(scene: &Scene) -> Result<()> {
    let store = &scene.store;
    for (name, blob) in
        [("first", "team/n_1"), ("upper", "team/N_1"), ("other", "team/nx1"), ("again", "team/n_1")]
    {
        scene.start(NewRun { blob: blob.parse()?, ..export(name, 1_000) }).await?;
    }
    let own = NewExecution::Own("run-import".parse()?);
    scene.start(NewRun { blob: "team/n_1".parse()?, ..import("import", own, 1_000) }).await?;
    for (blob, limit, expected) in [
        ("team/n_1", 10, &["again", "first"][..]),
        ("team/n_1", 1, &["again"]),
        ("team/n_1-0002-of-0040", 10, &["again", "first"]),
        ("team/N_1", 10, &["upper"]),
        ("team", 10, &[]),
    ] {
        let found = store.exports_of(&blob.parse()?, limit).await?;
        assert_eq!(found.iter().map(|run| run.id.name()).collect::<Vec<_>>(), expected, "{blob}");
    }
    Ok(())
}

pub(crate) async fn runs_are_found_by_an_artifact_that_they_name_or_that_their_parts_tell_of(
    scene: &Scene,
) -> Result<()> {
    let store = &scene.store;
    let artifact = "team/a_b:1".parse()?;
    let mut asked = export("asked", 1_000);
    asked.request.artifacts = vec!["team/a_b:1".into()];
    scene.start(asked).await?;
    let mut other = export("other", 1_000);
    other.request.artifacts = vec!["team/axb:1".into(), "team/a_b:10".into()];
    scene.start(other).await?;
    let adopted = NewExecution::Adopted {
        execution: Execution { id: "run-elsewhere".parse()?, generation: 5 },
        parts: 1,
        only: None,
    };
    let told = scene.start(import("told0", adopted, 2_000)).await?;
    let body = FactBody::ArtifactImported {
        container: container("inbox"),
        results: vec![ArtifactResult {
            reference: "team/a_b:1".parse()?,
            imported_as: None,
            digest: None,
            outcome: ArtifactOutcome::Moved,
        }],
    };
    store.fold(fact(&told.execution, 1, Stage::Importer, 1, body), 3_000).await?;
    let names = |runs: Vec<RunRecord>| runs.iter().map(|run| run.id.name().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(store.runs_that_carried(&artifact, 10).await?), ["told0", "asked"]);
    assert_eq!(names(store.runs_that_carried(&artifact, 1).await?), ["told0"]);
    assert_eq!(names(store.runs_that_carried(&"team/b:1".parse()?, 10).await?), Vec::<String>::new());
    Ok(())
}

pub(crate) async fn lists_tell_what_each_import_brought(scene: &Scene) -> Result<()> {
    let store = &scene.store;
    let of = |name: &str| ArtifactResult {
        reference: name.parse().expect("a reference"),
        imported_as: None,
        digest: None,
        outcome: ArtifactOutcome::Moved,
    };
    let export = scene.running("nightly", 2).await?;
    let adopted = |only| NewExecution::Adopted { execution: export.execution.clone(), parts: 2, only };
    let all = scene.start(import("all", adopted(None), 1_000)).await?;
    let second = scene.start(import("second", adopted(Some(2)), 1_000)).await?;
    for (part, name) in [(1, "a:1"), (2, "a:2")] {
        let body = FactBody::ArtifactImported { container: container("inbox"), results: vec![of(name)] };
        let mut told = fact(&export.execution, part, Stage::Importer, 1, body);
        told.target = Some(container("inbox"));
        store.fold(told, 2_000).await?;
    }
    let both = vec!["a:1".to_owned(), "a:2".to_owned()];
    let found = store.imported_artifacts(&registry(), 0, second.seq).await?;
    assert_eq!(
        found.into_iter().collect::<Vec<_>>(),
        [(all.seq, both), (second.seq, vec!["a:2".to_owned()])]
    );
    let found = store.imported_artifacts(&registry(), all.seq, second.seq).await?;
    assert_eq!(found.into_keys().collect::<Vec<_>>(), [second.seq]);
    assert!(store.imported_artifacts(&registry(), 0, export.seq).await?.is_empty());
    Ok(())
}
