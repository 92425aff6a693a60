//! Whether the bundle of an import is there: the blob of the name, or all parts of an export of the name.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use transship_bundle::execution_of;
use transship_model::{BlobName, Code, Execution, Failure, Part};
use transship_storage::{BlobProperties, ListedBlob, ReadContainer};

use super::plan::Bundle;

/// How many pages of at most 5,000 names are looked through for parts.
const PAGES: usize = 100;

/// How many parts are looked at in parallel.
const LOOKS: usize = 8;

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
        /// Whether blobs of another export have some of their names.
        mixed: bool,
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
            Self::Incomplete { count, missing, mixed } => {
                let named: Vec<&str> = missing.iter().take(NAMED).map(BlobName::as_str).collect();
                let more = match missing.len().saturating_sub(NAMED) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                let mixed = if *mixed { " (those under these names are of another export)" } else { "" };
                format!("{} of {count} parts: {}{more}{mixed}", missing.len(), named.join(", "))
            }
        }
    }
}

/// Looks into the container: of several bundles that could be meant it takes the one that was written last and is whole.
///
/// # Errors
/// What the storage service says, but for a listing that the credential does not allow.
pub(super) async fn look_for(container: &dyn ReadContainer, name: &BlobName) -> Result<Arrival, Failure> {
    let whole = container.properties(name).await?;
    if whole.as_ref().is_some_and(|found| found.copying) {
        return Ok(Arrival::Arriving);
    }
    let parts = list(container, name).await?;
    let listed = parts.is_some();
    let mut sets = sets_of(name, parts.unwrap_or_default());
    sets.extend(whole.map(|found| Set::whole(name, found)));
    // Where nobody says when they were written, the blob of the name goes first, and then the larger set.
    sets.sort_by_key(|set| (Reverse(set.modified), set.count > 1, Reverse(set.count)));
    let mut incomplete = None;
    for mut set in sets {
        if set.count > 1 && set.is_whole() {
            set.parts = looked_at(container, set.parts).await?;
        }
        match decide_set(name, &set) {
            Arrival::Complete(bundles) => return Ok(Arrival::Complete(bundles)),
            other => drop(incomplete.get_or_insert(other)),
        }
    }
    Ok(incomplete.unwrap_or(Arrival::Nothing { listed }))
}

/// The blobs whose names begin with `NAME-` and whose bytes are there; `None` where the credential does not allow to
/// list them.
async fn list(container: &dyn ReadContainer, name: &BlobName) -> Result<Option<Vec<ListedBlob>>, Failure> {
    let prefix = format!("{name}-");
    let (mut found, mut marker) = (Vec::new(), None);
    for _ in 0..PAGES {
        let page = match container.list(&prefix, marker.as_deref()).await.map_err(Failure::from) {
            Ok(page) => page,
            Err(failure) if matches!(failure.code, Code::SasPermission | Code::StorageForbidden) => {
                return Ok(None);
            }
            Err(failure) => return Err(failure),
        };
        found.extend(page.blobs.into_iter().filter(|blob| !blob.copying));
        marker = page.next;
        if marker.is_none() {
            break;
        }
    }
    Ok(Some(found))
}

/// Whose bundles these are. One that went, or is being written anew, is left out.
async fn looked_at(
    container: &dyn ReadContainer,
    parts: BTreeMap<u32, Found>,
) -> Result<BTreeMap<u32, Found>, Failure> {
    let look = |(number, Found { blob, .. })| async move {
        let found = container.properties(&blob).await?.filter(|found| !found.copying);
        Ok(found.map(|found| (number, Found::of(blob, found))))
    };
    let looks = stream::iter(parts).map(look).buffer_unordered(LOOKS);
    looks.try_filter_map(|found| async move { Ok(found) }).try_collect().await
}

/// A blob that is a part, or the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    blob: BlobName,
    etag: Option<String>,
    modified: Option<Timestamp>,
    /// The export that wrote it, as its metadata says; a listing does not.
    made_by: Option<Execution>,
}

