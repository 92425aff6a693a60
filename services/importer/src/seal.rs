//! What a slice writes down of uploads that it ended inside, sealed: whoever has the location of an upload can
//! write to it, and whoever could forge a chaining value could pass off other bytes as verified.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use transship_bundle::ChainValue;
use transship_messages::ImportRequested;
use transship_model::{Digest, Repository, Secret};

/// The first byte of what is sealed, and of what is bound to it. 1 was bound to less.
const VERSION: u8 = 2;

/// The most bytes of all uploads together, so that the message stays below its 64 KiB.
const MAX_BYTES: usize = 32 << 10;

/// The longest location that is written down, in bytes: an upload with a longer one is not left standing.
pub(crate) const MAX_LOCATION: usize = 4 << 10;

/// What one upload takes at most beside its location, in bytes.
const AROUND_LOCATION: usize = 1 << 10;

/// An upload that a slice ended inside. Its location is a secret.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// The blob, by a SHA-256 digest.
    pub(crate) digest: Digest,
    /// The repository at the target.
    pub(crate) repository: Repository,
    /// Where the registry takes the next piece.
    pub(crate) location: Secret,
    /// The bytes that the registry has: a multiple of 64.
    pub(crate) offset: u64,
    /// The smallest piece that the registry takes, in bytes.
    pub(crate) minimum: u64,
    /// The chaining value of SHA-256 at the offset.
    pub(crate) chain: ChainValue,
    /// How often in a row the registry had lost the upload before, when a slice wanted to go on with it.
    pub(crate) lost: u32,
}

/// The same in JSON, before it is sealed.
#[derive(Serialize, Deserialize)]
struct Written {
    digest: Digest,
    repository: Repository,
    location: String,
    offset: u64,
    minimum: u64,
    chain: ChainValue,
    lost: u32,
}

/// The key that all importers of one broker share: AES-256-GCM.
pub(crate) struct Seal(RandomizedNonceKey);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal([hidden])")
    }
}

impl Seal {
    /// The key in a secret: 32 bytes in base64. `None` where it is something else.
    pub(crate) fn new(secret: &Secret) -> Option<Self> {
        let key = STANDARD.decode(secret.expose()).ok()?;
        // Another length than 32 is refused.
        RandomizedNonceKey::new(&AES_256_GCM, &key).ok().map(Self)
    }

    /// Seals uploads to `registry` for the next slice of `work`, those that are furthest first, as many as a message
    /// holds. Returns the seal, where there is anything to seal, and the uploads that are not in it.
    pub(crate) fn seal(
        &self,
        work: &ImportRequested,
        registry: &str,
        mut uploads: Vec<Standing>,
    ) -> (Option<Vec<u8>>, Vec<Standing>) {
        uploads.sort_by_key(|upload| std::cmp::Reverse(upload.offset));
        let mut bytes = 0;
        let (fitting, mut left): (Vec<_>, Vec<_>) = uploads.into_iter().partition(|upload| {
            let size = upload.location.expose().len() + AROUND_LOCATION;
            let fits = bytes + size <= MAX_BYTES;
            bytes += if fits { size } else { 0 };
            fits
        });
        let sealed = self.seal_all(work, registry, &fitting);
        if sealed.is_none() {
            left.extend(fitting);
        }
        (sealed, left)
    }

    fn seal_all(&self, work: &ImportRequested, registry: &str, uploads: &[Standing]) -> Option<Vec<u8>> {
        if uploads.is_empty() {
            return None;
        }
        let written: Vec<Written> = uploads.iter().map(Written::from).collect();
        let mut sealed = serde_json::to_vec(&written).ok()?;
        // The plain text is sealed where it stands: no copy of it stays behind.
        let nonce = self.0.seal_in_place_append_tag(Aad::from(bound_to(work, registry)), &mut sealed).ok()?;
        Some([&[VERSION][..], nonce.as_ref(), &sealed].concat())
    }

