//! What an import is configured with.

use serde::Deserialize;
use transship_model::{
    ArtifactReference, ContainerUrl, ImportOptions, RegistryName, RenameRules, Repository, StorageCredential,
};

/// An import pipeline: where bundles come from, where they go, and how.
#[derive(Debug, Clone)]
pub struct ImportPipeline {
    /// The target registry, by its name in the importer's configuration.
    pub registry: RegistryName,
    /// The container that bundles arrive in. Work that names another one is refused.
    pub container: ContainerUrl,
    /// How the container is accessed. A local directory needs nothing.
    pub secret: Option<StorageCredential>,
    /// `OverwriteTags`, `DeleteSourceBlobOnSuccess`, `ContinueOnErrors`.
    pub options: ImportOptions,
    /// The names that repositories get at the target.
    pub rename: RenameRules,
    /// Repositories of the target that blobs may be mounted from, beside those of the bundle itself.
    pub mount_from: Vec<Repository>,
    /// The name of the artifact of a bundle that holds exactly one: it takes the place of whatever name the
    /// bundle gives it, and no rule renames it. A bundle that holds several is refused.
    pub name_as: Option<ArtifactReference>,
}

/// Bounds of one import. Bytes in memory are bounded by the process's budget beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImportSettings {
    /// Questions to the registry at a time. Default 16, at least 1.
    pub parallel_questions: usize,
    /// Blobs at a time. Default 4, at least 1.
    pub parallel_blobs: usize,
    /// Manifests at a time, and small blobs of one stretch of the bundle. Default 8, at least 1.
    pub parallel_manifests: usize,
    /// Ranges of one blob that are read ahead of the upload. Default 3, at least 2.
    pub ranges_ahead: usize,
    /// The length of such a range in bytes. Default 8 MiB, at least 1 MiB.
    pub range_bytes: u64,
    /// The most manifests that a bundle may hold. Default 200,000.
    pub most_manifests: usize,
}

impl Default for ImportSettings {
    fn default() -> Self {
        Self {
            parallel_questions: 16,
            parallel_blobs: 4,
            parallel_manifests: 8,
            ranges_ahead: 3,
            range_bytes: 8 << 20,
            most_manifests: 200_000,
        }
    }
}

impl ImportSettings {
    /// The same with every bound at least at its smallest value.
    pub(crate) fn bounded(self) -> Self {
        Self {
            parallel_questions: self.parallel_questions.max(1),
            parallel_blobs: self.parallel_blobs.max(1),
            parallel_manifests: self.parallel_manifests.max(1),
            ranges_ahead: self.ranges_ahead.max(2),
            range_bytes: self.range_bytes.max(1 << 20),
            most_manifests: self.most_manifests,
        }
    }
}
