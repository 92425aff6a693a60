//! What becomes of one stage, and of artifacts.

use transship_api::ArtifactProgress;
use transship_messages::{ArtifactOutcome, Fact, FactBody};
use transship_model::{Code, Counters, Stage};

use super::super::{
    PartState, RunView, StageStatus, StageSummary, artifacts, copies, imported_artifacts, run_state,
    undelivered,
};
use super::facts::*;

use StageStatus::{Failed, Retrying, Running, Succeeded};

fn stage_of(part: &PartState) -> StageSummary {
    let summary = part.summary();
    assert_eq!(summary.stages.len(), 1, "{summary:?}");
    summary.stages[0].clone()
}

#[test]
fn the_higher_attempt_wins_maxima_stand_within_one_and_success_beats_failure() {
    let stage = Stage::Exporter;
    let report = |attempt, moved| progress(stage, attempt, None, bytes(100, moved, 0));
    let trouble = |attempt, terminal| failed(stage, attempt, None, terminal, Code::RegistryUnavailable);
    let done = |attempt, moved| exported(attempt, bytes(100, moved, 100 - moved), vec![]);
    for (what, facts, status, attempt, moved) in [
        ("a report", vec![report(1, 10)], Running, 1, 10),
        ("reports out of order", vec![report(1, 30), report(1, 10)], Running, 1, 30),
        ("a killed stage begins its attempt anew", vec![report(1, 30), report(1, 0)], Running, 1, 30),
        ("a failure", vec![report(1, 30), trouble(1, false)], Retrying, 1, 30),
        ("the next attempt counts anew", vec![trouble(1, false), report(2, 5)], Running, 2, 5),
        ("a late report of an old attempt", vec![report(2, 5), report(1, 90)], Running, 2, 5),
        ("a late failure of an old attempt", vec![report(2, 5), trouble(1, true)], Running, 2, 5),
        (
            "a terminal failure after one that was not",
            vec![trouble(1, false), trouble(1, true)],
            Failed,
            1,
            0,
        ),
        ("the same the other way round", vec![trouble(1, true), trouble(1, false)], Failed, 1, 0),
        ("success", vec![report(1, 30), done(1, 60)], Succeeded, 1, 60),
        ("a late report", vec![done(1, 60), report(1, 99)], Succeeded, 1, 60),
        ("success beats failure of its attempt", vec![trouble(1, true), done(1, 60)], Succeeded, 1, 60),
        ("and of a later one", vec![done(1, 60), trouble(2, true)], Succeeded, 2, 60),
        ("success after a dispatch anew", vec![trouble(3, false), done(1, 60)], Succeeded, 3, 60),
        ("the success that moved more", vec![done(1, 0), done(1, 60)], Succeeded, 1, 60),
        ("the success of the higher attempt", vec![done(2, 0), done(1, 60)], Succeeded, 2, 0),
    ] {
        let stage = stage_of(&part_of(&["a:1"], &facts));
        assert_eq!(
            (stage.status, stage.attempt, stage.counters.bytes_moved),
            (status, attempt, moved),
            "{what}"
        );
    }
}

#[test]
fn what_is_over_reconciles_and_what_is_under_way_never_shows_more_than_there_is() {
    let stage = Stage::Exporter;
    let overlap = [progress(stage, 1, None, bytes(100, 60, 0)), progress(stage, 1, None, bytes(100, 20, 60))];
    let over = |more: Fact| overlap.iter().cloned().chain([more]).collect::<Vec<_>>();
    let strange = Counters { artifacts_failed: 3, ..bytes(10, 100, 7) };
    for (what, facts, expected) in [
        ("what moved and was found again", overlap.to_vec(), (100, 60, 40, 0)),
        ("a failure for good", over(failed(stage, 1, None, true, Code::SasExpired)), (100, 60, 40, 0)),
        (
            "a failure with something left",
            vec![
                progress(stage, 1, None, bytes(100, 20, 10)),
                failed(stage, 1, None, true, Code::SasExpired),
            ],
            (100, 20, 10, 70),
        ),
        ("a success", over(exported(1, bytes(110, 50, 60), vec![])), (110, 50, 60, 0)),
        ("a success that counts too little", vec![exported(1, strange, vec![])], (100, 100, 0, 0)),
    ] {
        let Counters { bytes_discovered, bytes_moved, bytes_skipped, bytes_failed, .. } =
            stage_of(&part_of(&["a:1"], &facts)).counters;
        assert_eq!((bytes_discovered, bytes_moved, bytes_skipped, bytes_failed), expected, "{what}");
    }
}

