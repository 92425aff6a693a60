//! What a bundle holds, once its manifests were read: an immutable view that plans are made from.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use transship_bundle::{Absence, Catalog, Location};
use transship_model::{Digest, Failure, ManifestView};

use crate::ImportError;
use crate::error::WhyMissing;

/// How deep manifests may nest. The exporter's walk goes half as deep; deeper ones would exhaust the stack.
const DEPTH: u32 = 32;

/// The content of a bundle. Every manifest in it was verified.
#[derive(Debug)]
pub struct Contents {
    catalog: Catalog,
    views: BTreeMap<Digest, ManifestView>,
    broken: BTreeMap<Digest, Failure>,
    heights: BTreeMap<Digest, u32>,
    foreign: BTreeSet<Digest>,
}

/// What one manifest refers to directly.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Direct<'a> {
    /// Manifests that the bundle holds.
    pub(crate) manifests: Vec<&'a Digest>,
    /// Content, and its declared size in bytes.
    pub(crate) blobs: Vec<(&'a Digest, u64)>,
    /// Manifests that the bundle does not hold.
    pub(crate) elsewhere: Vec<&'a Digest>,
}

/// Where the bytes of a blob are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the bundle.
    Stored(Range<u64>),
    /// Not in the bundle, and it need not be: a foreign layer.
    Foreign,
    /// Not in the bundle.
    Missing(WhyMissing),
}

impl Contents {
    /// The content of a bundle with this catalog, whose manifests parse as `views`, except those in `broken`.
    ///
    /// # Errors
    /// Where manifests nest deeper than 32.
    pub fn new(
        catalog: Catalog,
        views: BTreeMap<Digest, ManifestView>,
        broken: BTreeMap<Digest, Failure>,
    ) -> Result<Self, ImportError> {
        let heights = heights(&views)?;
        let layers = || views.values().flat_map(|view| &view.blobs);
        let mut foreign: BTreeSet<Digest> = layers()
            .filter(|blob| blob.media_type.is_foreign_layer())
            .map(|blob| blob.digest.clone())
            .collect();
        layers().filter(|blob| !blob.media_type.is_foreign_layer()).for_each(|blob| {
            foreign.remove(&blob.digest);
        });
        Ok(Self { catalog, views, broken, heights, foreign })
    }

    /// What and where.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The manifests.
    pub fn views(&self) -> &BTreeMap<Digest, ManifestView> {
        &self.views
    }

    /// Why a manifest cannot be carried, where it cannot.
    pub fn broken(&self, digest: &Digest) -> Option<&Failure> {
        self.broken.get(digest)
    }

    /// How many levels of manifests lie below a manifest.
    pub(crate) fn height(&self, digest: &Digest) -> u32 {
        self.heights.get(digest).copied().unwrap_or_default()
    }

    /// The size of a manifest in bytes.
    pub(crate) fn size(&self, digest: &Digest) -> u64 {
        match self.catalog.locations.get(digest) {
            Some(Location::Stored { size, .. }) => *size,
            _ => 0,
        }
    }

    /// Where the bytes of a blob are.
    pub(crate) fn place(&self, digest: &Digest) -> Place {
        match self.catalog.locations.get(digest) {
            Some(Location::Stored { offset, size }) => Place::Stored(*offset..offset + size),
            Some(Location::Absent(Absence::NotDistributable)) => Place::Foreign,
            Some(Location::Absent(Absence::InPart(part))) => Place::Missing(WhyMissing::InPart(*part)),
            Some(Location::Absent(Absence::Acknowledged)) => Place::Missing(WhyMissing::Acknowledged),
            Some(Location::Absent(Absence::Failed)) => Place::Missing(WhyMissing::Failed),
            None => Place::Missing(WhyMissing::Unsaid),
        }
    }

