//! Which blocks the copy is made of, and which of them have to move: one pure function.

use std::collections::HashMap;
use std::ops::Range;

use sha2::{Digest as _, Sha256};
use transship_bundle::BlockIdentity;
use transship_model::{BlobName, ContainerUrl};
use transship_storage::{Block, BlockId, ETag};

const MIB: u64 = 1 << 20;

/// The most committed blocks of a blob ("Scalability and performance targets for Blob storage").
const MOST_BLOCKS: u64 = 50_000;

/// The one version of the source's blob that is copied.
#[derive(Debug, Clone, Copy)]
pub struct SourceVersion<'a> {
    /// The source container.
    pub container: &'a ContainerUrl,
    /// The blob.
    pub blob: &'a BlobName,
    /// Its entity tag.
    pub etag: &'a ETag,
    /// Its length in bytes.
    pub length: u64,
}

/// A block that has to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedBlock {
    /// Its identifier at the target.
    pub id: BlockId,
    /// Its bytes in the source's blob; never empty.
    pub range: Range<u64>,
}

impl PlannedBlock {
    /// How many bytes it has.
    pub fn length(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// What a copy consists of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CopyPlan {
    /// Every block in the order of the blob, for the commit.
    pub order: Vec<BlockId>,
    /// The blocks that the target does not have, each once, in the order of the blob.
    pub missing: Vec<PlannedBlock>,
    /// The bytes of all blocks that are not in `missing`.
    pub present_bytes: u64,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The list is of another version of the blob than its properties.
    #[error("its block list has {listed} bytes, its properties say {length}")]
    Uneven {
        /// The sum of the blocks' lengths.
        listed: u64,
        /// The length of the blob.
        length: u64,
    },
    /// No cut keeps both to the number of blocks that a blob may have and to what fits into memory.
    #[error("its blocks must have {needed} bytes at least, and {largest} fit into the byte budget")]
    TooLarge {
        /// The smallest possible size of a block in bytes.
        needed: u64,
        /// The largest block in bytes that can be moved.
        largest: u64,
    },
}

/// Plans the copy of `source`, whose committed blocks are `listed`, to a target that has the blocks `present`
/// (of two with the same identifier the later one counts). No block is larger than `largest` bytes.
///
/// The blocks of the source are kept where transship made their identifiers, which say what is in a block: one
/// that is present with the same length need not move, whoever staged it, and a block that stands in the list
/// twice moves once. Blobs without blocks, blobs whose identifiers come from elsewhere (two versions may use
/// the same ones) and blobs with a block that is larger than `largest` are cut into equal ranges, whose
/// identifiers are made of the version that is copied.
///
/// # Errors
/// See [`PlanError`].
pub fn plan_copy(
    source: &SourceVersion<'_>,
    listed: &[Block],
    present: &[Block],
    largest: u64,
) -> Result<CopyPlan, PlanError> {
    let sum = listed.iter().fold(0u64, |sum, block| sum.saturating_add(block.length));
    if !listed.is_empty() && sum != source.length {
        return Err(PlanError::Uneven { listed: sum, length: source.length });
    }
    let kept = keeps_blocks(listed, largest).then(|| listed.to_vec());
    let blocks = kept.map_or_else(|| equal_ranges(source, largest), Ok)?;
    Ok(subtract(&blocks, present))
}

/// Whether the source's own blocks can be those of the target.
fn keeps_blocks(listed: &[Block], largest: u64) -> bool {
    let fits = |block: &Block| (1..=largest).contains(&block.length);
    let is_ours = |block: &Block| BlockIdentity::parse(block.id.as_bytes()).is_some();
    !listed.is_empty() && listed.iter().all(|block| fits(block) && is_ours(block))
}

/// Ranges of 8 MiB, larger only where the number of blocks demands it.
fn equal_ranges(source: &SourceVersion<'_>, largest: u64) -> Result<Vec<Block>, PlanError> {
    let needed = source.length.div_ceil(MOST_BLOCKS).next_multiple_of(MIB).max(MIB);
    if needed > largest && source.length > largest {
        return Err(PlanError::TooLarge { needed, largest });
    }
    // A budget below 8 MiB makes them smaller.
    let size = needed.max((8 * MIB).min(largest));
    let owner = owner(source, size);
    let count = source.length.div_ceil(size);
    let block = |index: u64| {
        let number = u32::try_from(index).expect("there are at most 50,000 blocks");
        let identity = BlockIdentity { owner, index: number, before: [0; 32] };
        Block { id: BlockId::new(identity.to_bytes()), length: size.min(source.length - index * size) }
    };
    Ok((0..count).map(block).collect())
}

/// 19 bytes that name the version and the cut.
fn owner(source: &SourceVersion<'_>, size: u64) -> [u8; 19] {
    let mut hash = Sha256::new();
    hash.update(b"copy");
    for text in [source.container.as_url().as_str(), source.blob.as_str(), &source.etag.0] {
        hash.update([0]);
        hash.update(text);
    }
    hash.update([0]);
    hash.update(source.length.to_be_bytes());
    hash.update(size.to_be_bytes());
    let mut owner = [0; 19];
    owner.copy_from_slice(&hash.finalize()[..19]);
    owner
}

/// Sorts out what the target has.
fn subtract(blocks: &[Block], present: &[Block]) -> CopyPlan {
    // What is there, and then also what is planned already: neither moves (again).
    let mut there: HashMap<&BlockId, u64> = present.iter().map(|block| (&block.id, block.length)).collect();
    let mut plan = CopyPlan::default();
    let mut at = 0;
    for Block { id, length } in blocks {
        let range = at..at + length;
        at = range.end;
        plan.order.push(id.clone());
        if there.insert(id, *length) == Some(*length) {
            plan.present_bytes += length;
        } else {
            plan.missing.push(PlannedBlock { id: id.clone(), range });
        }
    }
    plan
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
