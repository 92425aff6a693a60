//! One contract for every registry: the CNCF distribution registry as Debian packages it, and the twin in
//! memory. What only a real server can show is in `distribution`.

mod contract;
mod distribution;
mod twin;

use std::pin::Pin;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use transship_model::{Algorithm, Digest, Hasher};
use transship_registry::{BlobRead, Content};

/// The block that large content repeats.
const BLOCK: usize = 64 * 1024;

/// Content of any length that takes no memory: block `n` is full of the byte `n`.
struct Pattern(u64);

impl Pattern {
    fn piece(&self, at: u64) -> Option<Bytes> {
        let length = (self.0 - at).min(BLOCK as u64 - at % BLOCK as u64) as usize;
        (length > 0).then(|| Bytes::from(vec![(at / BLOCK as u64) as u8; length]))
    }

    fn digest(&self) -> Digest {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut at = 0;
        while let Some(piece) = self.piece(at) {
            at += piece.len() as u64;
            hasher.update(&piece);
        }
        hasher.finish()
    }
}

impl Content for Pattern {
    fn length(&self) -> u64 {
        self.0
    }

    fn open(&self, offset: u64) -> Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>> {
        let pattern = Self(self.0);
        Box::pin(stream::unfold(offset, move |at| {
            let piece = pattern.piece(at);
            async move {
                piece.map(|piece| {
                    let next = at + piece.len() as u64;
                    (Ok(piece), next)
                })
            }
        }))
    }
}

/// Content in memory.
struct Memory(Bytes);

impl Content for Memory {
    fn length(&self) -> u64 {
        self.0.len() as u64
    }

    fn open(&self, offset: u64) -> Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>> {
        Box::pin(stream::iter([Ok(self.0.slice(offset as usize..))]))
    }
}

async fn read(mut blob: BlobRead) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(piece) = blob.bytes.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    bytes
}

/// Digest and length of a blob, without keeping it.
async fn hash(mut blob: BlobRead) -> (Digest, u64) {
    let (mut hasher, mut length) = (Hasher::new(Algorithm::Sha256), 0);
    while let Some(piece) = blob.bytes.next().await {
        let piece = piece.unwrap();
        length += piece.len() as u64;
        hasher.update(&piece);
    }
    (hasher.finish(), length)
}
