//! Whose bundle a blob is: what its metadata says, and what that means for another execution that wants the name.

use std::collections::BTreeMap;

use transship_model::{Digest, Execution, Part, PipelineName};

/// The metadata that Azure Container Registry's own import trigger asks for.
const CATEGORY: (&str, &str) = ("category", "acr-transfer-blob");
const EXECUTION: &str = "transship_execution";
const GENERATION: &str = "transship_generation";
const PART: &str = "transship_part";
const CATALOG: &str = "transship_catalog";
const IMPORT_PIPELINE: &str = "transship_import_pipeline";

/// The metadata of a bundle's blob.
pub fn bundle_metadata(
    execution: &Execution,
    part: Part,
    catalog_digest: &Digest,
) -> BTreeMap<String, String> {
    let entries = [
        (CATEGORY.0, CATEGORY.1.to_owned()),
        (EXECUTION, execution.id.to_string()),
        (GENERATION, execution.generation.to_string()),
        (PART, format!("{}-of-{}", part.number, part.count)),
        (CATALOG, catalog_digest.to_string()),
    ];
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The execution that a blob's metadata names.
pub fn execution_of(metadata: &BTreeMap<String, String>) -> Option<Execution> {
    let id = metadata.get(EXECUTION)?.parse().ok()?;
    let generation = metadata.get(GENERATION)?.parse().ok()?;
    Some(Execution { id, generation })
}

/// The part that a blob's metadata names.
pub fn part_of(metadata: &BTreeMap<String, String>) -> Option<Part> {
    let (number, count) = metadata.get(PART)?.split_once("-of-")?;
    let part = Part { number: number.parse().ok()?, count: count.parse().ok()? };
    (1..=part.count).contains(&part.number).then_some(part)
}

/// Writes into the metadata of a bundle's blob which import pipeline it will be announced to. `None` takes an
/// earlier announcement away: it was about the blob in another container.
pub fn announce(metadata: &mut BTreeMap<String, String>, pipeline: Option<&PipelineName>) {
    match pipeline {
        Some(pipeline) => drop(metadata.insert(IMPORT_PIPELINE.to_owned(), pipeline.to_string())),
        None => drop(metadata.remove(IMPORT_PIPELINE)),
    }
}

/// The import pipeline that was promised an `import.requested` for the blob with this metadata, so that whoever
/// watches the container leaves the blob to it.
pub fn announced_to(metadata: &BTreeMap<String, String>) -> Option<PipelineName> {
    metadata.get(IMPORT_PIPELINE)?.parse().ok()
}

/// What a blob that has the wanted name already means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precedence {
    /// It is this execution's own: the work is done.
    Done,
    /// A newer execution owns the name: this one is dropped.
    Superseded,
    /// It belongs to another execution, and may not be overwritten.
    Exists,
    /// It may be replaced, if it is still the same when the commit comes.
    Replace,
}

/// Decides what a blob with `metadata` means for `execution`.
pub fn precedence(metadata: &BTreeMap<String, String>, execution: &Execution, overwrite: bool) -> Precedence {
    match execution_of(metadata) {
        Some(owner) if owner == *execution => Precedence::Done,
        Some(owner) if (overwrite || owner.id == execution.id) && owner.generation > execution.generation => {
            Precedence::Superseded
        }
        Some(owner) if owner.id == execution.id => Precedence::Replace,
        _ if overwrite => Precedence::Replace,
        _ => Precedence::Exists,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execution(id: &str, generation: u64) -> Execution {
        Execution { id: id.parse().unwrap(), generation }
    }

    #[test]
    fn a_blob_means_what_its_owner_and_its_generation_say() {
        let of = |id: &str, generation| {
            bundle_metadata(&execution(id, generation), Part::ONLY, &Digest::sha256(b""))
        };
        let mine = execution("run", 5);
        for (metadata, overwrite, expected) in [
            (of("run", 5), false, Precedence::Done),
            (of("run", 5), true, Precedence::Done),
            (of("run", 4), false, Precedence::Replace),
            (of("run", 6), false, Precedence::Superseded),
            (of("other", 4), false, Precedence::Exists),
            (of("other", 6), false, Precedence::Exists),
            (of("other", 4), true, Precedence::Replace),
            (of("other", 6), true, Precedence::Superseded),
            (BTreeMap::new(), false, Precedence::Exists),
            (BTreeMap::new(), true, Precedence::Replace),
        ] {
            assert_eq!(precedence(&metadata, &mine, overwrite), expected, "{metadata:?} {overwrite}");
        }
    }

    #[test]
    fn metadata_has_what_azures_import_trigger_asks_for() {
        let metadata = bundle_metadata(&execution("run", 5), Part::ONLY, &Digest::sha256(b""));
        assert_eq!(metadata["category"], "acr-transfer-blob");
        assert_eq!(execution_of(&metadata), Some(execution("run", 5)));
        assert_eq!(part_of(&metadata), Some(Part::ONLY));
        for (text, expected) in [("2-of-40", Some((2, 40))), ("0-of-1", None), ("3-of-2", None), ("x", None)]
        {
            let metadata = BTreeMap::from([(PART.to_owned(), text.to_owned())]);
            assert_eq!(part_of(&metadata).map(|part| (part.number, part.count)), expected, "{text}");
        }
    }

    #[test]
    fn an_announcement_reads_back_and_can_be_taken_away() {
        let mut metadata = bundle_metadata(&execution("run", 5), Part::ONLY, &Digest::sha256(b""));
        assert_eq!(announced_to(&metadata), None);
        let pipeline = "import-b".parse().unwrap();
        announce(&mut metadata, Some(&pipeline));
        assert_eq!(metadata["transship_import_pipeline"], "import-b");
        assert_eq!(announced_to(&metadata), Some(pipeline));
        announce(&mut metadata, None);
        assert_eq!(announced_to(&metadata), None);
        metadata.insert("transship_import_pipeline".to_owned(), "no name/at all".to_owned());
        assert_eq!(announced_to(&metadata), None);
    }
}