impl Found {
    fn of(blob: BlobName, found: BlobProperties) -> Self {
        let made_by = execution_of(&found.metadata);
        Self { blob, etag: Some(found.etag.0), modified: found.modified, made_by }
    }
}

/// Blobs that belong together by their names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Set {
    /// How many it has when it is whole.
    count: u32,
    parts: BTreeMap<u32, Found>,
    /// When the last one of it was written, where the storage service says it.
    modified: Option<Timestamp>,
}

impl Set {
    fn whole(name: &BlobName, found: BlobProperties) -> Self {
        let (count, modified) = (1, found.modified);
        Self { count, parts: BTreeMap::from([(1, Found::of(name.clone(), found))]), modified }
    }

    fn is_whole(&self) -> bool {
        self.parts.len() == self.count as usize
    }
}

/// The blobs that are parts of an export of `name`, by how many parts it has.
fn sets_of(name: &BlobName, listed: Vec<ListedBlob>) -> Vec<Set> {
    let mut sets: BTreeMap<u32, Set> = BTreeMap::new();
    for ListedBlob { name: blob, etag, modified, .. } in listed {
        let Some(Part { number, count }) = part_of(name, &blob) else { continue };
        let set = sets.entry(count).or_insert_with(|| Set { count, parts: BTreeMap::new(), modified: None });
        set.modified = set.modified.max(modified);
        let etag = etag.map(|etag| etag.0);
        set.parts.insert(number, Found { blob, etag, modified, made_by: None });
    }
    sets.into_values().collect()
}

