//! When runs are over, and what lists show of them.

use transship_model::{Code, Counters, Stage};

use super::super::{PartSummary, RunSummary, RunView, run_state, summarise};
use super::facts::*;
use crate::state::RunState;

fn succeeded(message: Option<&str>) -> Option<RunState> {
    Some(RunState::Succeeded { message: message.map(str::to_owned) })
}

fn failed_with(code: Code, message: &str) -> Option<RunState> {
    Some(RunState::Failed { code, message: message.to_owned() })
}

#[test]
fn a_run_ends_when_each_of_its_parts_has_and_never_while_one_still_moves() {
    let stage = Stage::Exporter;
    let done = || exported(1, bytes(10, 10, 0), vec![]);
    let gone = |attempt| failed(stage, attempt, None, true, Code::ArtifactNotFound);
    let expired = || failed(stage, 3, None, true, Code::SasExpired);
    let moving = || progress(stage, 1, None, bytes(10, 5, 0));
    let trying = || failed(stage, 1, None, false, Code::SasExpired);
    for (what, continues, facts, expected) in [
        ("nothing was heard", false, [vec![], vec![]], None),
        ("one of two", false, [vec![done()], vec![]], None),
        ("both", false, [vec![done()], vec![done()]], succeeded(None)),
        ("one failed and one moves", false, [vec![gone(1)], vec![moving()]], None),
        ("one failed and one tries again", false, [vec![gone(1)], vec![trying()]], None),
        (
            "one failed",
            false,
            [vec![done()], vec![gone(2)]],
            failed_with(Code::ArtifactNotFound, "attempt 2 failed (mend it)"),
        ),
        (
            "both failed",
            false,
            [vec![expired()], vec![gone(2)]],
            failed_with(Code::SasExpired, "attempt 3 failed (mend it); another part failed too"),
        ),
        (
            "one was refused, and errors may be",
            true,
            [vec![done()], vec![gone(2)]],
            succeeded(Some("part 2: attempt 2 failed (mend it)")),
        ),
        (
            "none was carried",
            true,
            [vec![gone(1)], vec![gone(2)]],
            failed_with(Code::ArtifactNotFound, "attempt 1 failed (mend it); another part failed too"),
        ),
        (
            "a credential is nobody's artifact",
            true,
            [vec![done()], vec![expired()]],
            failed_with(Code::SasExpired, "attempt 3 failed (mend it)"),
        ),
    ] {
        let known = parts(&[&facts[0], &facts[1]]);
        assert_eq!(run_state(&export_view(continues), 2, &known), expected, "{what}");
    }
    assert_eq!(run_state(&export_view(false), 0, &[]), None);
}

#[test]
fn a_failure_is_shown_while_the_rest_of_the_run_still_moves() {
    let known = parts(&[
        &[failed(Stage::Exporter, 2, None, true, Code::SasExpired)],
        &[failed(Stage::Exporter, 1, None, false, Code::RegistryUnavailable)],
        &[progress(Stage::Exporter, 1, None, bytes(100, 50, 0))],
    ]);
    let summary = summarise(&export_view(false), 3, &known, &RunState::Running);
    assert_eq!(
        summary.message.as_deref(),
        Some("part 1: attempt 2 failed (mend it); part 2: attempt 1 failed (mend it)")
    );
    let stage = &summary.stages[0];
    assert_eq!((&*stage.status, stage.parts_done, stage.parts, stage.attempts), ("Retrying", 1, 3, 2));
    assert_eq!(stage.message.as_deref(), Some("attempt 2 failed (mend it)"));
    assert_eq!(stage.in_flight, ["blob of attempt 1"]);
}

#[test]
fn with_continue_on_errors_a_run_succeeds_and_names_what_was_left_out() {
    let many: Vec<_> = (0..12).map(|i| refused(&format!("a:{i}"))).collect();
    let counters =
        Counters { artifacts_discovered: 250, artifacts_moved: 238, artifacts_failed: 12, ..bytes(9, 9, 0) };
    let known = vec![(1, part_of(&["a:1"], &[exported(1, counters, many)]).summary())];
    let Some(RunState::Succeeded { message: Some(message) }) = run_state(&export_view(true), 1, &known)
    else {
        panic!("it succeeds with a message");
    };
    assert!(message.starts_with("12 of 250 artifacts failed: a:0: it is gone (push it); a:1: "), "{message}");
    assert!(message.ends_with("; a:9: it is gone (push it); and 2 more"), "{message}");
    let summary = summarise(&export_view(true), 1, &known, &succeeded(None).unwrap());
    let totals = summary.artifacts;
    assert_eq!((totals.discovered, totals.moved, totals.skipped, totals.failed), (250, 238, 0, 12));
}