    /// Opens what an earlier slice of `work` sealed for `registry`. `None` where it was sealed with another key or
    /// for something else, or was changed.
    pub(crate) fn open(
        &self,
        work: &ImportRequested,
        registry: &str,
        sealed: &[u8],
    ) -> Option<Vec<Standing>> {
        let (version, rest) = sealed.split_first()?;
        let (nonce, rest) = rest.split_at_checked(NONCE_LEN)?;
        if *version != VERSION {
            return None;
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut rest = rest.to_vec();
        let plain = self.0.open_in_place(nonce, Aad::from(bound_to(work, registry)), &mut rest).ok()?;
        let written: Vec<Written> = serde_json::from_slice(plain).ok()?;
        Some(written.into_iter().map(Standing::from).collect())
    }
}

/// What a seal is good for: this execution, generation and part, by this pipeline, of this blob, into the registry at
/// this address. Each piece has its length before it, so no two lists of them look the same.
fn bound_to(work: &ImportRequested, registry: &str) -> Vec<u8> {
    let numbers = [work.execution.generation, work.part.number.into(), work.part.count.into()];
    let numbers = numbers.map(u64::to_be_bytes).concat();
    let container = work.container.to_string();
    let pieces = [
        work.execution.id.as_str().as_bytes(),
        &numbers,
        work.pipeline.as_str().as_bytes(),
        registry.as_bytes(),
        container.as_bytes(),
        work.blob.as_str().as_bytes(),
    ];
    let mut bound = b"transship sealed upload".to_vec();
    bound.push(VERSION);
    for piece in pieces {
        bound.extend_from_slice(&(piece.len() as u64).to_be_bytes());
        bound.extend_from_slice(piece);
    }
    bound
}

impl From<&Standing> for Written {
    fn from(standing: &Standing) -> Self {
        let Standing { digest, repository, location, offset, minimum, chain, lost } = standing.clone();
        Self { digest, repository, location: location.expose().to_owned(), offset, minimum, chain, lost }
    }
}

impl From<Written> for Standing {
    fn from(written: Written) -> Self {
        let Written { digest, repository, location, offset, minimum, chain, lost } = written;
        Self { digest, repository, location: Secret::new(&location), offset, minimum, chain, lost }
    }
}

#[cfg(test)]
mod tests {
    use transship_model::{Counters, Execution, Part};

    use super::*;

    fn seal(byte: u8) -> Seal {
        Seal::new(&Secret::new(&STANDARD.encode([byte; 32]))).unwrap()
    }

    fn work() -> ImportRequested {
        ImportRequested {
            execution: Execution { id: "run".parse().unwrap(), generation: 3 },
            part: Part { number: 1, count: 2 },
            pipeline: "p".parse().unwrap(),
            destination: None,
            container: "file:///c".parse().unwrap(),
            blob: "b".parse().unwrap(),
            etag: None,
            catalog_digest: None,
            slice: 0,
            carried: Counters::default(),
            sealed_upload: None,
        }
    }

    fn standing(offset: u64, location: &str) -> Standing {
        Standing {
            digest: Digest::sha256(b"layer"),
            repository: "team/app".parse().unwrap(),
            location: Secret::new(location),
            offset,
            minimum: 5,
            chain: [7; 32],
            lost: 1,
        }
    }

    /// The registry of these tests.
    const R: &str = "r.example:5000";

    /// A seal of uploads that all fit.
    fn sealed(uploads: Vec<Standing>) -> Vec<u8> {
        let (sealed, left) = seal(1).seal(&work(), R, uploads);
        assert!(left.is_empty(), "{left:?}");
        sealed.unwrap()
    }

