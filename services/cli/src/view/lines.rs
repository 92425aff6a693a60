//! Plain lines, for logs and pipes: at most one a second, and only where something changed.

use std::time::{Duration, Instant};

use super::Row;
use crate::report::units::bytes;
use crate::screen::Screen;

/// How often a line is written at most.
const INTERVAL: Duration = Duration::from_secs(1);

/// Writes lines.
pub(crate) struct Lines {
    screen: Screen,
    written: Option<Instant>,
    last: String,
}

impl Lines {
    pub(super) fn new(screen: &Screen) -> Self {
        Self { screen: screen.clone(), written: None, last: String::new() }
    }

    pub(super) fn show(&mut self, rows: &[Row]) {
        if let Some(line) = self.next(rows, Instant::now()) {
            self.screen.note(&line);
        }
    }

    /// The line to write at `now`, if one is due.
    fn next(&mut self, rows: &[Row], now: Instant) -> Option<String> {
        let is_due = self.written.is_none_or(|written| now.duration_since(written) >= INTERVAL);
        let line = rows.iter().filter(|row| row.total > 0).map(text).collect::<Vec<_>>().join("; ");
        if !is_due || line.is_empty() || line == self.last {
            return None;
        }
        self.written = Some(now);
        self.last.clone_from(&line);
        Some(line)
    }
}

fn text(row: &Row) -> String {
    if row.over {
        return format!("{} done, {}", row.label, bytes(row.total));
    }
    let percent = row.done.min(row.total) * 100 / row.total.max(1);
    format!("{} {} of {} ({percent} %)", row.label, bytes(row.done), bytes(row.total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_once_a_second_and_only_where_something_changed() {
        let row = |done| Row {
            label: "export".to_owned(),
            done,
            total: 2048,
            message: String::new(),
            over: done == 2048,
        };
        let mut lines = Lines::new(&Screen::new(true));
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        assert_eq!(lines.next(&[], start), None);
        assert_eq!(lines.next(&[row(0)], start).unwrap(), "export 0 B of 2.0 KiB (0 %)");
        assert_eq!(lines.next(&[row(1024)], after(999)), None);
        assert_eq!(lines.next(&[row(1024)], after(1000)).unwrap(), "export 1.0 KiB of 2.0 KiB (50 %)");
        assert_eq!(lines.next(&[row(1024)], after(5000)), None);
        assert_eq!(lines.next(&[row(2048)], after(6000)).unwrap(), "export done, 2.0 KiB");
    }
}
