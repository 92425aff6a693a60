//! Where a bundle goes next. Routing is a pure function, so the data path lives without a control plane.

use serde::{Deserialize, Serialize};

use crate::{BlobName, ContainerUrl, ImportOptions, PipelineName, RegistryName, StorageCredential};

/// A pattern of blob names in which `*` stands for any run of characters, `/` included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NamePattern(String);

impl NamePattern {
    /// The pattern `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether the whole of `name` fits the pattern.
    pub fn matches(&self, name: &BlobName) -> bool {
        let mut pieces = self.0.split('*');
        let first = pieces.next().unwrap_or_default();
        let Some(mut rest) = name.as_str().strip_prefix(first) else { return false };
        let Some(last) = pieces.next_back() else { return rest.is_empty() };
        for piece in pieces {
            match rest.find(piece) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

impl Default for NamePattern {
    fn default() -> Self {
        Self("*".to_owned())
    }
}

/// From a source container to a target container, and on to an import pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The container that bundles are exported to.
    pub source: ContainerUrl,
    /// The names of the bundles that take this route.
    #[serde(default)]
    pub pattern: NamePattern,
    /// The container that they are copied to.
    pub target: ContainerUrl,
    /// How the target container is accessed. A local directory needs nothing.
    #[serde(default)]
    pub target_secret: Option<StorageCredential>,
    /// Whether a blob of another execution in the target container is replaced.
    #[serde(default)]
    pub overwrite: bool,
    /// The import pipeline that is started when the copy is done.
    #[serde(default)]
    pub import_pipeline: Option<PipelineName>,
    /// What that pipeline is, where the importer's own configuration need not have it.
    #[serde(default)]
    pub import_destination: Option<ImportDestination>,
}

/// Where an import pipeline puts what it imports, and how: names of the importer's configuration and options,
/// never a credential, repository or tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportDestination {
    /// The target registry, by its name in the importer's configuration.
    pub registry: RegistryName,
    /// How the container is accessed. A local directory needs nothing.
    #[serde(default)]
    pub credential: Option<StorageCredential>,
    /// The pipeline's options.
    #[serde(default)]
    pub options: ImportOptions,
}

impl Route {
    /// Whether a bundle `name` in `container` takes this route.
    pub fn applies(&self, container: &ContainerUrl, name: &BlobName) -> bool {
        self.source == *container && self.pattern.matches(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_name() {
        for (pattern, name, expected) in [
            ("*", "a/b", true),
            ("a*", "a/b", true),
            ("a*", "b/a", false),
            ("*.tar", "x.tar", true),
            ("*.tar", "x.tar.gz", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(
                NamePattern::new(pattern).matches(&name.parse().unwrap()),
                expected,
                "{pattern} {name}"
            );
        }
    }
}