fn import_state(view: &RunView, known: &[(u32, PartSummary)], parts: u32) -> Option<RunState> {
    run_state(view, parts, known)
}

#[test]
fn an_import_looks_at_the_importer_of_its_own_container_and_at_its_own_part() {
    let export = exported(1, bytes(10, 10, 0), vec![]);
    let elsewhere = imported(1, "u", bytes(10, 10, 0), None);
    let here = imported(1, "t", bytes(10, 10, 0), Some("a tag was left alone"));
    let anywhere = failed(Stage::Importer, 1, None, true, Code::MessageInvalid);
    let view = import_view("t");
    let state =
        |facts: &[&[transship_messages::Fact]]| import_state(&view, &parts(facts), facts.len() as u32);
    assert_eq!(state(&[&[export.clone(), elsewhere.clone()]]), None);
    assert_eq!(state(&[&[export, here.clone()]]), succeeded(Some("a tag was left alone")));
    assert_eq!(
        state(&[std::slice::from_ref(&anywhere)]),
        failed_with(Code::MessageInvalid, "attempt 1 failed (mend it)")
    );
    assert_eq!(state(&[&[anywhere, here.clone()]]), succeeded(Some("a tag was left alone")));

    let known = parts(&[&[], std::slice::from_ref(&here)]);
    assert_eq!(import_state(&view, &known, 2), None, "all parts are its own");
    let second = RunView { part: Some(2), ..view.clone() };
    assert_eq!(import_state(&second, &known, 2), succeeded(Some("a tag was left alone")));
    assert_eq!(import_state(&RunView { part: Some(1), ..view }, &known, 2), None);
    assert_eq!(summarise(&second, 2, &known, &RunState::Running).stages[0].parts, 1);
}

#[test]
fn an_import_waits_for_the_results_that_its_end_overtook() {
    let counters = Counters { artifacts_discovered: 1, artifacts_moved: 1, ..bytes(10, 10, 0) };
    let (end, view) = (imported(1, "t", counters, None), import_view("t"));
    assert_eq!(run_state(&view, 1, &parts(&[std::slice::from_ref(&end)])), None);
    let result = results(1, "t", vec![result("a:1", transship_messages::ArtifactOutcome::Moved)]);
    assert_eq!(run_state(&view, 1, &parts(&[&[end, result]])), succeeded(None));
}

fn percentage(known: &[(u32, PartSummary)], parts: u32, state: &RunState) -> u8 {
    summarise(&export_view(false), parts, known, state).percentage
}

#[test]
fn the_percentage_is_one_of_bytes_and_only_a_run_that_succeeded_has_100() {
    let stage = Stage::Exporter;
    let at = |moved, skipped| progress(stage, 1, None, bytes(200, moved, skipped));
    let none = parts(&[&[]]);
    assert_eq!(percentage(&none, 1, &RunState::Running), 0);
    assert_eq!(percentage(&parts(&[&[at(50, 50)]]), 1, &RunState::Running), 50);
    assert_eq!(percentage(&parts(&[&[at(200, 0)]]), 1, &RunState::Running), 99);
    // What was not planned yet is like the rest.
    assert_eq!(percentage(&parts(&[&[at(100, 100)], &[], &[], &[]]), 4, &RunState::Running), 25);
    let failed = RunState::Failed { code: Code::SasExpired, message: String::new() };
    assert_eq!(percentage(&parts(&[&[at(200, 0)]]), 1, &failed), 99);
    assert_eq!(percentage(&none, 1, &succeeded(None).unwrap()), 100);
}

