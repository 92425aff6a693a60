//! Settings: a TOML file, environment variables over it, overrides over both. Names that nobody knows are
//! refused, and every fault is reported at once, with where it is and what is expected there.
//!
//! Deserialisation stops at its first error. So it is run again and again: each time the value at fault is taken
//! out, and where a value is required, one that fits stands in for it. What stands in is never returned.

mod fault;
mod path;
mod source;

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use fault::Problem;
pub use fault::{Fault, SettingsError};
use path::{Path, Step};
pub(crate) use source::CONFIG_VARIABLE;
use source::Merged;
pub use source::SettingsSource;

/// The most faults that are reported.
const MAX_FAULTS: usize = 100;

/// Reads settings.
///
/// # Errors
/// [`SettingsError`] with every fault: what is not TOML, unknown names, wrong types, missing values.
pub fn load<T: DeserializeOwned>(source: &SettingsSource) -> Result<T, SettingsError> {
    load_checked(source, |_| Vec::new())
}

/// Reads settings and adds what `check` finds, as key and problem: `("bus.slots", "must not be 0")`.
///
/// # Errors
/// As [`load`]. `check` is only asked where the types are right.
pub fn load_checked<T: DeserializeOwned>(
    source: &SettingsSource,
    check: impl FnOnce(&T) -> Vec<(String, String)>,
) -> Result<T, SettingsError> {
    let mut merged = source.merge();
    let mut faults = std::mem::take(&mut merged.faults);
    if merged.broken {
        return Err(SettingsError::new(faults));
    }
    let mut search = Search::new(&merged);
    let settings = search.run::<T>();
    faults.extend(search.faults());
    let settings = settings.filter(|_| faults.is_empty());
    if let Some(settings) = &settings {
        let found = check(settings).into_iter();
        faults.extend(found.map(|(key, problem)| merged.fault(&Path::parse(&key), Problem::Wrong(problem))));
    }
    match settings {
        Some(settings) if faults.is_empty() => Ok(settings),
        _ => Err(SettingsError::new(faults)),
    }
}

/// What one deserialisation found first.
struct Found {
    path: Path,
    problem: Problem,
}

/// The search for all faults.
struct Search<'m> {
    merged: &'m Merged,
    table: Table,
    /// Variables whose text was read as a number, a boolean or an array, but might be meant as text.
    texts: BTreeMap<Path, String>,
    /// What was wrong with such a variable when it was not yet read as text: the better explanation.
    before_text: BTreeMap<Path, Problem>,
    found: BTreeMap<Path, Problem>,
    unknown: BTreeSet<Path>,
}

impl<'m> Search<'m> {
    fn new(merged: &'m Merged) -> Self {
        Self {
            merged,
            table: merged.table.clone(),
            texts: merged.texts.clone(),
            before_text: BTreeMap::new(),
            found: BTreeMap::new(),
            unknown: BTreeSet::new(),
        }
    }

    /// The settings, where the last deserialisation succeeded.
    fn run<T: DeserializeOwned>(&mut self) -> Option<T> {
        while self.found.len() < MAX_FAULTS {
            let Found { path, problem } = match self.attempt::<T>() {
                Ok(settings) => return Some(settings),
                Err(found) => found,
            };
            if matches!(problem, Problem::Wrong(_))
                && let Some(text) = self.texts.remove(&path)
            {
                path.set(&mut self.table, Value::String(text));
                self.before_text.insert(path, problem);
                continue;
            }
            if self.found.keys().any(|known| known != &path && known.is_within(&path)) {
                // A rule over several values, some of which are at fault or stand in: nothing is known of it.
                return None;
            }
            let wrong = matches!(problem, Problem::Wrong(_));
            let first = !self.found.contains_key(&path);
            if first {
                let problem = self.before_text.remove(&path).unwrap_or(problem);
                self.found.insert(path.clone(), problem);
            }
            let repaired = if wrong && first && path.is_in_table() {
                path.remove(&mut self.table);
                true
            } else {
                self.stand_in::<T>(&path)
            };
            if !repaired {
                return None;
            }
        }
        None
    }

    fn attempt<T: DeserializeOwned>(&mut self) -> Result<T, Found> {
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(Value::Table(self.table.clone()), &mut track);
        let unknown = &mut self.unknown;
        let settings = serde_ignored::deserialize(tracked, |path| {
            unknown.insert(Path::of_ignored(&path));
        });
        settings.map_err(|error: toml::de::Error| {
            let path = Path::of_tracked(&track.path());
            match fault::quoted_after(error.message(), "missing field `") {
                Some(name) => Found { path: path.child(name), problem: Problem::Missing },
                None => Found { path, problem: Problem::of(error.message()) },
            }
        })
    }

    /// Puts a value at `path` that deserialisation accepts, or gives up.
    fn stand_in<T: DeserializeOwned>(&mut self, path: &Path) -> bool {
        let mut candidates = vec![
            Value::String("placeholder".into()),
            Value::Integer(1),
            Value::String("https://placeholder.invalid/path".into()),
            Value::String("127.0.0.1:1".into()),
            Value::Boolean(true),
            Value::Array(Vec::new()),
            Value::Table(Table::new()),
            Value::Float(1.0),
        ];
        let mut next = 0;
        while next < candidates.len() {
            path.set(&mut self.table, candidates[next].clone());
            next += 1;
            match self.attempt::<T>() {
                Ok(_) => return true,
                Err(found) if &found.path == path => {
                    // A choice says which words it takes.
                    if let Problem::Wrong(expected) = &found.problem
                        && let Some(word) = fault::quoted_after(expected, "`")
                        && next == 1
                    {
                        candidates.push(Value::String(word.to_owned()));
                    }
                }
                Err(found) if found.path.is_within(path) => {
                    if matches!(found.problem, Problem::Missing) {
                        return true;
                    }
                }
                Err(_) => return true,
            }
        }
        false
    }

    fn faults(&mut self) -> Vec<Fault> {
        let found = std::mem::take(&mut self.found).into_iter();
        let unknown = std::mem::take(&mut self.unknown).into_iter().map(|path| (path, Problem::Unknown));
        found.chain(unknown).map(|(path, problem)| self.merged.fault(&path, problem)).collect()
    }
}

impl Path {
    fn of_ignored(path: &serde_ignored::Path<'_>) -> Self {
        use serde_ignored::Path as Ignored;
        match path {
            Ignored::Root => Self::default(),
            Ignored::Seq { parent, index } => Self::of_ignored(parent).with(Step::Index(*index)),
            Ignored::Map { parent, key } => Self::of_ignored(parent).with(Step::Key(key.clone())),
            Ignored::Some { parent }
            | Ignored::NewtypeStruct { parent }
            | Ignored::NewtypeVariant { parent } => Self::of_ignored(parent),
        }
    }

    fn of_tracked(path: &serde_path_to_error::Path) -> Self {
        use serde_path_to_error::Segment;
        path.iter().fold(Self::default(), |path, segment| match segment {
            Segment::Seq { index } => path.with(Step::Index(*index)),
            Segment::Map { key } | Segment::Enum { variant: key } => path.with(Step::Key(key.clone())),
            Segment::Unknown => path,
        })
    }
}

#[cfg(test)]
mod tests;
