//! The end of a command that moves artifacts: its report, and the problem that it ends with.

use std::sync::Arc;
use std::time::Instant;

use transship_model::{Execution, Failure, Stage};
use transship_storage::{Container, ReadContainer};

use crate::args::OutputFormat;
use crate::bundle::{BundlePart, Window, read_contents};
use crate::exit::{Exit, Problem};
use crate::hints::{Doer, reword};
use crate::ledger::Ledger;
use crate::report::{ArtifactRow, BundleRow, Findings, Report};
use crate::rows::{BundleContents, failed_artifacts};
use crate::screen::Screen;
use crate::split::PlannedPart;

/// How far ahead heads and manifests are read, in bytes.
const AHEAD: u64 = 512 << 10;

/// What a command knows at its end.
pub(crate) struct Conclusion<'a> {
    pub(crate) command: &'static str,
    pub(crate) execution: Execution,
    pub(crate) started: Instant,
    pub(crate) bundles: Vec<BundleRow>,
    pub(crate) artifacts: Vec<ArtifactRow>,
    pub(crate) ledger: &'a Ledger,
    pub(crate) stages: &'a [Stage],
    pub(crate) doer: Doer<'a>,
    /// Whether artifacts that fail are passed over.
    pub(crate) keeps_going: bool,
}

impl Conclusion<'_> {
    /// Writes the report, and says how the command ends. `ended` is how the run itself ended; a failure of a
    /// stage is in the ledger.
    ///
    /// # Errors
    /// The problem that the command ends with, in the words of the command line.
    pub(crate) fn write(
        self,
        ended: Result<(), Problem>,
        format: OutputFormat,
        screen: &Screen,
    ) -> Result<Exit, Problem> {
        let stages = self.stages.iter().map(|stage| (*stage, self.ledger.counters(*stage))).collect();
        let messages =
            self.ledger.parts().values().flat_map(|part| part.imported.values().flatten().cloned());
        let mut artifacts = self.artifacts;
        for row in &mut artifacts {
            reword_row(row, self.doer);
        }
        let failed = failed_artifacts(&artifacts);
        // A part of which nothing could be carried is artifacts that failed, where another part carried some.
        let is_partial =
            self.keeps_going && failed.is_some() && artifacts.iter().any(|row| row.outcome != "failed");
        let part = || self.ledger.failure().filter(|_| !is_partial).cloned();
        let problem = ended.err().or_else(part).map(|problem| reword(problem, self.doer));
        let failed = failed.map(|problem| reword(problem, self.doer));
        let findings = Findings {
            command: self.command,
            execution: self.execution,
            bundles: self.bundles,
            stages,
            messages: messages.collect(),
            took: self.started.elapsed(),
            artifacts,
        };
        let report = Report::new(findings, problem.as_ref());
        match problem {
            // A table of what did not happen would hide why.
            Some(problem) => {
                if format == OutputFormat::Json {
                    report.write(format, screen);
                }
                Err(problem)
            }
            None => {
                report.write(format, screen);
                failed.map_or(Ok(Exit::Done), Err)
            }
        }
    }
}

fn reword_row(row: &mut ArtifactRow, doer: Doer<'_>) {
    if let (Some(code), Some(reason)) = (row.code, row.reason.clone()) {
        let problem =
            Problem { code: Some(code), hint: row.hint.take(), ..Problem::new(Exit::Failed, reason) };
        row.hint = reword(problem, doer).hint;
    }
}

/// What the bundles of `parts` hold. One that cannot be read holds nothing that is known.
pub(crate) async fn contents_of(container: &Arc<dyn Container>, parts: &[PlannedPart]) -> BundleContents {
    let mut contents = BundleContents::new();
    for part in parts {
        let properties = container.properties(&part.blob).await;
        let Ok(Some(properties)) = properties else { continue };
        let found = BundlePart { part: part.part, blob: part.blob.clone(), properties };
        if let Ok(artifacts) = artifacts_of(container, &found).await {
            contents.insert(part.part.number, artifacts);
        }
    }
    contents
}

/// The artifacts of one bundle.
///
/// # Errors
/// Where it cannot be read.
pub(crate) async fn artifacts_of(
    container: &Arc<dyn Container>,
    part: &BundlePart,
) -> Result<Vec<crate::bundle::Artifact>, Failure> {
    let container: Arc<dyn ReadContainer> = Arc::clone(container) as _;
    let window = Window::new(container, part.blob.clone(), part.properties.clone(), AHEAD);
    Ok(read_contents(&window).await?.artifacts)
}

/// Whether no part and no artifact failed.
pub(crate) fn is_whole(ledger: &Ledger, artifacts: &[ArtifactRow]) -> bool {
    ledger.failure().is_none() && artifacts.iter().all(|row| row.outcome != "failed")
}

/// Whether everything that the bundles hold is at the target, so that they may be deleted. Says why not where an
/// importer left something out though no artifact failed for it.
pub(crate) fn may_delete(ledger: &Ledger, artifacts: &[ArtifactRow], screen: &Screen) -> bool {
    if !is_whole(ledger, artifacts) {
        return false;
    }
    let remark = ledger.remark();
    if let Some(remark) = remark {
        screen.warn(&format!("the bundle is kept: {remark}"));
    }
    remark.is_none()
}

/// Deletes the bundles `blobs`, each where it is still the one that was seen.
///
/// # Errors
/// The first failure; deleting again is fine.
pub(crate) async fn delete_all(
    container: &Arc<dyn Container>,
    blobs: impl IntoIterator<Item = (transship_model::BlobName, transship_storage::ETag)>,
) -> Result<(), Problem> {
    for (blob, etag) in blobs {
        let deleted = container.delete(&blob, &etag).await.map_err(Failure::from);
        deleted.map_err(|failure| {
            Problem::from(failure.while_doing(format_args!("delete {blob}, all of which is imported")))
        })?;
    }
    Ok(())
}
