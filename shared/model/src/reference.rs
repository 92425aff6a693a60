//! References to artifacts: `repository:tag` and `repository@digest` (OCI distribution specification,
//! "Pulling manifests"). The grammar is strict and has no default host: `hello-world` is a repository.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Why a string is not a reference, a repository or a tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The repository breaks the grammar.
    #[error(
        "{0:?} is not a repository name: lower-case letters and digits in components joined by '/', '.', '_', \
         '__' or '-', at most 255 characters"
    )]
    Repository(String),
    /// The tag breaks the grammar.
    #[error(
        "{0:?} is not a tag: letters, digits, '_', '.' and '-', not starting with '.' or '-', at most 128 characters"
    )]
    Tag(String),
    /// The digest breaks the grammar.
    #[error(transparent)]
    Digest(#[from] crate::DigestError),
    /// There is neither a tag nor a digest.
    #[error("{0:?} names no tag and no digest: write repository:tag or repository@sha256:…")]
    NoSelector(String),
}

fn shown(text: &str) -> String {
    text.chars().take(300).collect()
}

macro_rules! text_newtype {
    ($name:ident, $what:literal, $variant:ident, $valid:expr) => {
        #[doc = $what]
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ReferenceError;

            fn from_str(text: &str) -> Result<Self, ReferenceError> {
                if $valid(text) { Ok(Self(text.into())) } else { Err(ReferenceError::$variant(shown(text))) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = ReferenceError;

            fn try_from(text: String) -> Result<Self, ReferenceError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_newtype!(
    Repository,
    "The name of a repository: `[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*` in components joined by `/`, at most 255 bytes.",
    Repository,
    is_repository
);
text_newtype!(Tag, "A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.", Tag, is_tag);

fn is_repository(text: &str) -> bool {
    text.len() <= 255 && text.split('/').all(is_component)
}

fn is_component(component: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends_well = bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
    ends_well
        && bytes.chunk_by(|a, b| alphanumeric(a) == alphanumeric(b)).all(|run| {
            alphanumeric(&run[0]) || matches!(run, b"." | b"_" | b"__") || run.iter().all(|b| *b == b'-')
        })
}

fn is_tag(text: &str) -> bool {
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let bytes = text.as_bytes();
    (1..=128).contains(&bytes.len())
        && word(&bytes[0])
        && bytes.iter().all(|b| word(b) || *b == b'.' || *b == b'-')
}

impl Tag {
    /// The tag under which referrers of `subject` are listed where a registry has no referrers API
    /// (distribution specification, "Referrers Tag Schema"), truncated as the specification says.
    pub fn referrers_fallback(subject: &Digest) -> Self {
        let hex = &subject.hex()[..subject.hex().len().min(64)];
        Self(format!("{}-{hex}", subject.algorithm().name()).into())
    }
}

/// How a manifest is picked in its repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    /// By a tag, which may move.
    Tag(Tag),
    /// By its digest.
    Digest(Digest),
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// One artifact as a run names it: `repository:tag` or `repository@digest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ArtifactReference {
    /// The repository.
    pub repository: Repository,
    /// The manifest in it.
    pub selector: Selector,
}

impl ArtifactReference {
    /// The reference to `selector` in `repository`.
    pub fn new(repository: Repository, selector: Selector) -> Self {
        Self { repository, selector }
    }

    /// The tag, where the artifact is named by one.
    pub fn tag(&self) -> Option<&Tag> {
        match &self.selector {
            Selector::Tag(tag) => Some(tag),
            Selector::Digest(_) => None,
        }
    }
}

impl FromStr for ArtifactReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if let Some((repository, digest)) = text.split_once('@') {
            return Ok(Self { repository: repository.parse()?, selector: Selector::Digest(digest.parse()?) });
        }
        let (repository, tag) =
            text.split_once(':').ok_or_else(|| ReferenceError::NoSelector(shown(text)))?;
        Ok(Self { repository: repository.parse()?, selector: Selector::Tag(tag.parse()?) })
    }
}

impl TryFrom<String> for ArtifactReference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<ArtifactReference> for String {
    fn from(reference: ArtifactReference) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for ArtifactReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.selector {
            Selector::Tag(tag) => write!(f, "{}:{tag}", self.repository),
            Selector::Digest(digest) => write!(f, "{}@{digest}", self.repository),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_read_back_as_they_were_written() {
        let digest = Digest::sha256(b"x");
        for text in ["hello-world:latest", "team.a/x__y/z--1:V1.0_rc-2", &format!("a/b@{digest}")] {
            assert_eq!(text.parse::<ArtifactReference>().unwrap().to_string(), *text);
        }
        assert!(format!("a:{}", "t".repeat(128)).parse::<ArtifactReference>().is_ok());
    }

    #[test]
    fn hostile_references_are_refused() {
        let long_tag = format!("a:{}", "t".repeat(129));
        let long_name = format!("{}:t", "a".repeat(256));
        for text in [
            "",
            "a",
            "a:",
            ":t",
            "A:t",
            "a//b:t",
            "/a:t",
            "a/:t",
            "a..b:t",
            "a___b:t",
            "a._b:t",
            "-a:t",
            "a-:t",
            "a:.t",
            "a:-t",
            "a:t/../x",
            "a:a b",
            "a:%0d%0a",
            "../x:t",
            "a@sha256:00",
            "a:t@sha256:00",
            "ä:t",
            &long_tag,
            &long_name,
        ] {
            assert!(text.parse::<ArtifactReference>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_fallback_tag_of_referrers_fits_a_tag_for_both_algorithms() {
        for algorithm in [crate::Algorithm::Sha256, crate::Algorithm::Sha512] {
            let tag = Tag::referrers_fallback(&Digest::compute(algorithm, b"x"));
            assert!(tag.as_str().parse::<Tag>().is_ok() && tag.as_str().len() == 71, "{tag}");
        }
    }
}
