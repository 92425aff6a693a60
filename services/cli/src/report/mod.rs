//! The result of a command that moves artifacts: what became of each, and what it came to. As a table for a
//! person, as one JSON document for a program.

pub(crate) mod lookups;
pub(crate) mod resources;
mod table;
pub(crate) use table::{numbers, plain, short, text};
pub(crate) mod units;

use std::time::Duration;

use serde::Serialize;
use transship_messages::{ArtifactOutcome, ArtifactResult};
use transship_model::{Code, Counters, Execution, Stage};

use crate::args::OutputFormat;
use crate::bundle::Artifact;
use crate::exit::Problem;
use crate::screen::Screen;

/// The version of the JSON documents. It grows when a field changes its meaning or goes; new fields do not
/// change it.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// The result of a command.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    schema_version: u32,
    command: &'static str,
    /// `succeeded`, `partial` or `failed`.
    outcome: &'static str,
    execution: ExecutionRow,
    bundles: Vec<BundleRow>,
    artifacts: Vec<ArtifactRow>,
    totals: Totals,
    seconds: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    messages: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorRow>,
}

#[derive(Debug, Serialize)]
struct ExecutionRow {
    id: String,
    generation: u64,
}

/// A bundle that the command wrote, found or read.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BundleRow {
    /// Its container.
    pub(crate) container: String,
    /// Its name.
    pub(crate) blob: String,
    /// Its length in bytes.
    pub(crate) length: u64,
    /// The SHA-256 of its `index.json`, where the command wrote the bundle or found its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) catalog_digest: Option<String>,
    /// `written`, `already there`, `imported`, `imported and deleted`.
    pub(crate) state: &'static str,
}

/// What became of one artifact.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ArtifactRow {
    /// As it was asked for.
    pub(crate) reference: String,
    /// At the target, where it has another name there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) imported_as: Option<String>,
    /// `image`, `index`, `helm chart`, …; unknown where the artifact could not be read.
    pub(crate) kind: Option<&'static str>,
    /// The media type of its manifest.
    pub(crate) media_type: Option<String>,
    /// Its digest.
    pub(crate) digest: Option<String>,
    /// The bytes of everything below it, each blob once.
    pub(crate) bytes: Option<u64>,
    /// `moved`, `skipped` or `failed`.
    pub(crate) outcome: &'static str,
    /// The stable code of the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<Code>,
    /// Why it was skipped or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// What to do about the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    /// The container that it was imported from, where a run takes several routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) route: Option<String>,
}

impl ArtifactRow {
    /// A row with an outcome, and nothing known of what the artifact is.
    pub(crate) fn of(result: &ArtifactResult) -> Self {
        let (outcome, code, reason, hint) = match &result.outcome {
            ArtifactOutcome::Moved => ("moved", None, None, None),
            ArtifactOutcome::Skipped { reason } => ("skipped", None, Some(reason.clone()), None),
            ArtifactOutcome::Failed { code, message, hint } => {
                ("failed", Some(*code), Some(message.clone()), hint.clone())
            }
        };
        Self {
            reference: result.reference.to_string(),
            imported_as: result.imported_as.as_ref().map(ToString::to_string),
            digest: result.digest.as_ref().map(ToString::to_string),
            kind: None,
            media_type: None,
            bytes: None,
            outcome,
            code,
            reason,
            hint,
            route: None,
        }
    }

    /// The same with what a bundle says of the artifact.
    #[must_use]
    pub(crate) fn described(mut self, artifact: Option<&Artifact>) -> Self {
        if let Some(artifact) = artifact {
            self.kind = Some(artifact.kind);
            self.media_type = Some(artifact.media_type.clone());
            self.digest = Some(artifact.digest.clone());
            self.bytes = Some(artifact.bytes);
        }
        self
    }
}

#[derive(Debug, Serialize)]
struct Totals {
    artifacts: Sums,
    stages: Vec<StageTotals>,
}

#[derive(Debug, Serialize)]
struct StageTotals {
    stage: Stage,
    artifacts: Sums,
    blobs: Sums,
    bytes: Sums,
}

/// Absolute sums that reconcile: discovered = moved + skipped + failed.
#[derive(Debug, Default, Serialize)]
struct Sums {
    discovered: u64,
    moved: u64,
    skipped: u64,
    failed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    mounted: Option<u64>,
}

impl StageTotals {
    fn of(stage: Stage, c: &Counters) -> Self {
        let sums =
            |discovered, moved, skipped, failed| Sums { discovered, moved, skipped, failed, mounted: None };
        let blobs_failed =
            c.blobs_discovered.saturating_sub(c.blobs_moved + c.blobs_mounted + c.blobs_skipped);
        Self {
            stage,
            artifacts: sums(
                c.artifacts_discovered,
                c.artifacts_moved,
                c.artifacts_skipped,
                c.artifacts_failed,
            ),
            blobs: Sums {
                mounted: Some(c.blobs_mounted),
                ..sums(c.blobs_discovered, c.blobs_moved, c.blobs_skipped, blobs_failed)
            },
            bytes: sums(c.bytes_discovered, c.bytes_moved, c.bytes_skipped, c.bytes_failed),
        }
    }
}

#[derive(Debug, Serialize)]
struct ErrorRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Code>,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// What a report is made of.
pub(crate) struct Findings {
    pub(crate) command: &'static str,
    pub(crate) execution: Execution,
    pub(crate) bundles: Vec<BundleRow>,
    pub(crate) artifacts: Vec<ArtifactRow>,
    pub(crate) stages: Vec<(Stage, Counters)>,
    pub(crate) messages: Vec<String>,
    pub(crate) took: Duration,
}

impl Report {
    /// The report of `findings`, and of the problem that ended the command early, where one did.
    pub(crate) fn new(findings: Findings, problem: Option<&Problem>) -> Self {
        let Findings { command, execution, bundles, artifacts, stages, messages, took } = findings;
        let count = |outcome| artifacts.iter().filter(|row| row.outcome == outcome).count() as u64;
        let sums = Sums {
            discovered: artifacts.len() as u64,
            moved: count("moved"),
            skipped: count("skipped"),
            failed: count("failed"),
            mounted: None,
        };
        let outcome = match (problem, sums.failed) {
            (Some(_), _) => "failed",
            (None, 0) => "succeeded",
            (None, failed) if failed == sums.discovered => "failed",
            (None, _) => "partial",
        };
        Self {
            schema_version: SCHEMA_VERSION,
            command,
            outcome,
            execution: ExecutionRow { id: execution.id.to_string(), generation: execution.generation },
            bundles,
            artifacts,
            totals: Totals {
                artifacts: sums,
                stages: stages.iter().map(|(stage, counters)| StageTotals::of(*stage, counters)).collect(),
            },
            seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
            messages,
            error: problem.map(|problem| ErrorRow {
                code: problem.code,
                message: problem.to_string(),
                hint: problem.hint.clone(),
            }),
        }
    }

    /// Writes the report to standard output. A table of nothing is not written.
    pub(crate) fn write(&self, format: OutputFormat, screen: &Screen) {
        match format {
            OutputFormat::Json => screen.data(&json(self)),
            OutputFormat::Table => screen.data(&self.table()),
        }
    }
}

/// One JSON document with a newline at its end.
pub(crate) fn json(value: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(value);
    text.expect("our own types, of text, numbers and lists, always serialise") + "\n"
}
