//! Executions of runs, and the parts that their work is shared by.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The identity of one execution of a run: 1 to 64 lower-case letters, digits and `-`. It stands in routing
/// keys and in the metadata of blobs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExecutionId(Box<str>);

/// Why a string is not the identity of an execution.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{shown:?} is not an execution's identity: 1 to 64 lower-case letters, digits and '-'")]
pub struct ExecutionIdError {
    shown: String,
}

impl ExecutionId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ExecutionId {
    type Err = ExecutionIdError;

    fn from_str(text: &str) -> Result<Self, ExecutionIdError> {
        let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(fine) {
            Ok(Self(text.into()))
        } else {
            Err(ExecutionIdError { shown: text.chars().take(70).collect() })
        }
    }
}

impl TryFrom<String> for ExecutionId {
    type Error = ExecutionIdError;

    fn try_from(text: String) -> Result<Self, ExecutionIdError> {
        text.parse()
    }
}

impl From<ExecutionId> for String {
    fn from(id: ExecutionId) -> Self {
        id.0.into()
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One execution and its generation. A generation is never reused, and a higher one supersedes a lower one
/// that writes to the same blob.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Execution {
    /// The identity.
    pub id: ExecutionId,
    /// The generation: milliseconds since the Unix epoch when the execution was started, or a counter.
    pub generation: u64,
}

/// One part of an execution: `number` of `count`, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Part {
    /// Which part, from 1.
    pub number: u32,
    /// How many parts the execution has.
    pub count: u32,
}

impl Part {
    /// The only part of an execution that was not split.
    pub const ONLY: Self = Self { number: 1, count: 1 };

    /// The most references that one part carries.
    pub const MAX_ARTIFACTS: usize = 250;
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.number, self.count)
    }
}

/// The processes of the pipeline: three that move content, and the one that holds what is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Registry to storage.
    Exporter,
    /// Storage to storage.
    BlobCopier,
    /// Storage to registry.
    Importer,
    /// Resources, runs and their state. It moves nothing, and no fact is its own.
    ControlPlane,
}

impl Stage {
    /// The name, as it stands in metrics and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exporter => "exporter",
            Self::BlobCopier => "blob-copier",
            Self::Importer => "importer",
            Self::ControlPlane => "control-plane",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
