//! Verifies a bundle, offline: every byte of it against the digest that names it, the archive's structure, the
//! table, the bill, and that everything is there that should be.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use futures::StreamExt;
use serde::Serialize;
use transship_bundle::{Absence, Location, OpenError, open};
use transship_model::{Digest, Failure, Hasher};

use super::contents::{Contents, read_contents};
use super::structure::{compare_bill, compare_table, content_end, missing, scan, unreferenced};
use super::window::Window;

/// How much of a blob is read at once, in bytes; two of these are in memory.
const PIECE: u64 = 8 << 20;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What it is about, where it is one blob or manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
    /// What is wrong.
    pub(crate) reason: String,
}

/// Something that is not in the bundle and need not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct AbsentBlob {
    /// Which blob.
    pub(crate) digest: String,
    /// Why.
    pub(crate) reason: String,
}

/// What the verification of one part found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Verification {
    /// What is wrong; empty where the bundle is right.
    pub(crate) findings: Vec<Finding>,
    /// How many artifacts it holds.
    pub(crate) artifacts: usize,
    /// How many blobs and manifests were hashed.
    pub(crate) blobs: usize,
    /// How many bytes were hashed.
    pub(crate) bytes: u64,
    /// What is not in the bundle and need not be.
    pub(crate) absent: Vec<AbsentBlob>,
    /// Blobs that nothing names: what an artifact left that was dropped.
    pub(crate) unreferenced: usize,
}

impl Verification {
    fn find(&mut self, digest: Option<&Digest>, reason: impl Into<String>) {
        let digest = digest.map(ToString::to_string);
        self.findings.push(Finding { digest, reason: reason.into() });
    }
}

/// Verifies the blob of `window`; `hashed` is told how many bytes are done and how many there are.
///
/// # Errors
/// Where the blob cannot be read. Damage is no error: it is what the verification finds.
pub(crate) async fn verify(
    window: &Window,
    mut hashed: impl FnMut(u64, u64),
) -> Result<Verification, Failure> {
    let mut verification = Verification::default();
    let scanned = match scan(window).await? {
        Ok(scan) => Some(scan),
        Err(reason) => {
            verification.find(None, reason);
            None
        }
    };
    let found = scanned.map(|scan| scan.blobs).unwrap_or_default();
    let contents = match opens(window).await? {
        Ok(()) => Some(read_contents(window).await?),
        Err(reason) => {
            // What the scan could not read, the head cannot either: one reason is enough.
            if verification.findings.is_empty() || !found.is_empty() {
                verification.find(None, reason);
            }
            None
        }
    };
    if let Some(contents) = &contents {
        check_contents(window, contents, &found, &mut verification);
        check_end(window, contents, &found, &mut verification).await?;
    }
    hash_all(window, &ranges(contents.as_ref(), &found), &mut verification, &mut hashed).await?;
    Ok(verification)
}

/// Whether the blob opens as a bundle or an archive, and why not.
async fn opens(window: &Window) -> Result<Result<(), String>, Failure> {
    match open(window.length(), |range| window.read(range)).await {
        Ok(_) => Ok(Ok(())),
        Err(OpenError::Read(failure)) => Err(failure),
        Err(error) => Ok(Err(super::contents::not_a_bundle(error).message)),
    }
}

fn check_contents(
    window: &Window,
    contents: &Contents,
    found: &BTreeMap<Digest, Range<u64>>,
    verification: &mut Verification,
) {
    let catalog = &contents.opened.catalog;
    verification.artifacts = catalog.artifacts.len();
    // Where the archive could not be scanned, there is nothing to compare with.
    if !found.is_empty() {
        for (digest, reason) in compare_table(catalog, found) {
            verification.find(Some(&digest), reason);
        }
        verification.unreferenced = unreferenced(contents, found).len();
    }
    for (digest, reason) in missing(contents) {
        verification.find(Some(&digest), reason);
    }
    for (digest, reason) in &contents.broken {
        // Bytes that do not match are found, with both digests, where everything is hashed.
        if !reason.contains("do not have its digest") {
            verification.find(Some(digest), format!("the manifest cannot be read: {reason}"));
        }
    }
    if let Some(reason) =
        contents.opened.head.as_ref().and_then(|head| compare_bill(head, &window.properties().metadata))
    {
        verification.find(None, reason);
    }
    verification.absent = absent(contents);
}

