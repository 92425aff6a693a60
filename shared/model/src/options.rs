//! The options of pipelines, named as Azure Container Registry names them.

use serde::{Deserialize, Serialize};

/// Options of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExportOptions {
    /// `OverwriteBlobs`: replace a blob of the same name that another execution wrote.
    pub overwrite_blobs: bool,
    /// `ContinueOnErrors`: leave out the artifacts that fail, and carry the rest.
    pub continue_on_errors: bool,
}

/// Options of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImportOptions {
    /// `OverwriteTags`: move a tag that points to another digest.
    pub overwrite_tags: bool,
    /// `DeleteSourceBlobOnSuccess`: delete the bundle once all of it is imported.
    pub delete_source_blob_on_success: bool,
    /// `ContinueOnErrors`: leave out the artifacts that fail, and import the rest.
    pub continue_on_errors: bool,
}
