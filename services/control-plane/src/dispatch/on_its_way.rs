//! Whether a copy of a missing bundle is known to be on its way: one pure function.

use transship_model::{BlobName, Part, Route, Stage};

use super::arrival::part_of;
use crate::fold::{PartSummary, StageStatus};
use crate::state::{Action, RunRecord, RunState};

/// How long an export may be silent until nothing is expected of it any more, in milliseconds: the longest hold
/// between two attempts, and the time after which work counts as lost.
const SILENCE_MS: i64 = 3 * 3_600_000;

/// What `export` does that brings the bundle that `import` waits for; `None` where it brings nothing, or nothing any
/// more. `parts` are those of the export.
pub fn decide_on_its_way(
    import: &RunRecord,
    export: &RunRecord,
    parts: &[(u32, PartSummary)],
    now_ms: i64,
) -> Option<String> {
    // One that waits for its turn has nothing to say.
    let waits = matches!(export.state, RunState::Waiting { .. });
    if !waits && now_ms.saturating_sub(export.heard_ms) > SILENCE_MS {
        return None;
    }
    let target = &import.pipeline.container;
    let Action::Export { routes: Some(routes), .. } = &export.pipeline.action else { return None };
    let only = wanted(&import.blob, export)?;
    let leads_there = |route: &Route| {
        let blob = if only.is_some() { &import.blob } else { &export.blob };
        route.target == *target && route.applies(&export.pipeline.container, blob)
    };
    if !routes.iter().any(leads_there) || matches!(export.state, RunState::Failed { .. }) {
        return None;
    }
    let concerned = parts.iter().filter(|(number, _)| only.is_none_or(|only| only.number == *number));
    let copies: Vec<Copy> = concerned.map(|(_, part)| copy_of(part, target)).collect();
    let name = export.id.name();
    if copies.contains(&Copy::Failed) {
        None
    } else if !export.state.is_terminal() {
        Some(format!("run {name} exports it, and then copies it there"))
    } else if copies.contains(&Copy::Awaited) {
        Some(format!("run {name} is copying it there"))
    } else {
        None
    }
}

/// The part of `export` that has this name; `Some(None)` where it is the name of the whole.
fn wanted(blob: &BlobName, export: &RunRecord) -> Option<Option<Part>> {
    if *blob == export.blob {
        return Some(None);
    }
    // How many parts it has is not known before it is begun.
    let fits = |part: &Part| matches!(export.parts, 0) || part.count == export.parts;
    part_of(&export.blob, blob).filter(fits).map(Some)
}

#[derive(PartialEq)]
enum Copy {
    Awaited,
    Done,
    Failed,
}

/// How the copy of a part to `target` stands.
fn copy_of(part: &PartSummary, target: &transship_model::ContainerUrl) -> Copy {
    let status = |stage, target| {
        let row = part.stages.iter().find(|row| row.stage == stage && row.target.as_ref() == target);
        row.map(|row| row.status)
    };
    match (status(Stage::Exporter, None), status(Stage::BlobCopier, Some(target))) {
        (_, Some(StageStatus::Succeeded)) => Copy::Done,
        (Some(StageStatus::Failed), _) | (_, Some(StageStatus::Failed)) => Copy::Failed,
        _ => Copy::Awaited,
    }
}

#[cfg(test)]
mod tests {
    use transship_messages::{CopyMode, Fact, FactBody};
    use transship_model::{Code, ContainerUrl, Counters, ImportDestination};

    use super::*;
    use crate::fold::PartState;
    use crate::testing::run_record;

    const TARGET: &str = "https://b.example/c";

    fn target() -> ContainerUrl {
        TARGET.parse().unwrap()
    }

    fn import(blob: &str) -> RunRecord {
        let mut run = RunRecord { blob: blob.parse().unwrap(), ..run_record("import") };
        let destination = ImportDestination {
            registry: "t".parse().unwrap(),
            credential: None,
            options: Default::default(),
        };
        run.pipeline.container = target();
        run.pipeline.action = Action::Import { pipeline: "r.inbox".parse().unwrap(), destination };
        run
    }

