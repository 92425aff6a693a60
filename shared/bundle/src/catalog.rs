//! The catalog: what a bundle or a foreign archive holds and where, in one form for both.

use std::collections::BTreeMap;

use serde::Deserialize;
use transship_model::{ArtifactReference, Digest, MediaType, Selector};

use crate::archive::ArchiveScan;
use crate::bill::Bill;
use crate::head::{Head, NAME_ANNOTATION};
use crate::table::{Absence, Discovered};

/// Where a blob or manifest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In the blob, at this offset, with this many bytes.
    Stored {
        /// From the start of the blob.
        offset: u64,
        /// In bytes.
        size: u64,
    },
    /// Not in the bundle.
    Absent(Absence),
}

/// One artifact of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogArtifact {
    /// The name that `index.json` gives it, as it stands there.
    pub name: Option<String>,
    /// The name as a reference. Absent where a foreign archive names no repository.
    pub reference: Option<ArtifactReference>,
    /// The manifest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: MediaType,
    /// Its size in bytes.
    pub size: u64,
}

/// What a bundle holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    /// The artifacts, in the order of `index.json`.
    pub artifacts: Vec<CatalogArtifact>,
    /// Referrers, signatures and fallback indexes that belong to them. A foreign archive has none.
    pub discovered: Vec<Discovered>,
    /// Where every manifest and blob is.
    pub locations: BTreeMap<Digest, Location>,
    /// The media types of the manifests, where the bundle names them.
    pub manifest_types: BTreeMap<Digest, MediaType>,
    /// The size that manifests declare, where it is not the stored one.
    pub declared: BTreeMap<Digest, u64>,
    /// Who made the bundle. A foreign archive has none.
    pub bill: Option<Bill>,
    /// The SHA-256 of `index.json`.
    pub catalog_digest: Digest,
}

/// Why a catalog cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// `index.json` is not valid.
    #[error("index.json is not valid")]
    Index(#[from] serde_json::Error),
    /// Something lies outside the blob.
    #[error("{0} lies outside the blob: the bundle is truncated or its table is wrong")]
    OutOfBounds(Digest),
    /// The table names something twice.
    #[error("the table names {0} twice")]
    Twice(Digest),
    /// An artifact's manifest is not in the bundle.
    #[error("the manifest {0} of an artifact is not in the bundle")]
    ManifestMissing(Digest),
}

#[derive(Deserialize)]
struct IndexJson {
    #[serde(default)]
    manifests: Vec<IndexEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexEntry {
    media_type: MediaType,
    digest: Digest,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Catalog {
    /// The catalog of a bundle of ours in a blob of `length` bytes.
    ///
    /// # Errors
    /// See [`CatalogError`].
    pub fn of_head(head: &Head, length: u64) -> Result<Self, CatalogError> {
        let table = &head.table;
        let mut catalog = Self::of_index(&head.index)?;
        for manifest in &table.manifests {
            let place = (table.manifests_offset, manifest.offset, manifest.size);
            catalog.insert(&manifest.digest, stored(&manifest.digest, place, length)?)?;
            catalog.manifest_types.insert(manifest.digest.clone(), manifest.media_type.clone());
        }
        for blob in &table.content {
            let location = match (&blob.absent, blob.offset, blob.size) {
                (None, Some(offset), Some(size)) => {
                    if size != blob.declared {
                        catalog.declared.insert(blob.digest.clone(), blob.declared);
                    }
                    stored(&blob.digest, (table.content_offset, offset, size), length)?
                }
                (absent, ..) => Location::Absent(absent.clone().unwrap_or(Absence::Failed)),
            };
            // A manifest that another manifest lists as content has a place already, and needs no other.
            if !catalog.manifest_types.contains_key(&blob.digest) {
                catalog.insert(&blob.digest, location)?;
            }
        }
        catalog.discovered = table.discovered.clone();
        catalog.bill = Some(head.bill.clone());
        catalog.with_manifests()
    }

    /// The catalog of an archive that another tool wrote.
    ///
    /// # Errors
    /// See [`CatalogError`].
    pub fn of_archive(scan: &ArchiveScan, index: &[u8]) -> Result<Self, CatalogError> {
        let mut catalog = Self::of_index(index)?;
        for (digest, range) in &scan.blobs {
            let location = Location::Stored { offset: range.start, size: range.end - range.start };
            catalog.locations.insert(digest.clone(), location);
        }
        catalog.with_manifests()
    }

    fn of_index(index: &[u8]) -> Result<Self, CatalogError> {
        let parsed: IndexJson = serde_json::from_slice(index)?;
        let artifact = |entry: IndexEntry| {
            let name = entry.annotations.get(NAME_ANNOTATION).cloned();
            CatalogArtifact {
                reference: name.as_deref().and_then(|name| name.parse().ok()),
                name,
                digest: entry.digest,
                media_type: entry.media_type,
                size: entry.size,
            }
        };
        Ok(Self {
            artifacts: parsed.manifests.into_iter().map(artifact).collect(),
            discovered: Vec::new(),
            locations: BTreeMap::new(),
            manifest_types: BTreeMap::new(),
            declared: BTreeMap::new(),
            bill: None,
            catalog_digest: Digest::sha256(index),
        })
    }

    fn insert(&mut self, digest: &Digest, location: Location) -> Result<(), CatalogError> {
        match self.locations.insert(digest.clone(), location) {
            None => Ok(()),
            Some(_) => Err(CatalogError::Twice(digest.clone())),
        }
    }

    /// Checks that the manifest of every artifact is there, and that a name by digest names its own digest.
    fn with_manifests(mut self) -> Result<Self, CatalogError> {
        for artifact in &mut self.artifacts {
            if !matches!(self.locations.get(&artifact.digest), Some(Location::Stored { .. })) {
                return Err(CatalogError::ManifestMissing(artifact.digest.clone()));
            }
            let names_another = |reference: &ArtifactReference| matches!(&reference.selector, Selector::Digest(digest) if *digest != artifact.digest);
            if artifact.reference.as_ref().is_some_and(names_another) {
                return Err(CatalogError::ManifestMissing(artifact.digest.clone()));
            }
        }
        Ok(self)
    }
}

/// A place in the blob, checked against its length: a table is never trusted.
fn stored(
    digest: &Digest,
    (base, offset, size): (u64, u64, u64),
    length: u64,
) -> Result<Location, CatalogError> {
    let start = base.checked_add(offset);
    let inside = start.and_then(|start| start.checked_add(size)).is_some_and(|end| end <= length);
    match start {
        Some(offset) if inside => Ok(Location::Stored { offset, size }),
        _ => Err(CatalogError::OutOfBounds(digest.clone())),
    }
}
