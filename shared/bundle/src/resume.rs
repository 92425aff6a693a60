//! Where the staging of a blob goes on after a restart: decided from the identifiers of the staged blocks alone.

use crate::blocks::{BLOCK_ID_BYTES, BlockIdentity};
use crate::chain::ChainValue;
use crate::segment::Segment;

/// Where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// Every block is staged. The last one is staged only after the digest of the whole was verified, so the
    /// blob is complete and right.
    Complete {
        /// The identifiers, in order.
        ids: Vec<[u8; BLOCK_ID_BYTES]>,
    },
    /// Go on at this block: the last that is staged, once more, because no later identifier vouches for it.
    At {
        /// The identifiers of the blocks before it, in order.
        ids: Vec<[u8; BLOCK_ID_BYTES]>,
        /// The block's index; 0 is a fresh start.
        index: u32,
        /// The chaining value before it.
        before: ChainValue,
        /// The highest index of which some block is staged, and at least `index`. Blocks are staged side by side,
        /// so there may be gaps between the two.
        until: u32,
    },
}

/// Decides where the blob of `segment` goes on, from the staged blocks of the whole bundle: identifier and length.
///
/// The longest contiguous prefix counts. Two identifiers at one index mean that two versions of the blob were
/// read, and end the prefix before them; so does a block of the wrong length.
pub fn resume_blob<'a>(segment: &Segment, staged: impl IntoIterator<Item = (&'a [u8], u64)>) -> Resume {
    let fresh = crate::ChainedHash::new(transship_model::Algorithm::Sha256).value();
    let owner = BlockIdentity::of_blob(segment.digest(), 0, fresh).owner;
    let count = segment.block_count();
    let mut found: Vec<Option<Result<ChainValue, ()>>> = Vec::new();
    for (id, length) in staged {
        let Some(identity) = BlockIdentity::parse(id).filter(|i| i.owner == owner && i.index < count) else {
            continue;
        };
        let at = identity.index as usize;
        if found.len() <= at {
            found.resize(at + 1, None);
        }
        let is_right = length == segment.block(identity.index).length() && found[at].is_none();
        found[at] = Some(if is_right { Ok(identity.before) } else { Err(()) });
    }
    let until = (found.len() as u32).saturating_sub(1);
    let prefix: Vec<ChainValue> = found.iter().map_while(|block| block.and_then(Result::ok)).collect();
    let id = |(index, before): (u32, &ChainValue)| BlockIdentity { owner, index, before: *before }.to_bytes();
    match prefix.split_last() {
        // The chaining value before the first block is a constant; anything else is not ours.
        Some(_) if prefix[0] != fresh => Resume::At { ids: Vec::new(), index: 0, before: fresh, until },
        Some(_) if prefix.len() == count as usize => {
            Resume::Complete { ids: (0..).zip(&prefix).map(id).collect() }
        }
        Some((last, before_last)) => Resume::At {
            ids: (0..).zip(before_last).map(id).collect(),
            index: before_last.len() as u32,
            before: *last,
            until,
        },
        None => Resume::At { ids: Vec::new(), index: 0, before: fresh, until },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChainedHash;
    use transship_model::{Algorithm, Digest};

    const SIZE: u64 = 30 << 20;

    /// The identifiers and lengths that an uninterrupted run stages for a blob of four blocks.
    fn blocks() -> (Segment, Vec<([u8; BLOCK_ID_BYTES], u64)>) {
        let bytes = vec![7u8; SIZE as usize];
        let digest = Digest::sha256(&bytes);
        let segment = Segment::new(&digest, SIZE);
        let mut hash = ChainedHash::new(Algorithm::Sha256);
        let mut staged = Vec::new();
        for index in 0..segment.block_count() {
            let block = segment.block(index);
            staged.push((BlockIdentity::of_blob(&digest, index, hash.value()).to_bytes(), block.length()));
            hash.update(&bytes[block.range.start as usize..block.range.end as usize]);
        }
        assert_eq!(hash.finish(), digest);
        (segment, staged)
    }

    fn resume(segment: &Segment, staged: &[([u8; BLOCK_ID_BYTES], u64)]) -> Resume {
        resume_blob(segment, staged.iter().map(|(id, length)| (id.as_slice(), *length)))
    }

    fn index_of(resume: Resume) -> Option<u32> {
        match resume {
            Resume::Complete { .. } => None,
            Resume::At { ids, index, until, .. } => {
                assert_eq!(ids.len(), index as usize);
                assert!(until >= index);
                Some(index)
            }
        }
    }

    #[test]
    fn the_last_staged_block_is_staged_again_and_a_complete_blob_is_not() {
        let (segment, staged) = blocks();
        assert_eq!(index_of(resume(&segment, &[])), Some(0));
        assert_eq!(index_of(resume(&segment, &staged[..1])), Some(0));
        assert_eq!(index_of(resume(&segment, &staged[..3])), Some(2));
        let mut shuffled = staged.clone();
        shuffled.reverse();
        assert!(matches!(resume(&segment, &shuffled), Resume::Complete { ids } if ids.len() == 4));
    }

    #[test]
    fn what_is_staged_behind_a_gap_is_known() {
        let (segment, staged) = blocks();
        let until_of = |staged: &[_]| match resume(&segment, staged) {
            Resume::At { index, until, .. } => (index, until),
            Resume::Complete { .. } => panic!("there is a gap"),
        };
        assert_eq!(until_of(&[]), (0, 0));
        assert_eq!(until_of(&staged[..3]), (2, 2));
        assert_eq!(until_of(&staged[1..3]), (0, 2));
        assert_eq!(until_of(&[staged[0], staged[3]]), (0, 3));
    }

    #[test]
    fn a_gap_a_wrong_length_and_a_fork_end_the_prefix() {
        let (segment, staged) = blocks();
        assert_eq!(index_of(resume(&segment, &[staged[0], staged[2], staged[3]])), Some(0));
        let mut short = staged.clone();
        short[2].1 -= 1;
        assert_eq!(index_of(resume(&segment, &short)), Some(1));
        let mut fork = staged.clone();
        let mut other = staged[2].0;
        other[40] ^= 1;
        fork.push((other, staged[2].1));
        assert_eq!(index_of(resume(&segment, &fork)), Some(1));
    }

    #[test]
    fn blocks_of_others_are_passed_over() {
        let (segment, _) = blocks();
        let foreign = BlockIdentity::of_blob(&Digest::sha256(b"other"), 0, [0; 32]).to_bytes();
        let mut wrong_start = BlockIdentity::of_blob(segment.digest(), 0, [9; 32]).to_bytes();
        assert_eq!(
            index_of(resume(&segment, &[(foreign, 1), (wrong_start, segment.block(0).length())])),
            Some(0)
        );
        wrong_start[0] = 2;
        assert_eq!(index_of(resume(&segment, &[(wrong_start, 1)])), Some(0));
    }
}
