//! From what was staged to the table: which artifacts are carried, what belongs to them, where it is. Pure.

use std::collections::{BTreeMap, BTreeSet};

use transship_bundle::{Discovered, Discovery, StoredBlob, TABLE_VERSION, Table, TableArtifact};
use transship_model::{ArtifactReference, Digest, Failure, Repository};
use transship_registry::{Found, FoundManifest, Walked, closure};

use crate::content::Unit;
use crate::manifests::StagedManifests;

/// What a bundle will say of itself.
pub(crate) struct Assembled {
    pub(crate) table: Table,
    pub(crate) failed: Vec<(ArtifactReference, Failure)>,
}

/// Everything that belongs to one artifact.
#[derive(Debug, Default)]
struct Needed {
    manifests: BTreeSet<Digest>,
    blobs: BTreeSet<Digest>,
    found: BTreeSet<FoundManifest>,
}

/// What was found, by the repository and manifest that it belongs to.
type Attached<'a> = BTreeMap<(&'a Repository, &'a Digest), Vec<&'a FoundManifest>>;

fn attached(walked: &Walked) -> Attached<'_> {
    let mut attached = Attached::new();
    for found in &walked.found {
        attached.entry((&found.repository, &found.subject)).or_default().push(found);
    }
    attached
}

/// What belongs to the manifest `root` in `repository`: what is below it, what refers to any of that, and so on.
fn needed(root: &Digest, repository: &Repository, walked: &Walked, attached: &Attached<'_>) -> Needed {
    let mut needed = Needed::default();
    let mut open = vec![root.clone()];
    while let Some(digest) = open.pop() {
        let below = closure(&digest, &walked.views);
        // What an index lists and is no manifest is content.
        needed.blobs.extend(below.blobs.into_iter().chain(below.missing));
        for manifest in below.manifests {
            if !needed.manifests.insert(manifest.clone()) {
                continue;
            }
            for &found in attached.get(&(repository, &manifest)).into_iter().flatten() {
                needed.found.insert(found.clone());
                // A fallback index lists referrers, which are found on their own: only its bytes belong here.
                match found.found {
                    Found::FallbackIndex(_) => drop(needed.manifests.insert(found.digest.clone())),
                    Found::Referrer | Found::CosignTag(_) => open.push(found.digest.clone()),
                }
            }
        }
    }
    needed
}

/// The blobs that belong to the artifacts which the walk did not fail: the others' would be moved for nobody.
pub(crate) fn wanted_blobs(walked: &Walked) -> BTreeSet<Digest> {
    let attached = attached(walked);
    let carried =
        walked.artifacts.iter().filter_map(|(reference, result)| Some((reference, result.as_ref().ok()?)));
    carried
        .flat_map(|(reference, digest)| needed(digest, &reference.repository, walked, &attached).blobs)
        .collect()
}

/// Assembles the table. An artifact that needs a blob that failed is left out, and said to have failed.
pub(crate) fn assemble(walked: &Walked, manifests: &StagedManifests, units: &[Unit]) -> Assembled {
    let failures: BTreeMap<&Digest, &Failure> = units
        .iter()
        .flat_map(|unit| &unit.members)
        .filter_map(|member| Some((&member.blob.digest, member.failure.as_ref()?)))
        .collect();
    let attached = attached(walked);
    let (mut artifacts, mut failed, mut all) = (Vec::new(), Vec::new(), Needed::default());
    for (reference, result) in &walked.artifacts {
        let digest = match result {
            Ok(digest) => digest,
            Err(failure) => {
                failed.push((reference.clone(), failure.clone()));
                continue;
            }
        };
        let needed = needed(digest, &reference.repository, walked, &attached);
        if let Some(failure) = needed.blobs.iter().find_map(|blob| failures.get(blob)) {
            failed.push((reference.clone(), (*failure).clone()));
            continue;
        }
        let (repository, tag) = (reference.repository.clone(), reference.tag().cloned());
        artifacts.push(TableArtifact { repository, tag, digest: digest.clone() });
        all.manifests.extend(needed.manifests);
        all.blobs.extend(needed.blobs);
        all.found.extend(needed.found);
    }
    let table = Table {
        version: TABLE_VERSION,
        manifests_offset: 0,
        content_offset: 0,
        artifacts,
        discovered: all.found.into_iter().map(discovered).collect(),
        manifests: manifests.stored.iter().filter(|m| all.manifests.contains(&m.digest)).cloned().collect(),
        content: content(units, &all.blobs),
    };
    Assembled { table, failed }
}

fn discovered(found: FoundManifest) -> Discovered {
    let FoundManifest { repository, digest, subject, found } = found;
    let by = match found {
        Found::Referrer => Discovery::Referrer,
        Found::FallbackIndex(tag) => Discovery::FallbackIndex { tag },
        Found::CosignTag(tag) => Discovery::CosignTag { tag },
    };
    Discovered { repository, digest, subject, by }
}

/// The content in its order. What nobody needs any more stays in its block, and has no entry.
fn content(units: &[Unit], needed: &BTreeSet<Digest>) -> Vec<StoredBlob> {
    let mut content = Vec::new();
    let mut start = 0;
    for unit in units {
        for member in unit.members.iter().filter(|member| needed.contains(&member.blob.digest)) {
            content.push(StoredBlob {
                digest: member.blob.digest.clone(),
                declared: member.blob.declared,
                size: member.place.map(|place| place.size),
                offset: member.place.map(|place| start + place.offset),
                absent: member.absent.clone(),
            });
        }
        start += unit.length;
    }
    content
}
