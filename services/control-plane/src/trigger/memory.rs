//! What the trigger of one pipeline need not look at again while this process lives: 16 bytes a blob.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use transship_model::BlobName;

/// The versions of blobs whose verdict stands. Hashes stand for names; the keys are the process's own, so nobody can
/// make two names alike.
#[derive(Debug, Default)]
pub(super) struct Memory {
    keys: RandomState,
    settled: HashMap<u64, u64>,
    /// Whether the store's list was compared with the container once.
    compared: bool,
}

/// The names of one complete listing.
#[derive(Debug, Default)]
pub(super) struct Listing(HashSet<u64>);

impl Memory {
    /// Whether the verdict of this version stands.
    pub(super) fn is_settled(&self, blob: &BlobName, etag: &str) -> bool {
        self.settled.get(&self.keys.hash_one(blob.as_str())) == Some(&self.keys.hash_one(etag))
    }

    /// The verdict of this version stands.
    pub(super) fn settle(&mut self, blob: &BlobName, etag: &str) {
        self.settled.insert(self.keys.hash_one(blob.as_str()), self.keys.hash_one(etag));
    }

    /// Adds a name to a listing.
    pub(super) fn list(&self, listing: &mut Listing, blob: &BlobName) {
        listing.0.insert(self.keys.hash_one(blob.as_str()));
    }

    /// Whether a name is in a listing.
    pub(super) fn is_listed(&self, listing: &Listing, blob: &BlobName) -> bool {
        listing.0.contains(&self.keys.hash_one(blob.as_str()))
    }

    /// Forgets what is not in a complete listing. True where the store's list must be compared with it: something went
    /// since the last time, or nobody compared them yet.
    pub(super) fn keep(&mut self, listing: &Listing) -> bool {
        let before = self.settled.len();
        self.settled.retain(|name, _| listing.0.contains(name));
        let gone = self.settled.len() < before;
        !std::mem::replace(&mut self.compared, true) || gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_settled_until_the_blob_changes_or_goes() {
        let (mut memory, blob): (_, BlobName) = (Memory::default(), "a/b".parse().unwrap());
        assert!(!memory.is_settled(&blob, "1"));
        memory.settle(&blob, "1");
        assert!(memory.is_settled(&blob, "1") && !memory.is_settled(&blob, "2"));
        let mut listing = Listing::default();
        memory.list(&mut listing, &blob);
        assert!(memory.keep(&listing), "the first time the lists are compared");
        assert!(!memory.keep(&listing));
        assert!(memory.keep(&Listing::default()), "it is gone");
        assert!(!memory.is_settled(&blob, "1"));
    }
}
