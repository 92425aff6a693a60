//! What one evaluation may use up. A few lines of a template can ask for more than any machine has.

use std::cell::Cell;

use serde_json::Value;

use super::fault::{Evaluated, Fault};

/// How deep values, variables, parameters and expressions may be in each other. Each level is a few stack frames.
const MAX_LEVELS: usize = 200;

/// How much an evaluation may make, in bytes of strings and 16 for each other value.
const MAX_MADE: usize = 8 << 20;

/// What is left for an evaluation.
#[derive(Debug)]
pub(super) struct Budget {
    levels: Cell<usize>,
    made: Cell<usize>,
}

/// One level, until it is dropped.
pub(super) struct Level<'a>(&'a Cell<usize>);

impl Drop for Level<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self { levels: Cell::new(MAX_LEVELS), made: Cell::new(MAX_MADE) }
    }
}

impl Budget {
    /// Goes one level down.
    pub(super) fn enter(&self) -> Evaluated<Level<'_>> {
        let left = self.levels.get().checked_sub(1);
        let left = left.ok_or_else(|| {
            Fault::invalid(format!(
                "what refers to each other here is more than {MAX_LEVELS} deep, or refers to itself"
            ))
        })?;
        self.levels.set(left);
        Ok(Level(&self.levels))
    }

    /// Pays for a value.
    pub(super) fn pay(&self, value: &Value) -> Evaluated<()> {
        let left = self.made.get().checked_sub(weight(value));
        let left = left.ok_or_else(|| {
            Fault::invalid(format!("its evaluation makes more than {} MiB of values", MAX_MADE >> 20))
        })?;
        self.made.set(left);
        Ok(())
    }
}

fn weight(value: &Value) -> usize {
    16 + match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(weight).sum(),
        Value::Object(members) => members.iter().map(|(key, value)| key.len() + weight(value)).sum(),
        _ => 0,
    }
}
