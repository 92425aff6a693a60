//! Standard error: notes, warnings and errors, in peace with progress bars; and standard output, for data only.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::MultiProgress;

use crate::exit::{Exit, Problem};

/// Where a command talks. Cheap to clone; clones share the terminal.
#[derive(Clone)]
pub(crate) struct Screen {
    quiet: bool,
    terminal: bool,
    colour: bool,
    bars: Arc<Mutex<Option<MultiProgress>>>,
}

impl Screen {
    /// The process's own standard error.
    pub(crate) fn new(quiet: bool) -> Self {
        let terminal = io::stderr().is_terminal() && !is_set("TERM", |term| term == "dumb");
        // https://no-color.org: any value but the empty one.
        let colour = terminal && !is_set("NO_COLOR", |value| !value.is_empty());
        Self { quiet, terminal, colour, bars: Arc::default() }
    }

    /// Whether nothing but errors is wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether bars may be drawn.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Has lines written above `bars` from now on; `None` where they are gone.
    pub(crate) fn attach(&self, bars: Option<MultiProgress>) {
        *self.bars.lock().unwrap_or_else(PoisonError::into_inner) = bars;
    }

    /// A note, unless the command is to be quiet.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            self.line(&clean(text));
        }
    }

    /// A warning, unless the command is to be quiet.
    pub(crate) fn warn(&self, text: &str) {
        if !self.quiet {
            self.line(&format!("{} {}", self.paint("warning:", "33;1"), clean(text)));
        }
    }

    /// An error with its causes and its hint; always shown.
    pub(crate) fn error(&self, problem: &Problem) {
        let label = if problem.exit == Exit::Interrupted { "stopped:" } else { "error:" };
        self.line(&format!("{} {}", self.paint(label, "31;1"), clean(&problem.message)));
        for cause in &problem.causes {
            self.line(&format!("  caused by: {}", clean(cause)));
        }
        if let Some(hint) = &problem.hint {
            self.line(&format!("{} {}", self.paint("hint:", "36;1"), clean(hint)));
        }
    }

    /// Data, to standard output. A reader that went away is no failure of this command.
    pub(crate) fn data(&self, text: &str) {
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    }

    fn paint(&self, text: &str, style: &str) -> String {
        if self.colour { format!("\u{1b}[{style}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn line(&self, text: &str) {
        let bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody can be told that standard error is gone.
        let _ = match bars.as_ref() {
            Some(bars) => bars.println(text),
            None => writeln!(io::stderr().lock(), "{text}"),
        };
    }
}

fn is_set(variable: &str, holds: impl Fn(&str) -> bool) -> bool {
    std::env::var(variable).is_ok_and(|value| holds(&value))
}

/// Text that may come from a server, without what would drive a terminal or forge a line. Secrets in it are
/// hidden once more.
pub(crate) fn clean(text: &str) -> String {
    let safe = |c: char| if is_unsafe(c) { c.escape_unicode().to_string() } else { c.to_string() };
    transship_telemetry::redact(text).chars().map(safe).collect()
}

fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_server_cannot_drive_the_terminal() {
        assert_eq!(clean("a\u{1b}[2J\nerror: b"), "a\\u{1b}[2J\\u{a}error: b");
        assert_eq!(clean("ümläut, 漢字"), "ümläut, 漢字");
    }
}
