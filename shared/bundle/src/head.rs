//! The head (H0): `oci-layout`, `index.json`, the table and the bill, at the beginning of the blob. Staged last,
//! read first: it alone says what the bundle holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use transship_model::{Digest, MediaType};

use crate::bill::{BILL_BYTES, Bill};
use crate::segment::blob_path;
use crate::table::{TABLE_VERSION, Table, TableArtifact};
use crate::tar::{RECORD, file_header, padding, read_header};

/// The largest head that is read: the table of a part with millions of blobs.
const MAX_HEAD_BYTES: u64 = 512 << 20;

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const LAYOUT_PATH: &str = "oci-layout";
const INDEX_PATH: &str = "index.json";
const BILL_PATH: &str = "transship-bill.json";
/// The annotation of `index.json` that names the table.
const TABLE_ANNOTATION: &str = "io.github.transship.table";
/// The annotation that the OCI image specification defines for the name of an entry.
pub(crate) const NAME_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// A head that was read and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The bytes of `index.json`.
    pub index: Vec<u8>,
    /// The SHA-256 of `index.json`: equal artifacts have equal ones.
    pub catalog_digest: Digest,
    /// The table.
    pub table: Table,
    /// The digest of the table.
    pub table_digest: Digest,
    /// The bill.
    pub bill: Bill,
    /// The length of the head in the blob.
    pub length: u64,
}

/// What the first bytes of a blob turned out to be.
#[derive(Debug)]
pub enum HeadParse {
    /// A head of ours, complete.
    Ours(Box<Head>),
    /// A head of ours that is longer than the bytes: read this many from the start.
    Needs(u64),
    /// Something else; an OCI archive of another tool perhaps.
    Foreign,
}

/// Why a head that looks like ours is not right.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// Not the entries that a head has.
    #[error("the head of the bundle is damaged: {0}")]
    Damaged(&'static str),
    /// JSON that does not parse.
    #[error("the head of the bundle is damaged: {what} is not valid")]
    Json {
        /// Which entry.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// The table does not have the digest that `index.json` names.
    #[error("the table of the bundle is damaged: expected {expected}, got {actual}")]
    TableDigest {
        /// What `index.json` names.
        expected: Digest,
        /// What is there.
        actual: Digest,
    },
    /// Written by a newer transship.
    #[error("the bundle has version {0}, and this transship reads versions up to {TABLE_VERSION}: update it")]
    Newer(u32),
    /// Larger than a head may be.
    #[error("the head of the bundle would have {0} bytes, more than {MAX_HEAD_BYTES}")]
    TooLarge(u64),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IndexEntry<'a> {
    media_type: &'a MediaType,
    digest: &'a Digest,
    size: u64,
    annotations: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IndexJson<'a> {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<IndexEntry<'a>>,
    annotations: BTreeMap<&'static str, String>,
}

/// The name of an entry of `index.json`.
fn entry_name(artifact: &TableArtifact) -> String {
    match &artifact.tag {
        Some(tag) => format!("{}:{tag}", artifact.repository),
        None => format!("{}@{}", artifact.repository, artifact.digest),
    }
}

fn index_json(table: &Table, table_digest: &Digest) -> Vec<u8> {
    let manifests: BTreeMap<_, _> =
        table.manifests.iter().map(|manifest| (&manifest.digest, manifest)).collect();
    let entries =
        table.artifacts.iter().filter_map(|artifact| Some((artifact, *manifests.get(&artifact.digest)?)));
    let index = IndexJson {
        schema_version: 2,
        media_type: MediaType::OCI_INDEX,
        manifests: entries
            .map(|(artifact, manifest)| IndexEntry {
                media_type: &manifest.media_type,
                digest: &manifest.digest,
                size: manifest.size,
                annotations: [(NAME_ANNOTATION, entry_name(artifact))].into(),
            })
            .collect(),
        annotations: [(TABLE_ANNOTATION, table_digest.to_string())].into(),
    };
    json(&index)
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("our own types, of text, numbers and lists, always serialise")
}

fn entry(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut entry = file_header(name, bytes.len() as u64);
    entry.extend_from_slice(bytes);
    entry.resize(entry.len() + padding(bytes.len() as u64), 0);
    entry
}

/// Encodes the head of a bundle whose manifests take `manifests_length` bytes of the blob. The two offsets of
/// `table` are set here. Returns the head and the catalog digest.
pub fn encode_head(table: &mut Table, bill: &Bill, manifests_length: u64) -> (Vec<u8>, Digest) {
    let mut bill_bytes = bill.encoded();
    bill_bytes.resize(BILL_BYTES, b' ');
    let build = |table: &Table| {
        let table_bytes = json(table);
        let table_digest = Digest::sha256(&table_bytes);
        let index = index_json(table, &table_digest);
        let head = [
            entry(LAYOUT_PATH, LAYOUT),
            entry(INDEX_PATH, &index),
            entry(&blob_path(&table_digest), &table_bytes),
            entry(BILL_PATH, &bill_bytes),
        ]
        .concat();
        (head, Digest::sha256(&index))
    };
    // The offsets have a fixed width, so the length of this draft is the length of the head.
    let length = build(table).0.len() as u64;
    table.manifests_offset = length;
    table.content_offset = length + manifests_length;
    build(table)
}

/// Reads the entries of a head one after the other.
struct Entries<'a> {
    bytes: &'a [u8],
    at: u64,
}

