//! Log lines: one event, one line, on standard error. What is written is redacted, and control characters are
//! escaped, so that text from a registry cannot forge a line or drive a terminal.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use serde::Deserialize;
use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{FormatFields, Writer};

use crate::redact::redact;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For a person.
    #[default]
    Text,
    /// One JSON object a line, for a machine.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("expected text or json".to_owned()),
        }
    }
}

/// Makes every line safe before it reaches `W`.
pub(crate) struct SafeLines<W> {
    to: W,
    format: LogFormat,
}

impl<W> SafeLines<W> {
    pub(crate) fn new(to: W, format: LogFormat) -> Self {
        Self { to, format }
    }
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for SafeLines<W> {
    type Writer = SafeLine<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        SafeLine { to: self.to.make_writer(), format: self.format }
    }
}

/// Expects one whole line per write, as the format layer does: a secret that came in two halves would not be
/// seen.
pub(crate) struct SafeLine<W> {
    to: W,
    format: LogFormat,
}

impl<W: Write> Write for SafeLine<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let mut safe = escape(&redact(text), self.format).into_owned();
        safe.push('\n');
        // In one call: lines of several threads do not mix.
        self.to.write_all(safe.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Control characters, and those that turn the direction of text or break lines without being control
/// characters.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape(text: &str, format: LogFormat) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match format {
            _ if !is_unsafe(c) => out.push(c),
            LogFormat::Text => out.extend(c.escape_default()),
            // All of them are below U+10000, so four digits do.
            LogFormat::Json => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    Cow::Owned(out)
}

/// Fields as text, without those that only name the span for the collector.
pub(crate) struct TextFields;

impl<'w> FormatFields<'w> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = TextVisitor { writer, first: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct TextVisitor<'w> {
    writer: Writer<'w>,
    first: bool,
    result: fmt::Result,
}

impl Visit for TextVisitor<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.result.is_err() || field.name().starts_with("otel.") {
            return;
        }
        let space = if std::mem::take(&mut self.first) { "" } else { " " };
        self.result = match field.name() {
            "message" => write!(self.writer, "{space}{value:?}"),
            name => write!(self.writer, "{space}{name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(line: &str, format: LogFormat) -> String {
        let mut out = Vec::new();
        SafeLine { to: &mut out, format }.write_all(line.as_bytes()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn control_characters_cannot_forge_a_line() {
        let line = "a\nFAKE ERROR\r\x1b[31m\u{9b}\u{202e}z\t\u{2028}\n";
        let text = written(line, LogFormat::Text);
        assert_eq!(text, "a\\nFAKE ERROR\\r\\u{1b}[31m\\u{9b}\\u{202e}z\\t\\u{2028}\n");
        let json = written("{\"message\":\"a\\n\u{7f}\u{202e}\"}\n", LogFormat::Json);
        assert_eq!(json, "{\"message\":\"a\\n\\u007f\\u202e\"}\n");
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(parsed["message"], "a\n\u{7f}\u{202e}");
    }

    #[test]
    fn a_line_is_redacted() {
        assert_eq!(
            written("GET https://h/b?sig=CANARY\n", LogFormat::Text),
            "GET https://h/b?sig=[hidden]\n"
        );
    }

    #[test]
    fn formats_have_names() {
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert_eq!("text".parse(), Ok(LogFormat::Text));
        assert!("xml".parse::<LogFormat>().is_err());
    }
}
