//! What an import is configured with, and which pipeline a piece of work means.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use transship_messages::ImportRequested;
use transship_model::{
    ArtifactReference, ContainerUrl, ImportDestination, ImportOptions, PipelineName, RegistryName,
    RenameRules, Repository, SecretName, StorageCredential,
};

use crate::ImportError;

/// An import pipeline: where bundles come from, where they go, and how.
#[derive(Debug, Clone)]
pub struct ImportPipeline {
    /// The target registry, by its name in the importer's configuration.
    pub registry: RegistryName,
    /// The container that bundles arrive in. Work that names another one is refused.
    pub container: ContainerUrl,
    /// How the container is accessed. A local directory needs nothing.
    pub secret: Option<StorageCredential>,
    /// `OverwriteTags`, `DeleteSourceBlobOnSuccess`, `ContinueOnErrors`.
    pub options: ImportOptions,
    /// The names that repositories get at the target.
    pub rename: RenameRules,
    /// Repositories of the target that blobs may be mounted from, beside those of the bundle itself.
    pub mount_from: Vec<Repository>,
    /// The name of the artifact of a bundle that holds exactly one: it takes the place of whatever name the
    /// bundle gives it, and no rule renames it. A bundle that holds several is refused.
    pub name_as: Option<ArtifactReference>,
}

impl ImportPipeline {
    /// The pipeline that a message describes: it imports under the bundle's own names, and mounts from the
    /// bundle's own repositories only.
    fn of_message(destination: &ImportDestination, container: &ContainerUrl) -> Self {
        let ImportDestination { registry, credential, options } = destination.clone();
        Self {
            registry,
            container: container.clone(),
            secret: credential,
            options,
            rename: RenameRules::default(),
            mount_from: Vec::new(),
            name_as: None,
        }
    }
}

/// Decides by which pipeline work is done: the configured one of that name, which wins wholly; else the one
/// that the message describes, where the settings take pipelines `from_messages`.
///
/// # Errors
/// Where there is none, or the configured one imports from another container.
pub(crate) fn decide_pipeline<'a>(
    configured: &'a BTreeMap<PipelineName, ImportPipeline>,
    work: &ImportRequested,
    from_messages: bool,
) -> Result<Cow<'a, ImportPipeline>, ImportError> {
    let name = &work.pipeline;
    match (configured.get(name), &work.destination) {
        (Some(pipeline), _) if pipeline.container == work.container => Ok(Cow::Borrowed(pipeline)),
        (Some(pipeline), _) => Err(ImportError::OtherContainer {
            pipeline: name.clone(),
            expected: pipeline.container.clone(),
            found: work.container.clone(),
        }),
        (None, Some(destination)) if from_messages => {
            Ok(Cow::Owned(ImportPipeline::of_message(destination, &work.container)))
        }
        (None, Some(_)) => Err(ImportError::PipelineOfMessage(name.clone())),
        (None, None) => Err(ImportError::UnknownPipeline(name.clone())),
    }
}

/// Bounds of one import. Bytes in memory are bounded by the process's budget beside them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImportSettings {
    /// Questions to the registry at a time. Default 16, at least 1.
    pub parallel_questions: usize,
    /// Blobs at a time. Default 4, at least 1.
    pub parallel_blobs: usize,
    /// Manifests at a time, and small blobs of one stretch of the bundle. Default 8, at least 1.
    pub parallel_manifests: usize,
    /// Ranges of one blob that are read ahead of the upload. Default 3, at least 2.
    pub ranges_ahead: usize,
    /// The length of such a range in bytes. Default 8 MiB, at least 1 MiB, a multiple of 64. It is also the
    /// first piece of an upload in pieces.
    pub range_bytes: u64,
    /// The most manifests that a bundle may hold. Default 200,000.
    pub most_manifests: usize,
    /// The most bytes that its manifests may have together: they are in memory, parsed, as long as its import lasts.
    /// Default 256 MiB; an export stops at 128 MiB.
    pub most_manifest_bytes: u64,
    /// Whether a message may describe the pipeline that this process does not have: the registry and the secret
    /// by their names here, the container by its address. Default true. Set it to false where those who may
    /// write to the queue are not trusted to choose among all registries and secrets of this process.
    pub pipelines_from_messages: bool,
    /// The secret with the key that seals where an upload stands, so that a slice may end inside it and the next
    /// one goes on: 32 bytes in base64, the same for all importers of one broker. Default none: then no slice
    /// ends inside an upload, and the broker's consumer_timeout bounds how long a layer may take.
    pub seal_key_secret: Option<SecretName>,
}

impl Default for ImportSettings {
    fn default() -> Self {
        Self {
            parallel_questions: 16,
            parallel_blobs: 4,
            parallel_manifests: 8,
            ranges_ahead: 3,
            range_bytes: 8 << 20,
            most_manifests: 200_000,
            most_manifest_bytes: 256 << 20,
            pipelines_from_messages: true,
            seal_key_secret: None,
        }
    }
}

impl ImportSettings {
    /// What is wrong with the section `import`, as key and problem.
    pub(crate) fn check(&self) -> Vec<(String, String)> {
        let least = [
            ("parallel_questions", self.parallel_questions, 1),
            ("parallel_blobs", self.parallel_blobs, 1),
            ("parallel_manifests", self.parallel_manifests, 1),
            ("ranges_ahead", self.ranges_ahead, 2),
            ("most_manifests", self.most_manifests, 1),
        ];
        let small = least.into_iter().filter(|(_, value, least)| value < least);
        let small =
            small.map(|(key, _, least)| (format!("import.{key}"), format!("must be at least {least}")));
        let mut faults: Vec<_> = small.collect();
        if self.most_manifest_bytes == 0 {
            faults.push(("import.most_manifest_bytes".to_owned(), "must be at least 1".to_owned()));
        }
        if self.range_bytes != bounded_range(self.range_bytes) {
            let problem = "must be a multiple of 64, from 1 MiB (1048576) to 1 TiB".to_owned();
            faults.push(("import.range_bytes".to_owned(), problem));
        }
        faults
    }

