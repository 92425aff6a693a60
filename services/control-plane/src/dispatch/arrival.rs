//! Whether the bundle of an import is there: the blob of the name, or all parts of an export of the name.

use std::collections::{BTreeMap, BTreeSet};

use transship_model::{BlobName, Code, Failure, Part};
use transship_storage::ReadContainer;

use super::plan::Bundle;

/// How many pages of at most 5,000 names are looked through for parts.
const PAGES: usize = 100;

/// How many missing parts a message names.
const NAMED: usize = 3;

/// What there is of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// All of it.
    Complete(Vec<Bundle>),
    /// Some of its parts.
    Incomplete {
        /// How many it has.
        count: u32,
        /// Those that are not there.
        missing: Vec<BlobName>,
    },
    /// It is being written by a copy of the storage service.
    Arriving,
    /// Nothing.
    Nothing {
        /// Whether parts could be looked for: a SAS token may not allow listing.
        listed: bool,
    },
}

impl Arrival {
    /// What is missing, for a person.
    pub fn missing(&self, name: &BlobName) -> String {
        match self {
            Self::Complete(_) | Self::Arriving => format!("blob {name}"),
            Self::Nothing { listed: true } => format!("blob {name}, or its parts {name}-0001-of-… and so on"),
            Self::Nothing { listed: false } => {
                format!("blob {name} (its parts cannot be looked for: the SAS token does not allow listing)")
            }
            Self::Incomplete { count, missing } => {
                let named: Vec<&str> = missing.iter().take(NAMED).map(BlobName::as_str).collect();
                let more = match missing.len().saturating_sub(NAMED) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                format!("{} of {count} parts: {}{more}", missing.len(), named.join(", "))
            }
        }
    }
}

/// Looks into the container.
///
/// # Errors
/// What the storage service says, but for a listing that the credential does not allow.
pub(super) async fn look_for(container: &dyn ReadContainer, name: &BlobName) -> Result<Arrival, Failure> {
    if let Some(found) = container.properties(name).await? {
        if found.copying {
            return Ok(Arrival::Arriving);
        }
        let bundle = Bundle { part: Part::ONLY, blob: name.clone(), etag: Some(found.etag.0) };
        return Ok(Arrival::Complete(vec![bundle]));
    }
    let prefix = format!("{name}-");
    let mut found = Vec::new();
    let mut marker = None;
    for _ in 0..PAGES {
        let page = match container.list(&prefix, marker.as_deref()).await.map_err(Failure::from) {
            Ok(page) => page,
            Err(failure) if matches!(failure.code, Code::SasPermission | Code::StorageForbidden) => {
                return Ok(Arrival::Nothing { listed: false });
            }
            Err(failure) => return Err(failure),
        };
        // The bytes of a blob that is being copied are not there yet.
        let there = page.blobs.into_iter().filter(|blob| !blob.copying);
        found.extend(there.map(|blob| (blob.name, blob.etag.map(|etag| etag.0))));
        marker = page.next;
        if marker.is_none() {
            break;
        }
    }
    Ok(decide_parts(name, &found))
}

/// What the blobs whose names begin with `NAME-` are of an export of `name`. A set that is complete wins over one
/// that is not, and the larger one over the smaller.
pub fn decide_parts(name: &BlobName, found: &[(BlobName, Option<String>)]) -> Arrival {
    let mut sets: BTreeMap<u32, BTreeMap<u32, Bundle>> = BTreeMap::new();
    for (blob, etag) in found {
        if let Some(part) = part_of(name, blob) {
            let bundle = Bundle { part, blob: blob.clone(), etag: etag.clone() };
            sets.entry(part.count).or_default().insert(part.number, bundle);
        }
    }
    let complete = sets.iter().rev().find(|(count, parts)| parts.len() == **count as usize);
    if let Some((_, parts)) = complete {
        return Arrival::Complete(parts.values().cloned().collect());
    }
    let Some((count, parts)) = sets.into_iter().next_back() else { return Arrival::Nothing { listed: true } };
    let there: BTreeSet<u32> = parts.into_keys().collect();
    let missing = (1..=count).filter(|number| !there.contains(number));
    let missing = missing.filter_map(|number| name.of_part(Part { number, count }).ok()).collect();
    Arrival::Incomplete { count, missing }
}

/// Which part of an export of `name` the blob is, where its name is exactly that of one.
pub(super) fn part_of(name: &BlobName, blob: &BlobName) -> Option<Part> {
    let (number, count) = blob.as_str().strip_prefix(name.as_str())?.strip_prefix('-')?.split_once("-of-")?;
    let part = Part { number: number.parse().ok()?, count: count.parse().ok()? };
    let is_one = part.count > 1 && (1..=part.count).contains(&part.number);
    (is_one && name.of_part(part).ok().as_ref() == Some(blob)).then_some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(names: &[&str]) -> Arrival {
        let found: Vec<_> =
            names.iter().map(|name| (name.parse().unwrap(), Some(format!("etag of {name}")))).collect();
        decide_parts(&"n".parse().unwrap(), &found)
    }

    #[test]
    fn parts_are_a_bundle_when_all_of_them_are_there() {
        let complete = |names: &[&str]| match arrival(names) {
            Arrival::Complete(bundles) => bundles.iter().map(|bundle| bundle.blob.to_string()).collect(),
            other => vec![format!("{other:?}")],
        };
        let two = ["n-0001-of-0002", "n-0002-of-0002"];
        assert_eq!(complete(&two), two);
        assert_eq!(complete(&[two[1], two[0], "n-1-of-2", "n-0001-of-0003", "n-x", "n-0001-of-0001"]), two);
        assert_eq!(complete(&[&two[..], &["n-0003-of-0002", "n-0000-of-0002"]].concat()), two);
    }

    #[test]
    fn what_is_missing_is_named() {
        let name: BlobName = "n".parse().unwrap();
        for (names, expected) in [
            (vec![], "blob n, or its parts n-0001-of-… and so on"),
            (vec!["n-other", "n-01-of-02", "nn-0001-of-0002"], "blob n, or its parts n-0001-of-… and so on"),
            (vec!["n-0001-of-0002"], "1 of 2 parts: n-0002-of-0002"),
            (
                vec!["n-0002-of-0006"],
                "5 of 6 parts: n-0001-of-0006, n-0003-of-0006, n-0004-of-0006 and 2 more",
            ),
        ] {
            assert_eq!(arrival(&names).missing(&name), expected, "{names:?}");
        }
        let unlisted = Arrival::Nothing { listed: false }.missing(&name);
        assert!(unlisted.contains("does not allow listing"), "{unlisted}");
    }
}
