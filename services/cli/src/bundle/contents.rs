//! What a bundle holds: its artifacts with their kinds and sizes, from its head and its manifests alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use transship_bundle::{Catalog, Location, OpenError, Opened, open};
use transship_model::{ArtifactReference, Code, Digest, Failure, MAX_MANIFEST_BYTES, ManifestView};

use super::kind::kind_of;
use super::window::Window;

/// How deep a foreign archive's manifests are followed.
const MAX_DEPTH: u32 = 32;

/// The most manifests that are read.
const MAX_MANIFESTS: usize = 200_000;

/// One artifact of a bundle.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Artifact {
    /// The name in `index.json`.
    pub(crate) name: Option<String>,
    /// The name as a reference, where it is one.
    #[serde(skip)]
    pub(crate) reference: Option<ArtifactReference>,
    /// In a word or two.
    pub(crate) kind: &'static str,
    /// Of its manifest.
    pub(crate) media_type: String,
    /// The `artifactType`, where the manifest has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    /// Of its manifest.
    pub(crate) digest: String,
    /// The manifests at and below it.
    pub(crate) manifests: usize,
    /// The blobs below it, each once.
    pub(crate) blobs: usize,
    /// The bytes of all of those that are in the bundle.
    pub(crate) bytes: u64,
}

/// What a bundle holds.
pub(crate) struct Contents {
    /// Head and catalog.
    pub(crate) opened: Opened,
    /// Every manifest that could be read.
    pub(crate) views: BTreeMap<Digest, ManifestView>,
    /// The manifests that could not be read, and why.
    pub(crate) broken: BTreeMap<Digest, String>,
    /// The artifacts, in the order of `index.json`.
    pub(crate) artifacts: Vec<Artifact>,
}

impl Contents {
    /// The manifests and the blobs that belong to the artifacts, and to what was found beside them. What an
    /// artifact left that was dropped is not among them.
    pub(crate) fn needed(&self) -> (BTreeSet<&Digest>, BTreeSet<&Digest>) {
        let catalog = &self.opened.catalog;
        let artifacts = catalog.artifacts.iter().map(|artifact| &artifact.digest);
        let found = catalog.discovered.iter().map(|found| &found.digest);
        below(artifacts.chain(found), &self.views)
    }
}

/// Reads head and manifests.
///
/// # Errors
/// What the container says, and where the blob is not a bundle.
pub(crate) async fn read_contents(window: &Window) -> Result<Contents, Failure> {
    let opened = open(window.length(), |range| window.read(range)).await.map_err(not_a_bundle)?;
    let mut reader =
        Reader { window, catalog: &opened.catalog, views: BTreeMap::new(), broken: BTreeMap::new() };
    reader.read_all().await?;
    let Reader { views, broken, .. } = reader;
    let artifacts = describe(&opened.catalog, &views);
    Ok(Contents { opened, views, broken, artifacts })
}

/// The failure of opening a blob.
pub(crate) fn not_a_bundle(error: OpenError<Failure>) -> Failure {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        message += &format!(": {error}");
        cause = error.source();
    }
    match error {
        OpenError::Read(failure) => failure,
        _ => Failure::permanent(Code::BundleInvalid, message)
            .with_hint("a bundle is what `transship export` or another tool wrote as an OCI archive; was it copied whole?"),
    }
}

struct Reader<'a> {
    window: &'a Window,
    catalog: &'a Catalog,
    views: BTreeMap<Digest, ManifestView>,
    broken: BTreeMap<Digest, String>,
}

