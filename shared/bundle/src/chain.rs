//! SHA-256 that can be stopped at a multiple of 64 bytes and gone on with from its chaining value
//! (FIPS 180-4, section 6.2: the intermediate hash value).

use sha2::Digest as _;
use sha2::Sha256;
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use transship_model::{Algorithm, Digest, Hasher};

/// The intermediate hash value before some multiple of 64 bytes: 32 bytes, as the library orders them.
pub type ChainValue = [u8; 32];

/// Hashes a blob in order, and says its chaining value at the boundaries of its blocks.
///
/// A blob whose digest is not SHA-256 is hashed twice: with its own algorithm for the verdict, and with
/// SHA-256 for the identifiers of its blocks.
#[derive(Clone)]
pub struct ChainedHash {
    chain: Sha256,
    other: Option<Hasher>,
    hashed: u64,
}

impl ChainedHash {
    /// A hash that has seen nothing of a blob with a digest of `algorithm`.
    pub fn new(algorithm: Algorithm) -> Self {
        let other = (algorithm != Algorithm::Sha256).then(|| Hasher::new(algorithm));
        Self { chain: Sha256::new(), other, hashed: 0 }
    }

    /// Goes on at byte `at` of a blob with a SHA-256 digest, where `value` was its chaining value.
    /// `None` where `at` is not a multiple of 64.
    pub fn resume(value: &ChainValue, at: u64) -> Option<Self> {
        if !at.is_multiple_of(64) {
            return None;
        }
        // The library's layout: the hash value, the count of 64-byte blocks, and an empty buffer.
        let mut state = SerializedState::<Sha256>::default();
        state[..32].copy_from_slice(value);
        state[32..40].copy_from_slice(&(at / 64).to_le_bytes());
        Some(Self { chain: Sha256::deserialize(&state).ok()?, other: None, hashed: at })
    }

    /// The chaining value now. Meaningful after a multiple of 64 bytes, where the boundaries of blocks are.
    pub fn value(&self) -> ChainValue {
        let mut value = [0; 32];
        value.copy_from_slice(&self.chain.serialize()[..32]);
        value
    }

    /// How many bytes of the blob are behind.
    pub fn hashed(&self) -> u64 {
        self.hashed
    }

    /// Hashes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.chain.update(bytes);
        if let Some(other) = &mut self.other {
            other.update(bytes);
        }
        self.hashed += bytes.len() as u64;
    }

    /// The digest of everything.
    pub fn finish(self) -> Digest {
        match self.other {
            Some(other) => other.finish(),
            None => Digest::from_sha256_bytes(&self.chain.finalize().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_that_goes_on_from_its_chaining_value_ends_like_one_that_never_stopped() {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i * 31 % 251) as u8).collect();
        for at in [0usize, 64, 128, 64 * 1000, 99_968] {
            let mut first = ChainedHash::new(Algorithm::Sha256);
            first.update(&bytes[..at]);
            let mut second = ChainedHash::resume(&first.value(), at as u64).unwrap();
            second.update(&bytes[at..]);
            assert_eq!(second.hashed(), bytes.len() as u64);
            assert_eq!(second.finish(), Digest::sha256(&bytes), "at {at}");
        }
        assert!(ChainedHash::resume(&[0; 32], 63).is_none());
    }

    #[test]
    fn a_sha512_blob_is_judged_by_its_own_algorithm() {
        let mut hash = ChainedHash::new(Algorithm::Sha512);
        hash.update(b"content");
        assert_eq!(hash.finish(), Digest::compute(Algorithm::Sha512, b"content"));
    }
}
