//! What a stage has done, as absolute values.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Absolute counts of one stage for one part. They reconcile: discovered = moved + skipped + failed, for
/// artifacts and for bytes, once the stage has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Artifacts that the part names.
    pub artifacts_discovered: u64,
    /// Artifacts that the stage moved.
    pub artifacts_moved: u64,
    /// Artifacts that were there already.
    pub artifacts_skipped: u64,
    /// Artifacts that failed.
    pub artifacts_failed: u64,
    /// Distinct blobs and manifests below the artifacts.
    pub blobs_discovered: u64,
    /// Blobs and manifests that the stage moved.
    pub blobs_moved: u64,
    /// Blobs that were mounted from another repository of the target.
    pub blobs_mounted: u64,
    /// Blobs and manifests that were there already.
    pub blobs_skipped: u64,
    /// Bytes of the distinct blobs and manifests.
    pub bytes_discovered: u64,
    /// Bytes that the stage moved.
    pub bytes_moved: u64,
    /// Bytes that did not need to move: there already, mounted, or staged before a restart.
    pub bytes_skipped: u64,
    /// Bytes of what failed or is absent.
    pub bytes_failed: u64,
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.artifacts_discovered += other.artifacts_discovered;
        self.artifacts_moved += other.artifacts_moved;
        self.artifacts_skipped += other.artifacts_skipped;
        self.artifacts_failed += other.artifacts_failed;
        self.blobs_discovered += other.blobs_discovered;
        self.blobs_moved += other.blobs_moved;
        self.blobs_mounted += other.blobs_mounted;
        self.blobs_skipped += other.blobs_skipped;
        self.bytes_discovered += other.bytes_discovered;
        self.bytes_moved += other.bytes_moved;
        self.bytes_skipped += other.bytes_skipped;
        self.bytes_failed += other.bytes_failed;
    }
}
