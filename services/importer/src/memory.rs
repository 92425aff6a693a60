//! What this process put where: repositories that a blob may be mounted from. A hint, never believed: the
//! answer to the mount tells.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use transship_model::{Digest, Repository};

/// The most blobs that are remembered for one registry: about 10 MiB.
const REMEMBERED: usize = 100_000;

/// How many subjects may have their referrers listed at a time.
const TURNS: usize = 64;

/// How long it is remembered that a registry takes no pieces: what is before it may change.
const PIECES_REFUSED: Duration = Duration::from_secs(3600);

/// The memory of one registry: of each blob the last repository that it was put into. What was used longest
/// ago is forgotten first. Also whether the registry takes uploads in pieces, and the turns of those who read,
/// change and write the same thing there.
#[derive(Debug)]
pub(crate) struct Memory {
    remembered: Mutex<Remembered>,
    turns: Vec<tokio::sync::Mutex<()>>,
    pieces_refused: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Remembered {
    blobs: HashMap<Key, (Arc<Repository>, u64)>,
    order: BTreeMap<u64, Key>,
    now: u64,
}

/// Half of a digest says enough for a hint.
type Key = u128;

fn key(digest: &Digest) -> Key {
    digest.hex().get(..32).and_then(|hex| Key::from_str_radix(hex, 16).ok()).unwrap_or_default()
}

impl Default for Memory {
    fn default() -> Self {
        let turns = std::iter::repeat_with(tokio::sync::Mutex::default).take(TURNS).collect();
        Self { remembered: Mutex::default(), turns, pieces_refused: Mutex::default() }
    }
}

impl Memory {
    /// Waits until nobody else in this process changes the list of this subject's referrers.
    pub(crate) async fn turn(&self, subject: &Digest) -> tokio::sync::MutexGuard<'_, ()> {
        self.turns[(key(subject) % TURNS as u128) as usize].lock().await
    }

    /// Whether the registry takes uploads in pieces, as far as this process knows.
    pub(crate) fn takes_pieces(&self) -> bool {
        let refused = *self.pieces_refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.is_none_or(|refused| refused.elapsed() >= PIECES_REFUSED)
    }

    /// The registry refused the first piece of a blob, and took the same blob whole.
    pub(crate) fn refuse_pieces(&self) {
        *self.pieces_refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        // A panic elsewhere leaves hints that are still hints.
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `repository` has the blob now.
    pub(crate) fn remember(&self, digest: &Digest, repository: &Arc<Repository>) {
        self.lock().insert(key(digest), Arc::clone(repository), REMEMBERED);
    }

    /// A repository that had the blob.
    pub(crate) fn recall(&self, digest: &Digest) -> Option<Repository> {
        let mut remembered = self.lock();
        let key = key(digest);
        let (repository, _) = remembered.blobs.get(&key)?.clone();
        remembered.insert(key, Arc::clone(&repository), REMEMBERED);
        Some(Repository::clone(&repository))
    }
}

impl Remembered {
    fn insert(&mut self, key: Key, repository: Arc<Repository>, most: usize) {
        self.now += 1;
        if let Some((_, used)) = self.blobs.insert(key, (repository, self.now)) {
            self.order.remove(&used);
        }
        self.order.insert(self.now, key);
        while self.blobs.len() > most {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.blobs.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_is_forgotten_first() {
        let mut remembered = Remembered::default();
        let here = Arc::new("a".parse().unwrap());
        for key in [1, 2, 1, 3] {
            remembered.insert(key, Arc::clone(&here), 2);
        }
        let mut keys: Vec<_> = remembered.blobs.keys().copied().collect();
        keys.sort_unstable();
        assert_eq!((keys, remembered.order.len()), (vec![1, 3], 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_takes_no_pieces_is_asked_again_after_an_hour() {
        let memory = Memory::default();
        assert!(memory.takes_pieces());
        memory.refuse_pieces();
        assert!(!memory.takes_pieces());
        tokio::time::advance(PIECES_REFUSED).await;
        assert!(memory.takes_pieces());
    }

    #[test]
    fn a_blob_is_remembered_where_it_was_put_last() {
        let memory = Memory::default();
        let digest = Digest::sha256(b"layer");
        assert_eq!(memory.recall(&digest), None);
        for name in ["a", "b"] {
            memory.remember(&digest, &Arc::new(name.parse().unwrap()));
        }
        assert_eq!(memory.recall(&digest), Some("b".parse().unwrap()));
        assert_eq!(memory.recall(&Digest::sha256(b"other")), None);
    }
}
