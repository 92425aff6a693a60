//! Splits a run into parts, by count alone.

use transship_model::{ArtifactReference, BlobName, Part};

use crate::exit::Problem;

/// One part of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedPart {
    /// Which one.
    pub(crate) part: Part,
    /// Its blob.
    pub(crate) blob: BlobName,
    /// Its artifacts.
    pub(crate) artifacts: Vec<ArtifactReference>,
}

/// Splits `artifacts` into parts of at most `size`, named after `name`.
///
/// # Errors
/// Where there are more parts than can be counted, or the suffix of a part makes the name too long.
pub(crate) fn split(
    artifacts: &[ArtifactReference],
    size: u16,
    name: &BlobName,
) -> Result<Vec<PlannedPart>, Problem> {
    let chunks = artifacts.chunks(usize::from(size.max(1)));
    let count = u32::try_from(chunks.len()).map_err(|_| Problem::usage("there are too many artifacts"))?;
    let part = |(chunk, number): (&[ArtifactReference], u32)| {
        let part = Part { number, count };
        let blob = name.of_part(part).map_err(|error| Problem::usage(error.to_string()))?;
        Ok(PlannedPart { part, blob, artifacts: chunk.to_vec() })
    };
    chunks.zip(1..).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_from_the_count_alone() {
        let name: BlobName = "n".parse().unwrap();
        for (count, size, expected) in [
            (1, 250, vec![("n", 1)]),
            (250, 250, vec![("n", 250)]),
            (251, 250, vec![("n-0001-of-0002", 250), ("n-0002-of-0002", 1)]),
            (3, 1, vec![("n-0001-of-0003", 1), ("n-0002-of-0003", 1), ("n-0003-of-0003", 1)]),
        ] {
            let artifacts: Vec<ArtifactReference> =
                (0..count).map(|i| format!("a:{i}").parse().unwrap()).collect();
            let parts = split(&artifacts, size, &name).unwrap();
            let found: Vec<_> = parts.iter().map(|part| (part.blob.as_str(), part.artifacts.len())).collect();
            assert_eq!(found, expected);
            assert_eq!(parts.iter().flat_map(|part| part.artifacts.clone()).collect::<Vec<_>>(), artifacts);
        }
    }
}
