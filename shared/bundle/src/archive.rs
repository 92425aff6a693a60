//! Reading an OCI archive that another tool wrote: any order of entries, `./` prefixes, directory entries. Links,
//! duplicates and unknown roots are refused. Nothing is unpacked: the scan says where each blob is.

use std::collections::BTreeMap;
use std::ops::Range;

use transship_model::Digest;

use crate::tar::{RECORD, RawHeader, read_header, read_pax};

/// The most entries that an archive may have.
const MAX_ENTRIES: usize = 1_000_000;

/// The largest extended header that is read.
const MAX_EXTENDED: u64 = 64 << 10;

/// Why an archive is not one that transship imports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// Not a tar, or a damaged one.
    #[error("the blob is not a tar archive, or a damaged one")]
    NotATar,
    /// It ends in the middle of an entry.
    #[error("the archive ends in the middle of an entry")]
    Truncated,
    /// An entry that an OCI image layout does not have.
    #[error("the archive has an entry that an OCI image layout does not have: {0:?}")]
    UnknownEntry(String),
    /// A link, device or other special entry.
    #[error("the archive has an entry that is not a regular file: {0:?}")]
    NotAFile(String),
    /// Two entries of the same name.
    #[error("the archive has two entries {0:?}")]
    Duplicate(String),
    /// More entries than are read.
    #[error("the archive has more than {MAX_ENTRIES} entries")]
    TooManyEntries,
}

/// What the scan wants next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// These bytes of the archive, all of them.
    Read(Range<u64>),
    /// Nothing: the scan is done.
    Done,
}

/// A scan of an archive that asks for the bytes it needs. Feed each answer, and ask again.
#[derive(Debug)]
pub struct ArchiveScan {
    length: u64,
    at: u64,
    wanted: Option<Extended>,
    path: Option<String>,
    size: Option<u64>,
    entries: usize,
    done: bool,
    /// Where `index.json` is.
    pub index: Option<Range<u64>>,
    /// Where each blob is.
    pub blobs: BTreeMap<Digest, Range<u64>>,
    has_layout: bool,
    ignored: std::collections::BTreeSet<String>,
}

#[derive(Debug, Clone)]
struct Extended {
    kind: u8,
    content: Range<u64>,
}

impl ArchiveScan {
    /// A scan of an archive of `length` bytes.
    pub fn new(length: u64) -> Self {
        Self {
            length,
            at: 0,
            wanted: None,
            path: None,
            size: None,
            entries: 0,
            done: false,
            index: None,
            blobs: BTreeMap::new(),
            has_layout: false,
            ignored: std::collections::BTreeSet::new(),
        }
    }

    /// What to read next.
    ///
    /// # Errors
    /// [`ScanError::Truncated`] where that lies beyond the end.
    pub fn next(&self) -> Result<Step, ScanError> {
        if self.done {
            return Ok(Step::Done);
        }
        let range =
            self.wanted.as_ref().map_or(self.at..self.at + RECORD, |extended| extended.content.clone());
        if range.end > self.length { Err(ScanError::Truncated) } else { Ok(Step::Read(range)) }
    }

