//! Reading the manifests of a bundle: many at a time, since they lie behind one another, each verified.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use transship_bundle::{Catalog, Location};
use transship_model::{Digest, Failure, MAX_MANIFEST_BYTES, ManifestError, ManifestView, MediaType};

use crate::bundle::ArrivedBundle;
use crate::{Contents, ImportError, ImportSettings};

/// The most bytes of manifests that are read at once.
const WINDOW: u64 = MAX_MANIFEST_BYTES;

/// Bytes between two manifests that are read along rather than asked for apart.
const GAP: u64 = 64 << 10;

/// How many of these are read at a time.
const PARALLEL: usize = 2;

/// Neighbouring things that are read at once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReadWindow<T> {
    pub(crate) range: Range<u64>,
    /// In the order of the blob, with the place of each.
    pub(crate) members: Vec<(T, Range<u64>)>,
}

/// Groups things by where they are, so that neighbours are read at once: at most 4 MiB, or one thing alone.
pub(crate) fn windows<T>(things: impl IntoIterator<Item = (T, Range<u64>)>) -> Vec<ReadWindow<T>> {
    let mut things: Vec<_> = things.into_iter().collect();
    things.sort_by_key(|(_, range)| (range.start, range.end));
    let mut windows: Vec<ReadWindow<T>> = Vec::new();
    for (thing, range) in things {
        match windows.last_mut() {
            Some(last)
                if range.start <= last.range.end.saturating_add(GAP)
                    && range.end.max(last.range.end) - last.range.start <= WINDOW =>
            {
                last.range.end = last.range.end.max(range.end);
                last.members.push((thing, range));
            }
            _ => windows.push(ReadWindow { range: range.clone(), members: vec![(thing, range)] }),
        }
    }
    windows
}

/// The bytes of a member of a window that was read.
pub(crate) fn member(window: &Bytes, start: u64, range: &Range<u64>) -> Bytes {
    window.slice((range.start - start) as usize..(range.end - start) as usize)
}

/// Reads every manifest that the bundle holds: those that its table names, and below the artifacts of a foreign
/// archive whatever is listed as a manifest.
pub(crate) async fn load(
    bundle: &ArrivedBundle,
    catalog: Catalog,
    settings: &ImportSettings,
) -> Result<Contents, Failure> {
    let mut loaded = Loaded::default();
    let mut wanted: BTreeMap<Digest, MediaType> = catalog.manifest_types.clone();
    for artifact in &catalog.artifacts {
        wanted.entry(artifact.digest.clone()).or_insert_with(|| artifact.media_type.clone());
    }
    while !wanted.is_empty() {
        loaded.asked.extend(wanted.keys().cloned());
        if loaded.asked.len() > settings.most_manifests {
            return Err(ImportError::TooManyManifests(settings.most_manifests).into());
        }
        let listed = loaded.read(bundle, &catalog, settings, wanted).await?;
        wanted = listed.into_iter().filter(|(digest, _)| !loaded.asked.contains(digest)).collect();
    }
    Ok(Contents::new(catalog, loaded.views, loaded.broken)?)
}

#[derive(Default)]
struct Loaded {
    asked: BTreeSet<Digest>,
    /// Of all that was read: what the parsed ones take is of the same order.
    bytes: u64,
    views: BTreeMap<Digest, ManifestView>,
    broken: BTreeMap<Digest, Failure>,
}

impl Loaded {
    /// Reads and parses `wanted`, and returns the manifests that they list and that the bundle holds.
    async fn read(
        &mut self,
        bundle: &ArrivedBundle,
        catalog: &Catalog,
        settings: &ImportSettings,
        wanted: BTreeMap<Digest, MediaType>,
    ) -> Result<BTreeMap<Digest, MediaType>, Failure> {
        let mut stored = Vec::new();
        for (digest, media_type) in wanted {
            match catalog.locations.get(&digest) {
                Some(Location::Stored { size, .. }) if *size > MAX_MANIFEST_BYTES => {
                    let failure = invalid(&digest, ManifestError::TooLarge(*size));
                    self.broken.insert(digest, failure);
                }
                Some(Location::Stored { offset, size }) => {
                    self.bytes += size;
                    stored.push(((digest, media_type), *offset..offset + size));
                }
                _ => {}
            }
        }
        if self.bytes > settings.most_manifest_bytes {
            return Err(ImportError::TooManyManifestBytes(settings.most_manifest_bytes).into());
        }
        let mut parsed =
            stream::iter(windows(stored)).map(|window| read_window(bundle, window)).buffered(PARALLEL);
        let mut listed = BTreeMap::new();
        while let Some(members) = parsed.try_next().await? {
            for (digest, view) in members {
                match view {
                    Ok(view) => {
                        let known =
                            view.manifests.iter().filter(|child| child.media_type.is_known_manifest());
                        listed.extend(known.map(|child| (child.digest.clone(), child.media_type.clone())));
                        self.views.insert(digest, view);
                    }
                    Err(failure) => {
                        self.broken.insert(digest, failure);
                    }
                }
            }
        }
        listed.retain(|digest, _| matches!(catalog.locations.get(digest), Some(Location::Stored { .. })));
        Ok(listed)
    }
}

type Parsed = (Digest, Result<ManifestView, Failure>);

async fn read_window(
    bundle: &ArrivedBundle,
    window: ReadWindow<(Digest, MediaType)>,
) -> Result<Vec<Parsed>, Failure> {
    let start = window.range.start;
    let bytes = bundle.read(window.range).await?;
    let parse = |((digest, media_type), range): ((Digest, MediaType), Range<u64>)| {
        let view = view(bundle, &digest, &media_type, &member(&bytes, start, &range));
        (digest, view)
    };
    Ok(window.members.into_iter().map(parse).collect())
}

fn view(
    bundle: &ArrivedBundle,
    digest: &Digest,
    media_type: &MediaType,
    bytes: &[u8],
) -> Result<ManifestView, Failure> {
    let actual = Digest::compute(digest.algorithm(), bytes);
    if actual != *digest {
        return Err(bundle.mismatch("manifest", digest, actual));
    }
    ManifestView::parse(bytes, Some(media_type.as_str())).map_err(|source| invalid(digest, source))
}

fn invalid(digest: &Digest, source: ManifestError) -> Failure {
    ImportError::ManifestInvalid { digest: digest.clone(), source }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_read_at_once_within_a_bound() {
        let things = [('c', 70_000..70_100), ('a', 0..100), ('b', 512..612), ('d', 1 << 20..(1 << 20) + 5)];
        let grouped = windows(things);
        let shown: Vec<_> = grouped
            .iter()
            .map(|w| (w.range.clone(), w.members.iter().map(|m| m.0).collect::<String>()))
            .collect();
        assert_eq!(
            shown,
            [
                (0..612, "ab".to_owned()),
                (70_000..70_100, "c".to_owned()),
                (1 << 20..(1 << 20) + 5, "d".to_owned())
            ]
        );
        let full = windows((0..100u64).map(|i| (i, i * 100_000..i * 100_000 + 99_000)));
        assert!(full.iter().all(|w| w.range.end - w.range.start <= WINDOW && !w.members.is_empty()));
        assert_eq!(full.iter().map(|w| w.members.len()).sum::<usize>(), 100);
        assert_eq!(full.len(), 3);
        let one = windows([((), 0..WINDOW * 2)]);
        assert_eq!(one.len(), 1, "a large one goes alone");
    }

    #[test]
    fn a_member_is_cut_out_of_its_window() {
        let bytes = Bytes::from_static(b"0123456789");
        assert_eq!(member(&bytes, 100, &(103..105)), "34");
    }
}
