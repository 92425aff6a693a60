//! What can go wrong with a copy, and on which side.

use std::fmt;

use transship_bundle::execution_of;
use transship_model::{BlobName, Class, Code, ContainerUrl, Failure};
use transship_storage::{BlobProperties, StorageError};

use crate::PlanError;

/// The two sides of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where the bundle is read.
    Source,
    /// Where it is written.
    Target,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}

/// Why a bundle was not copied.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CopyError {
    /// A call to one of the two containers failed.
    #[error("{operation} {blob} in the {side} container")]
    Storage {
        /// What was being done.
        operation: &'static str,
        /// To which blob.
        blob: BlobName,
        /// On which side.
        side: Side,
        /// What the container answered.
        source: StorageError,
    },
    /// The source container has no such bundle.
    #[error("the source container {container} has no blob {blob}")]
    SourceMissing {
        /// The source container.
        container: ContainerUrl,
        /// The bundle.
        blob: BlobName,
    },
    /// The bundle is another one than was exported.
    #[error("{blob} in the source container {container} is not the bundle that was exported: {difference}")]
    SourceChanged {
        /// The source container.
        container: ContainerUrl,
        /// The bundle.
        blob: BlobName,
        /// Entity tags and lengths, expected and found.
        difference: String,
    },
    /// The target container has another blob of this name.
    #[error("the target container {container} has a blob {blob} already, {owner}")]
    TargetExists {
        /// The target container.
        container: ContainerUrl,
        /// The bundle.
        blob: BlobName,
        /// Whose it is.
        owner: String,
    },
    /// The target's service still copies something to the name.
    #[error("the target container {container} still copies {blob} from elsewhere")]
    TargetCopying {
        /// The target container.
        container: ContainerUrl,
        /// The bundle.
        blob: BlobName,
    },
    /// The bundle cannot be cut into blocks.
    #[error("plan the copy of {blob} from the source container")]
    Plan {
        /// The bundle.
        blob: BlobName,
        /// Why.
        source: PlanError,
    },
    /// A block's task panicked.
    #[error("a task that moved a block of {blob} ended unexpectedly")]
    TaskLost {
        /// The bundle.
        blob: BlobName,
    },
}

impl CopyError {
    /// The blob `found` stands in the way at the target.
    pub(crate) fn exists(container: &ContainerUrl, blob: &BlobName, found: Option<&BlobProperties>) -> Self {
        let owner = match found.and_then(|found| execution_of(&found.metadata)) {
            Some(owner) => format!("written by execution {}", owner.id),
            None => "which no execution of transship wrote".to_owned(),
        };
        Self::TargetExists { container: container.clone(), blob: blob.clone(), owner }
    }

    /// Whether one of the blobs changed under the copy, so that looking again decides what that means.
    pub(crate) fn is_change(&self) -> bool {
        let changed = |error: &StorageError| {
            matches!(
                error,
                StorageError::ConditionFailed { .. }
                    | StorageError::InvalidBlockList { .. }
                    | StorageError::RangeNotSatisfiable { .. }
            )
        };
        match self {
            Self::Storage { source, .. } => changed(source),
            Self::Plan { source, .. } => matches!(source, PlanError::Uneven { .. }),
            _ => false,
        }
    }

    /// Whether the target's service said that it cannot read the source itself.
    pub(crate) fn is_unsupported(&self) -> bool {
        matches!(self, Self::Storage { source: StorageError::CopyUnsupported { .. }, .. })
    }
}

impl From<CopyError> for Failure {
    fn from(error: CopyError) -> Self {
        let message = error.to_string();
        match error {
            CopyError::Storage { source, .. } => storage_failure(source).while_doing(message),
            CopyError::SourceMissing { .. } => Self::permanent(Code::BlobNotFound, message)
                .with_hint("the bundle was deleted or renamed after its export: start the run again"),
            CopyError::SourceChanged { .. } => Self::permanent(Code::SourceChanged, message).with_hint(
                "something else wrote to this name after the export: start the run again, and give each run a \
                 blob name of its own",
            ),
            CopyError::TargetExists { .. } => Self::permanent(Code::BlobExists, message).with_hint(
                "set `overwrite = true` on the route, as OverwriteBlobs does for an export, or choose another \
                 blob name",
            ),
            CopyError::TargetCopying { .. } => Self::transient(Code::StorageUnavailable, message).with_hint(
                "another program's Copy Blob is pending: it is waited for; abort it, or let each run have a blob name of \
                 its own",
            ),
            CopyError::Plan { source, .. } => plan_failure(&source).while_doing(message),
            CopyError::TaskLost { .. } => Self::transient(Code::Internal, message),
        }
    }
}

/// The container's own words, and a hint where it has none.
fn storage_failure(error: StorageError) -> Failure {
    let is_list = matches!(error, StorageError::InvalidBlockList { .. });
    let failure = Failure::from(error);
    if !is_list {
        return failure;
    }
    failure.with_hint(
        "another program writes to this name, or left staged blocks of another kind under it, which the service \
         drops after a week: choose another blob name",
    )
}

fn plan_failure(error: &PlanError) -> Failure {
    match error {
        PlanError::Uneven { .. } => Failure::transient(Code::SourceChanged, error.to_string()),
        PlanError::TooLarge { needed, .. } => Failure::new(
            Class::Permanent,
            Code::LimitExceeded,
            error.to_string(),
        )
        .with_hint(format!(
            "let the target account read the source account itself, or raise `worker.byte_budget_bytes` of \
                 the blob-copier to at least {needed}"
        )),
    }
}
