//! Progress: bars on a terminal, plain lines off it, nothing where the command is to be quiet.

mod bars;
mod lines;

use self::bars::Bars;
use self::lines::Lines;
use crate::ledger::StageRow;
use crate::screen::Screen;
use transship_model::Stage;

/// What a row says of the stages.
pub(crate) const EXPORT: &str = "export";
pub(crate) const COPY: &str = "copy";
pub(crate) const IMPORT: &str = "import";

/// How far something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// What: `export`, `copy`, `import`, `verify`, and where to, where there are several.
    pub(crate) label: String,
    /// Bytes that are done with, whatever became of them.
    pub(crate) done: u64,
    /// Bytes in all, as far as they are known.
    pub(crate) total: u64,
    /// What else there is to say: parts, what is being moved.
    pub(crate) message: String,
    /// Whether it is over.
    pub(crate) over: bool,
}

impl From<&StageRow> for Row {
    fn from(row: &StageRow) -> Self {
        let c = &row.counters;
        let label = match row.stage {
            Stage::Exporter => EXPORT,
            Stage::BlobCopier => COPY,
            Stage::Importer => IMPORT,
            Stage::ControlPlane => "control",
        };
        let (ended, count) = row.parts;
        let parts = if count > 1 { format!("part {ended} of {count}  ") } else { String::new() };
        Self {
            label: label.to_owned(),
            done: c.bytes_moved + c.bytes_skipped + c.bytes_failed,
            total: c.bytes_discovered,
            message: format!("{parts}{}", row.in_flight.join(" ")),
            over: ended == count,
        }
    }
}

/// Shows rows.
pub(crate) enum View {
    Bars(Bars),
    Lines(Lines),
    Nothing,
}

impl View {
    /// The view that fits `screen`.
    pub(crate) fn new(screen: &Screen) -> Self {
        match (screen.is_quiet(), screen.is_terminal()) {
            (true, _) => Self::Nothing,
            (false, true) => Self::Bars(Bars::new(screen)),
            (false, false) => Self::Lines(Lines::new(screen)),
        }
    }

    /// Shows where things are now.
    pub(crate) fn show(&mut self, rows: &[Row]) {
        match self {
            Self::Bars(bars) => bars.show(rows),
            Self::Lines(lines) => lines.show(rows),
            Self::Nothing => {}
        }
    }

    /// Shows lines below the rows, on a terminal; they replace those that were there.
    pub(crate) fn lines(&mut self, lines: &[String]) {
        if let Self::Bars(bars) = self {
            bars.lines(lines);
        }
    }
}
