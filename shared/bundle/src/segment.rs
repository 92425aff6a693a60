//! Segments: the header, bytes and padding of one blob, and how a large one is cut into blocks.

use std::ops::Range;

use transship_model::Digest;

use crate::blocks::block_size;
use crate::tar::{file_header, padding};

/// One blob as it stands in a bundle: tar header, bytes, padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    digest: Digest,
    size: u64,
    header: Vec<u8>,
}

/// One block of a blob that has blocks of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobBlock {
    /// Its index in the blob, from 0.
    pub index: u32,
    /// The bytes of the blob that it carries.
    pub range: Range<u64>,
    /// What stands before them: the tar header in block 0.
    pub before: Vec<u8>,
    /// How many zeros stand after them: the padding in the last block.
    pub after: usize,
}

impl BlobBlock {
    /// The length of the block.
    pub fn length(&self) -> u64 {
        self.before.len() as u64 + (self.range.end - self.range.start) + self.after as u64
    }
}

/// The path of a blob in an OCI image layout.
pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

impl Segment {
    /// The segment of a blob of `size` bytes.
    pub fn new(digest: &Digest, size: u64) -> Self {
        Self { digest: digest.clone(), size, header: file_header(&blob_path(digest), size) }
    }

    /// The tar header.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// How many zeros follow the bytes.
    pub fn padding(&self) -> usize {
        padding(self.size)
    }

    /// The length of the whole segment.
    pub fn length(&self) -> u64 {
        self.header.len() as u64 + self.size + self.padding() as u64
    }

    /// The whole segment of a small blob.
    pub fn encode(&self, bytes: &[u8]) -> Vec<u8> {
        let mut segment = Vec::with_capacity(self.header.len() + bytes.len() + self.padding());
        self.encode_into(bytes, &mut segment);
        segment
    }

    /// Appends the whole segment of a small blob.
    pub fn encode_into(&self, bytes: &[u8], segment: &mut Vec<u8>) {
        segment.extend_from_slice(&self.header);
        segment.extend_from_slice(bytes);
        segment.resize(segment.len() + self.padding(), 0);
    }

    /// How many blocks the segment has. An empty blob has one: its header.
    pub fn block_count(&self) -> u32 {
        // Block sizes are chosen so that 50,000 blocks suffice.
        u32::try_from(self.size.div_ceil(block_size(self.size)).max(1)).unwrap_or(u32::MAX)
    }

    /// The block with this index.
    pub fn block(&self, index: u32) -> BlobBlock {
        let (size, step) = (self.size, block_size(self.size));
        let start = (u64::from(index) * step).min(size);
        let end = (start + step).min(size);
        BlobBlock {
            index,
            range: start..end,
            before: if index == 0 { self.header.clone() } else { Vec::new() },
            after: if end == size { self.padding() } else { 0 },
        }
    }

    /// The blob.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The size of the blob's bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blocks_of_a_segment_make_the_segment() {
        for size in [0, 1, 511, 512, 8 << 20, (8 << 20) + 1, 50 << 20, 9 << 30, 20 << 40] {
            let segment = Segment::new(&Digest::sha256(b"x"), size);
            let blocks: Vec<_> = (0..segment.block_count()).map(|i| segment.block(i)).collect();
            assert!(blocks.len() <= 40_001);
            assert_eq!(blocks.iter().map(BlobBlock::length).sum::<u64>(), segment.length(), "{size}");
            assert!(segment.length().is_multiple_of(512));
            for pair in blocks.windows(2) {
                assert_eq!(pair[0].range.end, pair[1].range.start);
                assert!(pair[0].range.end.is_multiple_of(64));
            }
            assert_eq!(blocks.last().unwrap().range.end, size);
        }
    }
}
