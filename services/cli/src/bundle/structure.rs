//! What must hold of a bundle beside its digests: the archive, the table against the archive, completeness, and
//! the bill. Pure, except for the scan, which reads headers.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use transship_bundle::{Absence, ArchiveScan, Catalog, Head, Location, Step, execution_of};
use transship_model::{Digest, Failure, ManifestView};
use transship_storage::Metadata;

use super::contents::Contents;
use super::window::Window;

/// Where everything in the archive is, or what is wrong with it.
pub(super) async fn scan(window: &Window) -> Result<Result<ArchiveScan, String>, Failure> {
    let mut scan = ArchiveScan::new(window.length());
    loop {
        let range = match scan.next() {
            Ok(Step::Read(range)) => range,
            Ok(Step::Done) => return Ok(Ok(scan)),
            Err(error) => return Ok(Err(error.to_string())),
        };
        let bytes = window.read(range).await?;
        if let Err(error) = scan.feed(&bytes) {
            return Ok(Err(error.to_string()));
        }
    }
}

/// What the table says against what the archive holds.
pub(super) fn compare_table(
    catalog: &Catalog,
    found: &BTreeMap<Digest, Range<u64>>,
) -> Vec<(Digest, String)> {
    let mut wrong = Vec::new();
    for (digest, location) in &catalog.locations {
        let Location::Stored { offset, size } = location else { continue };
        let said = *offset..offset + size;
        match found.get(digest) {
            Some(range) if *range == said => {}
            Some(range) => wrong.push((
                digest.clone(),
                format!(
                    "the table says that it is at {}..{}, and the archive has it at {}..{}",
                    said.start, said.end, range.start, range.end
                ),
            )),
            None => wrong.push((digest.clone(), "the table has it, and the archive does not".to_owned())),
        }
    }
    wrong
}

/// What manifests name that is neither in the bundle nor excused.
pub(super) fn missing(contents: &Contents) -> Vec<(Digest, String)> {
    let catalog = &contents.opened.catalog;
    // An archive of another tool has no table, so nothing excuses what it lacks but a layer's own type.
    let (needed, _) = contents.needed();
    let mut wrong = BTreeMap::new();
    for (manifest, view) in contents.views.iter().filter(|(digest, _)| needed.contains(digest)) {
        let children = view.manifests.iter();
        for descriptor in view.blobs.iter().chain(children) {
            let reason = match catalog.locations.get(&descriptor.digest) {
                Some(Location::Stored { .. }) => continue,
                Some(Location::Absent(Absence::Failed)) => "it could not be read when the bundle was written",
                Some(Location::Absent(_)) => continue,
                None if descriptor.media_type.is_foreign_layer() => continue,
                None if is_sparse(contents, view) => continue,
                None => "it is not in the bundle",
            };
            wrong.entry(descriptor.digest.clone()).or_insert(format!("{reason}, and {manifest} names it"));
        }
    }
    wrong.into_iter().collect()
}

/// Other tools write an index of which they carry some platforms only.
fn is_sparse(contents: &Contents, view: &ManifestView) -> bool {
    contents.opened.head.is_none() && !view.manifests.is_empty()
}

/// The blobs of the archive that nothing names: what a dropped artifact left behind.
pub(super) fn unreferenced<'a>(
    contents: &'a Contents,
    found: &'a BTreeMap<Digest, Range<u64>>,
) -> BTreeSet<&'a Digest> {
    let table = contents.opened.head.as_ref().map(|head| &head.table_digest);
    let (manifests, blobs) = contents.needed();
    let is_named =
        |digest: &Digest| manifests.contains(digest) || blobs.contains(digest) || table == Some(digest);
    found.keys().filter(|digest| !is_named(digest)).collect()
}

/// Where the last entry of the archive ends.
pub(super) fn content_end(found: &BTreeMap<Digest, Range<u64>>, head: &Head) -> u64 {
    let ends = found.values().map(|range| range.end.next_multiple_of(512));
    ends.chain([head.length]).max().unwrap_or_default()
}

/// What the bill says against the metadata of the blob, where that still has any.
pub(super) fn compare_bill(head: &Head, metadata: &Metadata) -> Option<String> {
    let owner = execution_of(metadata)?;
    let bill = &head.bill;
    (owner.id != bill.execution || owner.generation != bill.generation).then(|| {
        format!(
            "the bill says execution {} generation {}, and the blob's metadata {} generation {}",
            bill.execution, bill.generation, owner.id, owner.generation
        )
    })
}
