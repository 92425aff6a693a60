//! Block identifiers, made of content: version ‖ 19 bytes of a hash that names what the block belongs to ‖
//! index ‖ the SHA-256 chaining value before the block. 56 bytes, always (Azure allows 64, all of one length).

use sha2::{Digest as _, Sha256};
use transship_model::Digest;

use crate::chain::ChainValue;

/// The most blocks of a blob (Put Block List).
pub const MAX_BLOCKS: u64 = 50_000;

/// The length of every identifier.
pub const BLOCK_ID_BYTES: usize = 56;

const VERSION: u8 = 1;
const MIB: u64 = 1 << 20;

/// The block size of a blob of `size` bytes: 8 MiB, and more only where a bundle's 50,000 blocks demand it.
/// It depends on the blob alone, so every run cuts the blob alike.
pub fn block_size(size: u64) -> u64 {
    (size.div_ceil(40_000)).next_multiple_of(MIB).max(8 * MIB)
}

/// What an identifier says of a blob's block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockIdentity {
    /// Names the blob.
    pub owner: [u8; 19],
    /// Which block of it.
    pub index: u32,
    /// The blob's chaining value before the block.
    pub before: ChainValue,
}

impl BlockIdentity {
    /// The identity of block `index` of a blob.
    pub fn of_blob(digest: &Digest, index: u32, before: ChainValue) -> Self {
        Self { owner: owner(b"blob", &[digest.to_string().as_bytes()]), index, before }
    }

    /// The same where the blob is read in one stream, from its start each time: nothing that is staged so takes the
    /// place of what is staged by range, since who reads a stream learns the length that block 0 states only at the end.
    pub fn of_stream(digest: &Digest, index: u32, before: ChainValue) -> Self {
        Self { owner: owner(b"stream", &[digest.to_string().as_bytes()]), index, before }
    }

    /// The identifier.
    pub fn to_bytes(&self) -> [u8; BLOCK_ID_BYTES] {
        let mut id = [0; BLOCK_ID_BYTES];
        id[0] = VERSION;
        id[1..20].copy_from_slice(&self.owner);
        id[20..24].copy_from_slice(&self.index.to_be_bytes());
        id[24..].copy_from_slice(&self.before);
        id
    }

    /// Reads an identifier; `None` where it is not one of ours.
    pub fn parse(id: &[u8]) -> Option<Self> {
        let id: &[u8; BLOCK_ID_BYTES] = id.try_into().ok()?;
        if id[0] != VERSION {
            return None;
        }
        let mut identity = Self { owner: [0; 19], index: 0, before: [0; 32] };
        identity.owner.copy_from_slice(&id[1..20]);
        identity.index = u32::from_be_bytes([id[20], id[21], id[22], id[23]]);
        identity.before.copy_from_slice(&id[24..]);
        Some(identity)
    }
}

/// 19 bytes that name an owner; the kind keeps owners of different kinds apart.
fn owner(kind: &[u8], parts: &[&[u8]]) -> [u8; 19] {
    let mut hash = Sha256::new();
    hash.update(kind);
    for part in parts {
        hash.update([0]);
        hash.update(part);
    }
    let mut owner = [0; 19];
    owner.copy_from_slice(&hash.finalize()[..19]);
    owner
}

fn lone(kind: &[u8], parts: &[&[u8]], index: u32) -> [u8; BLOCK_ID_BYTES] {
    BlockIdentity { owner: owner(kind, parts), index, before: [0; 32] }.to_bytes()
}

/// The identifier of a block that holds the whole segments of small blobs, in this order. It names each with the size
/// that it really has, so that a block which is found under sizes that were only declared proves them right.
pub fn group_id<'a>(members: impl IntoIterator<Item = (&'a Digest, u64)>) -> [u8; BLOCK_ID_BYTES] {
    let texts: Vec<String> = members.into_iter().map(|(digest, size)| format!("{digest} {size}")).collect();
    let parts: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
    lone(b"group", &parts, 0)
}

/// The blocks of an encoded head, at most 8 MiB each, with their identifiers.
pub fn head_blocks(head: &[u8]) -> Vec<([u8; BLOCK_ID_BYTES], &[u8])> {
    let hash = Sha256::digest(head);
    head.chunks(8 * MIB as usize).zip(0..).map(|(block, i)| (lone(b"head", &[&hash], i), block)).collect()
}

/// The last block of every bundle: the two zero records that end a tar.
pub fn end_block() -> Vec<u8> {
    vec![0; 1024]
}

/// The identifier of the last block.
pub fn end_block_id() -> [u8; BLOCK_ID_BYTES] {
    lone(b"end", &[], 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_reads_back_and_fits_azure() {
        let identity = BlockIdentity::of_blob(&Digest::sha256(b"x"), 70_000, [7; 32]);
        let id = identity.to_bytes();
        assert!(id.len() <= 64);
        assert_eq!(BlockIdentity::parse(&id), Some(identity));
        assert_eq!(BlockIdentity::parse(&id[1..]), None);
        let mut other_version = id;
        other_version[0] = 9;
        assert_eq!(BlockIdentity::parse(&other_version), None);
    }

    #[test]
    fn identifiers_of_different_things_differ() {
        let (a, b) = (Digest::sha256(b"a"), Digest::sha256(b"b"));
        let ids = [
            group_id([(&a, 1), (&b, 2)]),
            group_id([(&b, 2), (&a, 1)]),
            group_id([(&a, 1), (&b, 3)]),
            group_id([(&a, 1)]),
            BlockIdentity::of_blob(&a, 0, [0; 32]).to_bytes(),
            BlockIdentity::of_stream(&a, 0, [0; 32]).to_bytes(),
            end_block_id(),
            head_blocks(b"head")[0].0,
        ];
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }

    #[test]
    fn blocks_grow_only_where_their_number_demands_it() {
        assert_eq!(block_size(0), 8 * MIB);
        assert_eq!(block_size(300 << 30), 8 * MIB);
        assert_eq!(block_size(400 << 30), 11 * MIB);
        let largest = 190u64 << 40;
        assert!(largest.div_ceil(block_size(largest)) <= 40_000);
    }
}
