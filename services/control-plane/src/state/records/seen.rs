//! What triggers and schedules remember.

use serde::{Deserialize, Serialize};
use transship_model::BlobName;

/// Whose import of a bundle it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The caller's.
    Mine,
    /// Another run's.
    Taken {
        /// The run's resource id.
        run: String,
    },
}

/// What a schedule last did about a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagState {
    /// The digest that the tag had.
    pub digest: String,
    /// The run that carries it.
    pub run: String,
}

/// A bundle that the trigger of a pipeline has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenBlob {
    /// The pipeline's key (its resource id in lower case).
    pub pipeline: String,
    /// The blob.
    pub blob: BlobName,
    /// Its entity tag.
    pub etag: String,
    /// Its length in bytes.
    pub length: u64,
    /// What the trigger did about it.
    pub verdict: SeenVerdict,
    /// When it was first seen, in milliseconds since the Unix epoch.
    pub first_ms: i64,
    /// When the verdict last changed.
    pub changed_ms: i64,
}

/// What a trigger did about a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeenVerdict {
    /// A run imports it: the run's name.
    Imported {
        /// The run.
        run: String,
        /// What a person should know all the same, such as what copying took away.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// It is left for now, and looked at again.
    Waiting {
        /// Why, for a person.
        reason: String,
        /// Not before this time, in milliseconds since the Unix epoch.
        until_ms: i64,
    },
    /// It is not imported.
    Ignored {
        /// Why, for a person, with what to do about it.
        reason: String,
    },
}
