//! Facts become state.

use anyhow::Result;
use futures::future::try_join_all;
use transship_control_plane::fold::RunSummary;
use transship_control_plane::state::{Folded, NewExecution, RunKind, RunState};
use transship_model::{Code, Execution, Stage};

use crate::scene::{
    Scene, container, export, exported, failed, failed_state, import, imported, part_states, progress,
    run_id, succeeded,
};

const APPLIED: Folded = Folded::Applied { ended: vec![] };

pub(crate) async fn facts_of_an_execution_that_was_never_here_are_told_from_those_of_one_that_is_gone(
    scene: &Scene,
) -> Result<()> {
    let store = &scene.store;
    let run = scene.running("nightly", 1).await?;
    let at = |generation| Execution { id: run.execution.id.clone(), generation };
    let stranger = Execution { id: "run-other".parse()?, generation: 1_000 };
    assert_eq!(store.fold(exported(&stranger, 1), 1).await?, Folded::Unknown);
    assert_eq!(store.fold(exported(&at(999), 1), 1).await?, Folded::Ignored);
    assert_eq!(store.fold(exported(&at(1_001), 1), 1).await?, Folded::Unknown, "a newer one may come");
    assert_eq!(store.fold(exported(&at(1_000), 2), 1).await?, Folded::Ignored, "there is no second part");
    assert_eq!(scene.run("nightly").await?, run);
    assert_eq!(store.fold(progress(&at(1_000), 1, 1), 1).await?, APPLIED);
    store.delete_run(&run.id).await?;
    assert_eq!(store.fold(exported(&at(1_000), 1), 1).await?, Folded::Ignored);
    Ok(())
}

pub(crate) async fn a_run_ends_with_its_last_part_and_what_comes_later_is_history(
    scene: &Scene,
) -> Result<()> {
    let store = &scene.store;
    let run = scene.running("nightly", 2).await?;
    assert_eq!(store.fold(failed(&run.execution, 1, Stage::Exporter, 1, true), 2_000).await?, APPLIED);
    let meanwhile = scene.run("nightly").await?;
    let summary: RunSummary = serde_json::from_str(&meanwhile.summary)?;
    assert_eq!(meanwhile.state, RunState::Running, "the other part still moves");
    assert_eq!(summary.message.as_deref(), Some("part 1: the token expired (renew it)"));

    let ended = store.fold(exported(&run.execution, 2), 3_000).await?;
    assert_eq!(ended, Folded::Applied { ended: vec![run_id("nightly")] });
    let over = scene.run("nightly").await?;
    assert_eq!((&over.state, over.finished_ms), (&failed_state(), Some(3_000)));

    assert_eq!(store.fold(exported(&run.execution, 1), 4_000).await?, APPLIED);
    assert_eq!(store.fold(imported(&run.execution, 1, "inbox"), 5_000).await?, APPLIED);
    let later = scene.run("nightly").await?;
    assert_eq!((&later.state, later.finished_ms), (&failed_state(), Some(3_000)), "a terminal state stays");
    let summary: RunSummary = serde_json::from_str(&later.summary)?;
    let stages: Vec<_> = summary.stages.iter().map(|s| (&*s.stage, &*s.status, s.parts_done)).collect();
    assert_eq!(stages, [("exporter", "Succeeded", 2), ("importer", "Running", 1)]);
    Ok(())
}