#[test]
fn a_stage_that_failed_says_why_with_its_hint_and_one_that_is_dispatched_again_does_not() {
    let mut part = part_of(&["a:1"], &[failed(Stage::Importer, 4, Some("t"), true, Code::SasExpired)]);
    let stage = stage_of(&part);
    assert_eq!(stage.message.as_deref(), Some("attempt 4 failed (mend it)"));
    assert_eq!((stage.code, stage.status), (Some(Code::SasExpired), Failed));

    part.reopen(Stage::Importer, Some(&container("other")));
    assert_eq!(stage_of(&part).status, Failed);
    part.reopen(Stage::Importer, Some(&container("t")));
    assert_eq!((stage_of(&part).status, stage_of(&part).message), (Running, None));
    let later = Fact { at_ms: 5, ..failed(Stage::Importer, 1, Some("t"), false, Code::RegistryUnavailable) };
    part.apply(&later);
    assert_eq!(stage_of(&part).message.as_deref(), Some("attempt 1 failed (mend it)"));
}

#[test]
fn what_a_stage_said_before_its_work_was_dispatched_again_does_not_count_when_it_is_delivered_once_more() {
    let old = failed(Stage::Exporter, 5, None, true, Code::SasExpired);
    let mut part = part_of(&["a:1"], &[progress(Stage::Exporter, 5, None, bytes(9, 9, 0)), old.clone()]);
    part.reopen(Stage::Exporter, None);
    part.apply(&old);
    part.apply(&progress(Stage::Exporter, 5, None, bytes(9, 9, 0)));
    assert_eq!((stage_of(&part).status, stage_of(&part).attempt), (Running, 0));
    // What is said since counts, and so does a letter, which has no time.
    let new = Fact { at_ms: 6, ..failed(Stage::Exporter, 1, None, true, Code::SasExpired) };
    let letter = Fact { at_ms: 0, ..new.clone() };
    for fact in [new, letter] {
        let mut part = part.clone();
        part.apply(&fact);
        assert_eq!((stage_of(&part).status, stage_of(&part).attempt), (Failed, 1));
    }
    part.apply(&exported(1, bytes(9, 9, 0), vec![]));
    assert_eq!(stage_of(&part).status, Succeeded);
}

#[test]
fn work_that_is_dispatched_again_forgets_a_failure_that_named_no_target_too() {
    let facts = [
        progress(Stage::Importer, 1, Some("t"), bytes(9, 1, 0)),
        failed(Stage::Importer, 2, None, true, Code::MessageInvalid),
    ];
    let mut part = part_of(&[], &facts);
    let is_over = |part: &PartState| run_state(&import_view("t"), 1, &[(1, part.summary())]).is_some();
    assert!(is_over(&part));
    part.reopen(Stage::Importer, Some(&container("t")));
    assert!(!is_over(&part));
}

#[test]
fn what_an_export_did_not_deliver_is_what_it_left_out_and_whatever_its_copy_was_to_carry() {
    let done = || exported(1, bytes(9, 9, 0), vec![]);
    let copy = |terminal| failed(Stage::BlobCopier, 1, Some("t"), terminal, Code::SasExpired);
    let import = failed(Stage::Importer, 1, Some("t"), true, Code::SasExpired);
    let unreadable = || failed(Stage::BlobCopier, 1, None, true, Code::MessageInvalid);
    for (what, facts, expected) in [
        ("all of it came", vec![done(), copied(1, "t", bytes(9, 9, 0))], &[][..]),
        ("one was left out", vec![exported(1, bytes(9, 9, 0), vec![refused("a:2")])], &["a:2"]),
        ("the copy tries again", vec![done(), copy(false)], &[]),
        ("the copy was given up", vec![done(), copy(true)], &["a:1", "a:2"]),
        ("it came all the same", vec![done(), copy(true), copied(1, "t", bytes(9, 9, 0))], &[]),
        (
            "it was not exported",
            vec![failed(Stage::Exporter, 1, None, true, Code::SasExpired)],
            &["a:1", "a:2"],
        ),
        ("its import is a matter of the far side", vec![done(), import], &[]),
        ("it was imported from there", vec![done(), copy(true), imported(1, "t", bytes(9, 9, 0), None)], &[]),
        (
            "a message was unreadable, and it came",
            vec![along("t"), unreadable(), copied(1, "t", bytes(9, 9, 0))],
            &[],
        ),
        ("a message was unreadable", vec![along("t"), unreadable()], &["a:1", "a:2"]),
    ] {
        let lost = undelivered(&[part_of(&["a:1", "a:2"], &facts)]);
        assert_eq!(lost.iter().map(String::as_str).collect::<Vec<_>>(), expected, "{what}");
    }
}

