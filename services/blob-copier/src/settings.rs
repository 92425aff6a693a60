//! The bounds of a copy.

use serde::Deserialize;

/// How much of one copy happens at a time. Bytes in memory are bounded by the process's budget beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CopySettings {
    /// Blocks of one copy that the target's service fetches at a time. Default 8, at least 1.
    pub parallel_server_side: usize,
    /// Blocks of one copy that go through the copier at a time. Default 4, at least 1.
    pub parallel_streamed: usize,
}

impl Default for CopySettings {
    fn default() -> Self {
        Self { parallel_server_side: 8, parallel_streamed: 4 }
    }
}
