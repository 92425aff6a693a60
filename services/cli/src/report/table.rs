//! Tables for a person.

use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::units::{bytes, counted, seconds};
use super::{ArtifactRow, Report, StageTotals, Sums};
use crate::screen::clean;

/// How many digits of a digest tell it from others, for a person.
const DIGITS: usize = 12;

/// A table without lines, so that it is read by people and cut by tools.
pub(crate) fn plain<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// The table as text, without blanks at the ends of its lines.
pub(crate) fn text(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Has numbers stand right in the column with this index.
pub(crate) fn numbers(table: &mut Table, column: usize) {
    if let Some(column) = table.column_mut(column) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// A digest, shortened.
pub(crate) fn short(digest: &str) -> String {
    let (algorithm, hex) = digest.split_once(':').unwrap_or(("", digest));
    format!("{algorithm}:{}", hex.get(..DIGITS).unwrap_or(hex))
}

impl Report {
    /// The artifacts, the bundles and the sums.
    pub(super) fn table(&self) -> String {
        let mut out = String::new();
        if !self.artifacts.is_empty() {
            let mut table = plain(["ARTIFACT", "KIND", "DIGEST", "BYTES", "OUTCOME"]);
            numbers(&mut table, 3);
            for row in &self.artifacts {
                table.add_row(cells(row));
            }
            out += &text(&table);
        }
        for bundle in &self.bundles {
            // Writing into a String cannot fail.
            let _ = writeln!(
                out,
                "bundle {} in {}: {}, {}",
                clean(&bundle.blob),
                bundle.container,
                bytes(bundle.length),
                bundle.state
            );
        }
        for message in &self.messages {
            let _ = writeln!(out, "note: {}", clean(message));
        }
        out += &self.sums();
        out
    }

    fn sums(&self) -> String {
        let Sums { discovered, moved, skipped, failed, .. } = self.totals.artifacts;
        let mut out =
            format!("{}: {moved} moved, {skipped} skipped, {failed} failed", counted(discovered, "artifact"));
        for StageTotals { stage, bytes: sums, blobs, .. } in &self.totals.stages {
            let mounted = match blobs.mounted {
                Some(mounted) if mounted > 0 => format!(", {} mounted", counted(mounted, "blob")),
                _ => String::new(),
            };
            let _ = write!(
                out,
                "; {stage} {} moved, {} already there{mounted}",
                bytes(sums.moved),
                bytes(sums.skipped)
            );
        }
        let _ = writeln!(out, "; {}", seconds(Duration::from_secs_f64(self.seconds)));
        out
    }
}

fn cells(row: &ArtifactRow) -> [String; 5] {
    let name = match &row.imported_as {
        Some(other) if *other != row.reference => format!("{} as {other}", row.reference),
        _ => row.reference.clone(),
    };
    let name = row.route.as_ref().map_or_else(|| name.clone(), |route| format!("{name} from {route}"));
    let mut outcome = row.outcome.to_owned();
    if let Some(reason) = &row.reason {
        outcome += &format!(": {reason}");
    }
    [
        clean(&name),
        row.kind.unwrap_or("-").to_owned(),
        row.digest.as_deref().map_or("-".to_owned(), short),
        row.bytes.map_or("-".to_owned(), bytes),
        clean(&outcome),
    ]
}

#[cfg(test)]
mod tests {
    use transship_model::Code;

    use super::*;
    use crate::report::{Findings, json};

    fn row(reference: &str, outcome: &'static str, reason: Option<&str>) -> ArtifactRow {
        ArtifactRow {
            reference: reference.to_owned(),
            imported_as: None,
            kind: Some("image"),
            media_type: Some("application/vnd.oci.image.manifest.v1+json".to_owned()),
            digest: Some(transship_model::Digest::sha256(b"x").to_string()),
            bytes: Some(4_404_019),
            outcome,
            code: (outcome == "failed").then_some(Code::TagExists),
            reason: reason.map(str::to_owned),
            hint: None,
            route: None,
        }
    }

    fn report(artifacts: Vec<ArtifactRow>) -> Report {
        let findings = Findings {
            command: "import",
            execution: transship_model::Execution { id: "x".parse().unwrap(), generation: 1 },
            bundles: Vec::new(),
            artifacts,
            stages: Vec::new(),
            messages: Vec::new(),
            took: Duration::from_millis(1234),
        };
        Report::new(findings, None)
    }

    #[test]
    fn a_table_is_for_people() {
        let report = report(vec![
            row("team/app:1", "moved", None),
            row("team/a-longer-name:2", "skipped", Some("it was there already")),
            row("team/b:3", "failed", Some("the tag\nexists")),
        ]);
        insta::assert_snapshot!(report.table(), @r"
        ARTIFACT              KIND   DIGEST                 BYTES  OUTCOME
        team/app:1            image  sha256:2d711642b726  4.2 MiB  moved
        team/a-longer-name:2  image  sha256:2d711642b726  4.2 MiB  skipped: it was there already
        team/b:3              image  sha256:2d711642b726  4.2 MiB  failed: the tag\u{a}exists
        3 artifacts: 1 moved, 1 skipped, 1 failed; 1.2 s
        ");
    }

    #[test]
    fn the_outcome_follows_from_the_artifacts_and_the_sums_reconcile() {
        for (outcomes, expected) in [
            (vec!["moved", "skipped"], "succeeded"),
            (vec!["moved", "failed"], "partial"),
            (vec!["failed", "failed"], "failed"),
            (vec![], "succeeded"),
        ] {
            let report = report(outcomes.iter().map(|outcome| row("a:1", outcome, None)).collect());
            let document: serde_json::Value = serde_json::from_str(&json(&report)).unwrap();
            assert_eq!(document["outcome"], expected, "{outcomes:?}");
            let sums = &document["totals"]["artifacts"];
            let sum = |key: &str| sums[key].as_u64().unwrap();
            assert_eq!(sum("discovered"), sum("moved") + sum("skipped") + sum("failed"));
            assert_eq!(document["schemaVersion"], 1);
            assert!(document["artifacts"].is_array(), "an empty list is a list");
        }
    }
}