#[test]
fn a_copy_is_open_until_it_or_the_import_behind_it_is_over() {
    let copy = |to, terminal| failed(Stage::BlobCopier, 1, to, terminal, Code::SasExpired);
    for (what, facts, expected) in [
        ("nobody began it", vec![along("t")], &["t"][..]),
        ("it tries again", vec![along("t"), copy(Some("t"), false)], &["t"]),
        ("it was given up", vec![along("t"), copy(Some("t"), true)], &[]),
        ("it is there", vec![along("t"), copied(1, "t", bytes(9, 9, 0))], &[]),
        ("it was imported from there", vec![along("t"), imported(1, "t", bytes(9, 9, 0), None)], &[]),
        ("another one was", vec![along("t"), imported(1, "u", bytes(9, 9, 0), None)], &["t"]),
        (
            "a message that names no target",
            vec![copy(None, false), along("t"), copied(1, "t", bytes(9, 9, 0))],
            &[],
        ),
    ] {
        let summary = part_of(&["a:1"], &facts).summary();
        let open: Vec<_> = copies(&summary).map(|row| row.target.clone()).collect();
        assert_eq!(open, expected.iter().map(|to| Some(container(to))).collect::<Vec<_>>(), "{what}");
    }
}

#[test]
fn a_fact_that_is_heard_again_changes_nothing() {
    for fact in [
        progress(Stage::Exporter, 1, None, bytes(10, 1, 0)),
        exported(1, bytes(10, 10, 0), vec![refused("a:1")]),
        copied(1, "t", bytes(10, 10, 0)),
        results(1, "t", vec![result("a:1", ArtifactOutcome::Moved)]),
        imported(1, "t", bytes(10, 10, 0), None),
        failed(Stage::Importer, 1, Some("t"), false, Code::SasExpired),
    ] {
        let mut part = PartState::default();
        assert!(part.apply(&fact).any(), "{fact:?}");
        assert!(!part.apply(&fact).any(), "{fact:?}");
    }
}

#[test]
fn facts_of_version_1_name_the_target_in_their_body_only() {
    let mut fact = copied(1, "t", bytes(10, 10, 0));
    fact.target = None;
    let part = part_of(&[], &[fact]);
    assert_eq!(part.stages[0].target, Some(container("t")));
}

fn told(view: &RunView, part: PartState) -> Vec<(String, String, Option<String>)> {
    let short = |a: ArtifactProgress| (a.artifact, format!("{} {}", a.result, a.stage), a.message);
    artifacts(view, &[(1, part)]).into_iter().map(short).collect()
}

fn line(artifact: &str, result: &str, message: Option<&str>) -> (String, String, Option<String>) {
    (artifact.to_owned(), result.to_owned(), message.map(str::to_owned))
}