    /// Takes the bytes that [`ArchiveScan::next`] asked for.
    ///
    /// # Errors
    /// See [`ScanError`].
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        if let Some(extended) = self.wanted.take() {
            return self.feed_extended(&extended, bytes);
        }
        let Some(header) = read_header(bytes.get(..RECORD as usize).ok_or(ScanError::Truncated)?)? else {
            self.done = true;
            return if self.has_layout && self.index.is_some() { Ok(()) } else { Err(ScanError::NotATar) };
        };
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(ScanError::TooManyEntries);
        }
        self.feed_header(header)
    }

    fn feed_header(&mut self, header: RawHeader) -> Result<(), ScanError> {
        let content = self.at + RECORD;
        let is_extended = matches!(header.kind, b'x' | b'g' | b'L');
        let size = if is_extended { header.size } else { self.size.take().unwrap_or(header.size) };
        let end = content.checked_add(size).filter(|end| *end <= self.length).ok_or(ScanError::Truncated)?;
        self.at = end.checked_next_multiple_of(RECORD).ok_or(ScanError::Truncated)?;
        if is_extended {
            if size > MAX_EXTENDED {
                return Err(ScanError::NotATar);
            }
            self.wanted = Some(Extended { kind: header.kind, content: content..end });
            return Ok(());
        }
        let name = self.path.take().unwrap_or(header.name);
        self.place(&name, header.kind, content..end)
    }

    fn feed_extended(&mut self, extended: &Extended, bytes: &[u8]) -> Result<(), ScanError> {
        match extended.kind {
            b'x' => {
                let (path, size) = read_pax(bytes)?;
                self.path = path.or(self.path.take());
                self.size = size;
            }
            b'L' => {
                let name = bytes.split(|b| *b == 0).next().unwrap_or_default();
                self.path = Some(std::str::from_utf8(name).map_err(|_| ScanError::NotATar)?.to_owned());
            }
            // A global header says nothing about where blobs are.
            _ => {}
        }
        Ok(())
    }

    /// Files an entry under what it is.
    fn place(&mut self, name: &str, kind: u8, content: Range<u64>) -> Result<(), ScanError> {
        let shown = || name.chars().take(200).collect::<String>();
        let path = name.strip_prefix("./").unwrap_or(name);
        match kind {
            b'5' => {
                let directory = path.trim_end_matches('/');
                let known = matches!(directory, "" | "." | "blobs" | "blobs/sha256" | "blobs/sha512");
                return if known { Ok(()) } else { Err(ScanError::UnknownEntry(shown())) };
            }
            b'0' | 0 => {}
            _ => return Err(ScanError::NotAFile(shown())),
        }
        let is_new = match path {
            "oci-layout" => !std::mem::replace(&mut self.has_layout, true),
            "index.json" => self.index.replace(content).is_none(),
            // What Docker writes beside the layout, for readers of its older format; and our own bill.
            "manifest.json" | "repositories" | "transship-bill.json" => self.ignored.insert(path.to_owned()),
            _ => {
                let digest =
                    path.strip_prefix("blobs/").and_then(|rest| rest.replacen('/', ":", 1).parse().ok());
                let digest: Digest = digest.ok_or_else(|| ScanError::UnknownEntry(shown()))?;
                self.blobs.insert(digest, content).is_none()
            }
        };
        if is_new { Ok(()) } else { Err(ScanError::Duplicate(shown())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Segment;
    use crate::tar::file_header;

    fn file(name: &str, bytes: &[u8]) -> Vec<u8> {
        let mut entry = file_header(name, bytes.len() as u64);
        entry.extend_from_slice(bytes);
        entry.resize(entry.len().next_multiple_of(512), 0);
        entry
    }

    fn special(name: &str, kind: u8) -> Vec<u8> {
        let mut entry = file_header(name, 0);
        entry[156] = kind;
        entry[148..156].copy_from_slice(b"        ");
        let sum: u64 = entry.iter().map(|b| u64::from(*b)).sum();
        entry[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        entry
    }

    fn scan(bytes: &[u8]) -> Result<ArchiveScan, ScanError> {
        let mut scan = ArchiveScan::new(bytes.len() as u64);
        while let Step::Read(range) = scan.next()? {
            scan.feed(&bytes[range.start as usize..range.end as usize])?;
        }
        Ok(scan)
    }

    fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
        [entries.concat(), vec![0; 1024]].concat()
    }

    #[test]
    fn entries_are_found_in_any_order_with_prefixes_and_directories() {
        let (a, b) = (Digest::sha256(b"a"), Digest::compute(transship_model::Algorithm::Sha512, b"bb"));
        let bytes = archive(&[
            special("./", b'5'),
            special("./blobs/", b'5'),
            file(&format!("./blobs/sha256/{}", a.hex()), b"a"),
            Segment::new(&b, 2).encode(b"bb"),
            file("./index.json", b"{}"),
            file("oci-layout", b"{}"),
        ]);
        let scan = scan(&bytes).unwrap();
        let at = |range: &Range<u64>| &bytes[range.start as usize..range.end as usize];
        assert_eq!((at(&scan.blobs[&a]), at(&scan.blobs[&b])), (&b"a"[..], &b"bb"[..]));
        assert_eq!(at(&scan.index.unwrap()), b"{}");
    }

    #[test]
    fn hostile_archives_are_refused() {
        let good = [file("oci-layout", b"{}"), file("index.json", b"{}")];
        let with = |entry: Vec<u8>| archive(&[good[0].clone(), good[1].clone(), entry]);
        assert!(scan(&archive(&good)).is_ok());
        for (entry, expected) in [
            (special("link", b'2'), ScanError::NotAFile("link".into())),
            (special("blobs/sha256/hard", b'1'), ScanError::NotAFile("blobs/sha256/hard".into())),
            (special("device", b'3'), ScanError::NotAFile("device".into())),
            (file("index.json", b"{}"), ScanError::Duplicate("index.json".into())),
            (file("../etc/passwd", b""), ScanError::UnknownEntry("../etc/passwd".into())),
            (file("/index.json", b""), ScanError::UnknownEntry("/index.json".into())),
            (file("blobs/sha256/UPPER", b""), ScanError::UnknownEntry("blobs/sha256/UPPER".into())),
            (special("etc", b'5'), ScanError::UnknownEntry("etc".into())),
        ] {
            assert_eq!(scan(&with(entry)).unwrap_err(), expected);
        }
        let cut = &archive(&good)[..600];
        assert_eq!(scan(cut).unwrap_err(), ScanError::Truncated);
        assert_eq!(scan(&[b'x'; 2048]).unwrap_err(), ScanError::NotATar);
        assert_eq!(scan(&[0; 2048]).unwrap_err(), ScanError::NotATar);
        let huge = file_header("index.json", u64::MAX - 600);
        assert_eq!(scan(&archive(&[huge])).unwrap_err(), ScanError::Truncated);
    }
}
