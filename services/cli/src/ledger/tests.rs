//! Facts in every order.

use transship_model::Code;

use super::*;

fn execution() -> Execution {
    Execution { id: "run-1".parse().unwrap(), generation: 7 }
}

fn target(name: &str) -> ContainerUrl {
    format!("https://{name}.example/c").parse().unwrap()
}

fn fact(part: u32, stage: Stage, body: FactBody) -> Fact {
    Fact {
        execution: execution(),
        part: Part { number: part, count: 2 },
        stage,
        attempt: 1,
        target: None,
        at_ms: 0,
        body,
    }
}

fn moved(bytes: u64) -> Counters {
    Counters { bytes_discovered: bytes, bytes_moved: bytes, ..Counters::default() }
}

fn exported(part: u32, routes: &[(&str, bool)]) -> Fact {
    let route = |(name, imports): &(&str, bool)| RouteTaken {
        target: target(name),
        import_pipeline: imports.then(|| "default".parse().unwrap()),
    };
    let body = FactBody::BundleExported {
        container: target("source"),
        blob: "b".parse().unwrap(),
        etag: "e".into(),
        length: 10,
        catalog_digest: Digest::sha256(b""),
        counters: moved(10),
        failed: Vec::new(),
        routes: routes.iter().map(route).collect(),
    };
    fact(part, Stage::Exporter, body)
}

fn copied(part: u32, name: &str) -> Fact {
    let body = FactBody::BundleCopied {
        container: target(name),
        blob: "b".parse().unwrap(),
        etag: "e".into(),
        length: 10,
        mode: CopyMode::Streamed,
        counters: moved(10),
    };
    fact(part, Stage::BlobCopier, body)
}

fn imported(part: u32, name: &str) -> Fact {
    let body = FactBody::BundleImported {
        pipeline: "default".parse().unwrap(),
        container: target(name),
        blob: "b".parse().unwrap(),
        catalog_digest: None,
        counters: moved(10),
        message: None,
    };
    fact(part, Stage::Importer, body)
}

fn failed(part: u32, stage: Stage, terminal: bool, container: Option<&str>) -> Fact {
    let body = FactBody::Failed {
        code: Code::SasExpired,
        message: "the token expired".into(),
        hint: Some("renew it".into()),
        terminal,
        container: container.map(target),
    };
    fact(part, stage, body)
}

fn ledger(goal: Goal, parts: u32) -> Ledger {
    Ledger::new(execution(), goal, (1..=parts).map(|number| Part { number, count: parts }))
}

fn is_over_after(goal: Goal, parts: u32, facts: Vec<Fact>) -> bool {
    let mut ledger = ledger(goal, parts);
    facts.into_iter().for_each(|fact| drop(ledger.apply(fact)));
    ledger.is_over()
}

#[test]
fn a_run_is_over_when_every_part_came_to_an_end_on_every_route() {
    use Goal::*;
    for (what, goal, parts, facts, expected) in [
        ("nothing", Exported, 1, vec![], false),
        ("the export", Exported, 1, vec![exported(1, &[])], true),
        ("one export of two", Exported, 2, vec![exported(1, &[])], false),
        ("an export that fails", Exported, 1, vec![failed(1, Stage::Exporter, true, None)], true),
        ("an export that is tried again", Exported, 1, vec![failed(1, Stage::Exporter, false, None)], false),
        ("the import", Imported, 1, vec![imported(1, "t")], true),
        ("an import that fails", Imported, 1, vec![failed(1, Stage::Importer, true, Some("t"))], true),
        ("no route", Everywhere, 1, vec![exported(1, &[])], true),
        ("a route not copied", Everywhere, 1, vec![exported(1, &[("t", false)])], false),
        ("a route copied", Everywhere, 1, vec![exported(1, &[("t", false)]), copied(1, "t")], true),
        ("the copy heard of first", Everywhere, 1, vec![copied(1, "t"), exported(1, &[("t", false)])], true),
        ("not imported", Everywhere, 1, vec![exported(1, &[("t", true)]), copied(1, "t")], false),
        (
            "imported",
            Everywhere,
            1,
            vec![exported(1, &[("t", true)]), imported(1, "t"), copied(1, "t")],
            true,
        ),
        (
            "one route of two",
            Everywhere,
            1,
            vec![exported(1, &[("t", false), ("u", false)]), copied(1, "t")],
            false,
        ),
        (
            "one route failed and one done",
            Everywhere,
            1,
            vec![
                exported(1, &[("t", false), ("u", true)]),
                copied(1, "t"),
                failed(1, Stage::Importer, true, Some("u")),
            ],
            true,
        ),
    ] {
        assert_eq!(is_over_after(goal, parts, facts), expected, "{what}");
    }
}

