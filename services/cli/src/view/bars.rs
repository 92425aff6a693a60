//! Bars on a terminal.

use std::collections::BTreeMap;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::Row;
use crate::screen::{Screen, clean};

/// One bar for each row; all of them disappear at the end, and what stays is the result.
pub(crate) struct Bars {
    screen: Screen,
    area: MultiProgress,
    bars: BTreeMap<String, ProgressBar>,
    lines: Vec<ProgressBar>,
}

impl Bars {
    pub(super) fn new(screen: &Screen) -> Self {
        let area = MultiProgress::new();
        screen.attach(Some(area.clone()));
        Self { screen: screen.clone(), area, bars: BTreeMap::new(), lines: Vec::new() }
    }

    pub(super) fn show(&mut self, rows: &[Row]) {
        for row in rows {
            let bar = self.bars.entry(row.label.clone()).or_insert_with(|| {
                let bar = ProgressBar::new(row.total).with_prefix(row.label.clone()).with_style(style());
                // Above the lines.
                let bar = match self.lines.first() {
                    Some(line) => self.area.insert_before(line, bar),
                    None => self.area.add(bar),
                };
                bar.enable_steady_tick(std::time::Duration::from_millis(250));
                bar
            });
            bar.set_length(row.total.max(row.done));
            bar.set_position(row.done);
            bar.set_message(clean(&row.message));
            if row.over && !bar.is_finished() {
                bar.finish();
            }
        }
    }

    /// Replaces the lines below the bars.
    pub(super) fn lines(&mut self, lines: &[String]) {
        while self.lines.len() > lines.len() {
            self.lines.pop().iter().for_each(ProgressBar::finish_and_clear);
        }
        while self.lines.len() < lines.len() {
            self.lines.push(self.area.add(ProgressBar::new_spinner().with_style(line_style())));
        }
        for (bar, line) in self.lines.iter().zip(lines) {
            bar.set_message(clean(line));
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        // Nobody can be told that the terminal is gone.
        let _ = self.area.clear();
        self.screen.attach(None);
    }
}

/// Without colours, so that it suits every terminal.
fn style() -> ProgressStyle {
    let template = "{prefix:>8} [{bar:24}] {binary_bytes:>10} of {binary_total_bytes} {binary_bytes_per_sec:>12} {eta:>4} {wide_msg}";
    let style =
        ProgressStyle::with_template(template).expect("the template is a constant that a test renders");
    style.progress_chars("=> ")
}

fn line_style() -> ProgressStyle {
    ProgressStyle::with_template("         {wide_msg}")
        .expect("the template is a constant that a test renders")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_template_is_one() {
        super::style();
        super::line_style();
    }
}
