//! How a stack differs from the default one.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a stack consists of.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many of each service.
    pub each: usize,
    /// The folder of the services' binaries; by default that of the running program.
    pub binaries: Option<PathBuf>,
    /// More environment for the services, by kind: failpoints for example.
    pub environment: BTreeMap<&'static str, Vec<(String, String)>>,
    /// More lines for the `[worker]` section of all services.
    pub worker: String,
    /// Whether tags that exist are overwritten at the target.
    pub overwrite_tags: bool,
    /// Whether a bundle is deleted once it is imported.
    pub delete_bundles: bool,
    /// Whether the importers have a key to seal uploads with, so that these go in pieces.
    pub seal_uploads: bool,
    /// Whether the servers are this stack's alone, so that it may stop them.
    pub private: bool,
    /// Whether the blocks that arrive at both storage accounts are counted.
    pub count_blocks: bool,
    /// Whether the bytes of blobs that the importers send to the target registry are counted.
    pub count_uploads: bool,
    /// Whether a control plane runs before the stages.
    pub control_plane: bool,
    /// More sections for the configuration of the control plane.
    pub control_configuration: String,
    /// Whether the source registry is this stack's alone, and tells the control plane of what is pushed.
    pub notifications: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            each: 1,
            binaries: None,
            environment: BTreeMap::new(),
            worker: String::new(),
            overwrite_tags: false,
            delete_bundles: false,
            seal_uploads: false,
            private: false,
            count_blocks: false,
            count_uploads: false,
            control_plane: false,
            control_configuration: String::new(),
            notifications: false,
        }
    }
}
