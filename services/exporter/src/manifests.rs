//! Staging manifests while walking: they are grouped into blocks in the order of the walk, and no more than one
//! block of them is in memory.

use transship_bundle::{Segment, StoredManifest, group_id};
use transship_model::{Failure, MediaType};
use transship_registry::NewManifest;
use transship_stage::Progress;

use crate::staged::{Id, Staging};

/// A block is closed before it would exceed this many bytes.
const BLOCK_BYTES: usize = 4 << 20;

/// The manifests of a bundle, as far as they are known.
#[derive(Default)]
pub(crate) struct Manifests {
    block: Vec<u8>,
    offset: u64,
    ids: Vec<Id>,
    stored: Vec<StoredManifest>,
    flushed: usize,
}

/// All manifests of a bundle, staged.
pub(crate) struct StagedManifests {
    /// The blocks, in order.
    pub(crate) ids: Vec<Id>,
    /// Where each manifest is.
    pub(crate) stored: Vec<StoredManifest>,
    /// The bytes of the blob that they take.
    pub(crate) length: u64,
}

impl Manifests {
    /// Takes the next manifest, and stages a block when one is full.
    pub(crate) async fn push(
        &mut self,
        staging: &Staging,
        progress: &Progress,
        manifest: NewManifest,
    ) -> Result<(), Failure> {
        let NewManifest { digest, media_type, bytes } = manifest;
        let segment = Segment::new(&digest, bytes.len() as u64);
        if self.block.len() as u64 + segment.length() > BLOCK_BYTES as u64 {
            self.flush(staging, progress).await?;
        }
        self.note(&segment, media_type);
        segment.encode_into(&bytes, &mut self.block);
        Ok(())
    }

    fn note(&mut self, segment: &Segment, media_type: MediaType) {
        let offset = self.offset + segment.header().len() as u64;
        let (digest, size) = (segment.digest().clone(), segment.size());
        self.stored.push(StoredManifest { digest, media_type, size, offset });
        self.offset += segment.length();
    }

    async fn flush(&mut self, staging: &Staging, progress: &Progress) -> Result<(), Failure> {
        if self.flushed == self.stored.len() {
            return Ok(());
        }
        let members = &self.stored[std::mem::replace(&mut self.flushed, self.stored.len())..];
        let id = group_id(members.iter().map(|member| (&member.digest, member.size)));
        let block = std::mem::take(&mut self.block);
        let is_new = staging.stage_once(&id, block.into()).await?;
        self.ids.push(id);
        let (count, bytes) = (members.len() as u64, members.iter().map(|member| member.size).sum::<u64>());
        progress.count(|c| {
            let (blobs, moved) = if is_new {
                (&mut c.blobs_moved, &mut c.bytes_moved)
            } else {
                (&mut c.blobs_skipped, &mut c.bytes_skipped)
            };
            *blobs += count;
            *moved += bytes;
        });
        Ok(())
    }

    /// Stages what is left.
    pub(crate) async fn finish(
        mut self,
        staging: &Staging,
        progress: &Progress,
    ) -> Result<StagedManifests, Failure> {
        self.flush(staging, progress).await?;
        Ok(StagedManifests { ids: self.ids, stored: self.stored, length: self.offset })
    }
}