    fn export(state: RunState, pattern: &str, to: &str) -> RunRecord {
        let mut run = RunRecord { blob: "n".parse().unwrap(), parts: 2, state, ..run_record("nightly") };
        let route = Route {
            source: run.pipeline.container.clone(),
            pattern: transship_model::NamePattern::new(pattern),
            target: to.parse().unwrap(),
            target_secret: None,
            overwrite: false,
            import_pipeline: None,
            import_destination: None,
        };
        run.pipeline.action = Action::Export { options: Default::default(), routes: Some(vec![route]) };
        run
    }

    fn part(number: u32, told: Option<(Stage, FactBody)>) -> (u32, PartSummary) {
        let mut state = PartState::default();
        if let Some((stage, body)) = told {
            let target = (stage == Stage::BlobCopier).then(target);
            let (execution, part) = (run_record("nightly").execution, Part { number, count: 2 });
            state.apply(&Fact { execution, part, stage, attempt: 1, target, at_ms: 1, body });
        }
        (number, state.summary())
    }

    fn copied() -> Option<(Stage, FactBody)> {
        let body = FactBody::BundleCopied {
            container: target(),
            blob: "n".parse().unwrap(),
            etag: "e".to_owned(),
            length: 1,
            mode: CopyMode::Streamed,
            counters: Counters::default(),
        };
        Some((Stage::BlobCopier, body))
    }

    fn failed(stage: Stage) -> Option<(Stage, FactBody)> {
        let message = "refused".to_owned();
        let code = Code::StorageForbidden;
        Some((stage, FactBody::Failed { code, message, hint: None, terminal: true, container: None }))
    }

    #[test]
    fn a_copy_is_on_its_way_until_it_is_there_or_given_up() {
        let now = run_record("nightly").heard_ms;
        let (running, over) = (RunState::Running, RunState::Succeeded { message: None });
        let exports = "run nightly exports it, and then copies it there";
        let copies = "run nightly is copying it there";
        let gone = RunState::Failed { code: Code::BlobExists, message: String::new() };
        for (blob, state, pattern, to, parts, expected) in [
            ("n", running.clone(), "*", TARGET, vec![], Some(exports)),
            ("n", running.clone(), "*", TARGET, vec![copied(), None], Some(exports)),
            ("n", over.clone(), "*", TARGET, vec![copied(), None], Some(copies)),
            ("n", over.clone(), "*", TARGET, vec![copied(), copied()], None),
            ("n", over.clone(), "*", TARGET, vec![failed(Stage::BlobCopier), None], None),
            ("n", running.clone(), "*", TARGET, vec![failed(Stage::Exporter), None], None),
            ("n", gone, "*", TARGET, vec![None, None], None),
            ("n", running.clone(), "other*", TARGET, vec![], None),
            ("n", running.clone(), "*", "https://x.example/c", vec![], None),
            ("other", running.clone(), "*", TARGET, vec![], None),
            ("n-0002-of-0002", over.clone(), "*", TARGET, vec![None, copied()], None),
            ("n-0002-of-0002", over.clone(), "*", TARGET, vec![copied(), None], Some(copies)),
            ("n-0002-of-0003", running, "*", TARGET, vec![], None),
        ] {
            let parts: Vec<_> = (1..).zip(parts).map(|(number, told)| part(number, told)).collect();
            let decided = decide_on_its_way(&import(blob), &export(state.clone(), pattern, to), &parts, now);
            assert_eq!(decided.as_deref(), expected, "{blob} {state:?} {pattern} {to} {}", parts.len());
        }
        // Routes of the exporter's own configuration are not known here.
        let unknown = run_record("nightly");
        assert_eq!(decide_on_its_way(&import("blob"), &unknown, &[], now), None);
        let queued = export(RunState::Waiting { on: "its turn".to_owned() }, "*", TARGET);
        assert!(decide_on_its_way(&import("n"), &queued, &[], now + SILENCE_MS + 1).is_some());
        let silent = export(RunState::Running, "*", TARGET);
        assert_eq!(decide_on_its_way(&import("n"), &silent, &[], now + SILENCE_MS + 1), None);
    }
}
