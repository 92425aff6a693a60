//! All parts of a name: the blob NAME itself, or NAME-0001-of-0003 and its companions.

use std::collections::BTreeSet;

use transship_model::{BlobName, Code, ContainerUrl, Failure, Part};
use transship_storage::{BlobProperties, ReadContainer, StorageError};

/// The most parts that are looked for.
const MAX_PARTS: u32 = 100_000;

/// One part of a bundle.
#[derive(Debug, Clone)]
pub(crate) struct BundlePart {
    /// Which one.
    pub(crate) part: Part,
    /// Its blob.
    pub(crate) blob: BlobName,
    /// What the blob is.
    pub(crate) properties: BlobProperties,
}

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    /// The blob of exactly this name.
    Exact,
    /// This many parts.
    Parts(u32),
    /// Nothing.
    Nothing,
    /// Parts of a run that are not all there: how many there should be, and which are missing.
    Incomplete(u32, Vec<u32>),
    /// Several things; their names.
    Ambiguous(Vec<String>),
}

/// Finds the parts of `name` in `container`.
///
/// # Errors
/// Where there are none, where some are missing, and where more than one run left something of this name.
pub(crate) async fn find_parts(
    container: &dyn ReadContainer,
    name: &BlobName,
) -> Result<Vec<BundlePart>, Failure> {
    let exact = container.properties(name).await?;
    let counts = match listed_parts(container, name).await {
        // A token that may not list still reads a blob of exactly this name.
        Err(StorageError::SasPermission { .. }) if exact.is_some() => BTreeSet::new(),
        listed => listed?,
    };
    match choose(name, exact.is_some(), &counts) {
        Choice::Exact => {
            let properties = exact.ok_or_else(|| not_found(container.url(), name))?;
            Ok(vec![BundlePart { part: Part::ONLY, blob: name.clone(), properties }])
        }
        Choice::Parts(count) => {
            let mut parts = Vec::new();
            for number in 1..=count {
                parts.push(one_part(container, name, Part { number, count }).await?);
            }
            Ok(parts)
        }
        Choice::Nothing => Err(not_found(container.url(), name)),
        Choice::Incomplete(count, missing) => {
            let shown: Vec<_> = missing.iter().take(10).map(ToString::to_string).collect();
            let more = if missing.len() > shown.len() { ", …" } else { "" };
            let message = format!(
                "{} has only some of the {count} parts of {name}: missing are {}{more}",
                container.url(),
                shown.join(", ")
            );
            Err(Failure::permanent(Code::BlobNotFound, message)
                .with_hint("wait until every part has arrived, or name one part as the bundle"))
        }
        Choice::Ambiguous(names) => {
            let message =
                format!("{} has more than one bundle {name}: {}", container.url(), names.join(", "));
            Err(Failure::permanent(Code::BundleInvalid, message)
                .with_hint("delete those that are out of date, or name one part as the bundle"))
        }
    }
}

fn not_found(container: &ContainerUrl, blob: &BlobName) -> Failure {
    StorageError::BlobNotFound { container: container.clone(), blob: blob.clone() }.into()
}

async fn one_part(container: &dyn ReadContainer, name: &BlobName, part: Part) -> Result<BundlePart, Failure> {
    let invalid = |error: transship_model::BlobNameError| {
        Failure::permanent(Code::ConfigurationInvalid, error.to_string())
    };
    let blob = name.of_part(part).map_err(invalid)?;
    let properties = container.properties(&blob).await?;
    let properties = properties.ok_or_else(|| not_found(container.url(), &blob))?;
    Ok(BundlePart { part, blob, properties })
}

/// The parts that blobs in the container say they are.
async fn listed_parts(
    container: &dyn ReadContainer,
    name: &BlobName,
) -> Result<BTreeSet<(u32, u32)>, StorageError> {
    let prefix = format!("{name}-");
    let (mut found, mut marker) = (BTreeSet::new(), None::<String>);
    loop {
        let page = container.list(&prefix, marker.as_deref()).await?;
        let suffixes = page.blobs.iter().filter_map(|blob| blob.name.as_str().strip_prefix(&prefix));
        found.extend(suffixes.filter_map(part_of));
        match page.next {
            Some(next) if marker.as_ref() != Some(&next) => marker = Some(next),
            _ => return Ok(found),
        }
    }
}

/// Reads `0002-of-0040` as count and number.
fn part_of(suffix: &str) -> Option<(u32, u32)> {
    let (number, count) = suffix.split_once("-of-")?;
    let (number, count): (u32, u32) = (number.parse().ok()?, count.parse().ok()?);
    let is_ours = suffix == format!("{number:04}-of-{count:04}");
    (is_ours && (1..=count).contains(&number) && (2..=MAX_PARTS).contains(&count)).then_some((count, number))
}

/// Decides what `name` stands for, from count and number of the parts that are there.
fn choose(name: &BlobName, exact: bool, parts: &BTreeSet<(u32, u32)>) -> Choice {
    let counts: BTreeSet<u32> = parts.iter().map(|(count, _)| *count).collect();
    let only = counts.first().copied().filter(|_| counts.len() == 1);
    match (exact, only) {
        (true, None) if counts.is_empty() => Choice::Exact,
        (false, None) if counts.is_empty() => Choice::Nothing,
        (false, Some(count)) => {
            let missing: Vec<u32> = (1..=count).filter(|number| !parts.contains(&(count, *number))).collect();
            if missing.is_empty() { Choice::Parts(count) } else { Choice::Incomplete(count, missing) }
        }
        _ => {
            let of_parts = counts.iter().map(|count| format!("{name}-…-of-{count:04}"));
            Choice::Ambiguous(exact.then(|| name.to_string()).into_iter().chain(of_parts).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_suffixes_are_parts() {
        for (suffix, expected) in [
            ("0002-of-0040", Some((40, 2))),
            ("10000-of-12000", Some((12_000, 10_000))),
            ("2-of-40", None),
            ("0000-of-0040", None),
            ("0041-of-0040", None),
            ("0001-of-0001", None),
            ("0001-of-0002.sig", None),
            ("x", None),
            ("0001-of-4294967295", None),
        ] {
            assert_eq!(part_of(suffix), expected, "{suffix}");
        }
    }

    #[test]
    fn a_name_stands_for_one_complete_bundle_or_for_an_error() {
        let name: BlobName = "n".parse().unwrap();
        let ambiguous = |names: &[&str]| Choice::Ambiguous(names.iter().map(ToString::to_string).collect());
        for (exact, parts, expected) in [
            (true, &[][..], Choice::Exact),
            (false, &[], Choice::Nothing),
            (false, &[(2, 1), (2, 2)], Choice::Parts(2)),
            (false, &[(3, 1), (3, 3)], Choice::Incomplete(3, vec![2])),
            (true, &[(2, 1), (2, 2)], ambiguous(&["n", "n-…-of-0002"])),
            (false, &[(2, 1), (3, 1)], ambiguous(&["n-…-of-0002", "n-…-of-0003"])),
        ] {
            assert_eq!(choose(&name, exact, &parts.iter().copied().collect()), expected, "{exact} {parts:?}");
        }
    }
}
