//! Facts to fold.

use transship_messages::{ArtifactOutcome, ArtifactResult, CopyMode, Fact, FactBody, RouteTaken};
use transship_model::{Code, ContainerUrl, Counters, Digest, Execution, Part, Stage};

use super::super::{PartState, PartSummary, RunView};
use crate::state::RunKind;

pub(super) fn container(name: &str) -> ContainerUrl {
    format!("https://{name}.example/c").parse().unwrap()
}

pub(super) fn fact(stage: Stage, attempt: u32, target: Option<&str>, body: FactBody) -> Fact {
    let execution = Execution { id: "run-1".parse().unwrap(), generation: 7 };
    let target = target.map(container);
    Fact { execution, part: Part::ONLY, stage, attempt, target, at_ms: u64::from(attempt), body }
}

pub(super) fn bytes(discovered: u64, moved: u64, skipped: u64) -> Counters {
    Counters {
        bytes_discovered: discovered,
        bytes_moved: moved,
        bytes_skipped: skipped,
        ..Counters::default()
    }
}

pub(super) fn progress(stage: Stage, attempt: u32, target: Option<&str>, counters: Counters) -> Fact {
    let in_flight = vec![format!("blob of attempt {attempt}")];
    fact(stage, attempt, target, FactBody::Progress { counters, in_flight })
}

pub(super) fn exported(attempt: u32, counters: Counters, failed: Vec<ArtifactResult>) -> Fact {
    let body = FactBody::BundleExported {
        container: container("source"),
        blob: "b".parse().unwrap(),
        etag: "e".into(),
        length: 10,
        catalog_digest: Digest::sha256(b"index"),
        counters,
        failed,
        routes: Vec::new(),
    };
    fact(Stage::Exporter, attempt, None, body)
}

/// An export whose bundle goes to `target` next.
pub(super) fn along(target: &str) -> Fact {
    let mut done = exported(1, bytes(9, 9, 0), vec![]);
    if let FactBody::BundleExported { routes, .. } = &mut done.body {
        routes.push(RouteTaken { target: container(target), import_pipeline: None });
    }
    done
}

pub(super) fn copied(attempt: u32, target: &str, counters: Counters) -> Fact {
    let body = FactBody::BundleCopied {
        container: container(target),
        blob: "b".parse().unwrap(),
        etag: "e".into(),
        length: 10,
        mode: CopyMode::Streamed,
        counters,
    };
    fact(Stage::BlobCopier, attempt, Some(target), body)
}

pub(super) fn results(attempt: u32, target: &str, results: Vec<ArtifactResult>) -> Fact {
    let body = FactBody::ArtifactImported { container: container(target), results };
    fact(Stage::Importer, attempt, Some(target), body)
}

pub(super) fn imported(attempt: u32, target: &str, counters: Counters, message: Option<&str>) -> Fact {
    let body = FactBody::BundleImported {
        pipeline: "p".parse().unwrap(),
        container: container(target),
        blob: "b".parse().unwrap(),
        catalog_digest: Some(Digest::sha256(b"index")),
        counters,
        message: message.map(str::to_owned),
    };
    fact(Stage::Importer, attempt, Some(target), body)
}

pub(super) fn failed(stage: Stage, attempt: u32, target: Option<&str>, terminal: bool, code: Code) -> Fact {
    let body = FactBody::Failed {
        code,
        message: format!("attempt {attempt} failed"),
        hint: Some("mend it".to_owned()),
        terminal,
        container: target.map(container),
    };
    fact(stage, attempt, target, body)
}

pub(super) fn result(reference: &str, outcome: ArtifactOutcome) -> ArtifactResult {
    let (imported_as, digest) = (None, Some(Digest::sha256(reference.as_bytes())));
    ArtifactResult { reference: reference.parse().unwrap(), imported_as, digest, outcome }
}

pub(super) fn refused(reference: &str) -> ArtifactResult {
    let (code, message, hint) = (Code::ArtifactNotFound, "it is gone".to_owned(), Some("push it".to_owned()));
    result(reference, ArtifactOutcome::Failed { code, message, hint })
}

pub(super) fn part_of(requested: &[&str], facts: &[Fact]) -> PartState {
    let mut part = PartState::new(requested.iter().map(|name| name.parse().unwrap()));
    facts.iter().for_each(|fact| {
        part.apply(fact);
    });
    part
}

/// The summaries of parts that these facts make, numbered from 1.
pub(super) fn parts(parts: &[&[Fact]]) -> Vec<(u32, PartSummary)> {
    (1..).zip(parts).map(|(number, facts)| (number, part_of(&["a:1"], facts).summary())).collect()
}

pub(super) fn export_view(continues: bool) -> RunView {
    RunView { kind: RunKind::Export, target: None, part: None, continues }
}

pub(super) fn import_view(target: &str) -> RunView {
    RunView { kind: RunKind::Import, target: Some(container(target)), part: None, continues: false }
}