#[test]
fn facts_of_other_runs_generations_and_parts_say_nothing() {
    let mut ledger = ledger(Goal::Exported, 1);
    let ours = exported(1, &[]);
    for other in [
        Fact { execution: Execution { id: "run-2".parse().unwrap(), generation: 7 }, ..ours.clone() },
        Fact { execution: Execution { generation: 6, ..execution() }, ..ours.clone() },
        Fact { part: Part { number: 2, count: 2 }, ..ours.clone() },
    ] {
        ledger.apply(other);
        assert!(!ledger.is_over());
    }
    let undecodable = Fact {
        execution: Execution { generation: 0, ..execution() },
        ..failed(1, Stage::Exporter, true, None)
    };
    ledger.apply(undecodable);
    assert!(ledger.is_over() && ledger.failure().is_some());
}

#[test]
fn counters_are_absolute_and_the_end_of_a_stage_stands() {
    let mut ledger = ledger(Goal::Everywhere, 2);
    let progress =
        |bytes| FactBody::Progress { counters: moved(bytes), in_flight: vec!["team/a:1".to_owned()] };
    for _ in 0..2 {
        ledger.apply(fact(1, Stage::Exporter, progress(4)));
        ledger.apply(fact(2, Stage::Exporter, progress(5)));
    }
    let rows = ledger.rows();
    assert_eq!((rows.len(), rows[0].counters.bytes_moved, rows[0].parts), (1, 9, (0, 2)));
    assert_eq!(rows[0].in_flight.len(), 2);
    for _ in 0..2 {
        ledger.apply(exported(1, &[("t", false), ("u", false)]));
        ledger.apply(copied(1, "t"));
        ledger.apply(copied(1, "u"));
    }
    ledger.apply(fact(1, Stage::Exporter, progress(4)));
    let rows = ledger.rows();
    assert_eq!((rows[0].counters.bytes_moved, rows[0].parts, rows[0].in_flight.len()), (15, (1, 2), 1));
    assert_eq!((rows[1].stage, rows[1].counters.bytes_moved), (Stage::BlobCopier, 20));
}

#[test]
fn a_failure_that_is_tried_again_is_news_and_one_that_is_not_ends_the_part() {
    let mut ledger = ledger(Goal::Exported, 1);
    let news = ledger.apply(failed(1, Stage::Exporter, false, None));
    assert_eq!(
        news,
        Some(News::Retrying("exporter (part 1 of 2) failed and tries again: the token expired".into()))
    );
    assert!(ledger.failure().is_none());
    ledger.apply(failed(1, Stage::Exporter, true, None));
    let problem = ledger.failure().unwrap();
    assert_eq!((problem.exit, problem.hint.as_deref()), (Exit::Credentials, Some("renew it")));
}

#[test]
fn the_end_of_an_import_that_overtook_its_results_is_not_all_that_was_told() {
    let mut ledger = ledger(Goal::Imported, 1);
    let Fact { body: FactBody::BundleImported { pipeline, container, blob, .. }, .. } = imported(1, "t")
    else {
        unreachable!("it is one")
    };
    let counters = Counters { artifacts_discovered: 2, ..Counters::default() };
    let body = FactBody::BundleImported {
        pipeline,
        container: container.clone(),
        blob,
        catalog_digest: None,
        counters,
        message: None,
    };
    ledger.apply(fact(1, Stage::Importer, body));
    assert!(ledger.is_over() && !ledger.is_told());
    for (name, expected) in [("a:1", false), ("a:1", false), ("a:2", true)] {
        let result = ArtifactResult {
            reference: name.parse().unwrap(),
            imported_as: None,
            digest: None,
            outcome: transship_messages::ArtifactOutcome::Moved,
        };
        let body = FactBody::ArtifactImported { container: container.clone(), results: vec![result] };
        ledger.apply(fact(1, Stage::Importer, body));
        assert_eq!(ledger.is_told(), expected, "{name}");
    }
}