impl Reader<'_> {
    /// The manifests that the bundle names, in the order of the blob; then what lies below the artifacts, which
    /// is how a foreign archive says what is a manifest.
    async fn read_all(&mut self) -> Result<(), Failure> {
        let offset = |digest: &Digest| match self.catalog.locations.get(digest) {
            Some(Location::Stored { offset, .. }) => *offset,
            _ => u64::MAX,
        };
        let mut named: Vec<_> = self.catalog.manifest_types.iter().collect();
        named.sort_by_key(|(digest, _)| offset(digest));
        for (digest, media_type) in named {
            self.read(digest, Some(media_type.as_str())).await?;
        }
        let mut level: Vec<(Digest, String)> = Vec::new();
        for artifact in &self.catalog.artifacts {
            level.push((artifact.digest.clone(), artifact.media_type.as_str().to_owned()));
        }
        for _ in 0..MAX_DEPTH {
            let mut below = Vec::new();
            for (digest, media_type) in level {
                self.read(&digest, Some(&media_type)).await?;
                let children = self.views.get(&digest).into_iter().flat_map(|view| &view.manifests);
                let unread = children.filter(|child| !self.views.contains_key(&child.digest));
                below.extend(unread.map(|c| (c.digest.clone(), c.media_type.as_str().to_owned())));
            }
            below.sort();
            below.dedup();
            level = below;
        }
        Ok(())
    }

    async fn read(&mut self, digest: &Digest, media_type: Option<&str>) -> Result<(), Failure> {
        if self.views.contains_key(digest) || self.broken.contains_key(digest) {
            return Ok(());
        }
        if self.views.len() >= MAX_MANIFESTS {
            let message = format!("the bundle holds more than {MAX_MANIFESTS} manifests");
            return Err(Failure::permanent(Code::LimitExceeded, message));
        }
        let Some(Location::Stored { offset, size }) = self.catalog.locations.get(digest) else {
            return Ok(());
        };
        let result = if *size > MAX_MANIFEST_BYTES {
            Err(format!("it has {size} bytes, more than the {MAX_MANIFEST_BYTES} of a manifest"))
        } else {
            let bytes = self.window.read(*offset..offset + size).await?;
            match digest.matches(&bytes) {
                true => ManifestView::parse(&bytes, media_type).map_err(|error| error.to_string()),
                false => Err("its bytes do not have its digest".to_owned()),
            }
        };
        match result {
            Ok(view) => drop(self.views.insert(digest.clone(), view)),
            Err(reason) => drop(self.broken.insert(digest.clone(), reason)),
        }
        Ok(())
    }
}

fn describe(catalog: &Catalog, views: &BTreeMap<Digest, ManifestView>) -> Vec<Artifact> {
    let size = |digest: &Digest| match catalog.locations.get(digest) {
        Some(Location::Stored { size, .. }) => *size,
        _ => 0,
    };
    let one = |artifact: &transship_bundle::CatalogArtifact| {
        let (manifests, blobs) = below([&artifact.digest], views);
        let view = views.get(&artifact.digest);
        Artifact {
            name: artifact.name.clone(),
            reference: artifact.reference.clone(),
            kind: view.map_or("damaged", kind_of),
            media_type: artifact.media_type.to_string(),
            artifact_type: view.and_then(|view| view.artifact_type.clone()),
            digest: artifact.digest.to_string(),
            manifests: manifests.len(),
            blobs: blobs.len(),
            bytes: manifests.iter().chain(&blobs).map(|digest| size(digest)).sum(),
        }
    };
    catalog.artifacts.iter().map(one).collect()
}

/// The manifests and the blobs at and below `roots`, without recursion: an archive may nest as deep as it likes.
fn below<'a>(
    roots: impl IntoIterator<Item = &'a Digest>,
    views: &'a BTreeMap<Digest, ManifestView>,
) -> (BTreeSet<&'a Digest>, BTreeSet<&'a Digest>) {
    let (mut manifests, mut blobs) = (BTreeSet::new(), BTreeSet::new());
    let mut todo: Vec<&Digest> = roots.into_iter().collect();
    while let Some(digest) = todo.pop() {
        if !manifests.insert(digest) {
            continue;
        }
        let Some(view) = views.get(digest) else { continue };
        todo.extend(view.manifests.iter().map(|child| &child.digest));
        blobs.extend(view.blobs.iter().map(|blob| &blob.digest));
    }
    (manifests, blobs)
}
