//! Faults, in words. None repeats a value: a password in the wrong place must not end up in a log.

use std::fmt;

use transship_telemetry::redact;

/// One fault: where it is, which setting, what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// File and line, or the variable. `None` for what is nowhere, such as a missing value.
    pub place: Option<String>,
    /// The setting, such as `bus.slots`; empty where it is the file itself.
    pub key: String,
    /// What is wrong, and what is expected.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)
    }
}

/// Every fault of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    pub(super) faults: Vec<Fault>,
}

impl SettingsError {
    pub(super) fn new(faults: Vec<Fault>) -> Self {
        Self { faults }
    }

    /// The faults, never none.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.as_slice() {
            [one] => write!(f, "the settings have a fault: {one}"),
            many => {
                write!(f, "the settings have {} faults:", many.len())?;
                many.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
            }
        }
    }
}

impl std::error::Error for SettingsError {}

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// It is required and not there.
    Missing,
    /// Nobody knows the name.
    Unknown,
    /// The value does not fit.
    Wrong(String),
}

impl Problem {
    /// Rewords what serde says, without the value that it repeats: `invalid type: string "x", expected u16`.
    pub(super) fn of(message: &str) -> Self {
        let kinds = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant "];
        let standard = kinds.iter().find_map(|kind| Some((*kind, message.strip_prefix(kind)?)));
        let Some((kind, (found, expected))) =
            standard.and_then(|(kind, rest)| Some((kind, rest.rsplit_once(", expected ")?)))
        else {
            // Made by one of our own types, which do not repeat what may be secret.
            return Self::Wrong(redact(message).into_owned());
        };
        let found = found.split(['"', '`', ',']).next().unwrap_or_default().trim();
        Self::Wrong(match kind {
            "invalid type: " => format!("expected {expected}, found {}", with_article(found)),
            _ => format!("expected {expected}"),
        })
    }
}

fn with_article(kind: &str) -> String {
    match kind {
        "map" => "a table".to_owned(),
        "sequence" => "an array".to_owned(),
        kind if kind.starts_with(['a', 'e', 'i', 'o', 'u']) => format!("an {kind}"),
        kind => format!("a {kind}"),
    }
}

/// What stands after `before` and before the next backtick.
pub(super) fn quoted_after<'t>(text: &'t str, before: &str) -> Option<&'t str> {
    let (_, after) = text.split_once(before)?;
    after.split('`').next()
}
