//! Where a value stands in a tree of settings.

use std::fmt;

use toml::{Table, Value};

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// The steps from the root: `registries.source.url`, `routes[2].target`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Path(Vec<Step>);

impl Path {
    /// A path of keys alone, as text with dots between them.
    pub(super) fn parse(text: &str) -> Self {
        Self(text.split('.').map(|key| Step::Key(key.to_owned())).collect())
    }

    pub(super) fn of_keys(keys: impl IntoIterator<Item = String>) -> Self {
        Self(keys.into_iter().map(Step::Key).collect())
    }

    pub(super) fn with(mut self, step: Step) -> Self {
        self.0.push(step);
        self
    }

    pub(super) fn child(&self, key: &str) -> Self {
        self.clone().with(Step::Key(key.to_owned()))
    }

    /// This path, then its parent, and so on, without the root.
    pub(super) fn ancestors(&self) -> impl Iterator<Item = Self> + '_ {
        (1..=self.0.len()).rev().map(|length| Self(self.0[..length].to_vec()))
    }

    /// Whether this is `outer` or below it.
    pub(super) fn is_within(&self, outer: &Self) -> bool {
        self.0.starts_with(&outer.0)
    }

    /// Whether the last step is a key.
    pub(super) fn is_in_table(&self) -> bool {
        matches!(self.0.last(), Some(Step::Key(_)))
    }

    /// The keys, where there are no other steps.
    pub(super) fn keys(&self) -> Option<Vec<&str>> {
        let keys = self.0.iter().map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        });
        keys.collect()
    }

    /// Puts `value` here, making tables on the way. Does nothing where an array is too short.
    pub(super) fn set(&self, root: &mut Table, value: Value) {
        let Some((Step::Key(first), steps)) = self.0.split_first() else { return };
        let mut at = root.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
        for step in steps {
            at = match (at, step) {
                (Value::Array(items), Step::Index(index)) => match items.get_mut(*index) {
                    Some(item) => item,
                    None => return,
                },
                (Value::Table(table), Step::Key(key)) => {
                    table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()))
                }
                (other, Step::Key(key)) => {
                    *other = Value::Table(Table::new());
                    let Value::Table(table) = other else { return };
                    table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()))
                }
                _ => return,
            };
        }
        *at = value;
    }

    /// Takes out the value of the last key.
    pub(super) fn remove(&self, root: &mut Table) {
        let Some((Step::Key(last), parents)) = self.0.split_last() else { return };
        let mut at = root;
        let mut steps = parents.iter().peekable();
        while let Some(step) = steps.next() {
            let Step::Key(key) = step else { return };
            let mut value = at.get_mut(key);
            while let Some(Step::Index(index)) = steps.peek() {
                value = value.and_then(|value| value.get_mut(*index));
                steps.next();
            }
            match value {
                Some(Value::Table(table)) => at = table,
                _ => return,
            }
        }
        at.remove(last);
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if place == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}