fn absent(contents: &Contents) -> Vec<AbsentBlob> {
    let reason = |absence: &Absence| match absence {
        Absence::NotDistributable => "a foreign layer whose bytes the source does not have".to_owned(),
        Absence::Acknowledged => "the target has acknowledged it".to_owned(),
        Absence::Failed => "it could not be read when the bundle was written".to_owned(),
        Absence::InPart(part) => format!("part {part} of the run holds it"),
    };
    let locations = contents.opened.catalog.locations.iter();
    let absent = locations.filter_map(|(digest, location)| match location {
        Location::Absent(absence) => Some(AbsentBlob { digest: digest.to_string(), reason: reason(absence) }),
        Location::Stored { .. } => None,
    });
    absent.collect()
}

/// A bundle of ours ends with two records of zeros right after its last entry.
async fn check_end(
    window: &Window,
    contents: &Contents,
    found: &BTreeMap<Digest, Range<u64>>,
    verification: &mut Verification,
) -> Result<(), Failure> {
    let Some(head) = contents.opened.head.as_ref().filter(|_| !found.is_empty()) else { return Ok(()) };
    let (end, length) = (content_end(found, head), window.length());
    if length != end + 1024 {
        verification
            .find(None, format!("the bundle has {length} bytes, and should end at byte {}", end + 1024));
    } else if window.fetch(end..length).await?.iter().any(|byte| *byte != 0) {
        verification.find(None, "the archive does not end with two records of zeros");
    }
    Ok(())
}

/// Everything that has a digest, in the order of the blob.
fn ranges(contents: Option<&Contents>, found: &BTreeMap<Digest, Range<u64>>) -> BTreeSet<(u64, u64, Digest)> {
    let in_archive = found.iter().map(|(digest, range)| (range.start, range.end, digest.clone()));
    let locations = contents.map(|contents| &contents.opened.catalog.locations).into_iter().flatten();
    let in_table = locations.filter_map(|(digest, location)| match location {
        Location::Stored { offset, size } => Some((*offset, offset + size, digest.clone())),
        Location::Absent(_) => None,
    });
    in_archive.chain(in_table).collect()
}

async fn hash_all(
    window: &Window,
    ranges: &BTreeSet<(u64, u64, Digest)>,
    verification: &mut Verification,
    hashed: &mut impl FnMut(u64, u64),
) -> Result<(), Failure> {
    let total = ranges.iter().map(|(start, end, _)| end - start).sum();
    hashed(0, total);
    for (start, end, digest) in ranges {
        if *end > window.length() {
            verification.find(Some(digest), "the archive ends within it");
            continue;
        }
        let actual = hash(window, *start..*end, digest, |bytes| {
            verification.bytes += bytes;
            hashed(verification.bytes, total);
        })
        .await?;
        verification.blobs += 1;
        if actual != *digest {
            verification
                .find(Some(digest), format!("a blob has other bytes: expected {digest}, got {actual}"));
        }
    }
    Ok(())
}

async fn hash(
    window: &Window,
    range: Range<u64>,
    digest: &Digest,
    mut hashed: impl FnMut(u64),
) -> Result<Digest, Failure> {
    let mut hasher = Hasher::new(digest.algorithm());
    if range.end - range.start <= PIECE / 16 {
        // Small ones come out of one larger read.
        let bytes = window.read(range).await?;
        hasher.update(&bytes);
        hashed(bytes.len() as u64);
        return Ok(hasher.finish());
    }
    let starts = (range.start..range.end).step_by(PIECE as usize);
    let pieces = starts.map(|start| window.fetch(start..(start + PIECE).min(range.end)));
    // The next piece is read while this one is hashed.
    let mut pieces = futures::stream::iter(pieces).buffered(2);
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        hasher.update(&piece);
        hashed(piece.len() as u64);
    }
    Ok(hasher.finish())
}
