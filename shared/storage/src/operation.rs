//! The calls of the port by name: what each needs of a SAS token, and what a test may make fail.

/// A call of the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// [`crate::ReadContainer::properties`].
    Properties,
    /// [`crate::ReadContainer::read`].
    Read,
    /// [`crate::ReadContainer::committed_blocks`].
    CommittedBlocks,
    /// [`crate::ReadContainer::list`].
    List,
    /// [`crate::WriteContainer::staged_blocks`].
    StagedBlocks,
    /// [`crate::WriteContainer::stage`].
    Stage,
    /// [`crate::WriteContainer::stage_from`].
    StageFrom,
    /// [`crate::WriteContainer::commit`].
    Commit,
    /// [`crate::DeleteBlob::delete`].
    Delete,
}

impl Operation {
    /// All of them, for tests that inject a failure at every call.
    pub const ALL: [Self; 9] = [
        Self::Properties,
        Self::Read,
        Self::CommittedBlocks,
        Self::List,
        Self::StagedBlocks,
        Self::Stage,
        Self::StageFrom,
        Self::Commit,
        Self::Delete,
    ];

    /// The letters of `sp` that the call needs (Azure Storage, "Create a service SAS", permissions).
    pub(crate) fn letters(self) -> &'static str {
        match self {
            Self::Properties | Self::Read | Self::CommittedBlocks | Self::StagedBlocks => "r",
            Self::List => "l",
            Self::Stage | Self::StageFrom | Self::Commit => "w",
            Self::Delete => "d",
        }
    }

    /// What the letters are for, as a message says it.
    pub(crate) fn purpose(self) -> &'static str {
        match self {
            Self::Properties | Self::Read => "reading blobs",
            Self::CommittedBlocks | Self::StagedBlocks => "reading block lists",
            Self::List => "listing blobs",
            Self::Stage | Self::StageFrom | Self::Commit => "writing blobs",
            Self::Delete => "deleting blobs",
        }
    }
}