#[test]
fn an_export_shows_each_route_by_its_own_and_an_import_only_itself() {
    let known = parts(&[&[
        exported(1, bytes(10, 10, 0), vec![]),
        progress(Stage::BlobCopier, 1, None, bytes(10, 1, 0)),
        copied(1, "t", bytes(10, 10, 0)),
        failed(Stage::BlobCopier, 2, Some("u"), false, Code::SasPermission),
        imported(1, "t", bytes(10, 2, 8), None),
    ]]);
    let rows = |summary: RunSummary| {
        let row = |s: &transship_api::StageProgress| {
            format!("{} {} {}", s.stage, s.target.as_deref().unwrap_or("-"), s.status)
        };
        summary.stages.iter().map(row).collect::<Vec<_>>()
    };
    assert_eq!(
        rows(summarise(&export_view(false), 1, &known, &RunState::Running)),
        [
            "exporter - Succeeded",
            "blob-copier https://t.example/c Succeeded",
            "blob-copier https://u.example/c Retrying",
            "importer https://t.example/c Succeeded"
        ]
    );
    let import = summarise(&import_view("t"), 1, &known, &RunState::Running);
    assert_eq!((import.bytes.discovered, import.bytes.moved, import.bytes.skipped), (10, 2, 8));
    assert_eq!(rows(import), ["importer https://t.example/c Succeeded"]);
}

#[test]
fn a_stage_that_nothing_was_heard_of_waits_for_its_turn() {
    let waits = |view: &RunView, facts: &[transship_messages::Fact]| {
        let summary = summarise(view, 1, &parts(&[facts]), &RunState::Running);
        let row = |s: &transship_api::StageProgress| {
            format!("{} {} {}", s.stage, s.target.as_deref().unwrap_or("-"), s.status)
        };
        summary.stages.iter().map(row).collect::<Vec<_>>()
    };
    assert_eq!(waits(&export_view(false), &[]), ["exporter - Waiting"]);
    assert_eq!(waits(&import_view("t"), &[]), ["importer https://t.example/c Waiting"]);
    let mut done = exported(1, bytes(10, 10, 0), vec![]);
    if let transship_messages::FactBody::BundleExported { routes, .. } = &mut done.body {
        let route = |name, pipeline: Option<&str>| transship_messages::RouteTaken {
            target: container(name),
            import_pipeline: pipeline.map(|name| name.parse().unwrap()),
        };
        *routes = vec![route("u", None), route("t", Some("p"))];
    }
    assert_eq!(
        waits(&export_view(false), &[done.clone()]),
        [
            "exporter - Succeeded",
            "blob-copier https://t.example/c Waiting",
            "blob-copier https://u.example/c Waiting",
            "importer https://t.example/c Waiting"
        ]
    );
    let copied = copied(1, "t", bytes(10, 10, 0));
    assert_eq!(waits(&export_view(false), &[copied, done])[1], "blob-copier https://t.example/c Succeeded");
}

#[test]
fn what_is_given_up_behind_an_export_shows_in_it_though_it_succeeded() {
    let done = || exported(1, bytes(10, 10, 0), vec![]);
    let copy = |terminal| failed(Stage::BlobCopier, 3, Some("t"), terminal, Code::SasPermission);
    let import = || failed(Stage::Importer, 3, Some("t"), true, Code::TagExists);
    let given_up = "the copy to https://t.example/c failed: attempt 3 failed (mend it)";
    for (what, facts, expected, is_copying) in [
        ("no copy", vec![done()], None, false),
        ("a copy that tries again", vec![done(), copy(false)], None, true),
        ("a copy that was given up", vec![done(), copy(true)], Some(given_up), false),
        (
            "a copy that came all the same",
            vec![done(), copy(true), copied(1, "t", bytes(10, 10, 0))],
            None,
            false,
        ),
        (
            "an import that was given up",
            vec![done(), import()],
            Some("the import from https://t.example/c failed: attempt 3 failed (mend it)"),
            false,
        ),
    ] {
        let known = parts(&[&facts]);
        assert_eq!(run_state(&export_view(false), 1, &known), succeeded(expected), "{what}");
        let summary = summarise(&export_view(false), 1, &known, &RunState::Running);
        assert_eq!((summary.message.as_deref(), summary.is_copying), (expected, is_copying), "{what}");
    }
    let known = parts(&[&[done()], &[done(), copy(true)]]);
    let expected = format!("part 2: {given_up}");
    assert_eq!(run_state(&export_view(false), 2, &known), succeeded(Some(&expected)));
    assert_eq!(summarise(&import_view("t"), 2, &known, &RunState::Running).message, None);
}