/// Whether all of one export is there: parts of an earlier one under the same names are none of it.
fn decide_set(name: &BlobName, set: &Set) -> Arrival {
    let newest = set
        .parts
        .values()
        .max_by_key(|found| (found.modified, found.made_by.as_ref().map(|execution| execution.generation)));
    let made_by = newest.and_then(|found| found.made_by.as_ref());
    let of_it = || set.parts.iter().filter(|(_, found)| found.made_by.as_ref() == made_by);
    if of_it().count() == set.count as usize {
        let bundle = |(number, found): (&u32, &Found)| Bundle {
            part: Part { number: *number, count: set.count },
            blob: found.blob.clone(),
            etag: found.etag.clone(),
        };
        return Arrival::Complete(of_it().map(bundle).collect());
    }
    let there: BTreeSet<u32> = of_it().map(|(number, _)| *number).collect();
    let missing = (1..=set.count).filter(|number| !there.contains(number));
    let missing = missing.filter_map(|number| name.of_part(Part { number, count: set.count }).ok()).collect();
    Arrival::Incomplete { count: set.count, missing, mixed: of_it().count() < set.parts.len() }
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
    use bytes::Bytes;
    use transship_bundle::bundle_metadata;
    use transship_model::Digest;
    use transship_storage::{BlockId, Condition, MemoryContainer, Metadata, WriteContainer as _};

    use super::*;

    fn name() -> BlobName {
        "n".parse().unwrap()
    }

    /// Writes blobs one after the other: each with its execution, where it has one.
    async fn written(blobs: &[(&str, Option<(&str, u64)>)]) -> MemoryContainer {
        let container = MemoryContainer::new("https://a.example/c".parse().unwrap());
        for (name, made_by) in blobs {
            let (blob, id) = (name.parse().unwrap(), BlockId::new(*b"1"));
            let metadata = made_by.map_or_else(Metadata::new, |(id, generation)| {
                let execution = Execution { id: id.parse().unwrap(), generation };
                bundle_metadata(&execution, Part::ONLY, &Digest::sha256(b"index"))
            });
            let condition = match container.properties(&blob).await.unwrap() {
                Some(found) => Condition::Matches(found.etag),
                None => Condition::Absent,
            };
            container.stage(&blob, &id, Bytes::from_static(b"a bundle")).await.unwrap();
            container.commit(&blob, &[id], &metadata, &condition).await.unwrap();
        }
        container
    }

    async fn arrival(blobs: &[(&str, Option<(&str, u64)>)]) -> Arrival {
        look_for(&written(blobs).await, &name()).await.unwrap()
    }

    async fn complete(blobs: &[(&str, Option<(&str, u64)>)]) -> Vec<String> {
        match arrival(blobs).await {
            Arrival::Complete(bundles) => bundles.iter().map(|bundle| bundle.blob.to_string()).collect(),
            other => vec![other.missing(&name())],
        }
    }

    #[tokio::test]
    async fn parts_are_a_bundle_when_all_of_them_are_there() {
        let two = ["n-0001-of-0002", "n-0002-of-0002"];
        let made = |names: &[&'static str]| names.iter().map(|name| (*name, None)).collect::<Vec<_>>();
        assert_eq!(complete(&made(&two)).await, two);
        let others = [two[1], two[0], "n-1-of-2", "n-0001-of-0003", "n-x", "n-0001-of-0001"];
        assert_eq!(complete(&made(&others)).await, two);
        assert_eq!(complete(&made(&[two[0], two[1], "n-0003-of-0002", "n-0000-of-0002"])).await, two);
    }

    #[tokio::test]
    async fn of_several_bundles_the_one_that_was_written_last_and_is_whole_is_taken() {
        let (yesterday, today) = (Some(("run-a", 1)), Some(("run-b", 2)));
        let again = Some(("run-a", 2));
        let (one, two) = ("n-0001-of-0002", "n-0002-of-0002");
        let three = ["n-0001-of-0003", "n-0002-of-0003", "n-0003-of-0003"];
        let mixed = "1 of 2 parts: n-0001-of-0002 (those under these names are of another export)";
        let of = |made_by| three.map(|name| (name, made_by));
        for (what, blobs, expected) in [
            (
                "the larger one is older",
                [&of(yesterday)[..], &[(one, today), (two, today)]].concat(),
                &[one, two][..],
            ),
            (
                "the smaller one is older",
                [&[(one, yesterday), (two, yesterday)][..], &of(today)].concat(),
                &three,
            ),
            ("the whole is older", vec![("n", yesterday), (one, today), (two, today)], &[one, two]),
            ("the whole is newer", vec![(one, yesterday), (two, yesterday), ("n", today)], &["n"]),
            ("the newer one is not whole", vec![("n", yesterday), (one, today)], &["n"]),
            ("a mixture", vec![(one, yesterday), (two, yesterday), (two, today)], &[mixed]),
            ("a mixture of generations", vec![(one, yesterday), (two, yesterday), (two, again)], &[mixed]),
            ("a mixture, and one that is whole", vec![("n", None), (one, yesterday), (two, today)], &["n"]),
            ("made by nobody", vec![(one, None), (two, None)], &[one, two]),
        ] {
            assert_eq!(complete(&blobs).await, expected, "{what}");
        }
    }

    #[tokio::test]
    async fn what_is_missing_is_named() {
        for (names, expected) in [
            (vec![], "blob n, or its parts n-0001-of-… and so on"),
            (vec!["n-other", "n-01-of-02", "nn-0001-of-0002"], "blob n, or its parts n-0001-of-… and so on"),
            (vec!["n-0001-of-0002"], "1 of 2 parts: n-0002-of-0002"),
            (
                vec!["n-0002-of-0006"],
                "5 of 6 parts: n-0001-of-0006, n-0003-of-0006, n-0004-of-0006 and 2 more",
            ),
        ] {
            let blobs: Vec<_> = names.iter().map(|name| (*name, None)).collect();
            assert_eq!(arrival(&blobs).await.missing(&name()), expected, "{names:?}");
        }
        let unlisted = Arrival::Nothing { listed: false }.missing(&name());
        assert!(unlisted.contains("does not allow listing"), "{unlisted}");
    }
}
