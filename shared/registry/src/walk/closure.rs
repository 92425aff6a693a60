//! What lies below a manifest.

use std::collections::{BTreeMap, BTreeSet};

use transship_model::{Digest, ManifestView};

/// What lies below one manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Closure {
    /// Manifests, children before parents, each once.
    pub manifests: Vec<Digest>,
    /// Blobs, each once.
    pub blobs: BTreeSet<Digest>,
    /// Listed and not known: a manifest that the views lack.
    pub missing: BTreeSet<Digest>,
}

/// Everything below `root` by `views`: children before parents.
pub fn closure(root: &Digest, views: &BTreeMap<Digest, ManifestView>) -> Closure {
    fn visit(
        digest: &Digest,
        views: &BTreeMap<Digest, ManifestView>,
        seen: &mut BTreeSet<Digest>,
        closure: &mut Closure,
    ) {
        if !seen.insert(digest.clone()) {
            return;
        }
        let Some(view) = views.get(digest) else {
            closure.missing.insert(digest.clone());
            return;
        };
        for child in &view.manifests {
            visit(&child.digest, views, seen, closure);
        }
        closure.blobs.extend(view.blobs.iter().map(|blob| blob.digest.clone()));
        closure.manifests.push(digest.clone());
    }
    // The walk bounds the depth, and a digest cannot contain itself.
    let mut closure = Closure::default();
    visit(root, views, &mut BTreeSet::new(), &mut closure);
    closure
}
