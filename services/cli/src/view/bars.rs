//! Bars on a terminal.

use std::collections::BTreeMap;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::Row;
use crate::screen::{Screen, clean};

/// One bar for each row; all of them disappear at the end, and what stays is the result.
pub(crate) struct Bars {
    screen: Screen,
    area: MultiProgress,
    bars: BTreeMap<&'static str, ProgressBar>,
}

impl Bars {
    pub(super) fn new(screen: &Screen) -> Self {
        let area = MultiProgress::new();
        screen.attach(Some(area.clone()));
        Self { screen: screen.clone(), area, bars: BTreeMap::new() }
    }

    pub(super) fn show(&mut self, rows: &[Row]) {
        for row in rows {
            let bar = self.bars.entry(row.label).or_insert_with(|| {
                let bar =
                    self.area.add(ProgressBar::new(row.total).with_prefix(row.label).with_style(style()));
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

#[cfg(test)]
mod tests {
    #[test]
    fn the_template_is_one() {
        super::style();
    }
}