    /// What a manifest refers to directly. Its subject is not below it.
    pub(crate) fn direct(&self, digest: &Digest) -> Direct<'_> {
        let mut direct = Direct::default();
        let Some(view) = self.views.get(digest) else { return direct };
        for child in &view.manifests {
            let digest = &child.digest;
            if self.views.contains_key(digest) || self.broken.contains_key(digest) {
                direct.manifests.push(digest);
            } else if self.catalog.locations.contains_key(digest) {
                // An index may list anything: what is no manifest is content.
                direct.blobs.push((digest, child.size));
            } else {
                direct.elsewhere.push(digest);
            }
        }
        direct.blobs.extend(view.blobs.iter().map(|blob| (&blob.digest, blob.size)));
        direct
    }

    /// Whether a blob need not be distributed, as every manifest that lists it says.
    pub(crate) fn is_foreign(&self, blob: &Digest) -> bool {
        self.foreign.contains(blob)
    }

    /// The first manifest at or below `root` that cannot be carried.
    pub(crate) fn broken_below(&self, root: &Digest) -> Option<&Failure> {
        if self.broken.is_empty() {
            return None;
        }
        let below = transship_registry::closure(root, &self.views);
        below.missing.iter().find_map(|digest| self.broken.get(digest))
    }

    /// All manifests at and below `roots`, whether they can be carried or not.
    pub(crate) fn manifests_below<'a>(
        &'a self,
        roots: impl IntoIterator<Item = &'a Digest>,
    ) -> BTreeSet<&'a Digest> {
        let mut todo: Vec<&Digest> = roots.into_iter().collect();
        let mut seen = BTreeSet::new();
        while let Some(digest) = todo.pop() {
            if seen.insert(digest) {
                todo.extend(self.direct(digest).manifests);
            }
        }
        seen
    }
}

/// The height of every manifest, without recursion: an archive may nest as deep as it likes.
fn heights(views: &BTreeMap<Digest, ManifestView>) -> Result<BTreeMap<Digest, u32>, ImportError> {
    let mut heights: BTreeMap<&Digest, u32> = BTreeMap::new();
    for root in views.keys() {
        // A manifest, which of its children comes next, and the height of those before.
        let mut path = vec![(root, 0, 0)];
        while let Some((digest, next, height)) = path.last_mut() {
            let child = views.get(*digest).and_then(|view| view.manifests.get(*next));
            match child.map(|child| (&child.digest, heights.get(&child.digest))) {
                Some((_, Some(below))) => {
                    (*next, *height) = (*next + 1, (*height).max(below + 1));
                }
                Some((child, None)) if views.contains_key(child) => path.push((child, 0, 0)),
                Some(_) => *next += 1,
                None => {
                    heights.insert(*digest, *height);
                    path.pop();
                }
            }
            if path.len() as u32 > DEPTH || heights.get(root).is_some_and(|height| *height >= DEPTH) {
                return Err(ImportError::TooDeep { digest: root.clone(), limit: DEPTH });
            }
        }
    }
    Ok(heights.into_iter().map(|(digest, height)| (digest.clone(), height)).collect())
}

#[cfg(test)]
mod tests {
    use transship_model::MediaType;

    use super::*;

    /// A chain of indexes, each of which lists the one before.
    fn chain(length: u32) -> BTreeMap<Digest, ManifestView> {
        let mut views = BTreeMap::new();
        let mut below = String::new();
        for _ in 0..length {
            let json = format!(r#"{{"manifests":[{below}]}}"#);
            let digest = Digest::sha256(json.as_bytes());
            let media_type = MediaType::OCI_INDEX;
            below = format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{}}}"#, json.len());
            views.insert(digest, ManifestView::parse(json.as_bytes(), Some(media_type)).unwrap());
        }
        views
    }

    #[test]
    fn every_manifest_stands_above_what_it_lists() {
        let views = chain(DEPTH);
        let heights = heights(&views).unwrap();
        for (digest, view) in &views {
            let below = view.manifests.first().map(|child| heights[&child.digest] + 1);
            assert_eq!(heights[digest], below.unwrap_or(0));
        }
    }

    #[test]
    fn manifests_that_nest_too_deep_are_refused_without_recursion() {
        for length in [DEPTH + 1, 20_000] {
            assert!(matches!(heights(&chain(length)), Err(ImportError::TooDeep { .. })), "{length}");
        }
    }
}