#[test]
fn every_artifact_that_was_asked_for_has_a_result_and_those_left_out_say_why() {
    let asked = ["a:1", "a:2"];
    let view = export_view(true);
    let pending = [line("a:1", "Pending exporter", None), line("a:2", "Pending exporter", None)];
    assert_eq!(told(&view, part_of(&asked, &[])), pending);
    let retrying = failed(Stage::Exporter, 1, None, false, Code::SasExpired);
    assert_eq!(told(&view, part_of(&asked, &[retrying])), pending);
    let done = exported(1, Counters::default(), vec![refused("a:2")]);
    assert_eq!(
        told(&view, part_of(&asked, &[done])),
        [line("a:1", "Succeeded exporter", None), line("a:2", "Failed exporter", Some("it is gone"))]
    );
    // What is in the bundle is wherever the bundle is.
    let done = [exported(1, Counters::default(), vec![refused("a:2")]), copied(1, "t", Counters::default())];
    assert_eq!(
        told(&view, part_of(&asked, &done)),
        [line("a:1", "Succeeded blob-copier", None), line("a:2", "Failed exporter", Some("it is gone"))]
    );
    let gone = failed(Stage::Exporter, 2, None, true, Code::SasExpired);
    let why = Some("attempt 2 failed");
    assert_eq!(
        told(&view, part_of(&asked, &[gone])),
        [line("a:1", "Failed exporter", why), line("a:2", "Failed exporter", why)]
    );
}

#[test]
fn an_import_tells_what_became_of_each_artifact_in_its_own_registry() {
    let skipped = ArtifactOutcome::Skipped { reason: "there".to_owned() };
    let mut renamed = result("a:2", ArtifactOutcome::Moved);
    renamed.imported_as = Some("mirror/a:2".parse().unwrap());
    let facts = [
        exported(1, Counters::default(), vec![refused("a:4")]),
        results(1, "t", vec![result("a:1", skipped), renamed]),
        results(1, "u", vec![refused("a:1")]),
    ];
    let part = part_of(&["a:1", "a:2", "a:3", "a:4"], &facts);
    assert_eq!(
        told(&import_view("t"), part.clone()),
        [
            line("a:1", "Skipped importer", Some("there")),
            line("a:2", "Succeeded importer", None),
            line("a:3", "Pending importer", None)
        ]
    );
    assert_eq!(imported_artifacts(&import_view("t"), &[(1, part.clone())]), ["a:1", "mirror/a:2"]);
    assert_eq!(imported_artifacts(&import_view("u"), &[(1, part)]), Vec::<String>::new());
}

#[test]
fn of_two_results_for_an_artifact_the_higher_attempt_stands_and_success_at_the_same() {
    for (what, facts, expected) in [
        ("later", [(1, refused("a:1")), (2, result("a:1", ArtifactOutcome::Moved))], "Succeeded importer"),
        (
            "later and worse",
            [(2, refused("a:1")), (1, result("a:1", ArtifactOutcome::Moved))],
            "Failed importer",
        ),
        ("the same", [(1, refused("a:1")), (1, result("a:1", ArtifactOutcome::Moved))], "Succeeded importer"),
    ] {
        let facts = facts.map(|(attempt, of)| results(attempt, "t", vec![of]));
        assert_eq!(told(&import_view("t"), part_of(&[], &facts))[0].1, expected, "{what}");
    }
}

#[test]
fn an_import_is_told_when_every_result_was_counted_those_of_one_name_included() {
    let end = imported(1, "t", Counters { artifacts_discovered: 2, ..Counters::default() }, None);
    let same = result("a:1", ArtifactOutcome::Moved);
    let both = results(1, "t", vec![same.clone(), same.clone()]);
    let one = results(1, "t", vec![same]);
    let is_told = |facts: &[Fact]| stage_of(&part_of(&[], facts)).told;
    assert!(!is_told(std::slice::from_ref(&end)));
    assert!(!is_told(&[end.clone(), one.clone(), one]));
    assert!(is_told(&[end.clone(), both.clone()]));
    assert!(is_told(&[both, end]));
}

#[test]
fn an_import_that_finds_its_bundle_deleted_does_not_undo_what_the_first_one_told() {
    let first = imported(1, "t", bytes(10, 10, 0), None);
    let mut second = imported(2, "t", Counters::default(), Some("deleted by an earlier import"));
    if let FactBody::BundleImported { catalog_digest, .. } = &mut second.body {
        *catalog_digest = None;
    }
    for facts in [[first.clone(), second.clone()], [second, first]] {
        let stage = stage_of(&part_of(&[], &facts));
        assert_eq!((stage.counters.bytes_moved, stage.message), (10, None));
    }
}