    #[test]
    fn what_was_sealed_comes_back_and_its_location_is_nowhere_to_be_read() {
        let bytes = sealed(vec![standing(64, "https://r/CANARY?_state=CANARY")]);
        assert!(!bytes.windows(6).any(|window| window == b"CANARY"));
        // A later slice of the same work.
        let later = ImportRequested { slice: 4, ..work() };
        let [opened] = &seal(1).open(&later, R, &bytes).unwrap()[..] else { panic!("one upload") };
        assert_eq!(opened.location.expose(), "https://r/CANARY?_state=CANARY");
        assert_eq!((opened.offset, opened.minimum, opened.chain, opened.lost), (64, 5, [7; 32], 1));
        assert_eq!((&opened.digest, opened.repository.as_str()), (&Digest::sha256(b"layer"), "team/app"));
        assert!(!format!("{opened:?} {:?}", seal(1)).contains("CANARY"));
        let again = sealed(vec![standing(64, "https://r/CANARY?_state=CANARY")]);
        assert_ne!(bytes, again, "every seal has a nonce of its own");
    }

    #[test]
    fn a_seal_opens_with_its_own_key_and_for_its_own_work_and_registry_only() {
        let bytes = sealed(vec![standing(64, "https://r/x")]);
        assert!(seal(1).open(&work(), R, &bytes).is_some());
        assert!(seal(2).open(&work(), R, &bytes).is_none(), "another key");
        assert!(seal(1).open(&work(), "r.example", &bytes).is_none(), "another registry");
        let execution = |id: &str, generation| Execution { id: id.parse().unwrap(), generation };
        for other in [
            ImportRequested { execution: execution("other", 3), ..work() },
            ImportRequested { execution: execution("run", 4), ..work() },
            ImportRequested { part: Part { number: 2, count: 2 }, ..work() },
            ImportRequested { pipeline: "other".parse().unwrap(), ..work() },
            ImportRequested { container: "file:///d".parse().unwrap(), ..work() },
            ImportRequested { blob: "other".parse().unwrap(), ..work() },
        ] {
            assert!(seal(1).open(&other, R, &bytes).is_none(), "{other:?}");
        }
    }

    #[test]
    fn a_seal_that_was_changed_anywhere_or_is_none_does_not_open() {
        let bytes = sealed(vec![standing(64, "https://r/x")]);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(seal(1).open(&work(), R, &changed).is_none(), "byte {at}");
            assert!(seal(1).open(&work(), R, &bytes[..at]).is_none(), "cut at {at}");
        }
        assert!(seal(1).open(&work(), R, &[bytes, vec![0]].concat()).is_none());
    }

    #[test]
    fn a_message_stays_small_and_keeps_the_uploads_that_are_furthest_and_the_others_come_back() {
        let long = format!("https://r/{}", "x".repeat(MAX_LOCATION - 10));
        let uploads = (1..=10).map(|n| standing(n * 64, &long)).collect();
        let (bytes, left) = seal(1).seal(&work(), R, uploads);
        let bytes = bytes.unwrap();
        assert!(bytes.len() < MAX_BYTES + 100, "{}", bytes.len());
        let offsets = |uploads: &[Standing]| uploads.iter().map(|upload| upload.offset).collect::<Vec<_>>();
        assert_eq!(offsets(&seal(1).open(&work(), R, &bytes).unwrap()), [640, 576, 512, 448, 384, 320]);
        assert_eq!(offsets(&left), [256, 192, 128, 64]);
        assert!(matches!(seal(1).seal(&work(), R, Vec::new()), (None, left) if left.is_empty()));
    }

    #[test]
    fn only_32_bytes_in_base64_are_a_key() {
        for length in [0, 16, 31, 33, 64] {
            assert!(Seal::new(&Secret::new(&STANDARD.encode(vec![1; length]))).is_none(), "{length}");
        }
        assert!(Seal::new(&Secret::new("not base64 at all, but thirty-two")).is_none());
        assert!(Seal::new(&Secret::new(&format!("{}\n", STANDARD.encode([1; 32])))).is_some());
    }
}
