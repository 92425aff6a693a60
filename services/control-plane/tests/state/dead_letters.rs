//! Messages that were given up.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use transship_control_plane::state::{NewDeadLetter, NewExecution, OutboxItem, Queue, RunState};
use transship_model::{Execution, Stage};

use crate::scene::{
    Scene, container, export_work, exported, failed, failed_state, import, import_work, succeeded,
};

fn letter(item: OutboxItem, execution: &Execution, reason: &str, at_ms: i64) -> NewDeadLetter {
    let OutboxItem::Publish { queue, message_id, kind, headers, body } = item else {
        panic!("only what was published comes back")
    };
    let (execution, reason) = (Some(execution.id.to_string()), reason.to_owned());
    NewDeadLetter { queue, message_id, kind, execution, headers, body, reason, at_ms }
}

pub(crate) async fn the_same_letter_is_stored_once(scene: &Scene) -> Result<()> {
    let store = &scene.store;
    let execution = Execution { id: "run-cli".parse()?, generation: 3 };
    let given_up = |reason, at_ms| letter(export_work(&execution, 1), &execution, reason, at_ms);
    let id = store.add_dead_letter(given_up("expired", 10)).await?;
    assert_eq!(store.add_dead_letter(given_up("expired", 20)).await?, id);
    let other = store.add_dead_letter(given_up("poison", 30)).await?;
    let strange = NewDeadLetter {
        queue: Queue::ImporterImports,
        message_id: String::new(),
        kind: String::new(),
        execution: None,
        headers: BTreeMap::new(),
        body: vec![0, 255, 1],
        reason: "not a message".into(),
        at_ms: 40,
    };
    let third = store.add_dead_letter(strange).await?;

    let first = store.dead_letter(id).await?.context("it is stored")?;
    assert_eq!((first.at_ms, &*first.reason, first.requeued_ms), (10, "expired", None));
    assert_eq!(first.execution.as_deref(), Some("run-cli"));
    assert_eq!(first.headers["traceparent"], "00-ab");
    assert_eq!(store.dead_letter_lines(0, 2).await?.iter().map(|l| l.id).collect::<Vec<_>>(), [id, other]);
    let rest = store.dead_letter_lines(other, 2).await?;
    assert_eq!((rest.len(), rest[0].id), (1, third));
    assert_eq!(store.dead_letter(third).await?.context("it is stored")?.body, [0, 255, 1]);
    assert_eq!(store.dead_letter(999).await?, None);

    // What cannot be understood may be put back as well: a newer process may understand it.
    assert!(store.dead_letter_requeued(third, 50).await?);
    let due = store.outbox_due(50, 10).await?;
    assert!(
        matches!(&due[0].item, OutboxItem::Publish { queue: Queue::ImporterImports, body, .. } if *body == [0, 255, 1])
    );
    Ok(())
}

pub(crate) async fn a_letter_that_is_put_back_has_its_failed_run_run_again(scene: &Scene) -> Result<()> {
    let store = &scene.store;
    let run = scene.running("nightly", 1).await?;
    let adopted = NewExecution::Adopted { execution: run.execution.clone(), parts: 1, only: None };
    scene.start(import("import", adopted, 1_000)).await?;
    let mut import_failed = failed(&run.execution, 1, Stage::Importer, 9, true);
    import_failed.target = Some(container("inbox"));
    store.fold(import_failed, 2_000).await?;
    store.fold(failed(&run.execution, 1, Stage::Exporter, 16, true), 2_000).await?;
    assert_eq!(scene.run("nightly").await?.state, failed_state());
    assert_eq!(scene.run("import").await?.state, failed_state());

    let work = export_work(&run.execution, 1);
    let id = store.add_dead_letter(letter(work.clone(), &run.execution, "given up", 3_000)).await?;
    assert!(store.dead_letter_requeued(id, 4_000).await?);
    assert!(!store.dead_letter_requeued(id, 4_000).await?, "once");
    assert!(!store.dead_letter_requeued(999, 4_000).await?);
    let due = store.outbox_due(4_000, 10).await?;
    assert_eq!((due.len(), &due[0].item, &due[0].execution), (1, &work, &run.execution));
    let again = scene.run("nightly").await?;
    assert_eq!((&again.state, again.finished_ms), (&RunState::Running, None));
    assert_eq!(scene.run("import").await?.state, failed_state(), "that was another stage's letter");

    store.fold(failed(&run.execution, 1, Stage::Exporter, 1, false), 5_000).await?;
    assert_eq!(scene.run("nightly").await?.state, RunState::Running);
    store.fold(exported(&run.execution, 1), 6_000).await?;
    let message = "the import from https://a.example/inbox failed: the token expired (renew it)".to_owned();
    assert_eq!(scene.run("nightly").await?.state, RunState::Succeeded { message: Some(message) });

    // The same letter may come again, and is a new one then.
    assert_eq!(store.add_dead_letter(letter(work, &run.execution, "given up", 7_000)).await?, id);
    let letter_again = store.dead_letter(id).await?.context("it is stored")?;
    assert_eq!((letter_again.requeued_ms, letter_again.at_ms), (None, 7_000));
    let id = store.add_dead_letter(letter(import_work(&run.execution), &run.execution, "x", 7_000)).await?;
    assert!(store.dead_letter_requeued(id, 8_000).await?);
    assert_eq!(scene.run("import").await?.state, RunState::Running);
    assert_eq!(scene.run("nightly").await?.state, succeeded(), "success stays, and its import is under way");
    Ok(())
}

pub(crate) async fn letters_are_listed_with_the_runs_that_they_are_of(scene: &Scene) -> Result<()> {
    let store = &scene.store;
    let run = scene.running("nightly", 1).await?;
    let adopted = NewExecution::Adopted { execution: run.execution.clone(), parts: 1, only: None };
    let import = scene.start(import("import", adopted, 1_000)).await?;
    let work = export_work(&run.execution, 1);
    let OutboxItem::Publish { body, .. } = &work else { panic!("it is published") };
    let bytes = body.len() as u64;
    let first = store.add_dead_letter(letter(work, &run.execution, "given up", 3_000)).await?;
    let nobody = Execution { id: "run-gone".parse()?, generation: 1 };
    let second = store.add_dead_letter(letter(import_work(&nobody), &nobody, "given up", 4_000)).await?;
    let lines = store.dead_letter_lines(0, 10).await?;
    assert_eq!(lines.iter().map(|line| line.id).collect::<Vec<_>>(), [first, second]);
    assert_eq!(lines[0].runs, [run.id.to_string(), import.id.to_string()]);
    assert_eq!((lines[0].body_bytes, &*lines[0].reason, lines[0].at_ms), (bytes, "given up", 3_000));
    assert_eq!((&lines[1].runs, lines[1].execution.as_deref()), (&vec![], Some("run-gone")));
    assert_eq!(store.dead_letter_lines(first, 1).await?, lines[1..]);
    Ok(())
}
