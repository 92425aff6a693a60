//! Names of blobs (Azure Storage, "Naming and referencing containers, blobs, and metadata").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Part;

/// The name of a blob in its container: 1 to 1,024 characters in at most 254 path segments, none of them
/// empty, `.` or `..`, without control characters and backslashes, so that it may also be a relative path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobName(Box<str>);

/// Why a string is not the name of a blob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{shown:?} cannot be the name of a blob: 1 to 1024 characters, no control characters, no '\\', and no \
     empty, '.' or '..' between slashes"
)]
pub struct BlobNameError {
    shown: String,
}

impl BlobName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of one part of a run that asked for this name: the name itself where the run has one part,
    /// `NAME-0002-of-0040` where it has more.
    ///
    /// # Errors
    /// Where the suffix makes the name too long.
    pub fn of_part(&self, part: Part) -> Result<Self, BlobNameError> {
        if part.count == 1 {
            return Ok(self.clone());
        }
        format!("{}-{:04}-of-{:04}", self.0, part.number, part.count).parse()
    }
}

impl FromStr for BlobName {
    type Err = BlobNameError;

    fn from_str(text: &str) -> Result<Self, BlobNameError> {
        let segments_are_fine = || {
            text.split('/').count() <= 254
                && text.split('/').all(|segment| !segment.is_empty() && !matches!(segment, "." | ".."))
        };
        let characters_are_fine = || !text.chars().any(|c| c.is_control() || c == '\\');
        if text.chars().count() <= 1024
            && characters_are_fine()
            && segments_are_fine()
            && !text.ends_with('.')
        {
            Ok(Self(text.into()))
        } else {
            Err(BlobNameError { shown: text.chars().take(100).collect() })
        }
    }
}

impl TryFrom<String> for BlobName {
    type Error = BlobNameError;

    fn try_from(text: String) -> Result<Self, BlobNameError> {
        text.parse()
    }
}

impl From<BlobName> for String {
    fn from(name: BlobName) -> Self {
        name.0.into()
    }
}

impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_refused() {
        for bad in ["", "../x", "a/../b", "a//b", "/a", "a/", "a\\b", "a\0", "a\nb", "a.", &"x".repeat(1025)]
        {
            assert!(bad.parse::<BlobName>().is_err(), "{bad:?}");
        }
        for good in ["a", "a/b.tar", "ü?sig=#%2f", &"x".repeat(1024)] {
            assert!(good.parse::<BlobName>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_run_of_one_part_has_exactly_the_requested_name() {
        let name: BlobName = "nightly".parse().unwrap();
        assert_eq!(name.of_part(Part { number: 1, count: 1 }).unwrap(), name);
        assert_eq!(name.of_part(Part { number: 2, count: 40 }).unwrap().as_str(), "nightly-0002-of-0040");
    }
}