pub(crate) async fn an_adopted_import_shares_the_parts_of_the_export(scene: &Scene) -> Result<()> {
    let store = &scene.store;
    let run = scene.running("nightly", 1).await?;
    store.fold(exported(&run.execution, 1), 2_000).await?;
    let adopted = NewExecution::Adopted { execution: run.execution.clone(), parts: 1, only: None };
    let import = scene.start(import("import", adopted, 3_000)).await?;
    assert_eq!((&import.execution, &import.state, import.parts), (&run.execution, &RunState::Running, 1));
    assert_eq!(import.view.target, Some(container("inbox")));
    assert!(store.outbox_due(9_000, 10).await?.is_empty(), "its work is under way");
    let known = store.runs_of_execution(&run.execution.id).await?;
    assert_eq!(known.iter().map(|run| run.kind).collect::<Vec<_>>(), [RunKind::Export, RunKind::Import]);

    assert_eq!(store.fold(imported(&run.execution, 1, "elsewhere"), 4_000).await?, APPLIED);
    let ended = store.fold(imported(&run.execution, 1, "inbox"), 5_000).await?;
    assert_eq!(ended, Folded::Applied { ended: vec![run_id("import")] });
    assert_eq!(scene.run("import").await?.state, succeeded());

    store.delete_run(&run.id).await?;
    assert_eq!(store.parts(&run.execution).await?.len(), 1, "the import still looks at them");
    assert_eq!(store.fold(progress(&run.execution, 1, 1), 6_000).await?, APPLIED);
    store.delete_run(&import.id).await?;
    assert_eq!(store.parts(&run.execution).await?, vec![]);
    Ok(())
}

pub(crate) async fn an_import_that_is_adopted_alone_may_be_about_one_part(scene: &Scene) -> Result<()> {
    let store = &scene.store;
    let execution = Execution { id: "run-elsewhere".parse()?, generation: 5 };
    assert_eq!(store.fold(imported(&execution, 2, "inbox"), 1).await?, Folded::Unknown);
    let adopted = |only| NewExecution::Adopted { execution: execution.clone(), parts: 3, only: Some(only) };
    scene.start(import("part1", adopted(1), 1_000)).await?;
    scene.start(import("part2", adopted(2), 1_000)).await?;
    let ended = store.fold(imported(&execution, 2, "inbox"), 2_000).await?;
    assert_eq!(ended, Folded::Applied { ended: vec![run_id("part2")] });
    assert_eq!(scene.run("part1").await?.state, RunState::Running);
    // One that comes late sees what was heard already.
    let ended = store.fold(imported(&execution, 3, "inbox"), 2_500).await?;
    assert_eq!(ended, APPLIED);
    let late = scene.start(import("part3", adopted(3), 3_000)).await?;
    assert_eq!(late.state, succeeded());
    Ok(())
}

pub(crate) async fn a_message_that_could_not_be_understood_fails_the_run_as_it_is_now(
    scene: &Scene,
) -> Result<()> {
    let run = scene.running("nightly", 1).await?;
    let unknown = Execution { id: run.execution.id.clone(), generation: 0 };
    let ended = scene.store.fold(failed(&unknown, 1, Stage::Exporter, 1, true), 2_000).await?;
    assert_eq!(ended, Folded::Applied { ended: vec![run.id.clone()] });
    assert!(matches!(scene.run("nightly").await?.state, RunState::Failed { code: Code::SasExpired, .. }));
    Ok(())
}

pub(crate) async fn facts_at_once_are_folded_together_and_each_is_answered(scene: &Scene) -> Result<()> {
    let store = &scene.store;
    let first = scene.running("first", 1).await?;
    let second = scene.start(export("second", 1_000)).await?;
    store.begin_run(&second.execution, part_states(40)?, vec![], 1_000).await?;
    let stranger = Execution { id: "run-other".parse()?, generation: 1 };
    let mut facts: Vec<_> = (1..=40).map(|part| exported(&second.execution, part)).collect();
    facts.extend((0..20).map(|moved| progress(&first.execution, 1, moved)));
    facts.extend([exported(&stranger, 1), exported(&first.execution, 1)]);
    let folded = try_join_all(facts.into_iter().map(|fact| store.fold(fact, 2_000))).await?;
    assert_eq!(folded[60], Folded::Unknown);
    let ended: Vec<_> = folded
        .iter()
        .filter_map(|folded| if let Folded::Applied { ended } = folded { Some(ended) } else { None })
        .flatten()
        .collect();
    assert_eq!(ended.len(), 2, "each run is told once: {ended:?}");
    for name in ["first", "second"] {
        assert_eq!(scene.run(name).await?.state, succeeded());
    }
    Ok(())
}
