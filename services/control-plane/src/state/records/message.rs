//! What goes to the stages, what comes from them, and what came back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use transship_api::ResourceId;
use transship_bus::WorkQueue;
use transship_model::Execution;

/// What became of a fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Folded {
    /// It is part of the state now, and these runs ended by it.
    Applied {
        /// The runs.
        ended: Vec<ResourceId>,
    },
    /// It is about a run that was deleted, or about an earlier generation.
    Ignored,
    /// Its execution was never here.
    Unknown,
}

/// Something that is still to be done, written with what it follows from in one transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxRow {
    /// The order.
    pub id: i64,
    /// The execution.
    pub execution: Execution,
    /// What is to be done.
    pub item: OutboxItem,
    /// Not before this time, in milliseconds since the Unix epoch.
    pub due_ms: i64,
    /// How often it was tried.
    pub attempts: i64,
    /// What a `Start` waits for, where it was tried.
    pub obstacle: Option<StartObstacle>,
}

/// What a `Start` waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartObstacle {
    /// See `dispatch::Obstacle::kind`.
    pub kind: String,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: i64,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutboxItem {
    /// Check the credential, find the bundle of an import, split an export: what comes of it is the parts.
    Start,
    /// Publish a work item. The message id makes a repetition harmless.
    Publish {
        /// Where to: the queue's name.
        queue: Queue,
        /// The message id.
        message_id: String,
        /// The kind.
        kind: String,
        /// Text headers, such as the trace context.
        headers: BTreeMap<String, String>,
        /// The body.
        body: Vec<u8>,
    },
}

/// A work queue, as it is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Queue {
    /// See [`WorkQueue::ExporterParts`].
    ExporterParts,
    /// See [`WorkQueue::BlobCopierCopies`].
    BlobCopierCopies,
    /// See [`WorkQueue::ImporterImports`].
    ImporterImports,
}

impl Queue {
    /// The name under which it is stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::ExporterParts => "exporter-parts",
            Self::BlobCopierCopies => "blob-copier-copies",
            Self::ImporterImports => "importer-imports",
        }
    }

    /// The queue of a name under which it is stored.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::ExporterParts, Self::BlobCopierCopies, Self::ImporterImports]
            .into_iter()
            .find(|queue| queue.name() == name)
    }
}

impl From<Queue> for WorkQueue {
    fn from(queue: Queue) -> Self {
        match queue {
            Queue::ExporterParts => Self::ExporterParts,
            Queue::BlobCopierCopies => Self::BlobCopierCopies,
            Queue::ImporterImports => Self::ImporterImports,
        }
    }
}

/// A message that was given up, by a stage or by the broker.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// The order.
    pub id: i64,
    /// The work queue that it was for.
    pub queue: Queue,
    /// Its message id; empty where it had none.
    pub message_id: String,
    /// Its kind; empty where it had none.
    pub kind: String,
    /// The execution's identity, where it said one.
    pub execution: Option<String>,
    /// Text headers.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
    /// Why it was given up.
    pub reason: String,
    /// When it was stored, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// When it was put back into its queue, where it was.
    pub requeued_ms: Option<i64>,
}

/// A message that was given up, as lists show it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetterLine {
    /// The order.
    pub id: i64,
    /// The work queue that it was for.
    pub queue: Queue,
    /// Its message id; empty where it had none.
    pub message_id: String,
    /// Its kind; empty where it had none.
    pub kind: String,
    /// The execution's identity, where it said one.
    pub execution: Option<String>,
    /// The resource ids of runs of that execution, at most 100.
    pub runs: Vec<String>,
    /// Why it was given up.
    pub reason: String,
    /// How long its body is.
    pub body_bytes: u64,
    /// When it was stored, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// When it was put back into its queue, where it was.
    pub requeued_ms: Option<i64>,
}

/// A message that was given up, to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDeadLetter {
    /// The work queue that it was for.
    pub queue: Queue,
    /// Its message id; empty where it had none.
    pub message_id: String,
    /// Its kind; empty where it had none.
    pub kind: String,
    /// The execution's identity, where it said one.
    pub execution: Option<String>,
    /// Text headers.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
    /// Why it was given up.
    pub reason: String,
    /// Now, in milliseconds since the Unix epoch.
    pub at_ms: i64,
}
