//! What every adapter refuses in the same way, because Azure Storage would: identifiers, blocks and metadata.

use transship_model::ContainerUrl;

use crate::{BlockId, Metadata, StorageError};

/// The most bytes of an identifier before Base64 ("Put Block", `blockid`).
const BLOCK_ID_BYTES: usize = 64;

/// The most bytes of all names and values of the metadata ("Setting and retrieving properties and metadata").
const METADATA_BYTES: usize = 8 * 1024;

fn refused(container: &ContainerUrl, code: impl Into<String>) -> StorageError {
    StorageError::Refused { container: container.clone(), code: code.into() }
}

/// Checks an identifier: 1 to 64 bytes.
pub(crate) fn check_id(container: &ContainerUrl, id: &BlockId) -> Result<(), StorageError> {
    match id.as_bytes().len() {
        1..=BLOCK_ID_BYTES => Ok(()),
        length => Err(refused(container, format!("a block identifier of {length} bytes; it has 1 to 64"))),
    }
}

/// Checks a block: Put Block needs at least one byte, though Azurite takes an empty block.
pub(crate) fn check_block(container: &ContainerUrl, id: &BlockId, length: u64) -> Result<(), StorageError> {
    check_id(container, id)?;
    if length == 0 { Err(refused(container, "a block must not be empty")) } else { Ok(()) }
}

/// The metadata with lower-case keys, as the port promises them, where a service would take it: keys are C#
/// identifiers, values are visible ASCII without white space at the ends, and all of it is at most 8 KiB.
pub(crate) fn check_metadata(
    container: &ContainerUrl,
    metadata: &Metadata,
) -> Result<Metadata, StorageError> {
    let mut checked = Metadata::new();
    for (key, value) in metadata {
        let key = key.to_ascii_lowercase();
        let key_is_fine = key.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        let value_is_fine =
            value.chars().all(|c| c.is_ascii_graphic() || c == ' ') && value.trim().len() == value.len();
        if !key_is_fine || !value_is_fine || checked.insert(key.clone(), value.clone()).is_some() {
            return Err(refused(container, format!("metadata {key:?} cannot travel as a header")));
        }
    }
    let bytes: usize = checked.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > METADATA_BYTES {
        return Err(refused(
            container,
            format!("metadata of {bytes} bytes; it has at most {METADATA_BYTES}"),
        ));
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_that_cannot_travel_as_a_header_is_refused_everywhere() {
        let container: ContainerUrl = "https://a.example/c".parse().unwrap();
        let one = |key: &str, value: &str| {
            check_metadata(&container, &Metadata::from([(key.into(), value.into())]))
        };
        assert_eq!(one("Category", "a b").unwrap(), Metadata::from([("category".into(), "a b".into())]));
        for (key, value) in [("", "x"), ("a-b", "x"), ("1a", "x"), ("a", "ü"), ("a", " x"), ("a", "x\ny")] {
            assert!(one(key, value).is_err(), "{key:?} {value:?}");
        }
        assert!(one("a", &"x".repeat(8192)).is_err());
        let twice = Metadata::from([("A".into(), "1".into()), ("a".into(), "2".into())]);
        assert!(check_metadata(&container, &twice).is_err());
    }

    #[test]
    fn identifiers_have_1_to_64_bytes_and_blocks_at_least_one() {
        let container: ContainerUrl = "https://a.example/c".parse().unwrap();
        for (length, fine) in [(0, false), (1, true), (64, true), (65, false)] {
            assert_eq!(check_id(&container, &BlockId::new(vec![0; length])).is_ok(), fine, "{length}");
        }
        assert!(check_block(&container, &BlockId::new([1]), 0).is_err());
    }
}
