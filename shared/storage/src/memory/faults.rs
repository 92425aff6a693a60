//! What a test wants to go wrong, and what it wants to see.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use transship_model::BlobName;

use crate::{Operation, StorageError};

/// When a planned failure happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Before the call has an effect.
    Before,
    /// After it.
    After,
}

type Observer = Arc<dyn Fn(Operation, Option<&BlobName>) -> Result<(), StorageError> + Send + Sync>;

#[derive(Default)]
pub(super) struct Faults {
    planned: BTreeMap<Operation, VecDeque<(When, StorageError)>>,
    observer: Option<Observer>,
    calls: BTreeMap<Operation, u64>,
}

impl Faults {
    pub(super) fn plan(&mut self, operation: Operation, when: When, error: StorageError) {
        self.planned.entry(operation).or_default().push_back((when, error));
    }

    pub(super) fn observe(
        &mut self,
        observer: impl Fn(Operation, Option<&BlobName>) -> Result<(), StorageError> + Send + Sync + 'static,
    ) {
        self.observer = Some(Arc::new(observer));
    }

    pub(super) fn calls(&self, operation: Operation) -> u64 {
        self.calls.get(&operation).copied().unwrap_or_default()
    }

    /// Counts a call, and gives what is planned for it: the observer, the failure before and the one after.
    pub(super) fn begin(
        &mut self,
        operation: Operation,
    ) -> (Option<Observer>, Option<StorageError>, Option<StorageError>) {
        *self.calls.entry(operation).or_default() += 1;
        let (before, after) = match self.planned.get_mut(&operation).and_then(VecDeque::pop_front) {
            Some((When::Before, error)) => (Some(error), None),
            Some((When::After, error)) => (None, Some(error)),
            None => (None, None),
        };
        (self.observer.clone(), before, after)
    }
}