enum Entry<'a> {
    File { name: String, bytes: &'a [u8] },
    Needs(u64),
    NotAFile,
}

impl<'a> Entries<'a> {
    fn next(&mut self) -> Result<Entry<'a>, HeadError> {
        let content = self.at + RECORD;
        let Some(record) = self.slice(self.at, content) else { return Ok(Entry::Needs(content)) };
        let Ok(Some(header)) = read_header(record) else { return Ok(Entry::NotAFile) };
        if header.kind != b'0' {
            return Ok(Entry::NotAFile);
        }
        let end = content.checked_add(header.size).ok_or(HeadError::TooLarge(u64::MAX))?;
        let next = end.checked_next_multiple_of(RECORD).ok_or(HeadError::TooLarge(u64::MAX))?;
        match self.slice(content, end) {
            Some(bytes) => {
                self.at = next;
                Ok(Entry::File { name: header.name, bytes })
            }
            None => Ok(Entry::Needs(next)),
        }
    }

    fn slice(&self, from: u64, to: u64) -> Option<&'a [u8]> {
        self.bytes.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
    }
}

#[derive(Deserialize)]
struct Annotated {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Head {
    /// Reads the head from the first bytes of a blob.
    ///
    /// # Errors
    /// [`HeadError`] where the blob begins like a bundle of ours and is damaged.
    pub fn parse(first_bytes: &[u8]) -> Result<HeadParse, HeadError> {
        let mut entries = Entries { bytes: first_bytes, at: 0 };
        macro_rules! file {
            () => {
                match entries.next()? {
                    Entry::File { name, bytes } => (name, bytes),
                    Entry::Needs(length) if length > MAX_HEAD_BYTES => {
                        return Err(HeadError::TooLarge(length))
                    }
                    // What follows is not known yet: ask for as much again, so that the reads stay few.
                    Entry::Needs(length) => {
                        return Ok(HeadParse::Needs(length + BILL_BYTES as u64 + 4 * RECORD))
                    }
                    Entry::NotAFile => return Ok(HeadParse::Foreign),
                }
            };
        }
        let (name, layout) = file!();
        if name != LAYOUT_PATH || layout != LAYOUT {
            return Ok(HeadParse::Foreign);
        }
        let (name, index) = file!();
        if name != INDEX_PATH {
            return Ok(HeadParse::Foreign);
        }
        let annotated: Annotated = from_json(index, INDEX_PATH)?;
        let Some(expected) = annotated.annotations.get(TABLE_ANNOTATION) else {
            return Ok(HeadParse::Foreign);
        };
        let expected: Digest = expected
            .parse()
            .map_err(|_| HeadError::Damaged("index.json names a table that is not a digest"))?;
        let (name, table_bytes) = file!();
        let actual = Digest::sha256(table_bytes);
        if actual != expected || name != blob_path(&expected) {
            return Err(HeadError::TableDigest { expected, actual });
        }
        let version: Versioned = from_json(table_bytes, "the table")?;
        if version.version > TABLE_VERSION {
            return Err(HeadError::Newer(version.version));
        }
        let table: Table = from_json(table_bytes, "the table")?;
        let (name, bill) = file!();
        if name != BILL_PATH {
            return Err(HeadError::Damaged("the bill is missing"));
        }
        let bill = from_json(bill, BILL_PATH)?;
        let length = entries.at;
        if table.manifests_offset != length {
            return Err(HeadError::Damaged("the table does not fit the head"));
        }
        let (index, catalog_digest) = (index.to_vec(), Digest::sha256(index));
        Ok(HeadParse::Ours(Box::new(Self {
            index,
            catalog_digest,
            table,
            table_digest: actual,
            bill,
            length,
        })))
    }
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

fn from_json<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &'static str) -> Result<T, HeadError> {
    serde_json::from_slice(bytes).map_err(|source| HeadError::Json { what, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bill::LeftOut;
    use crate::table::{Absence, Discovered, Discovery, StoredBlob, StoredManifest};
    use transship_model::{Code, Execution, Failure, Part};

    fn table() -> Table {
        let digest = Digest::sha256(b"manifest");
        Table {
            version: TABLE_VERSION,
            manifests_offset: 0,
            content_offset: 0,
            artifacts: vec![
                TableArtifact {
                    repository: "a/b".parse().unwrap(),
                    tag: Some("v1".parse().unwrap()),
                    digest: digest.clone(),
                },
                TableArtifact { repository: "a/c".parse().unwrap(), tag: None, digest: digest.clone() },
            ],
            discovered: vec![Discovered {
                repository: "a/b".parse().unwrap(),
                digest: digest.clone(),
                subject: digest.clone(),
                by: Discovery::CosignTag { tag: "sha256-x.sig".parse().unwrap() },
            }],
            manifests: vec![StoredManifest {
                digest: digest.clone(),
                media_type: MediaType::OCI_MANIFEST.parse().unwrap(),
                size: 8,
                offset: 512,
            }],
            content: vec![
                StoredBlob {
                    digest: digest.clone(),
                    declared: 9,
                    size: Some(8),
                    offset: Some(512),
                    absent: None,
                },
                StoredBlob {
                    digest,
                    declared: 9,
                    size: None,
                    offset: None,
                    absent: Some(Absence::InPart(3)),
                },
            ],
        }
    }

    fn bill(generation: u64) -> Bill {
        let execution = Execution { id: "run-1".parse().unwrap(), generation };
        Bill::new(&execution, Part::ONLY, None)
    }

    fn parsed(bytes: &[u8]) -> Head {
        match Head::parse(bytes).unwrap() {
            HeadParse::Ours(head) => *head,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_head_reads_back_as_it_was_written() {
        let mut table = table();
        let (bytes, catalog_digest) = encode_head(&mut table, &bill(1), 1024);
        let head = parsed(&bytes);
        assert_eq!((head.length, head.table.content_offset), (bytes.len() as u64, bytes.len() as u64 + 1024));
        assert_eq!((&head.table, head.bill), (&table, bill(1)));
        assert_eq!(head.catalog_digest, catalog_digest);
        assert_eq!(head.catalog_digest, Digest::sha256(&head.index));
    }

    #[test]
    fn equal_artifacts_have_an_equal_catalog_digest_whoever_exports_them() {
        let (first, digest) = encode_head(&mut table(), &bill(1), 0);
        let gone = Failure::permanent(Code::ArtifactNotFound, "no such tag");
        let left_out = vec![LeftOut::new("a/b:gone".parse().unwrap(), &gone); 250];
        let (second, same) = encode_head(&mut table(), &bill(u64::MAX).leaving_out(&left_out), 0);
        assert_eq!(digest, same);
        assert_eq!(first.len(), second.len());
        let until_bill = first.len() - BILL_BYTES - 512;
        assert_eq!(first[..until_bill], second[..until_bill]);
    }

    #[test]
    fn a_reader_that_has_too_few_bytes_is_told_how_many_it_needs() {
        let (bytes, _) = encode_head(&mut table(), &bill(1), 0);
        let mut have = 0;
        for _ in 0..10 {
            match Head::parse(&bytes[..have.min(bytes.len())]).unwrap() {
                HeadParse::Needs(more) => {
                    assert!(more as usize > have);
                    have = more as usize;
                }
                HeadParse::Ours(head) => return assert_eq!(head.bill, bill(1)),
                HeadParse::Foreign => panic!("ours"),
            }
        }
        panic!("it asks for ever");
    }

    #[test]
    fn no_flipped_byte_of_the_table_goes_unseen() {
        let (bytes, _) = encode_head(&mut table(), &bill(1), 0);
        let table_at = bytes.windows(16).position(|w| w == b"manifestsOffset\"").unwrap();
        for at in [table_at, table_at + 20, table_at + 100] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(matches!(Head::parse(&damaged), Err(HeadError::TableDigest { .. })), "{at}");
        }
    }

    #[test]
    fn anything_else_is_foreign() {
        assert!(matches!(Head::parse(&[b'x'; 4096]).unwrap(), HeadParse::Foreign));
        assert!(matches!(Head::parse(&entry("blobs/", b"")).unwrap(), HeadParse::Foreign));
        let other = [entry(LAYOUT_PATH, LAYOUT), entry(INDEX_PATH, br#"{"manifests":[]}"#)].concat();
        assert!(matches!(Head::parse(&other).unwrap(), HeadParse::Foreign));
    }
}