    /// The same with every bound at least at its smallest value, for whoever does not read it from a file.
    pub(crate) fn bounded(self) -> Self {
        Self {
            parallel_questions: self.parallel_questions.max(1),
            parallel_blobs: self.parallel_blobs.max(1),
            parallel_manifests: self.parallel_manifests.max(1),
            ranges_ahead: self.ranges_ahead.max(2),
            range_bytes: bounded_range(self.range_bytes),
            ..self
        }
    }
}

/// The chaining value of SHA-256 is known at multiples of its blocks.
fn bounded_range(bytes: u64) -> u64 {
    bytes.clamp(1 << 20, 1 << 40).next_multiple_of(64)
}

#[cfg(test)]
mod tests {
    use transship_model::{Counters, Execution, Part};

    use super::*;

    fn work(pipeline: &str, container: &str, destination: Option<ImportDestination>) -> ImportRequested {
        ImportRequested {
            execution: Execution { id: "run".parse().unwrap(), generation: 1 },
            part: Part::ONLY,
            pipeline: pipeline.parse().unwrap(),
            destination,
            container: container.parse().unwrap(),
            blob: "b".parse().unwrap(),
            etag: None,
            catalog_digest: None,
            slice: 0,
            carried: Counters::default(),
            sealed_upload: None,
        }
    }

    fn destination() -> ImportDestination {
        let options = ImportOptions { overwrite_tags: true, ..ImportOptions::default() };
        let credential = Some("identity:system".parse().unwrap());
        ImportDestination { registry: "other".parse().unwrap(), credential, options }
    }

    fn configured() -> BTreeMap<PipelineName, ImportPipeline> {
        let own = ImportDestination {
            registry: "target".parse().unwrap(),
            credential: None,
            options: ImportOptions::default(),
        };
        let mut pipeline = ImportPipeline::of_message(&own, &"file:///c".parse().unwrap());
        pipeline.mount_from = vec!["base".parse().unwrap()];
        BTreeMap::from([("mine".parse().unwrap(), pipeline)])
    }

    #[test]
    fn a_configured_pipeline_wins_wholly_and_a_message_fills_in_only_where_there_is_none_and_it_may() {
        let configured = configured();
        let decide = |pipeline, container, destination, may| {
            decide_pipeline(&configured, &work(pipeline, container, destination), may)
                .map(|pipeline| pipeline.registry.to_string())
                .map_err(|error| match error {
                    ImportError::OtherContainer { .. } => "other container",
                    ImportError::PipelineOfMessage(_) => "forbidden",
                    ImportError::UnknownPipeline(_) => "unknown",
                    _ => "something else",
                })
        };
        for (pipeline, container, says, may, expected) in [
            ("mine", "file:///c", false, true, Ok("target")),
            ("mine", "file:///c", true, true, Ok("target")),
            ("mine", "file:///c", true, false, Ok("target")),
            ("mine", "file:///d", true, true, Err("other container")),
            ("new", "file:///d", true, true, Ok("other")),
            ("new", "file:///d", true, false, Err("forbidden")),
            ("new", "file:///d", false, true, Err("unknown")),
            ("new", "file:///d", false, false, Err("unknown")),
        ] {
            let decided = decide(pipeline, container, says.then(destination), may);
            assert_eq!(decided, expected.map(str::to_owned), "{pipeline} {container} {says} {may}");
        }
    }

    #[test]
    fn a_bound_that_lets_nothing_happen_is_refused_by_its_key() {
        assert_eq!(ImportSettings::default().check(), []);
        let wrong = ImportSettings {
            parallel_questions: 0,
            parallel_blobs: 0,
            parallel_manifests: 0,
            ranges_ahead: 1,
            range_bytes: (1 << 20) + 1,
            most_manifests: 0,
            most_manifest_bytes: 0,
            ..ImportSettings::default()
        };
        let keys: Vec<String> = wrong.check().into_iter().map(|(key, _)| key).collect();
        assert_eq!(
            keys.join(" "),
            "import.parallel_questions import.parallel_blobs import.parallel_manifests import.ranges_ahead \
             import.most_manifests import.most_manifest_bytes import.range_bytes"
        );
        for range_bytes in [0, (1 << 20) - 64, (1 << 40) + 64] {
            assert_eq!(ImportSettings { range_bytes, ..ImportSettings::default() }.check().len(), 1);
        }
    }

    #[test]
    fn a_pipeline_of_a_message_has_its_options_and_no_rules_of_its_own() {
        let none = BTreeMap::new();
        let work = work("new", "file:///d", Some(destination()));
        let pipeline = decide_pipeline(&none, &work, true).unwrap().into_owned();
        assert_eq!(pipeline.container, work.container);
        assert_eq!(pipeline.secret, destination().credential);
        assert_eq!(pipeline.options, destination().options);
        assert_eq!(pipeline.rename.apply(&"team/a".parse().unwrap()).unwrap().as_str(), "team/a");
        assert!(pipeline.mount_from.is_empty() && pipeline.name_as.is_none());
    }
}
