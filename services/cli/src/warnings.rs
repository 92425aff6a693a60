//! What the stages warn of, shown to the person at the terminal as `warning: …`, without times and targets.

use std::fmt::{Debug, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::screen::Screen;

/// Whose warnings are for a person: the stages themselves. What the harness says of a failure, the command says
/// with a hint.
const SHOWN: [&str; 3] = ["transship_exporter", "transship_blob_copier", "transship_importer"];

/// Shows warnings on `screen` from now on.
pub(crate) fn show_on(screen: &Screen) {
    let subscriber = tracing_subscriber::registry().with(Warnings { screen: screen.clone() });
    // Fails where a subscriber is set already, as in tests: then that one hears the warnings.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct Warnings {
    screen: Screen,
}

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let is_shown = SHOWN.iter().any(|target| metadata.target().starts_with(target));
        if *metadata.level() != Level::WARN || !is_shown {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        self.screen.warn(&format!("{}{}", text.message, text.fields));
    }
}

/// The message, and the fields after it.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing into a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " ({name} {value:?})"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}
